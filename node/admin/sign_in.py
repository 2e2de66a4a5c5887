"""Signing in and out, and the check that a form was ours."""

import hmac
import re
import secrets

import anyio.to_thread
import structlog
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from node.admin.context import desk_of
from node.admin.middleware import COOKIE, VISIT

log = structlog.get_logger()

_ONE_GUESS = anyio.CapacityLimiter(1)
"""Guesses are weighed one at a time: a flood of them costs one core and 32 MiB, and never the pages' threads."""

_NEXT = re.compile(r"/(?:\?[\w=&.:%+-]*|radiographs/[0-9.]{1,64})?")


def show(request: Request) -> Response:
    return _page(request, "")


async def enter(request: Request) -> Response:
    """Sign the browser in if the password fits; else answer with a pause that grows."""
    desk = desk_of(request)
    form = await own_form(request, VISIT)
    address = request.client.host if request.client else ""
    wait = desk.brake.attempt(address)
    if wait:
        log.warning("sign_in_paused", client=address, seconds=round(wait))
        told = f"Too many wrong passwords from your address. Try again in {wait:.0f} s."
        return _page(request, told, status=429, headers={"Retry-After": str(int(wait) + 1)})
    fits = await anyio.to_thread.run_sync(desk.password.fits, str(form.get("password", ""))[:1024], limiter=_ONE_GUESS)
    if not fits:
        log.warning("sign_in_failed", client=address)
        return _page(request, "That is not the password.", status=403)
    desk.brake.forgive(address)
    log.info("signed_in", client=address)
    asked = str(form.get("next", "/"))
    answer = RedirectResponse(asked if _NEXT.fullmatch(asked) else "/", 303)
    _set_cookie(request, answer, COOKIE, desk.sessions.begin())
    answer.delete_cookie(VISIT, path="/")
    return answer


async def leave(request: Request) -> Response:
    """Sign the browser out; its cookie is worth nothing any more, wherever it may have been copied to."""
    await own_form(request, COOKIE)
    desk_of(request).sessions.end(request.cookies.get(COOKIE))
    answer = RedirectResponse("/sign-in", 303)
    answer.delete_cookie(COOKIE, path="/")
    return answer


async def own_form(request: Request, cookie: str = COOKIE) -> FormData:
    """The form of a POST, if it carries the token that was handed to this browser with the page."""
    form = await request.form(max_files=0, max_fields=10)
    expected = desk_of(request).sessions.csrf(request.cookies.get(cookie, ""))
    given = str(form.get("csrf", ""))
    if not request.cookies.get(cookie) or not hmac.compare_digest(given.encode(), expected.encode()):
        raise HTTPException(403, "This form has expired. Go back, reload the page and try again.")
    return form


def _page(request: Request, told: str, *, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    desk = desk_of(request)
    visit = request.cookies.get(VISIT) or secrets.token_urlsafe(24)
    asked = request.query_params.get("next", "/")
    context = {
        "csrf": desk.sessions.csrf(visit),
        "told": told,
        "next": asked if _NEXT.fullmatch(asked) else "/",
        "password_set": desk.password.is_set(),
    }
    answer = desk.templates.TemplateResponse(request, "sign_in.html", context, status_code=status, headers=headers)
    _set_cookie(request, answer, VISIT, visit)
    return answer


def _set_cookie(request: Request, answer: Response, name: str, value: str) -> None:
    hours = desk_of(request).settings.admin.session_hours
    answer.set_cookie(
        name,
        value,
        max_age=int(hours * 3600),
        path="/",
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
    )
