"""The admin web application: the state of each radiograph and of the node, served by uvicorn."""

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
from node.admin.authentication import LoginThrottle, Password, Sessions
from node.admin.context import AdminContext
from node.admin.health import ReadinessMonitor
from node.admin.metrics import LedgerCollector
from node.admin.middleware import RequireSession, SecurityHeaders, UncaughtErrors
from node.errors import GenuError
from node.ledger import Ledger
from node.reasons import REASONS
from node.settings import Settings
from node.storage import Vault

log = structlog.get_logger()

_FOLDER = Path(__file__).parent
_HEARTBEAT_SECONDS = 5.0


def application(settings: Settings, vault: Vault, ledger: Ledger, broker_ping: Callable[[], bool]) -> Starlette:
    """The web application, ready to be served."""
    sessions = Sessions(settings.admin.session_hours)
    app = Starlette(
        routes=_routes(),
        middleware=[
            Middleware(SecurityHeaders),
            Middleware(UncaughtErrors),
            Middleware(RequireSession, sessions=sessions),
        ],
        exception_handlers={HTTPException: endpoints.error_page},
        max_body_size=16_384,
    )
    registry = CollectorRegistry(auto_describe=False)
    registry.register(LedgerCollector(settings, vault, ledger))
    app.state.context = AdminContext(
        settings=settings,
        vault=vault,
        ledger=ledger,
        readiness_monitor=ReadinessMonitor(settings, vault, ledger, broker_ping),
        password=Password(settings.admin.password, settings.storage.folder),
        sessions=sessions,
        login_throttle=LoginThrottle(),
        registry=registry,
        templates=Jinja2Templates(env=_template_environment(settings)),
    )
    return app


def _routes() -> list[Route | Mount]:
    base = "/radiographs/{uid}"
    return [
        Route("/healthz", endpoints.healthz),
        Route("/readyz", endpoints.readyz),
        Route("/metrics", endpoints.metrics),
        Route("/sign-in", sign_in.show_sign_in, methods=["GET"]),
        Route("/sign-in", sign_in.sign_in, methods=["POST"]),
        Route("/sign-out", sign_in.sign_out, methods=["POST"]),
        Route("/", endpoints.overview),
        Route("/live", endpoints.overview_live),
        Route(base, endpoints.radiograph),
        Route(f"{base}/live", endpoints.radiograph_live),
        Route(f"{base}/retry", endpoints.retry, methods=["POST"]),
        Route(f"{base}/{{image}}", endpoints.image),
        Mount("/static", StaticFiles(directory=_FOLDER / "static")),
    ]


def _template_environment(settings: Settings) -> jinja2.Environment:
    """Templates that escape every value, and that raise an error for an undefined name."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(age=view_models.age, timestamp=view_models.timestamp, size=view_models.size)
    environment.globals.update(
        version=__version__,
        receive=settings.receive,
        flag_meanings=view_models.FLAG_MEANINGS,
        red_flags=view_models.RED_FLAGS,
        grade_meanings=view_models.GRADE_MEANINGS,
        reasons=REASONS,
        laterality_names=view_models.LATERALITY_NAMES,
        states=view_models.STATE_TEXTS,
        refresh_seconds=int(view_models.REFRESH_INTERVAL.total_seconds()),
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
        If the port is in use or may not be used.
    """
    listener = _listen(settings.admin.host, settings.admin.port)
    server = _server(application(settings, vault, ledger, broker_ping))
    # In a thread of its own uvicorn leaves signal handling to the caller.
    thread = threading.Thread(target=server.run, args=([listener],), name="admin-web", daemon=True)
    thread.start()
    log.info("admin_started", host=settings.admin.host, port=listener.getsockname()[1])
    name = f"{socket.gethostname()}:{os.getpid()}"
    try:
        while thread.is_alive():
            _record_heartbeat(ledger, name, settings.admin.port)
            if stop_event.wait(_HEARTBEAT_SECONDS):
                break
    finally:
        server.should_exit = True
        thread.join(timeout=10)
        listener.close()
    log.info("admin_stopped")
    if not stop_event.is_set():
        raise GenuError("the admin server stopped unexpectedly", hint="the log has the reason; start it again")


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


def _record_heartbeat(ledger: Ledger, name: str, port: int) -> None:
    try:
        ledger.record_heartbeat("admin", name, {"port": port})
    except Exception as error:  # noqa: BLE001 - an unavailable ledger must not end the server that reports it
        log.warning("heartbeat_failed", error=type(error).__name__)


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise GenuError(f"the admin page cannot use the address {host}", hint="set [admin] host") from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(128)
    except OSError as error:
        with contextlib.suppress(OSError):
            listener.close()
        raise GenuError(
            f"the admin page cannot listen on {host}:{port}: {error.strerror}",
            hint="another program has the port: end it, or set [admin] port (GENU__ADMIN__PORT)",
        ) from error
    return listener
