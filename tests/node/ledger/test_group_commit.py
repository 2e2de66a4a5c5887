"""Radiographs that arrive together share a transaction, and nothing else."""

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
    made = Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    made.upgrade()
    yield made
    made.close()


def together(ledger: Ledger, *came: Radiograph) -> list[IntakeOutcome | BaseException]:
    """Each is kept by a thread of its own; they are all there before the first has its turn."""
    group, answers = ledger._group, []
    with ThreadPoolExecutor(len(came)) as threads:
        with group._turn:
            for number, each in enumerate(came, start=1):
                answers.append(threads.submit(ledger.record_received, each))
                while len(group._waiting) < number:
                    threading.Event().wait(0.001)
        return [answer.exception() or answer.result() for answer in answers]


def test_those_that_wait_together_are_committed_once_and_told_each_their_own(ledger: Ledger) -> None:
    """Four threads, one transaction; a repeat among them is KNOWN, other bytes under its UID are a CONFLICT."""
    commits: list[object] = []
    event.listen(ledger._database._engine, "commit", commits.append)
    answers = together(ledger, film("1.1"), film("1.2"), film("1.1"), film("1.2", sha256="b" * 64))
    assert answers == [IntakeOutcome.NEW, IntakeOutcome.NEW, IntakeOutcome.KNOWN, IntakeOutcome.CONFLICT]
    assert len(commits) == 1
    assert ledger.counts_by_state()[State.RECEIVED] == 2


def test_what_is_wrong_with_one_is_told_to_it_alone(ledger: Ledger) -> None:
    """A radiograph that cannot be written keeps none of those beside it from being kept."""
    bad = film("1.2", received_at=datetime(2026, 3, 1))
    first, wrong, last = together(ledger, film("1.1"), bad, film("1.3"))
    assert (first, last) == (IntakeOutcome.NEW, IntakeOutcome.NEW)
    assert isinstance(wrong, Exception)
    assert ledger.find("1.2") is None
    assert ledger.record_received(film("1.4")) is IntakeOutcome.NEW


def test_a_database_that_does_not_take_it_is_told_to_all(ledger: Ledger) -> None:
    """None of them hears that it is kept when the transaction failed."""
    with ledger._database.write() as connection:
        connection.exec_driver_sql("ALTER TABLE journal RENAME TO lost")
    answers = together(ledger, film("1.1"), film("1.2"))
    assert all(isinstance(answer, Transient) for answer in answers)
    assert ledger.find("1.1") is None


def test_whoever_is_first_waits_for_nobody(ledger: Ledger) -> None:
    """One thread alone has its commit at once: the group is those who are there, not those who might come."""
    assert [ledger.record_received(film(f"1.{n}")) for n in range(3)] == [IntakeOutcome.NEW] * 3
    assert ledger._group._waiting == []
