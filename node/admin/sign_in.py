"""Endpoints that sign in and out, and the CSRF check of every form."""

import hmac
import re
import secrets

import anyio.to_thread
import structlog
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from node.admin.context import context_of
from node.admin.middleware import SESSION_COOKIE, SIGN_IN_COOKIE

log = structlog.get_logger()

_ONE_HASH_AT_A_TIME = anyio.CapacityLimiter(1)
"""Guesses are checked one at a time: a flood of them costs one core and 32 MiB, and never the pages' threads."""

_LOCAL_PATH = re.compile(r"/(?:\?[\w=&.:%+-]*|radiographs/[0-9.]{1,64})?")


def show_sign_in(request: Request) -> Response:
    return _sign_in_page(request, "")


async def sign_in(request: Request) -> Response:
    """Sign the browser in if the password is correct; otherwise answer 403, or 429 while the address must wait."""
    context = context_of(request)
    form = await verified_form(request, SIGN_IN_COOKIE)
    address = request.client.host if request.client else ""
    wait = context.login_throttle.attempt(address)
    if wait:
        log.warning("sign_in_paused", client=address, seconds=round(wait))
        message = f"Too many wrong passwords from your address. Try again in {wait:.0f} s."
        return _sign_in_page(request, message, status=429, headers={"Retry-After": str(int(wait) + 1)})
    guess = str(form.get("password", ""))[:1024]
    if not await anyio.to_thread.run_sync(context.password.verify, guess, limiter=_ONE_HASH_AT_A_TIME):
        log.warning("sign_in_failed", client=address)
        return _sign_in_page(request, "Wrong password.", status=403)
    context.login_throttle.reset(address)
    log.info("signed_in", client=address)
    next_path = str(form.get("next", "/"))
    response = RedirectResponse(next_path if _LOCAL_PATH.fullmatch(next_path) else "/", 303)
    _set_cookie(request, response, SESSION_COOKIE, context.sessions.create())
    response.delete_cookie(SIGN_IN_COOKIE, path="/")
    return response


async def sign_out(request: Request) -> Response:
    """Sign the browser out. Every copy of its cookie becomes invalid."""
    await verified_form(request, SESSION_COOKIE)
    context_of(request).sessions.end(request.cookies.get(SESSION_COOKIE))
    response = RedirectResponse("/sign-in", 303)
    response.delete_cookie(SESSION_COOKIE, path="/")
    return response


async def verified_form(request: Request, cookie: str = SESSION_COOKIE) -> FormData:
    """The form of a POST. Raises HTTPException 403 unless it has the CSRF token that belongs to the cookie."""
    form = await request.form(max_files=0, max_fields=10)
    expected = context_of(request).sessions.csrf_token(request.cookies.get(cookie, ""))
    given = str(form.get("csrf", ""))
    if not request.cookies.get(cookie) or not hmac.compare_digest(given.encode(), expected.encode()):
        raise HTTPException(403, "This form has expired. Go back, reload the page and try again.")
    return form


def _sign_in_page(
    request: Request, message: str, *, status: int = 200, headers: dict[str, str] | None = None
) -> Response:
    context = context_of(request)
    token = request.cookies.get(SIGN_IN_COOKIE) or secrets.token_urlsafe(24)
    next_path = request.query_params.get("next", "/")
    values = {
        "csrf": context.sessions.csrf_token(token),
        "message": message,
        "next": next_path if _LOCAL_PATH.fullmatch(next_path) else "/",
        "password_set": context.password.is_set(),
    }
    response = context.templates.TemplateResponse(request, "sign_in.html", values, status_code=status, headers=headers)
    _set_cookie(request, response, SIGN_IN_COOKIE, token)
    return response


def _set_cookie(request: Request, response: Response, name: str, value: str) -> None:
    hours = context_of(request).settings.admin.session_hours
    response.set_cookie(
        name,
        value,
        max_age=int(hours * 3600),
        path="/",
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
    )
