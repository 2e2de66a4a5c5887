"""One worker process: warm models, a warm decoder, and Celery taking one UID at a time from the queue."""

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
from workers.detection.detect import open_eyes
from workers.models.active_model import ActiveModel
from workers.models.registry import folders
from workers.models.shadow import Shadow
from workers.read import Reader
from workers.tasks import Bench, grade, worker_name

BEAT_SECONDS = 5.0
QUIET = ("--loglevel=WARNING", "--without-gossip", "--without-mingle", "--without-heartbeat")
"""Workers need not know of each other: the ledger's claims and heartbeats are enough."""


def run(settings: Settings, name: str = "") -> None:
    """Take radiographs from the queue until SIGTERM or SIGINT; the one in hand is finished first."""
    configure("work")
    # Celery warns of root because of pickled messages; these are JSON and nothing else is accepted.
    warnings.filterwarnings("ignore", category=SecurityWarning)
    app = broker.application(settings.broker.url)
    bench = set_up(settings, worker_name(name))

    @app.task(name=broker.TASK)  # type: ignore[untyped-decorator]
    def graded(uid: str) -> None:
        grade(uid, bench)

    done = threading.Event()
    threading.Thread(target=_beat, args=(bench, done), daemon=True).start()
    signal.signal(signal.SIGINT, _as_terminate)
    try:
        # One process, one radiograph at a time: a GPU cannot be shared by forks, and a film is short work.
        name = f"--hostname={bench.name}@genu"
        app.worker_main(["--quiet", "worker", "--pool=solo", f"--queues={broker.QUEUE}", name, *QUIET])
    finally:
        done.set()
        bench.reader.close()
        bench.ledger.close()


def set_up(settings: Settings, name: str) -> Bench:
    """Load and check the models, warm the decoder, open the memory: everything that can fail, fails here."""
    work = settings.work
    ledger = Ledger(settings.database_url)
    ledger.upgrade()
    return Bench(
        name=name,
        settings=settings,
        vault=Vault(settings.storage.folder),
        ledger=ledger,
        reader=Reader.within(work),
        eyes=open_eyes(engine=work.engine, threads=work.threads, within=folders(settings)),
        active_model=ActiveModel(settings, ledger),
        shadow=Shadow(settings, ledger, name),
    )


def _beat(bench: Bench, done: threading.Event) -> None:
    while True:
        # A model that was promoted is loaded here, beside the work, so that hardly a film has to wait for it.
        bench.active_model.refresh()
        with suppress(Transient):  # the ledger is away; the next beat tells that this worker still lives
            active = bench.active_model.heartbeat()
            bench.ledger.record_heartbeat("work", bench.name, active | bench.shadow.heartbeat(active["card"]))
        if done.wait(BEAT_SECONDS):
            return


def _as_terminate(number: int, frame: FrameType | None) -> None:
    signal.raise_signal(signal.SIGTERM)
