"""Property test: after any sequence of calls the ledger agrees with a small model of it."""

import os
import tempfile
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from node.ledger import TRANSITIONS, IntakeOutcome, Ledger, ResultObject, State
from node.radiograph import Radiograph

UIDS = st.sampled_from(["1.2.1", "1.2.2", "1.2.3"])
WORKERS = st.sampled_from(["one", "two"])
VERSIONS = st.sampled_from(["1", "2"])
DESTINATIONS = st.sampled_from([{}, {"pacs": ("SC", "SR")}, {"pacs": ("SC",), "archive": ("SR",)}])
ATTEMPTS = 2
FAR = datetime(2100, 1, 1, tzinfo=UTC)


MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
"""Thousands of commits; nothing here is about the disk."""


@cache
def empty_ledger() -> bytes:
    """The bytes of a ledger with nothing in it."""
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        file = Path(folder) / "ledger.sqlite"
        ledger = Ledger(f"sqlite:///{file}")
        ledger.upgrade()
        ledger.close()
        return file.read_bytes()


@dataclass
class Film:
    """The expected state of one radiograph."""

    sha256: str
    state: State = State.RECEIVED
    attempts: int = 0
    worker: str | None = None
    expired: bool = False
    reason: str | None = None
    conflict: bool = False
    undecided: bool = False
    current_objects: set[str] = field(default_factory=set)
    deliveries: dict[tuple[str, str], str] = field(default_factory=dict)

    def end_claim(self, state: State, reason: str | None = None) -> None:
        self.state, self.worker, self.reason = state, None, reason

    def answered(self, objects: list[ResultObject], destinations: dict[str, tuple[str, ...]]) -> None:
        self.current_objects = {result.sop_instance_uid for result in objects}
        for (uid, destination), state in self.deliveries.items():
            if uid not in self.current_objects and state == "WAITING":
                self.deliveries[uid, destination] = "GIVEN_UP"
        for result in objects:
            for destination, kinds in destinations.items():
                key = (result.sop_instance_uid, destination)
                if result.kind in kinds and self.deliveries.get(key, "GIVEN_UP") == "GIVEN_UP":
                    self.deliveries[key] = "WAITING"
        self.set_delivered()

    def set_delivered(self) -> None:
        states = {state for (uid, _), state in self.deliveries.items() if uid in self.current_objects}
        if self.state is State.REPORTED and states == {"SENT"}:
            self.state = State.DELIVERED


def objects_of(uid: str, version: str, kinds: tuple[str, ...]) -> list[ResultObject]:
    return [
        ResultObject(
            kind="SC" if kind == "SC" else "SR",
            sop_class_uid="1.2",
            sop_instance_uid=f"{uid}.{version}.{1 if kind == 'SC' else 2}",
            transfer_syntax_uid="1.2",
            file=f"{kind.lower()}.dcm",
            sha256="c" * 64,
        )
        for kind in kinds
    ]


class LedgerAgainstModel(RuleBasedStateMachine):
    """Rules are the ledger's methods; after each of them both must agree."""

    @initialize()
    def begin(self) -> None:
        self.folder = tempfile.TemporaryDirectory(dir=MEMORY)
        file = Path(self.folder.name) / "ledger.sqlite"
        file.write_bytes(empty_ledger())
        self.ledger = Ledger(f"sqlite:///{file}")
        self.films: dict[str, Film] = {}
        self.lines: dict[str, int] = {}

    def teardown(self) -> None:
        if hasattr(self, "ledger"):
            self.ledger.close()
            self.folder.cleanup()

    def holds(self, uid: str, worker: str) -> bool:
        film = self.films.get(uid)
        return film is not None and film.state is State.GRADING and film.worker == worker

    @rule(uid=UIDS, sha256=st.sampled_from(["a" * 64, "b" * 64]))
    def receive(self, uid: str, sha256: str) -> None:
        outcome = self.ledger.record_received(Radiograph(uid, "1.2", "1.2", sha256, 1, "A", "h", datetime.now(UTC)))
        film = self.films.get(uid)
        if film is None:
            assert outcome is IntakeOutcome.NEW
            self.films[uid] = Film(sha256)
        elif film.sha256 == sha256:
            assert outcome is IntakeOutcome.KNOWN
        else:
            assert outcome is IntakeOutcome.CONFLICT
            film.conflict = True

    @rule(uid=UIDS, worker=WORKERS, expired=st.booleans())
    def claim(self, uid: str, worker: str, expired: bool) -> None:
        entry = self.ledger.claim(uid, worker, lease_seconds=-1 if expired else 3600, attempts=ATTEMPTS)
        film = self.films.get(uid)
        free = film and (film.state is State.RECEIVED or (film.state is State.GRADING and film.expired))
        if film is None or not free:
            assert entry is None
        elif film.attempts >= ATTEMPTS:
            assert entry is None
            film.end_claim(State.FAILED, "ATTEMPTS_EXHAUSTED")
        else:
            assert entry is not None
            film.state, film.worker, film.expired, film.reason = State.GRADING, worker, expired, None
            film.attempts += 1

    @rule(uid=UIDS, worker=WORKERS, expired=st.booleans())
    def renew(self, uid: str, worker: str, expired: bool) -> None:
        held = self.holds(uid, worker)
        assert self.ledger.renew(uid, worker, -1 if expired else 3600) == held
        if held:
            self.films[uid].expired = expired

    @rule(uid=UIDS, worker=WORKERS, version=VERSIONS, destinations=DESTINATIONS, undecided=st.booleans())
    def report(
        self, uid: str, worker: str, version: str, destinations: dict[str, tuple[str, ...]], undecided: bool = False
    ) -> None:
        objects = objects_of(uid, version, ("SC", "SR"))
        reading = {"model": {"name": "m", "version": version, "sha256": "f" * 64}}
        held = self.holds(uid, worker)
        assert self.ledger.report(uid, worker, reading, objects, destinations, undecided=undecided) == held
        if held:
            self.films[uid].undecided = undecided
            self.films[uid].end_claim(State.REPORTED)
            self.films[uid].answered(objects, destinations)

    @rule(uid=UIDS, worker=WORKERS, version=VERSIONS, destinations=DESTINATIONS)
    def refuse(self, uid: str, worker: str, version: str, destinations: dict[str, tuple[str, ...]]) -> None:
        objects = objects_of(uid, version, ("SR",))
        held = self.holds(uid, worker)
        assert self.ledger.record_not_analysed(uid, worker, "NOT_A_KNEE", "", {}, objects, destinations) == held
        if held:
            self.films[uid].end_claim(State.NOT_ANALYSED, "NOT_A_KNEE")
            self.films[uid].answered(objects, destinations)

    @rule(uid=UIDS, graded=st.sampled_from([False, False, True]), version=VERSIONS, destinations=DESTINATIONS)
    def work(self, uid: str, graded: bool, version: str, destinations: dict[str, tuple[str, ...]]) -> None:
        """Receive, claim and answer in one step, so that short runs get far."""
        self.receive(uid, "a" * 64)
        self.claim(uid, "one", False)
        (self.report if graded else self.refuse)(uid, "one", version, destinations)

    @rule(uid=UIDS, worker=WORKERS)
    def fail(self, uid: str, worker: str) -> None:
        held = self.holds(uid, worker)
        assert self.ledger.fail(uid, worker, "INTERNAL", "") == held
        if held:
            self.films[uid].end_claim(State.FAILED, "INTERNAL")

    @rule(uid=UIDS, worker=WORKERS)
    def release(self, uid: str, worker: str) -> None:
        held = self.holds(uid, worker)
        assert self.ledger.release(uid, worker, "later") == held
        if held:
            self.films[uid].end_claim(State.RECEIVED)

    @rule(uid=UIDS, graded=st.booleans())
    def retry(self, uid: str, graded: bool) -> None:
        film, retried = self.films.get(uid), self.ledger.retry(uid, "mary", graded=graded)
        again = {State.FAILED, State.NOT_ANALYSED} | ({State.REPORTED, State.DELIVERED} if graded else set())
        if film is None:
            assert not retried
        elif film.state in again:
            assert retried
            film.end_claim(State.RECEIVED)
            film.attempts = 0
        else:
            current = [key for key in film.deliveries if key[0] in film.current_objects]
            given_up = [key for key in current if film.deliveries[key] == "GIVEN_UP"]
            assert retried == bool(given_up)
            film.deliveries.update(dict.fromkeys(given_up, "WAITING"))

    @precondition(lambda self: any(film.deliveries for film in self.films.values()))
    @rule(data=st.data(), what=st.sampled_from(["sent", "give_up", "postpone"]))
    def deliver(self, data: st.DataObject, what: str) -> None:
        uid = data.draw(st.sampled_from([uid for uid, film in self.films.items() if film.deliveries]))
        one, film = data.draw(st.sampled_from(self.ledger.deliveries(uid))), self.films[uid]
        key = (one.object.sop_instance_uid, one.destination)
        if what == "sent":
            self.ledger.record_sent(one.id, 0)
            film.deliveries[key] = "SENT"
            film.set_delivered()
        elif what == "give_up":
            self.ledger.give_up(one.id, "refused")
            if film.deliveries[key] == "WAITING":
                film.deliveries[key] = "GIVEN_UP"
        else:
            self.ledger.postpone([one.id], datetime.now(UTC) + timedelta(hours=1), "refused")

    @invariant()
    def they_agree(self) -> None:
        if not hasattr(self, "ledger"):
            return
        for uid, film in self.films.items():
            entry = self.ledger.find(uid)
            assert entry is not None
            assert (entry.state, entry.attempts, entry.reason) == (film.state, film.attempts, film.reason)
            assert (entry.sha256, entry.worker) == (film.sha256, film.worker)
            assert entry.flags == ("CONFLICT",) * film.conflict + ("UNDECIDED",) * film.undecided
            owed = {(one.object.sop_instance_uid, one.destination): one.state for one in self.ledger.deliveries(uid)}
            assert owed == film.deliveries
            assert {result.sop_instance_uid for result in self.ledger.result_objects(uid)} == film.current_objects
            lines = len(self.ledger.journal(uid))
            assert lines >= self.lines.get(uid, 1)
            self.lines[uid] = lines
        free = {
            uid
            for uid, film in self.films.items()
            if film.state is State.RECEIVED or (film.state is State.GRADING and film.expired)
        }
        assert set(self.ledger.unfinished(datetime.now(UTC))) == free
        counts = self.ledger.counts_by_state()
        assert counts == {state: sum(film.state is state for film in self.films.values()) for state in TRANSITIONS}
        for destination in ("pacs", "archive"):
            due = {
                (one.object.sop_instance_uid, destination) for one in self.ledger.due_deliveries(destination, FAR, 100)
            }
            assert due == {
                key
                for film in self.films.values()
                for key, state in film.deliveries.items()
                if state == "WAITING" and key[1] == destination
            }


TestLedgerAgainstModel = LedgerAgainstModel.TestCase
TestLedgerAgainstModel.settings = settings(
    max_examples=40, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
