"""Radiographs that arrive at the same time share a transaction, and nothing else."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import event

from node.errors import Transient
from node.ledger import IntakeOutcome, Ledger, State
from node.radiograph import Radiograph

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)


def film(uid: str, *, sha256: str = "a" * 64, received_at: datetime = AT) -> Radiograph:
    return Radiograph(
        sop_instance_uid=uid,
        sop_class_uid="1.2.840.10008.5.1.4.1.1.1.1",
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        sha256=sha256,
        size=10,
        calling_ae_title="ROOM1",
        calling_host="10.0.0.1",
        received_at=received_at,
    )


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    ledger.upgrade()
    yield ledger
    ledger.close()


def record_together(ledger: Ledger, *radiographs: Radiograph) -> list[IntakeOutcome | BaseException]:
    """Record each in its own thread; all are pending before the first gets the write lock."""
    group, outcomes = ledger._group, []
    with ThreadPoolExecutor(len(radiographs)) as threads:
        with group._write_lock:
            for number, radiograph in enumerate(radiographs, start=1):
                outcomes.append(threads.submit(ledger.record_received, radiograph))
                while len(group._pending) < number:
                    threading.Event().wait(0.001)
        return [outcome.exception() or outcome.result() for outcome in outcomes]


def test_concurrent_radiographs_share_a_commit_and_get_their_own_outcomes(ledger: Ledger) -> None:
    """Four threads, one transaction; a repeat among them is KNOWN, other bytes under its UID are a CONFLICT."""
    commits: list[object] = []
    event.listen(ledger._database._engine, "commit", commits.append)
    outcomes = record_together(ledger, film("1.1"), film("1.2"), film("1.1"), film("1.2", sha256="b" * 64))
    assert outcomes == [IntakeOutcome.NEW, IntakeOutcome.NEW, IntakeOutcome.KNOWN, IntakeOutcome.CONFLICT]
    assert len(commits) == 1
    assert ledger.counts_by_state()[State.RECEIVED] == 2


def test_an_error_of_one_radiograph_is_raised_for_it_alone(ledger: Ledger) -> None:
    """The radiographs beside one that cannot be written are recorded."""
    bad = film("1.2", received_at=datetime(2026, 3, 1))
    first, wrong, last = record_together(ledger, film("1.1"), bad, film("1.3"))
    assert (first, last) == (IntakeOutcome.NEW, IntakeOutcome.NEW)
    assert isinstance(wrong, Exception)
    assert ledger.find("1.2") is None
    assert ledger.record_received(film("1.4")) is IntakeOutcome.NEW


def test_a_failed_transaction_is_raised_for_all(ledger: Ledger) -> None:
    """No thread gets an outcome if the transaction failed."""
    with ledger._database.write() as connection:
        connection.exec_driver_sql("ALTER TABLE journal RENAME TO lost")
    outcomes = record_together(ledger, film("1.1"), film("1.2"))
    assert all(isinstance(outcome, Transient) for outcome in outcomes)
    assert ledger.find("1.1") is None


def test_a_single_thread_commits_at_once(ledger: Ledger) -> None:
    """A group is what is pending now; nothing waits for more to arrive."""
    assert [ledger.record_received(film(f"1.{n}")) for n in range(3)] == [IntakeOutcome.NEW] * 3
    assert ledger._group._pending == []
