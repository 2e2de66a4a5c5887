"""One worker process: loaded models, a running decoder, and Celery taking one UID at a time from the queue."""

import signal
import threading
import warnings
from contextlib import suppress
from types import FrameType

from celery.platforms import SecurityWarning

from node import broker
from node.errors import Transient
from node.ledger import Ledger
from node.logs import configure
from node.settings import Settings
from node.storage import Vault
from workers.detection.detection_models import load_detection_models
from workers.models.active_model import ActiveModel
from workers.models.registry import folders
from workers.models.shadow import Shadow
from workers.read import Reader
from workers.tasks import WorkerContext, grade, worker_name

HEARTBEAT_SECONDS = 5.0
CELERY_OPTIONS = ("--loglevel=WARNING", "--without-gossip", "--without-mingle", "--without-heartbeat")
"""Workers need no gossip among each other: the ledger's claims and heartbeats are enough."""


def run(settings: Settings, name: str = "") -> None:
    """Take radiographs from the queue until SIGTERM or SIGINT; the one in hand is finished first."""
    configure("work")
    # Celery warns of root because of pickled messages; these are JSON and nothing else is accepted.
    warnings.filterwarnings("ignore", category=SecurityWarning)
    app = broker.application(settings.broker.url)
    context = set_up(settings, worker_name(name))

    @app.task(name=broker.TASK)  # type: ignore[untyped-decorator]
    def graded(uid: str) -> None:
        grade(uid, context)

    done = threading.Event()
    threading.Thread(target=_heartbeat, args=(context, done), daemon=True).start()
    signal.signal(signal.SIGINT, _as_terminate)
    try:
        # One process, one radiograph at a time: a GPU cannot be shared by forks, and a film is a short task.
        name = f"--hostname={context.name}@genu"
        app.worker_main(["--quiet", "worker", "--pool=solo", f"--queues={broker.QUEUE}", name, *CELERY_OPTIONS])
    finally:
        done.set()
        context.reader.close()
        context.ledger.close()


def set_up(settings: Settings, name: str) -> WorkerContext:
    """Load and check the models, start the decoder, open the ledger: everything that can fail, fails here."""
    work = settings.work
    ledger = Ledger(settings.database_url)
    ledger.upgrade()
    return WorkerContext(
        name=name,
        settings=settings,
        vault=Vault(settings.storage.folder),
        ledger=ledger,
        reader=Reader.from_settings(work),
        models=load_detection_models(engine=work.engine, threads=work.threads, within=folders(settings)),
        active_model=ActiveModel(settings, ledger),
        shadow=Shadow(settings, ledger, name),
    )


def _heartbeat(context: WorkerContext, done: threading.Event) -> None:
    while True:
        # A model that was promoted is loaded here, beside the work, so that hardly a film has to wait for it.
        context.active_model.refresh()
        with suppress(Transient):  # the ledger is away; the next heartbeat shows that this worker still lives
            active = context.active_model.heartbeat()
            context.ledger.record_heartbeat("work", context.name, active | context.shadow.heartbeat(active["card"]))
        if done.wait(HEARTBEAT_SECONDS):
            return


def _as_terminate(number: int, frame: FrameType | None) -> None:
    signal.raise_signal(signal.SIGTERM)
