"""The ledger on SQLite and on PostgreSQL: state transitions, claims, deliveries and the journal."""

import contextlib
import multiprocessing
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import product
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from node.errors import SettingsError, Transient
from node.finding import ModelIdentity
from node.ledger import (
    TRANSITIONS,
    CardState,
    IntakeOutcome,
    Ledger,
    ResultObject,
    ShadowReading,
    State,
    database,
    tables,
    transitions,
)
from node.ledger.model_history import previous_model
from node.radiograph import Radiograph
from tests.paths import ROOT
from tests.peers.databases import empty_database, postgresql, postgresql_programs
from tests.peers.small_disk import NAMESPACE, can_mount

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
FAR = NOW + timedelta(days=3650)
READING = {"model": {"name": "kl-lite2", "version": "1.0", "sha256": "f" * 64}, "knees": []}
PACS = {"pacs": ("SC", "SR")}


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with postgresql() as url:
        yield url


@pytest.fixture(
    params=[
        "sqlite",
        pytest.param(
            "postgresql",
            marks=pytest.mark.skipif(postgresql_programs() is None, reason="not installed: postgresql"),
        ),
    ]
)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'ledger.sqlite'}"
    return empty_database(request.getfixturevalue("server"))


@pytest.fixture
def ledger(url: str) -> Iterator[Ledger]:
    ledger = Ledger(url)
    ledger.upgrade()
    yield ledger
    ledger.close()


def film(uid: str, *, sha256: str = "a" * 64, minutes: int = 0) -> Radiograph:
    return Radiograph(
        sop_instance_uid=uid,
        sop_class_uid="1.2.840.10008.5.1.4.1.1.1.1",
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        sha256=sha256,
        size=1234,
        calling_ae_title="MODALITY",
        calling_host="192.0.2.1",
        received_at=NOW + timedelta(minutes=minutes),
    )


def result(kind: str, uid: str, sha256: str = "c" * 64) -> ResultObject:
    return ResultObject(
        kind="SC" if kind == "SC" else "SR",
        sop_class_uid="1.2.840.10008.5.1.4.1.1.7",
        sop_instance_uid=uid,
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        file=f"{kind.lower()}.dcm",
        sha256=sha256,
    )


BOTH = (result("SC", "2.1.1"), result("SR", "2.1.2"))


def record_graded(ledger: Ledger, uid: str, destinations: dict[str, tuple[str, ...]] = PACS) -> None:
    ledger.record_received(film(uid))
    assert ledger.claim(uid, "w", lease_seconds=60, attempts=3)
    assert ledger.report(uid, "w", READING, [result("SC", f"{uid}.1"), result("SR", f"{uid}.2")], destinations)


def events(ledger: Ledger, uid: str) -> list[str]:
    return [line.what for line in ledger.journal(uid)]


def state(ledger: Ledger, uid: str) -> State:
    entry = ledger.find(uid)
    assert entry is not None
    return entry.state


# Intake


def test_a_new_radiograph_is_received_with_all_that_is_known_of_it(ledger: Ledger) -> None:
    """The entry has what the receiver recorded; an unknown UID has none."""
    assert ledger.record_received(film("1.2.1")) is IntakeOutcome.NEW
    entry = ledger.find("1.2.1")
    assert entry is not None
    assert (entry.state, entry.attempts, entry.flags, entry.reading) == (State.RECEIVED, 0, (), None)
    assert (entry.received_at, entry.size, entry.calling_host) == (NOW, 1234, "192.0.2.1")
    assert entry.received_at.tzinfo is not None
    assert ledger.find("1.2.2") is None


def test_the_same_bytes_again_change_nothing(ledger: Ledger) -> None:
    """Not even after the work is done."""
    record_graded(ledger, "1.2.1")
    assert ledger.record_received(film("1.2.1")) is IntakeOutcome.KNOWN
    assert state(ledger, "1.2.1") is State.REPORTED
    assert ledger.unfinished(FAR) == []
    assert events(ledger, "1.2.1")[-1] == "received again"


def test_other_bytes_are_recorded_beside_the_first_and_flagged(ledger: Ledger) -> None:
    """The first stays what it was; the same other bytes twice are one conflict."""
    ledger.record_received(film("1.2.1"))
    for _ in range(2):
        assert ledger.record_received(film("1.2.1", sha256="b" * 64)) is IntakeOutcome.CONFLICT
    entry = ledger.find("1.2.1")
    assert entry is not None
    assert (entry.sha256, entry.flags) == ("a" * 64, ("CONFLICT",))
    assert [conflict.sha256 for conflict in ledger.conflicts("1.2.1")] == ["b" * 64]
    assert [found.sop_instance_uid for found in ledger.listing(flag="CONFLICT")] == ["1.2.1"]
    assert ledger.known_hashes(["a" * 64, "b" * 64, "c" * 64]) == {"a" * 64, "b" * 64}


def test_an_own_result_that_is_routed_back_is_never_analysed(ledger: Ledger) -> None:
    """It is never claimed, and a retry does not change that: there are no loops."""
    record_graded(ledger, "1.2.1")
    assert ledger.is_result("1.2.1.1")
    for _ in range(2):
        assert ledger.record_received(film("1.2.1.1", sha256="b" * 64)) is IntakeOutcome.OWN
    entry = ledger.find("1.2.1.1")
    assert entry is not None
    assert (entry.state, entry.reason) == (State.NOT_ANALYSED, "OWN_OBJECT")
    assert not ledger.retry("1.2.1.1", "admin")
    assert ledger.claim("1.2.1.1", "w", lease_seconds=60, attempts=3) is None


def test_what_is_refused_at_intake_is_never_claimed(ledger: Ledger) -> None:
    """It has its row and its reason; a reason that is not in the table is refused."""
    assert ledger.record_received(film("1.2.1"), not_analysed_reason="NOT_AN_IMAGE") is IntakeOutcome.NEW
    assert ledger.claim("1.2.1", "w", lease_seconds=60, attempts=3) is None
    assert [entry.sop_instance_uid for entry in ledger.listing(reason="NOT_AN_IMAGE")] == ["1.2.1"]
    with pytest.raises(KeyError):
        ledger.record_received(film("1.2.2"), not_analysed_reason="BECAUSE")
    assert ledger.find("1.2.2") is None


# State transitions


@pytest.fixture(scope="module")
def one_ledger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledger]:
    ledger = Ledger(f"sqlite:///{tmp_path_factory.mktemp('moves') / 'ledger.sqlite'}")
    ledger.upgrade()
    ledger.record_received(film("1.2.1"))
    yield ledger
    ledger.close()


@pytest.mark.parametrize(("old", "new"), list(product(State, State)))
def test_every_transition_outside_the_table_is_refused(one_ledger: Ledger, old: State, new: State) -> None:
    """All 49 pairs are tried on a row; an illegal one raises and changes neither the row nor the journal."""
    ledger = one_ledger
    with ledger._database.write() as connection:
        connection.execute(sa.update(tables.radiograph).values(state=old.value))
    lines = events(ledger, "1.2.1")

    def change() -> None:
        with ledger._database.write() as connection:
            row = transitions.lock_radiograph(connection, "1.2.1")
            assert row is not None
            transitions.change_state(connection, row, new, what="moved", by="test")

    if new in TRANSITIONS[old]:
        change()
        assert (state(ledger, "1.2.1"), events(ledger, "1.2.1")) == (new, [*lines, "moved"])
    else:
        with pytest.raises(ValueError, match="is not an allowed transition"):
            change()
        assert (state(ledger, "1.2.1"), events(ledger, "1.2.1")) == (old, lines)


def test_the_table_of_transitions_is_the_one_that_was_decided() -> None:
    """Every state is in it; DELIVERED leads to CONFIRMED, or back to RECEIVED when a person retries."""
    assert set(TRANSITIONS) == set(State)
    assert all(TRANSITIONS[state] for state in State)
    assert TRANSITIONS[State.DELIVERED] == {State.CONFIRMED, State.RECEIVED}


def test_the_database_itself_refuses_a_state_that_there_is_not(ledger: Ledger) -> None:
    """A mistake in later code ends here."""
    ledger.record_received(film("1.2.1"))
    with pytest.raises(sa.exc.IntegrityError), ledger._database.write() as connection:
        connection.execute(sa.update(tables.radiograph).values(state="QUEUED"))


@pytest.mark.parametrize("change", ["UPDATE journal SET what = 'nothing'", "DELETE FROM journal"])
def test_the_journal_cannot_be_rewritten(ledger: Ledger, change: str) -> None:
    """The database refuses it from anyone."""
    record_graded(ledger, "1.2.1")
    before = ledger.journal("1.2.1")
    with pytest.raises((sa.exc.DBAPIError, Transient), match="only added to"), ledger._database.write() as connection:
        connection.execute(sa.text(change))
    assert ledger.journal("1.2.1") == before


# Claims


def test_a_claim_is_one_workers_until_its_lease_ends(ledger: Ledger) -> None:
    """While it runs nobody else gets the radiograph; renewed it runs on; ended it is anyone's."""
    ledger.record_received(film("1.2.1"))
    entry = ledger.claim("1.2.1", "one", lease_seconds=0, attempts=3)
    assert entry is not None
    assert (entry.state, entry.worker, entry.attempts) == (State.GRADING, "one", 1)
    assert ledger.renew("1.2.1", "one", 60)
    assert ledger.claim("1.2.1", "two", lease_seconds=60, attempts=3) is None
    assert ledger.unfinished(datetime.now(UTC)) == []
    assert ledger.unfinished(FAR) == ["1.2.1"]
    assert ledger.renew("1.2.1", "one", 0)
    second_claim = ledger.claim("1.2.1", "two", lease_seconds=60, attempts=3)
    assert second_claim is not None
    assert (second_claim.worker, second_claim.attempts) == ("two", 2)
    assert "taken over from one" in ledger.journal("1.2.1")[-1].detail


def test_a_worker_that_lost_its_claim_changes_nothing(ledger: Ledger) -> None:
    """A worker that slept through its lease changes nothing, whatever it brings."""
    ledger.record_received(film("1.2.1"))
    ledger.claim("1.2.1", "slow", lease_seconds=0, attempts=3)
    ledger.claim("1.2.1", "quick", lease_seconds=60, attempts=3)
    before = ledger.journal("1.2.1")
    assert not ledger.renew("1.2.1", "slow", 60)
    assert not ledger.report("1.2.1", "slow", READING, BOTH, PACS)
    assert not ledger.record_not_analysed("1.2.1", "slow", "BLANK", "", READING)
    assert not ledger.fail("1.2.1", "slow", "INTERNAL", "")
    assert not ledger.release("1.2.1", "slow", "")
    assert ledger.journal("1.2.1") == before
    assert ledger.result_objects("1.2.1", superseded=True) == []
    assert ledger.report("1.2.1", "quick", READING, BOTH, PACS)
    assert not ledger.report("1.2.1", "quick", READING, BOTH, PACS)


def test_used_up_attempts_end_in_failed_with_the_last_fault(ledger: Ledger) -> None:
    """Released or abandoned, each attempt counts; then a person has to retry it, and the count starts again."""
    ledger.record_received(film("1.2.1"))
    ledger.claim("1.2.1", "w", lease_seconds=0, attempts=2)
    ledger.claim("1.2.1", "w", lease_seconds=60, attempts=2)
    ledger.release("1.2.1", "w", "the disk was busy")
    assert ledger.unfinished(NOW) == ["1.2.1"]
    assert ledger.claim("1.2.1", "w", lease_seconds=60, attempts=2) is None
    entry = ledger.find("1.2.1")
    assert entry is not None
    assert (entry.state, entry.reason) == (State.FAILED, "ATTEMPTS_EXHAUSTED")
    assert "the disk was busy" in entry.detail
    assert ledger.unfinished(FAR) == []
    assert ledger.retry("1.2.1", "mary")
    assert ledger.journal("1.2.1")[-1].by == "mary"
    again = ledger.claim("1.2.1", "w", lease_seconds=60, attempts=2)
    assert again is not None
    assert (again.attempts, again.reason, again.detail) == (1, None, "")


def claim_all(url: str, number: int, together: "Barrier", outcomes: "Queue[tuple[int, str]]") -> None:
    ledger = Ledger(url)
    for film_number in range(20):
        together.wait()
        if ledger.claim(f"1.2.{film_number}", f"worker-{number}", lease_seconds=60, attempts=3):
            outcomes.put((film_number, f"worker-{number}"))


def test_several_processes_never_claim_the_same_radiograph(ledger: Ledger, url: str) -> None:
    """Four of them go for each of twenty films at the same moment; one gets it, and the ledger agrees which."""
    for number in range(20):
        ledger.record_received(film(f"1.2.{number}"))
    claimed = at_once(4, claim_all, url)
    assert sorted(number for number, _ in claimed) == list(range(20))
    for number, worker in claimed:
        entry = ledger.find(f"1.2.{number}")
        assert entry is not None
        assert (entry.worker, entry.attempts) == (worker, 1)


def record_all(url: str, number: int, together: "Barrier", outcomes: "Queue[tuple[int, str]]") -> None:
    ledger = Ledger(url)
    for film_number in range(20):
        together.wait()
        outcomes.put((film_number, ledger.record_received(film(f"1.2.{film_number}"))))


def test_of_several_that_record_the_same_uid_one_is_the_first(ledger: Ledger, url: str) -> None:
    """For each of twenty UIDs one process gets NEW and the others KNOWN."""
    outcomes = at_once(4, record_all, url)
    for number in range(20):
        found = sorted(outcome for uid_number, outcome in outcomes if uid_number == number)
        assert found == ["KNOWN", "KNOWN", "KNOWN", "NEW"]


# Answers and deliveries


def test_an_answer_is_delivered_to_every_destination_that_takes_its_kind(ledger: Ledger) -> None:
    """The SC goes where SC are accepted, the SR where SR are; after the last one it is DELIVERED."""
    record_graded(ledger, "1.2.1", {"pacs": ("SC", "SR"), "archive": ("SR",)})
    owed = [(one.destination, one.object.kind, one.state) for one in ledger.deliveries("1.2.1")]
    assert owed == [("pacs", "SC", "WAITING"), ("pacs", "SR", "WAITING"), ("archive", "SR", "WAITING")]
    for one in ledger.deliveries("1.2.1"):
        assert state(ledger, "1.2.1") is State.REPORTED
        ledger.record_sent(one.id, 0x0000)
        ledger.record_sent(one.id, 0x0000)
    assert state(ledger, "1.2.1") is State.DELIVERED
    assert events(ledger, "1.2.1") == ["received", "claimed", "reported", "sent", "sent", "sent", "delivered"]
    assert ledger.due_deliveries("pacs", FAR, 10) == []
    assert ledger.pending_deliveries() == []


def test_an_undecided_answer_is_found_by_its_flag(ledger: Ledger) -> None:
    """The flag comes with the answer, in one transaction, and only from the worker that has the claim."""
    for uid in ("1.2.1", "1.2.2"):
        ledger.record_received(film(uid))
        ledger.claim(uid, "w", lease_seconds=60, attempts=3)
    assert not ledger.report("1.2.1", "slow", READING, BOTH, PACS, undecided=True)
    assert ledger.listing(flag="UNDECIDED") == []
    assert ledger.report("1.2.1", "w", READING, [result("SC", "2.1")], PACS, undecided=True)
    assert ledger.report("1.2.2", "w", READING, [result("SC", "2.2")], PACS)
    assert [entry.sop_instance_uid for entry in ledger.listing(flag="UNDECIDED")] == ["1.2.1"]


def test_without_a_destination_an_answer_stays_reported(ledger: Ledger) -> None:
    """Nothing was delivered, so the state must not be DELIVERED."""
    record_graded(ledger, "1.2.1", {"pacs": ()})
    assert ledger.deliveries("1.2.1") == []
    assert state(ledger, "1.2.1") is State.REPORTED
    assert [result.kind for result in ledger.result_objects("1.2.1")] == ["SC", "SR"]


def test_a_refusal_is_delivered_and_stays_a_refusal(ledger: Ledger) -> None:
    """NOT_ANALYSED with its reason, before and after its report has gone out."""
    ledger.record_received(film("1.2.1"))
    ledger.claim("1.2.1", "w", lease_seconds=60, attempts=3)
    assert ledger.record_not_analysed("1.2.1", "w", "NOT_A_KNEE", "a hand", READING, [result("SR", "2.1")], PACS)
    ledger.record_sent(ledger.deliveries("1.2.1")[0].id, 0)
    entry = ledger.find("1.2.1")
    assert entry is not None
    assert (entry.state, entry.reason, entry.detail) == (State.NOT_ANALYSED, "NOT_A_KNEE", "a hand")
    assert entry.reading == READING
    assert [one.state for one in ledger.deliveries("1.2.1")] == ["SENT"]


def test_what_is_postponed_is_due_then_or_when_made_due(ledger: Ledger) -> None:
    """Attempts are counted; the journal has an error once, not for every attempt; the first in is the first out."""
    record_graded(ledger, "1.2.1")
    first, second = ledger.due_deliveries("pacs", FAR, 10)
    later = datetime.now(UTC) + timedelta(hours=1)
    for _ in range(3):
        ledger.postpone([first.id], later, "refused: connection")
    assert [one.id for one in ledger.due_deliveries("pacs", datetime.now(UTC), 10)] == [second.id]
    assert [one.id for one in ledger.due_deliveries("pacs", FAR, 10)] == [second.id, first.id]
    assert ledger.due_deliveries("pacs", FAR, 1)[0].id == second.id
    assert events(ledger, "1.2.1").count("delivery postponed") == 1
    ledger.record_sent(second.id, 0)
    assert ledger.next_due("pacs") == later
    assert ledger.next_due("elsewhere") is None
    (waits,) = ledger.pending_deliveries()
    assert (waits.destination, waits.count, waits.last_error) == ("pacs", 1, "refused: connection")
    assert ledger.make_due("pacs") == 1
    assert ledger.make_due("pacs") == 0
    assert [(one.id, one.attempts) for one in ledger.due_deliveries("pacs", datetime.now(UTC), 10)] == [(first.id, 3)]


def test_a_delivery_given_up_waits_for_a_person(ledger: Ledger) -> None:
    """It is due no more, and the radiograph is not DELIVERED by the others; retried it waits once more."""
    record_graded(ledger, "1.2.1")
    first, second = ledger.due_deliveries("pacs", FAR, 10)
    ledger.give_up(first.id, "0xA900 for ever")
    ledger.record_sent(second.id, 0)
    assert (ledger.due_deliveries("pacs", FAR, 10), state(ledger, "1.2.1")) == ([], State.REPORTED)
    assert ledger.retry("1.2.1", "mary")
    assert not ledger.retry("1.2.1", "mary")
    assert [one.id for one in ledger.due_deliveries("pacs", FAR, 10)] == [first.id]
    ledger.record_sent(first.id, 0xB000)
    assert state(ledger, "1.2.1") is State.DELIVERED
    assert not ledger.retry("1.2.1", "mary")


def test_another_models_answer_makes_new_rows_and_keeps_the_old(ledger: Ledger) -> None:
    """The old objects stay recorded with the model that made them; what of them still waited is not sent any more."""
    ledger.record_received(film("1.2.1"))
    ledger.claim("1.2.1", "w", lease_seconds=60, attempts=3)
    ledger.record_not_analysed("1.2.1", "w", "NOT_A_KNEE", "", READING, [result("SR", "2.1")], PACS)
    assert ledger.retry("1.2.1", "mary")
    newer = {**READING, "model": {"name": "kl-lite2", "version": "2.0", "sha256": "e" * 64}}
    ledger.claim("1.2.1", "w", lease_seconds=60, attempts=3)
    assert ledger.report("1.2.1", "w", newer, [result("SC", "2.2"), result("SR", "2.3")], PACS)
    assert [item.sop_instance_uid for item in ledger.result_objects("1.2.1")] == ["2.2", "2.3"]
    assert [item.sop_instance_uid for item in ledger.result_objects("1.2.1", superseded=True)] == ["2.1", "2.2", "2.3"]
    assert [item.object.sop_instance_uid for item in ledger.due_deliveries("pacs", FAR, 10)] == ["2.2", "2.3"]
    answers = ledger.answers("1.2.1")
    assert [(item.state, item.model_version) for item in answers] == [
        (State.NOT_ANALYSED, "1.0"),
        (State.REPORTED, "2.0"),
    ]
    assert [(use.version, use.sha256[0], use.answers) for use in ledger.model_uses()] == [
        ("1.0", "f", 1),
        ("2.0", "e", 1),
    ]
    assert all(ledger.is_result(uid) for uid in ("2.1", "2.2", "2.3"))
    for item in ledger.due_deliveries("pacs", FAR, 10):
        ledger.record_sent(item.id, 0)
    assert state(ledger, "1.2.1") is State.DELIVERED
    entry = ledger.find("1.2.1")
    assert entry is not None
    assert entry.reading == newer


@pytest.mark.parametrize(("bytes_again", "due"), [("c" * 64, []), ("d" * 64, ["2.1"])])
def test_the_same_objects_again_double_no_delivery(ledger: Ledger, bytes_again: str, due: list[str]) -> None:
    """The same UID with the same bytes is not sent again; with other bytes it is, as the one delivery it was."""
    ledger.record_received(film("1.2.1"))
    for sha256 in ("c" * 64, bytes_again):
        ledger.claim("1.2.1", "w", lease_seconds=60, attempts=3)
        ledger.record_not_analysed("1.2.1", "w", "NOT_A_KNEE", "", READING, [result("SR", "2.1", sha256)], PACS)
        if sha256 == "c" * 64 and len(ledger.answers("1.2.1")) == 1:
            ledger.record_sent(ledger.deliveries("1.2.1")[0].id, 0)
            ledger.retry("1.2.1", "mary")
    assert len(ledger.deliveries("1.2.1")) == 1
    assert [item.object.sop_instance_uid for item in ledger.due_deliveries("pacs", FAR, 10)] == due
    assert [item.sha256 for item in ledger.result_objects("1.2.1")] == [bytes_again]


def test_the_last_two_destinations_may_end_at_the_same_time(ledger: Ledger) -> None:
    """However their transactions overlap, one of them sees that all is sent, and DELIVERED is set once."""
    for number in range(10):
        uid = f"1.2.{number}"
        record_graded(ledger, uid, {"one": ("SR",), "two": ("SR",)})
        start = threading.Barrier(2)

        def send(delivery_id: int, start: threading.Barrier = start) -> None:
            start.wait()
            ledger.record_sent(delivery_id, 0)

        threads = [threading.Thread(target=send, args=(item.id,)) for item in ledger.deliveries(uid)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (state(ledger, uid), events(ledger, uid).count("delivered")) == (State.DELIVERED, 1)


def test_an_object_of_another_radiograph_is_not_taken_over(ledger: Ledger) -> None:
    """Two sources that claim one result UID are a bug, and the second changes nothing."""
    record_graded(ledger, "1.2.1")
    ledger.record_received(film("1.2.9"))
    ledger.claim("1.2.9", "w", lease_seconds=60, attempts=3)
    with pytest.raises(ValueError, match="belongs to another"):
        ledger.report("1.2.9", "w", READING, [result("SC", "1.2.1.1")], PACS)
    assert (state(ledger, "1.2.9"), ledger.answers("1.2.9")) == (State.GRADING, [])


# The active model

FIRST, SECOND, THIRD = (ModelIdentity(f"kl-{name}", "1.0", name * 64) for name in "abc")
CARD_A, CARD_B, CARD_C = (
    CardState(name, str(number) * 64, model)
    for number, (name, model) in enumerate(zip("abc", (FIRST, SECOND, THIRD), strict=True))
)


def changes(ledger: Ledger) -> list[tuple[str, str, str]]:
    return [(change.what, change.card, change.by) for change in ledger.model_changes()]


def rolled_back(ledger: Ledger) -> str | None:
    """The card that answered before answers again; None if there was none."""
    to = previous_model(ledger.model_changes())
    assert to is None or ledger.roll_back(to, "mary")
    return to.card if to else None


def test_the_model_promoted_last_is_active_and_every_change_is_recorded(ledger: Ledger) -> None:
    """Before the first promotion there is none; the first also records the model that was active until then."""
    assert ledger.active_model() is None
    ledger.promote(CARD_B, "mary", previous=CARD_A)
    ledger.promote(CARD_C, "joe", previous=CARD_B)
    active = ledger.active_model()
    assert active is not None
    assert (active.card, active.card_sha256, active.model, active.by) == ("c", CARD_C.sha256, THIRD, "joe")
    assert datetime.now(UTC) - active.at < timedelta(minutes=1)
    assert changes(ledger) == [("shipped", "a", "genu"), ("promoted", "b", "mary"), ("promoted", "c", "joe")]
    assert (ledger.model_changes()[0].model, ledger.model_changes()[0].card_sha256) == (FIRST, CARD_A.sha256)


def test_rolling_back_goes_step_by_step_to_what_answered_before(ledger: Ledger) -> None:
    """To the very first, and no further; a promotion after it begins anew from there; nothing is removed."""
    ledger.promote(CARD_B, "mary", previous=CARD_A)
    ledger.promote(CARD_C, "mary", previous=CARD_B)
    assert [rolled_back(ledger) for _ in range(3)] == ["b", "a", None]
    active = ledger.active_model()
    assert active is not None
    assert (active.what, active.card, active.model) == ("rolled back", "a", FIRST)
    ledger.promote(CARD_C, "mary", previous=CARD_A)
    assert rolled_back(ledger) == "a"
    assert [what for what, _, _ in changes(ledger)] == [
        *("shipped", "promoted", "promoted", "rolled back", "rolled back", "promoted", "rolled back")
    ]


def test_a_rollback_to_what_is_no_longer_the_one_before_changes_nothing(ledger: Ledger) -> None:
    """Two people who roll back at once do not go two steps."""
    ledger.promote(CARD_B, "mary", previous=CARD_A)
    ledger.promote(CARD_C, "mary", previous=CARD_B)
    to = previous_model(ledger.model_changes())
    assert to is not None
    assert ledger.roll_back(to, "mary")
    assert not ledger.roll_back(to, "joe")
    assert len(ledger.model_changes()) == 4


@pytest.mark.parametrize("change", ["UPDATE model_change SET \"by\" = 'nobody'", "DELETE FROM model_change"])
def test_the_history_of_models_cannot_be_rewritten(ledger: Ledger, change: str) -> None:
    """The database refuses it from anyone."""
    ledger.promote(CARD_B, "mary", previous=CARD_A)
    with pytest.raises((sa.exc.DBAPIError, Transient), match="only added to"), ledger._database.write() as connection:
        connection.execute(sa.text(change))
    assert changes(ledger) == [("shipped", "a", "genu"), ("promoted", "b", "mary")]


def reading_of(model: ModelIdentity, *grades: int) -> dict[str, Any]:
    """A reading of so many knees."""
    identity = {"name": model.name, "version": model.version, "sha256": model.sha256}
    return {"model": identity, "knees": [{"grade": grade} for grade in grades]}


def in_shadow(model: ModelIdentity, *grades: int, fault: str = "") -> ShadowReading:
    return ShadowReading(NOW, "card", model, None if fault else reading_of(model, *grades), fault)


def record_answer(ledger: Ledger, uid: str, model: ModelIdentity, *grades: int) -> None:
    ledger.record_received(film(uid))
    ledger.claim(uid, "w", lease_seconds=60, attempts=3)
    assert ledger.report(uid, "w", reading_of(model, *grades), [result("SR", f"{uid}.9")], PACS)


def test_a_shadow_reading_is_stored_beside_the_answer_and_never_delivered(ledger: Ledger) -> None:
    """It has its model and its reading, the journal has a line, and there is no delivery and no object more."""
    record_answer(ledger, "1.2.1", FIRST, 2, 3)
    owed = ledger.deliveries("1.2.1")
    ledger.record_shadow_reading("1.2.1", in_shadow(SECOND, 2, 1), "w")
    ledger.record_shadow_reading("1.2.1", ShadowReading(NOW, "lost", None, None, "its file is missing"), "w")
    ledger.record_shadow_reading("1.2.1", in_shadow(SECOND, fault="RuntimeError"), "w")
    one, other, failed = ledger.shadow_readings("1.2.1")
    assert (one.model, one.reading, one.fault, one.at) == (SECOND, reading_of(SECOND, 2, 1), "", NOW)
    assert (other.card, other.model, other.reading, other.fault) == ("lost", None, None, "its file is missing")
    assert (failed.model, failed.reading, failed.fault) == (SECOND, None, "RuntimeError")
    assert events(ledger, "1.2.1")[-3:] == ["shadowed", "shadow failed", "shadow failed"]
    assert ledger.deliveries("1.2.1") == owed
    assert len(ledger.result_objects("1.2.1", superseded=True)) == 1
    assert [(use.name, use.answers) for use in ledger.model_uses()] == [("kl-a", 1)]
    assert [(use.name, use.answers) for use in ledger.shadow_model_uses()] == [("kl-b", 1)]
    ledger.record_received(film("1.2.2"))
    ledger.record_shadow_reading("1.2.2", in_shadow(SECOND, 2), "w")
    assert ledger.shadow_readings("1.2.2") == []


def test_pairs_are_the_films_of_both_models_whichever_answered(ledger: Ledger) -> None:
    """In the order that is asked for; other models, and shadows that failed, are none of them."""
    record_answer(ledger, "1.2.1", FIRST, 1)
    ledger.record_shadow_reading("1.2.1", in_shadow(SECOND, 2), "w")
    record_answer(ledger, "1.2.2", SECOND, 3)
    ledger.record_shadow_reading("1.2.2", in_shadow(FIRST, 4), "w")
    record_answer(ledger, "1.2.3", FIRST, 1)
    ledger.record_shadow_reading("1.2.3", in_shadow(THIRD, 2), "w")
    record_answer(ledger, "1.2.4", FIRST, 1)
    ledger.record_shadow_reading("1.2.4", in_shadow(SECOND, fault="RuntimeError"), "w")
    record_answer(ledger, "1.2.5", FIRST, 1)

    def grades(first: ModelIdentity, second: ModelIdentity) -> list[tuple[str, int, int]]:
        found = ledger.paired_readings(first, second)
        return [(pair.source_uid, pair.first[0]["grade"], pair.second[0]["grade"]) for pair in found]

    assert grades(FIRST, SECOND) == [("1.2.1", 1, 2), ("1.2.2", 4, 3)]
    assert grades(SECOND, FIRST) == [("1.2.1", 2, 1), ("1.2.2", 3, 4)]
    assert grades(SECOND, THIRD) == []


def test_agreement_with_the_shadow_is_counted_by_knee(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Same, one apart, more, and what failed; the same after some of it was settled and counted for good."""
    record_answer(ledger, "1.2.1", FIRST, 2, 3)
    ledger.record_shadow_reading("1.2.1", in_shadow(SECOND, 2, 1), "w")
    record_answer(ledger, "1.2.2", FIRST, 0)
    ledger.record_shadow_reading("1.2.2", in_shadow(SECOND, 1), "w")
    first = ledger.totals()
    assert first.agreements == {"same": 1, "more": 1, "one apart": 1}
    monkeypatch.setattr("node.ledger.totals._SETTLED_AFTER", timedelta(0))
    second = ledger.totals(first)
    record_answer(ledger, "1.2.3", FIRST, 0)
    ledger.record_shadow_reading("1.2.3", in_shadow(SECOND, fault="RuntimeError"), "w")
    assert ledger.totals(second).agreements == {"same": 1, "more": 1, "one apart": 1, "failed": 1}


# Queries


def test_queries_return_counts_listings_flags_and_heartbeats(ledger: Ledger) -> None:
    """Counts with their zeros, the oldest of each state, listings newest first and page by page, heartbeats."""
    for number in range(5):
        ledger.record_received(film(f"1.2.{number}", minutes=number))
    ledger.record_received(film("1.2.9", minutes=9), not_analysed_reason="NOT_AN_IMAGE")
    assert ledger.counts_by_state() == {**dict.fromkeys(State, 0), State.RECEIVED: 5, State.NOT_ANALYSED: 1}
    assert ledger.oldest_by_state() == {State.RECEIVED: NOW, State.NOT_ANALYSED: NOW + timedelta(minutes=9)}
    assert ledger.unfinished(NOW) == [f"1.2.{number}" for number in range(5)]
    page = ledger.listing(state=State.RECEIVED, limit=3)
    assert [entry.sop_instance_uid for entry in page] == ["1.2.4", "1.2.3", "1.2.2"]
    rest = ledger.listing(state=State.RECEIVED, limit=3, before=page[-1].received_at)
    assert [entry.sop_instance_uid for entry in rest] == ["1.2.1", "1.2.0"]
    ledger.add_flag("1.2.3", "LOOK")
    assert [entry.flags for entry in ledger.listing(flag="LOOK")] == [("LOOK",)]
    with pytest.raises(KeyError):
        ledger.add_flag("1.2.77", "LOOK")
    ledger.record_heartbeat("receive", "host", {"associations": 1})
    ledger.record_heartbeat("receive", "host", {"associations": 2})
    (beat,) = ledger.heartbeats()
    assert (beat.process, beat.name, beat.detail) == ("receive", "host", {"associations": 2})
    assert datetime.now(UTC) - beat.seen_at < timedelta(minutes=1)
    with ledger._database.write() as connection:
        connection.execute(sa.update(tables.beat).values(seen_at=datetime.now(UTC) - timedelta(days=2)))
    ledger.record_heartbeat("work", "host-17", {})
    assert [beat.name for beat in ledger.heartbeats()] == ["host-17"]


def test_a_time_without_a_zone_is_refused(ledger: Ledger) -> None:
    """Two hosts in two zones must not disagree on what is due."""
    with pytest.raises(sa.exc.StatementError, match="without a time zone"):
        ledger.unfinished(datetime(2026, 3, 1))


# The database


def upgrade_it(url: str, number: int, together: "Barrier", outcomes: "Queue[tuple[int, str]]") -> None:
    ledger = Ledger(url)
    together.wait()
    ledger.upgrade()
    outcomes.put((number, "done"))


def test_several_processes_may_upgrade_at_once(url: str) -> None:
    """Four start on nothing at the same moment; all of them end well, and the tables are there."""
    assert sorted(at_once(4, upgrade_it, url)) == [(number, "done") for number in range(4)]
    ledger = Ledger(url)
    assert ledger.record_received(film("1.2.1")) is IntakeOutcome.NEW
    ledger.close()


def test_the_migrations_make_the_tables_that_the_code_has(ledger: Ledger) -> None:
    """Alembic finds nothing that it would change."""
    with ledger._database.write() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, tables.metadata) == []


def test_what_is_in_the_ledger_outlives_an_upgrade(ledger: Ledger) -> None:
    """Upgrading again changes nothing; a ledger of a newer Genu is refused with a message."""
    ledger.record_received(film("1.2.1"))
    ledger.upgrade()
    assert state(ledger, "1.2.1") is State.RECEIVED
    with ledger._database.write() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(SettingsError, match="newer Genu"):
        ledger.upgrade()


def test_a_ledger_of_the_first_version_is_brought_up_to_date_with_all_that_it_holds(url: str) -> None:
    """From revision 0001 with a graded film, as an older Genu left it: afterwards it is there, and new tables work."""
    old = Ledger(url)
    with old._database.write() as connection:
        command.upgrade(database.revisions(connection), "0001")
        names = sa.inspect(connection).get_table_names()
    assert "answer" in names
    assert "model_change" not in names
    record_graded(old, "1.2.1")
    lines = events(old, "1.2.1")
    assert Ledger.open_existing(url) is None
    old.close()
    ledger = Ledger(url)
    for _ in range(2):
        ledger.upgrade()
    assert (state(ledger, "1.2.1"), events(ledger, "1.2.1")) == (State.REPORTED, lines)
    assert [answer.reading for answer in ledger.answers("1.2.1")] == [READING]
    assert len(ledger.due_deliveries("pacs", FAR, 10)) == 2
    assert ledger.active_model() is None
    ledger.promote(CARD_B, "mary", previous=CARD_A)
    ledger.record_shadow_reading("1.2.1", in_shadow(SECOND, 2), "w")
    assert len(ledger.shadow_readings("1.2.1")) == 1
    ledger.close()


def test_opening_an_existing_ledger_creates_none(url: str, tmp_path: Path) -> None:
    """Where nothing was ever recorded there is none, and afterwards there is still no file and no table."""
    assert Ledger.open_existing(url) is None
    assert not list(tmp_path.iterdir())
    ledger = Ledger(url)
    ledger.upgrade()
    ledger.promote(CARD_B, "mary", previous=CARD_A)
    found = Ledger.open_existing(url)
    assert found is not None
    active = found.active_model()
    assert active is not None
    assert active.card == "b"
    for item in (ledger, found):
        item.close()


@pytest.mark.parametrize("url", ["mysql://h/d", "sqlite://", "nonsense", "sqlite:///:memory:"])
def test_a_database_that_cannot_be_the_ledger_is_refused(url: str) -> None:
    """At once, and as an error of the settings."""
    with pytest.raises(SettingsError):
        Ledger(url)


def test_a_locked_ledger_is_a_transient_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Transient for the caller, without a UID or a value of the statement in its text; readers do not wait."""
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.2)
    url = f"sqlite:///{tmp_path / 'ledger.sqlite'}"
    one, other = Ledger(url), Ledger(url)
    one.upgrade()
    one.record_received(film("1.2.1"))
    with one._database.write():
        with pytest.raises(Transient, match="locked") as error:
            other.record_received(film("1.2.34567"))
        assert other.find("1.2.1") is not None
    assert "1.2.34567" not in str(error.value)
    assert other.record_received(film("1.2.34567")) is IntakeOutcome.NEW


def test_sqlite_syncs_every_commit_and_has_a_write_ahead_log(tmp_path: Path) -> None:
    """The pragmas that a response of 0x0000 depends on."""
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    with ledger._database.read() as connection:
        pragmas = [
            connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        ]
    assert pragmas == ["wal", 2, 1, 15000]


FILL_THE_DISK = """
import itertools, subprocess, sys
from pathlib import Path
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", sys.argv[1]], check=True)
from tests.node.ledger.test_ledger import Ledger, State, Transient, film
folder = Path(sys.argv[1])
ledger = Ledger(f"sqlite:///{folder / 'ledger.sqlite'}")
ledger.upgrade()
(folder / "other").write_bytes(bytes(400_000))
try:
    for number in itertools.count():
        ledger.record_received(film(f"1.2.{number}"))
except Transient as error:
    print(error.what)
(folder / "other").unlink()
print(ledger.record_received(film("1.2.3.4")), ledger.counts_by_state()[State.RECEIVED] == number + 1)
"""


@pytest.mark.skipif(not can_mount(), reason="unshare may not mount a small disk here")
def test_a_full_disk_is_a_transient_fault(tmp_path: Path) -> None:
    """On a real disk of 1 MiB: Transient when it is full, nothing lost, and on with it as soon as there is room."""
    code = [sys.executable, "-c", FILL_THE_DISK, str(tmp_path)]
    done = subprocess.run([*NAMESPACE, *code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.splitlines() == ["the ledger cannot be read or written: database or disk is full", "NEW True"], (
        done.stderr
    )


def test_a_connection_that_broke_is_made_anew(ledger: Ledger, url: str) -> None:
    """The server ends every connection, as at its restart; the next transaction finds it again."""
    ledger.record_received(film("1.2.1"))
    if url.startswith("postgresql"):
        with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as other:
            ended = other.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
            ).fetchall()
            assert len(ended) >= 1
    else:
        ledger.close()
    assert ledger.record_received(film("1.2.2")) is IntakeOutcome.NEW


@pytest.mark.parametrize("lines_before_kill", [1, 7, 20])
def test_kill_9_loses_nothing_that_was_recorded(ledger: Ledger, url: str, lines_before_kill: int) -> None:
    """A writer is killed in mid-flight; each row that it reported is there, and none without its journal."""
    code = [sys.executable, "-c", RECORD_WITHOUT_END, url]
    writer = subprocess.Popen(code, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    printed = [writer.stdout.readline().strip() for _ in range(lines_before_kill)]
    writer.kill()
    printed += writer.communicate()[0].split("\n")[:-1]
    assert len(printed) >= lines_before_kill
    for uid in printed:
        assert state(ledger, uid) is State.RECEIVED
        assert events(ledger, uid) == ["received"]
    with ledger._database.read() as connection:
        lines = connection.execute(sa.select(sa.func.count()).select_from(tables.journal)).scalar()
    assert lines == sum(ledger.counts_by_state().values())


RECORD_WITHOUT_END = """
import itertools, sys
from tests.node.ledger.test_ledger import Ledger, film
ledger = Ledger(sys.argv[1])
for number in itertools.count():
    ledger.record_received(film(f"1.2.{number}"))
    print(f"1.2.{number}", flush=True)
"""

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["tests.node.ledger.test_ledger"])


def at_once(count: int, target: Callable[..., None], url: str) -> list[tuple[int, str]]:
    """Run `target` in so many processes, which wait for each other at a barrier. Returns what they queue."""
    together, outcomes = PROCESSES.Barrier(count, timeout=60), PROCESSES.Queue()
    processes = [PROCESSES.Process(target=target, args=(url, number, together, outcomes)) for number in range(count)]
    for process in processes:
        process.start()
    found = []
    while any(process.is_alive() for process in processes) or not outcomes.empty():
        with contextlib.suppress(queue.Empty):
            found.append(outcomes.get(timeout=0.05))
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * count
    return found
