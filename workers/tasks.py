"""
The path of one radiograph through a worker: claim it, read it, analyse it, write its results, hand them to delivery.

`grade` is called by the Celery task "workers.grade" with one SOP Instance UID (workers/worker.py).
"""

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import structlog
from pydicom import Dataset

from node.errors import Permanent, Transient, Ungradable
from node.finding import Outcome
from node.ledger import Entry, Ledger
from node.settings import DEFAULT_OBJECTS, Settings
from node.storage import Vault
from workers.analysis import Analysis, PreparedFilm, analyse, grade_film, refused
from workers.detection.detection_models import DetectionModels
from workers.eligibility import Rules
from workers.models.active_model import ActiveModel
from workers.models.registry import Model
from workers.models.shadow import Shadow
from workers.outbox import Source, fill_outbox
from workers.read import Reader

log = structlog.get_logger()


@dataclass(frozen=True)
class WorkerContext:
    """What a worker process works with: its name, the node's ledger and storage, a reader, and the models."""

    name: str
    settings: Settings
    vault: Vault
    ledger: Ledger
    reader: Reader
    models: DetectionModels
    active_model: ActiveModel
    shadow: Shadow


def grade(uid: str, context: WorkerContext) -> None:
    """Process one radiograph to REPORTED, NOT_ANALYSED or FAILED, or release it. Safe to run twice at the same time."""
    work = context.settings.work
    entry = context.ledger.claim(uid, context.name, lease_seconds=work.lease_seconds, attempts=work.attempts)
    if entry is None:  # a duplicate message, or another worker has it
        return
    graded: GradedFilm | None = None
    with lease_renewed(context, uid), faults_recorded(context, uid):
        grader = context.active_model.current()
        source, analysis = read_and_analyse(entry, context, grader)
        recorded = record_results(entry, source, analysis, context, grader)
        if recorded and analysis.prepared is not None and analysis.reading.outcome is Outcome.GRADED:
            graded = GradedFilm(analysis.prepared, grader.card.stem)
    if graded is not None:  # only now: the results do not wait for the shadow model and do not depend on it
        prepared = graded.prepared
        context.shadow.grade(uid, graded.card, lambda model: grade_film(uid, prepared, model, Rules()).reading)


class GradedFilm(NamedTuple):
    """A film that was graded, and the card of the model that graded it."""

    prepared: PreparedFilm
    card: str


def read_and_analyse(entry: Entry, context: WorkerContext, grader: Model) -> tuple[Source, Analysis]:
    """What was received, as far as it can be read, and its analysis."""
    uid, path = entry.sop_instance_uid, context.vault.radiograph_path(entry.sha256)
    try:
        film = context.reader.film(path)
    except Ungradable as refusal:
        return Source(header=header_of(path, context.reader)), refused(uid, refusal)
    rules = Rules.of(context.settings.work)
    analysis = analyse(uid, film, models=context.models, grader=grader, rules=rules)
    return Source(film.header, analysis.film), analysis


def record_results(entry: Entry, source: Source, analysis: Analysis, context: WorkerContext, grader: Model) -> bool:
    """Write the result objects and record the reading in the ledger. False: the claim was lost meanwhile."""
    uid, reading, work = entry.sop_instance_uid, analysis.reading, context.settings.work
    # File names do not depend on the worker. A worker that slept until another took over must not overwrite the
    # other's files. Remaining race: one that sleeps a whole lease between here and the last file; the ledger refuses
    # its reading, but its files remain until the radiograph is graded again.
    if not context.ledger.renew(uid, context.name, work.lease_seconds):
        log.warning("claim_lost", sop_instance_uid=uid)
        return False
    destinations = {destination.name: destination.objects for destination in context.settings.destination}
    kinds = {kind for objects in destinations.values() for kind in objects} or set(DEFAULT_OBJECTS)
    current = context.ledger.result_objects(uid)
    objects = fill_outbox(entry, source, analysis, context.vault, grader.card.identity, work, kinds, current)
    recorded = False
    if reading.outcome is Outcome.GRADED:
        recorded = context.ledger.report(
            uid,
            context.name,
            reading.as_json(),
            objects,
            destinations,
            undecided=reading.undecided,
            flags=reading.flags,
        )
    elif reading.reason is not None:
        recorded = context.ledger.record_not_analysed(
            uid,
            context.name,
            reading.reason.code,
            reading.detail,
            reading.as_json(),
            objects,
            destinations,
            flags=reading.flags,
        )
    log.info("analysed", sop_instance_uid=uid, outcome=reading.outcome.value, attempts=entry.attempts)
    return recorded


def header_of(path: Path, reader: Reader) -> Dataset | None:
    """The header of a file that cannot be decoded, for the report of its refusal; None if it cannot be read either."""
    try:
        return reader.header(path)
    except (Ungradable, Permanent):
        return None


@contextmanager
def lease_renewed(context: WorkerContext, uid: str) -> Iterator[None]:
    """Renew the claim while the work goes on; a worker that dies stops renewing, and another may take over."""
    done = threading.Event()
    lease = context.settings.work.lease_seconds

    def renew() -> None:
        while not done.wait(lease / 3):
            try:
                context.ledger.renew(uid, context.name, lease)
            except Transient as fault:  # the next round may reach it; if none does, another worker takes over
                log.warning("lease_not_renewed", sop_instance_uid=uid, fault=str(fault))

    renewer = threading.Thread(target=renew, daemon=True)
    renewer.start()
    try:
        yield
    finally:
        done.set()
        renewer.join()


@contextmanager
def faults_recorded(context: WorkerContext, uid: str) -> Iterator[None]:
    """The one place where an exception becomes a state of the radiograph that someone can see."""
    try:
        yield
    except Permanent as fault:
        context.ledger.fail(uid, context.name, fault.reason.code, fault.detail)
        log.error("failed", sop_instance_uid=uid, reason=fault.reason.code)
    except (Transient, OSError) as fault:
        # A full disk or an unreachable database: the sweep queues it again, as often as `attempts` allows.
        context.ledger.release(uid, context.name, f"{type(fault).__name__}: {fault}")
        log.warning("released", sop_instance_uid=uid, fault=type(fault).__name__)
    except Exception as fault:
        context.ledger.fail(uid, context.name, "INTERNAL", type(fault).__name__)
        log.exception("failed", sop_instance_uid=uid, reason="INTERNAL")


def worker_name(name: str = "") -> str:
    """Unique among all workers of a ledger: the host, and `name` or the process id."""
    return f"{socket.gethostname()}-{name or os.getpid()}"
