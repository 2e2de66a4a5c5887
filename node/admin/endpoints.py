"""The pages, the pictures and the probes: one function for each route."""

from datetime import UTC, datetime
from typing import Any

import structlog
from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response

from node.admin import model_views, radiograph_list, view_models
from node.admin.context import desk_of
from node.admin.health import SILENT_AFTER
from node.admin.middleware import session_of
from node.admin.sign_in import own_form
from node.ledger import Entry, State
from node.radiograph import is_uid

log = structlog.get_logger()

_FILM = "film.png"
_HEAT_MAPS = tuple(f"heat-{number}.png" for number in range(1, 10))
_PICTURES = (_FILM, *_HEAT_MAPS)
"""The results that are served as pictures. Nothing else of an address reaches the vault."""

_SETTLED = (State.CONFIRMED, State.NOT_ANALYSED, State.FAILED)


async def healthz(request: Request) -> Response:
    """The process answers. Asks nobody else: an orchestrator restarts what does not answer here."""
    return JSONResponse({"status": "ok"})


def readyz(request: Request) -> Response:
    found = desk_of(request).watch.look()
    return JSONResponse(found.as_json(), status_code=200 if found.ready else 503)


def metrics(request: Request) -> Response:
    return Response(generate_latest(desk_of(request).registry), media_type=CONTENT_TYPE_LATEST)


def overview(request: Request) -> Response:
    return _page(request, "overview.html", _overview(request))


def overview_live(request: Request) -> Response:
    """The part of the overview that changes, for the script to put in place."""
    return _page(request, "_overview.html", _overview(request))


def radiograph(request: Request) -> Response:
    return _page(request, "radiograph.html", _radiograph(request))


def radiograph_live(request: Request) -> Response:
    return _page(request, "_radiograph.html", _radiograph(request))


def picture(request: Request) -> Response:
    """The film, or the heat map that lies over it; patient data like the page they are on."""
    name = request.path_params["picture"]
    content = _result(request, _entry(request).sop_instance_uid, name) if name in _PICTURES else None
    if content is None:
        raise HTTPException(404)
    return Response(content, media_type="image/png")


async def retry(request: Request) -> Response:
    """A failed or not analysed radiograph is to be graded again, and given up deliveries are to be tried again."""
    await own_form(request)
    entry = await run_in_threadpool(_entry, request)
    asked = await run_in_threadpool(desk_of(request).ledger.ask_again, entry.sop_instance_uid, "admin")
    log.info("asked_again", sop_instance_uid=entry.sop_instance_uid, accepted=asked)
    return RedirectResponse(f"/radiographs/{entry.sop_instance_uid}?asked={'yes' if asked else 'no'}", 303)


def refusal(request: Request, error: Exception) -> Response:
    """What is answered instead of a page: 401, 403, 404, 405, 413."""
    if not isinstance(error, HTTPException):
        raise error
    told = {404: "There is nothing here under that address.", 401: "Sign in first."}.get(
        error.status_code, error.detail
    )
    if "text/html" not in request.headers.get("accept", ""):
        return PlainTextResponse(told, error.status_code, headers=error.headers)
    context = {"told": told, "status": error.status_code}
    return desk_of(request).templates.TemplateResponse(
        request, "refusal.html", context, status_code=error.status_code, headers=error.headers
    )


def _page(request: Request, template: str, context: dict[str, Any]) -> Response:
    desk = desk_of(request)
    context |= {"csrf": session_of(request).csrf, "now": datetime.now(UTC), "readiness": desk.watch.look()}
    return desk.templates.TemplateResponse(request, template, context)


def _overview(request: Request) -> dict[str, Any]:
    desk, now = desk_of(request), datetime.now(UTC)
    beats = desk.ledger.parts()
    workers = model_views.live(beats, now, SILENT_AFTER)
    asked = radiograph_list.asked_for(request.query_params)
    page = radiograph_list.page(desk.ledger, asked)
    return {
        "asked": asked,
        "page": page,
        "tiles": view_models.tiles(desk.ledger.counts(), desk.ledger.oldest()),
        "destinations": view_models.destinations(desk.settings.destination, desk.ledger.waiting(), beats),
        "parts": view_models.parts(beats, now, SILENT_AFTER),
        "serving": model_views.serving(workers, desk.ledger.standing(), desk.settings.work),
        "troubles": model_views.troubles(workers),
        "free_mb": desk.vault.free_mb(),
        "min_free_mb": desk.settings.storage.min_free_mb,
        "send_to": _own_address(request),
    }


def _own_address(request: Request) -> str:
    """Where a sender reaches the receiver: the address of the settings, or the one that the browser found us by."""
    host = desk_of(request).settings.receive.host
    return host if host not in ("0.0.0.0", "::") else request.url.hostname or host  # noqa: S104


def _radiograph(request: Request) -> dict[str, Any]:
    desk, entry = desk_of(request), _entry(request)
    uid = entry.sop_instance_uid
    reading = view_models.reading_of(entry)
    shown = (_FILM, *_HEAT_MAPS[: len(reading.knees) if reading else 0])  # an older reading may have had more knees
    there = [name for name in shown if (desk.vault.results(uid) / name).is_file()]
    deliveries = desk.ledger.deliveries(uid)
    given_up = any(delivery.state == "GIVEN_UP" for delivery in deliveries)
    ended = entry.state in (State.FAILED, State.NOT_ANALYSED) and entry.reason != "OWN_OBJECT"
    return {
        "entry": entry,
        "reading": reading,
        "unreadable": entry.reading is not None and reading is None,
        "reason": view_models.reason_of(entry.reason),
        "knees": view_models.knees(reading),
        "shadows": model_views.beside(desk.ledger.shadows(uid)),
        "has_film": _FILM in there,
        "heat_maps": there[1:] if _FILM in there else [],
        "pictures": " ".join([*there, reading.model.sha256[:12] if reading and reading.model else ""]),
        "sop_class": view_models.name_of(entry.sop_class_uid),
        "transfer_syntax": view_models.name_of(entry.transfer_syntax_uid),
        "patient": view_models.patient(_result(request, uid, "patient.json")),
        "deliveries": deliveries,
        "conflicts": desk.ledger.conflicts(uid),
        "journal": desk.ledger.journal(uid),
        "may_retry": ended or given_up,
        "settled": entry.state in _SETTLED,
        "asked": request.query_params.get("asked"),
    }


def _entry(request: Request) -> Entry:
    uid = request.path_params["uid"]
    entry = desk_of(request).ledger.find(uid) if is_uid(uid) else None
    if entry is None:
        raise HTTPException(404)
    return entry


def _result(request: Request, uid: str, name: str) -> bytes | None:
    try:
        return desk_of(request).vault.read_result(uid, name)
    except FileNotFoundError:
        return None
