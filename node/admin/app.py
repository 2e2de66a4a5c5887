"""The admin web application: what the node did with each radiograph, and how it is doing."""

import contextlib
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import jinja2
import structlog
import uvicorn
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.templating import Jinja2Templates

from node import __version__
from node.admin import endpoints, sign_in, view_models
from node.admin.authentication import Brake, Password, Sessions
from node.admin.context import Desk
from node.admin.health import Watch
from node.admin.metrics import LedgerCollector
from node.admin.middleware import Faults, SafeHeaders, SignedInOnly
from node.errors import GenuError
from node.ledger import Ledger
from node.reasons import REASONS
from node.settings import Settings
from node.storage import Vault

log = structlog.get_logger()

_HERE = Path(__file__).parent
_BEAT_SECONDS = 5.0


def application(settings: Settings, vault: Vault, ledger: Ledger, broker_ping: Callable[[], bool]) -> Starlette:
    """The web application, ready to be served."""
    sessions = Sessions(settings.admin.session_hours)
    app = Starlette(
        routes=_routes(),
        middleware=[
            Middleware(SafeHeaders),
            Middleware(Faults),
            Middleware(SignedInOnly, sessions=sessions),
        ],
        exception_handlers={HTTPException: endpoints.refusal},
        max_body_size=16_384,
    )
    registry = CollectorRegistry(auto_describe=False)
    registry.register(LedgerCollector(settings, vault, ledger))
    app.state.desk = Desk(
        settings=settings,
        vault=vault,
        ledger=ledger,
        watch=Watch(settings, vault, ledger, broker_ping),
        password=Password(settings.admin.password, settings.storage.folder),
        sessions=sessions,
        brake=Brake(),
        registry=registry,
        templates=Jinja2Templates(env=_environment(settings)),
    )
    return app


def _routes() -> list[Route | Mount]:
    one = "/radiographs/{uid}"
    return [
        Route("/healthz", endpoints.healthz),
        Route("/readyz", endpoints.readyz),
        Route("/metrics", endpoints.metrics),
        Route("/sign-in", sign_in.show, methods=["GET"]),
        Route("/sign-in", sign_in.enter, methods=["POST"]),
        Route("/sign-out", sign_in.leave, methods=["POST"]),
        Route("/", endpoints.overview),
        Route("/live", endpoints.overview_live),
        Route(one, endpoints.radiograph),
        Route(f"{one}/live", endpoints.radiograph_live),
        Route(f"{one}/retry", endpoints.retry, methods=["POST"]),
        Route(f"{one}/{{picture}}", endpoints.picture),
        Mount("/static", StaticFiles(directory=_HERE / "static")),
    ]


def _environment(settings: Settings) -> jinja2.Environment:
    """Templates that escape everything, and that fail rather than show nothing for a wrong name."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(age=view_models.age, stamp=view_models.stamp, size=view_models.size)
    environment.globals.update(
        version=__version__,
        receive=settings.receive,
        flags=view_models.FLAGS,
        red=view_models.RED,
        grades=view_models.GRADES,
        reasons=REASONS,
        sides=view_models.SIDES,
        sources=view_models.SOURCES,
        states=view_models.STATES,
        refresh_seconds=int(view_models.REFRESH.total_seconds()),
    )
    return environment


def serve(
    settings: Settings,
    vault: Vault,
    ledger: Ledger,
    broker_ping: Callable[[], bool],
    stop_event: threading.Event,
) -> None:
    """
    Serve the pages until `stop_event` is set; then the port is free again.

    Raises
    ------
    GenuError
        If the port is taken or may not be used.
    """
    listening = _listen(settings.admin.host, settings.admin.port)
    server = _server(application(settings, vault, ledger, broker_ping))
    # In a thread of its own uvicorn leaves the signals to whoever started us.
    thread = threading.Thread(target=server.run, args=([listening],), name="admin-web", daemon=True)
    thread.start()
    log.info("admin_started", host=settings.admin.host, port=listening.getsockname()[1])
    name = f"{socket.gethostname()}:{os.getpid()}"
    try:
        while thread.is_alive():
            _beat(ledger, name, settings.admin.port)
            if stop_event.wait(_BEAT_SECONDS):
                break
    finally:
        server.should_exit = True
        thread.join(timeout=10)
        listening.close()
    log.info("admin_stopped")
    if not stop_event.is_set():
        raise GenuError("the admin page stopped by itself", hint="the log says why; start it again")


def _server(app: Starlette) -> uvicorn.Server:
    config = uvicorn.Config(
        app,
        http="h11",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        limit_concurrency=256,
        timeout_graceful_shutdown=3,
    )
    return uvicorn.Server(config)


def _beat(ledger: Ledger, name: str, port: int) -> None:
    try:
        ledger.beat("admin", name, {"port": port})
    except Exception as error:  # noqa: BLE001 - a ledger that is away must not end the page that shows it
        log.warning("beat_failed", error=type(error).__name__)


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)
    except OSError as error:
        raise GenuError(f"the admin page cannot use the address {host}", hint="set [admin] host") from error
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(128)
    except OSError as error:
        with contextlib.suppress(OSError):
            listening.close()
        raise GenuError(
            f"the admin page cannot listen on {host}:{port}: {error.strerror}",
            hint="another program has the port: end it, or set [admin] port (GENU__ADMIN__PORT)",
        ) from error
    return listening
