"""What every request passes before a page is made: safe headers, one catch for faults, and the sign-in."""

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

COOKIE = "genu_session"
VISIT = "genu_visit"
"""The cookie of a browser that has not signed in yet: its sign-in form is bound to it."""

OPEN_PATHS = frozenset({"/healthz", "/readyz", "/metrics", "/sign-in", "/favicon.ico"})
"""What is answered without signing in. Everything else, unknown paths included, is not."""

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


class SafeHeaders:
    """Every answer tells the browser to run nothing foreign, and to keep nothing unless the answer says so."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
                keep = scope["type"] == "http" and scope["path"].startswith("/static/")
                headers["Cache-Control"] = "no-cache" if keep else "no-store"
            await send(message)

        await self.app(scope, receive, send_safely)


class Faults:
    """
    A fault in a page becomes an answer without a reason and a log line without a patient.

    The line has the kind of the error and where it arose, never its text: that may quote what was being shown.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def watch(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self.app(scope, receive, watch)
        except Exception as error:  # noqa: BLE001 - the door's edge
            away = isinstance(error, Transient)
            place = traceback.extract_tb(error.__traceback__)[-1]
            log.error("page_failed", error=type(error).__name__, where=f"{place.name}:{place.lineno}")
            if started:
                return
            text = "The ledger does not answer. Try again in a moment." if away else "Genu failed here; see its log."
            await PlainTextResponse(text, 503 if away else 500)(scope, receive, send)


class SignedInOnly:
    """Lets nobody in who has not signed in, except to OPEN_PATHS and the static files."""

    def __init__(self, app: ASGIApp, sessions: Sessions) -> None:
        self.app = app
        self.sessions = sessions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return  # there are no web sockets here
        connection = HTTPConnection(scope)
        session = self.sessions.find(connection.cookies.get(COOKIE))
        scope["genu.session"] = session
        path = scope["path"]
        answer: Response | None = None
        if scope["method"] == "POST" and connection.headers.get("sec-fetch-site", "same-origin") != "same-origin":
            answer = PlainTextResponse("This form was sent from another site.", 403)
        elif session is None and path not in OPEN_PATHS and not path.startswith("/static/"):
            answer = self._turn_away(connection, scope)
        await (answer or self.app)(scope, receive, send)

    def _turn_away(self, connection: HTTPConnection, scope: Scope) -> Response:
        if scope["method"] != "GET" or "text/html" not in connection.headers.get("accept", ""):
            return PlainTextResponse("Sign in first.", 401)
        asked = scope["path"] + (
            f"?{scope['query_string'].decode('ascii', 'replace')}" if scope["query_string"] else ""
        )
        return RedirectResponse("/sign-in" if asked == "/" else f"/sign-in?next={quote(asked, safe='')}", 303)


def session_of(request: Request) -> Session:
    """The session of a request that passed SignedInOnly."""
    session = request.scope.get("genu.session")
    if not isinstance(session, Session):
        raise HTTPException(401)
    return session
