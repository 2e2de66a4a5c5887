"""The journey of one radiograph: claim it, read it, find and grade its knees, report, hand over to delivery."""

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
from workers.analysis import Analysis, analyse, refused, say
from workers.detection.detect import Eyes
from workers.eligibility import Rules
from workers.models.active_model import ActiveModel
from workers.models.registry import Model
from workers.models.shadow import Shadow
from workers.outbox import Source, fill_outbox
from workers.read import Film, Reader

log = structlog.get_logger()


@dataclass(frozen=True)
class Bench:
    """What a worker works with: its name, the node's memory, a reader, the models, and one in shadow if there is."""

    name: str
    settings: Settings
    vault: Vault
    ledger: Ledger
    reader: Reader
    eyes: Eyes
    active_model: ActiveModel
    shadow: Shadow


def grade(uid: str, bench: Bench) -> None:
    """Bring one kept radiograph to its end: REPORTED, NOT_ANALYSED or FAILED. Safe to run twice, at the same time."""
    work = bench.settings.work
    entry = bench.ledger.claim(uid, bench.name, lease_seconds=work.lease_seconds, attempts=work.attempts)
    if entry is None:  # the broker rang twice, or another worker has it
        return
    answered: Answered | None = None
    with leased(bench, uid), faults_recorded(bench, uid):
        grader = bench.active_model.current()
        source, analysis = read_and_analyse(entry, bench, grader)
        stands = hand_over(entry, source, analysis, bench, grader)
        if stands and source.film is not None and analysis.reading.outcome is Outcome.GRADED:
            answered = Answered(source.film, analysis, grader)
    if answered is not None:  # only now, so that the answer waits for no shadow and falls with none
        film, analysis, grader = answered
        bench.shadow.grade(uid, grader.card.stem, lambda model: say(uid, film, analysis.found, model).reading)


class Answered(NamedTuple):
    """A film that was graded: what was said of it, and by which model."""

    film: Film
    analysis: Analysis
    grader: Model


def read_and_analyse(entry: Entry, bench: Bench, grader: Model) -> tuple[Source, Analysis]:
    """What was received, as far as it can be read, and what is said of it."""
    uid, path = entry.sop_instance_uid, bench.vault.radiograph_path(entry.sha256)
    try:
        film = bench.reader.film(path)
    except Ungradable as refusal:
        return Source(header=header_of(path, bench.reader)), refused(uid, refusal)
    rules = Rules.of(bench.settings.work)
    analysis = analyse(uid, film, eyes=bench.eyes, grader=grader, rules=rules)
    return Source(film.header, analysis.film), analysis


def hand_over(entry: Entry, source: Source, analysis: Analysis, bench: Bench, grader: Model) -> bool:
    """The answer is in the ledger, its objects wait for their destinations. False: the claim was lost meanwhile."""
    uid, reading, work = entry.sop_instance_uid, analysis.reading, bench.settings.work
    # Pictures and reading have one name whoever writes them. A worker that slept until another took over must not
    # put its own beside the other's answer. What remains: one that sleeps a whole lease between here and the last
    # file; the ledger still refuses its answer, but its pictures lie there until the radiograph is graded again.
    if not bench.ledger.renew(uid, bench.name, work.lease_seconds):
        log.warning("claim_lost", sop_instance_uid=uid)
        return False
    destinations = {each.name: each.objects for each in bench.settings.destination}
    wanted = {kind for kinds in destinations.values() for kind in kinds} or set(DEFAULT_OBJECTS)
    standing = bench.ledger.result_objects(uid)
    objects = fill_outbox(entry, source, analysis, bench.vault, grader.card.identity, work, wanted, standing)
    stands = False
    if reading.outcome is Outcome.GRADED:
        stands = bench.ledger.report(
            uid,
            bench.name,
            reading.as_json(),
            objects,
            destinations,
            undecided=reading.undecided,
            flags=reading.flags,
        )
    elif reading.reason is not None:
        stands = bench.ledger.record_not_analysed(
            uid,
            bench.name,
            reading.reason.code,
            reading.detail,
            reading.as_json(),
            objects,
            destinations,
            flags=reading.flags,
        )
    log.info("analysed", sop_instance_uid=uid, outcome=reading.outcome.value, attempts=entry.attempts)
    return stands


def header_of(path: Path, reader: Reader) -> Dataset | None:
    """The header of a file that is no film, for its refusal; None where not even that can be read."""
    try:
        return reader.header(path)
    except (Ungradable, Permanent):
        return None


@contextmanager
def leased(bench: Bench, uid: str) -> Iterator[None]:
    """Keep the claim while the work goes on; a worker that dies stops renewing, and another may take over."""
    done = threading.Event()
    lease = bench.settings.work.lease_seconds

    def renew() -> None:
        while not done.wait(lease / 3):
            try:
                bench.ledger.renew(uid, bench.name, lease)
            except Transient as fault:  # the next round may reach it; if none does, another worker takes over
                log.warning("lease_not_renewed", sop_instance_uid=uid, fault=str(fault))

    keeper = threading.Thread(target=renew, daemon=True)
    keeper.start()
    try:
        yield
    finally:
        done.set()
        keeper.join()


@contextmanager
def faults_recorded(bench: Bench, uid: str) -> Iterator[None]:
    """The one place where an exception of the journey becomes a state that someone can see."""
    try:
        yield
    except Permanent as fault:
        bench.ledger.fail(uid, bench.name, fault.reason.code, fault.detail)
        log.error("failed", sop_instance_uid=uid, reason=fault.reason.code)
    except (Transient, OSError) as fault:
        # A full disk or a database that is away: the sweep asks again, as often as `attempts` allows.
        bench.ledger.release(uid, bench.name, f"{type(fault).__name__}: {fault}")
        log.warning("released", sop_instance_uid=uid, fault=type(fault).__name__)
    except Exception as fault:
        bench.ledger.fail(uid, bench.name, "INTERNAL", type(fault).__name__)
        log.exception("failed", sop_instance_uid=uid, reason="INTERNAL")


def worker_name(name: str = "") -> str:
    """Unique among all workers of a ledger: the host, and `name` or the process id."""
    return f"{socket.gethostname()}-{name or os.getpid()}"
