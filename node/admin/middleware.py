"""Middleware that every request passes: security headers, one handler for uncaught errors, and required sign-in."""

import traceback
from urllib.parse import quote

import structlog
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection, Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from node.admin.authentication import Session, Sessions
from node.errors import Transient

log = structlog.get_logger()

SESSION_COOKIE = "genu_session"
SIGN_IN_COOKIE = "genu_visit"
"""The cookie of a browser that has not signed in yet: its sign-in form is bound to it."""

PUBLIC_PATHS = frozenset({"/healthz", "/readyz", "/metrics", "/sign-in", "/favicon.ico"})
"""What is answered without a session. Everything else, unknown paths included, is not."""

_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; "
    "object-src 'none'",
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}


class SecurityHeaders:
    """Adds headers to every response: no foreign scripts or frames, and no caching except of static files."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
                is_static = scope["type"] == "http" and scope["path"].startswith("/static/")
                headers["Cache-Control"] = "no-cache" if is_static else "no-store"
            await send(message)

        await self.app(scope, receive, send_with_headers)


class UncaughtErrors:
    """
    Turns an uncaught error into a response without details and a log line without patient data.

    The line has the type of the error and where it was raised, never its text: that may quote what was being shown.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def send_and_record(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self.app(scope, receive, send_and_record)
        except Exception as error:  # noqa: BLE001 - the outermost handler of a request
            transient = isinstance(error, Transient)
            frame = traceback.extract_tb(error.__traceback__)[-1]
            log.error("page_failed", error=type(error).__name__, where=f"{frame.name}:{frame.lineno}")
            if started:
                return
            text = (
                "The ledger does not answer. Try again in a moment." if transient else "Genu failed here; see its log."
            )
            await PlainTextResponse(text, 503 if transient else 500)(scope, receive, send)


class RequireSession:
    """Rejects requests without a session, except to PUBLIC_PATHS and the static files, and cross-site POSTs."""

    def __init__(self, app: ASGIApp, sessions: Sessions) -> None:
        self.app = app
        self.sessions = sessions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return  # there are no web sockets here
        connection = HTTPConnection(scope)
        session = self.sessions.find(connection.cookies.get(SESSION_COOKIE))
        scope["genu.session"] = session
        path = scope["path"]
        response: Response | None = None
        if scope["method"] == "POST" and connection.headers.get("sec-fetch-site", "same-origin") != "same-origin":
            response = PlainTextResponse("This form was sent from another site.", 403)
        elif session is None and path not in PUBLIC_PATHS and not path.startswith("/static/"):
            response = self._sign_in_first(connection, scope)
        await (response or self.app)(scope, receive, send)

    def _sign_in_first(self, connection: HTTPConnection, scope: Scope) -> Response:
        """A redirect to the sign-in page for a page request, otherwise 401."""
        if scope["method"] != "GET" or "text/html" not in connection.headers.get("accept", ""):
            return PlainTextResponse("Sign in first.", 401)
        requested = scope["path"] + (
            f"?{scope['query_string'].decode('ascii', 'replace')}" if scope["query_string"] else ""
        )
        return RedirectResponse("/sign-in" if requested == "/" else f"/sign-in?next={quote(requested, safe='')}", 303)


def session_of(request: Request) -> Session:
    """The session of a request that passed RequireSession."""
    session = request.scope.get("genu.session")
    if not isinstance(session, Session):
        raise HTTPException(401)
    return session
