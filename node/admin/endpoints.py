"""The endpoints: pages, images, metrics and probes, one function for each route."""

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
from node.admin.context import context_of
from node.admin.health import SILENT_AFTER
from node.admin.middleware import session_of
from node.admin.sign_in import verified_form
from node.ledger import Entry, State
from node.radiograph import is_uid

log = structlog.get_logger()

_FILM = "film.png"
_HEAT_MAPS = tuple(f"heat-{number}.png" for number in range(1, 10))
_IMAGES = (_FILM, *_HEAT_MAPS)
"""The result files that are served as images. No other name in a URL reaches the vault."""

_FINAL = (State.CONFIRMED, State.NOT_ANALYSED, State.FAILED)


async def healthz(request: Request) -> Response:
    """The process answers. Checks nothing else: an orchestrator restarts what does not answer here."""
    return JSONResponse({"status": "ok"})


def readyz(request: Request) -> Response:
    readiness = context_of(request).readiness_monitor.check()
    return JSONResponse(readiness.as_json(), status_code=200 if readiness.ready else 503)


def metrics(request: Request) -> Response:
    return Response(generate_latest(context_of(request).registry), media_type=CONTENT_TYPE_LATEST)


def overview(request: Request) -> Response:
    return _page(request, "overview.html", _overview(request))


def overview_live(request: Request) -> Response:
    """The fragments of the overview that change, for the script to insert."""
    return _page(request, "_overview.html", _overview(request))


def radiograph(request: Request) -> Response:
    return _page(request, "radiograph.html", _radiograph(request))


def radiograph_live(request: Request) -> Response:
    """The fragments of a radiograph's page that change, for the script to insert."""
    return _page(request, "_radiograph.html", _radiograph(request))


def image(request: Request) -> Response:
    """The film, or a heat map that covers it; patient data like the page that shows them."""
    name = request.path_params["image"]
    content = _result(request, _entry(request).sop_instance_uid, name) if name in _IMAGES else None
    if content is None:
        raise HTTPException(404)
    return Response(content, media_type="image/png")


async def retry(request: Request) -> Response:
    """Queue a failed or not analysed radiograph for grading again, and deliveries that were given up for sending."""
    await verified_form(request)
    entry = await run_in_threadpool(_entry, request)
    accepted = await run_in_threadpool(context_of(request).ledger.retry, entry.sop_instance_uid, "admin")
    log.info("retry_requested", sop_instance_uid=entry.sop_instance_uid, accepted=accepted)
    return RedirectResponse(f"/radiographs/{entry.sop_instance_uid}?asked={'yes' if accepted else 'no'}", 303)


def error_page(request: Request, error: Exception) -> Response:
    """The response to an HTTPException: 401, 403, 404, 405, 413."""
    if not isinstance(error, HTTPException):
        raise error
    message = {404: "There is nothing here under that address.", 401: "Sign in first."}.get(
        error.status_code, error.detail
    )
    if "text/html" not in request.headers.get("accept", ""):
        return PlainTextResponse(message, error.status_code, headers=error.headers)
    values = {"message": message, "status": error.status_code}
    return context_of(request).templates.TemplateResponse(
        request, "error.html", values, status_code=error.status_code, headers=error.headers
    )


def _page(request: Request, template: str, values: dict[str, Any]) -> Response:
    context = context_of(request)
    readiness = context.readiness_monitor.check()
    values |= {"csrf": session_of(request).csrf, "now": datetime.now(UTC), "readiness": readiness}
    return context.templates.TemplateResponse(request, template, values)


def _overview(request: Request) -> dict[str, Any]:
    context, now = context_of(request), datetime.now(UTC)
    ledger = context.ledger
    beats = ledger.heartbeats()
    workers = model_views.live_workers(beats, now, SILENT_AFTER)
    list_filter = radiograph_list.parse_filter(request.query_params)
    return {
        "list_filter": list_filter,
        "page": radiograph_list.list_page(ledger, list_filter),
        "tiles": view_models.state_tiles(ledger.counts_by_state(), ledger.oldest_by_state()),
        "destinations": view_models.destination_views(context.settings.destination, ledger.pending_deliveries(), beats),
        "processes": view_models.process_views(beats, now, SILENT_AFTER),
        "models": model_views.loaded_models(workers, ledger.active_model(), context.settings.work),
        "model_errors": model_views.model_errors(workers),
        "free_mb": context.vault.free_mb(),
        "min_free_mb": context.settings.storage.min_free_mb,
        "receiver_host": _receiver_host(request),
    }


def _receiver_host(request: Request) -> str:
    """Where a sender reaches the receiver: the host of the settings, or the one in the URL of the request."""
    host = context_of(request).settings.receive.host
    return host if host not in ("0.0.0.0", "::") else request.url.hostname or host  # noqa: S104


def _radiograph(request: Request) -> dict[str, Any]:
    context, entry = context_of(request), _entry(request)
    uid = entry.sop_instance_uid
    reading = view_models.reading_of(entry)
    shown = (_FILM, *_HEAT_MAPS[: len(reading.knees) if reading else 0])  # an older reading may have had more knees
    images = [name for name in shown if (context.vault.results_folder(uid) / name).is_file()]
    deliveries = context.ledger.deliveries(uid)
    given_up = any(delivery.state == "GIVEN_UP" for delivery in deliveries)
    ended = entry.state in (State.FAILED, State.NOT_ANALYSED) and entry.reason != "OWN_OBJECT"
    return {
        "entry": entry,
        "reading": reading,
        "unreadable": entry.reading is not None and reading is None,
        "reason": view_models.reason_of(entry.reason),
        "knees": view_models.knee_views(reading),
        "shadows": model_views.shadow_comparisons(context.ledger.shadow_readings(uid)),
        "has_film": _FILM in images,
        "heat_maps": images[1:] if _FILM in images else [],
        "image_version": " ".join([*images, reading.model.sha256[:12] if reading and reading.model else ""]),
        "sop_class": view_models.uid_name(entry.sop_class_uid),
        "transfer_syntax": view_models.uid_name(entry.transfer_syntax_uid),
        "patient": view_models.patient_fields(_result(request, uid, "patient.json")),
        "deliveries": deliveries,
        "conflicts": context.ledger.conflicts(uid),
        "journal": context.ledger.journal(uid),
        "may_retry": ended or given_up,
        "final": entry.state in _FINAL,
        "retry_result": request.query_params.get("asked"),
    }


def _entry(request: Request) -> Entry:
    """The ledger's entry for the UID in the URL. Raises HTTPException 404 if there is none."""
    uid = request.path_params["uid"]
    entry = context_of(request).ledger.find(uid) if is_uid(uid) else None
    if entry is None:
        raise HTTPException(404)
    return entry


def _result(request: Request, uid: str, name: str) -> bytes | None:
    """The content of a result file; None if it does not exist."""
    try:
        return context_of(request).vault.read_result(uid, name)
    except FileNotFoundError:
        return None
