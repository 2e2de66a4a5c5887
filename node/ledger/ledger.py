"""The ledger as the processes of the node use it. Every method is one transaction."""

import json
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from node.ledger import claims, deliveries, intake, model_history, queries, tables
from node.ledger.database import Database
from node.ledger.group_commit import GroupCommit
from node.ledger.read_only import ReadOnlyLedger
from node.ledger.records import CardState, Entry, IntakeOutcome, ModelChange, ResultObject, ShadowReading
from node.ledger.states import State
from node.ledger.transitions import add_journal_line, change_state, lock_radiograph
from node.radiograph import Radiograph
from node.reasons import reason


class Ledger(ReadOnlyLedger):
    """
    A change is committed when its method returns, with its line in the journal.

    A method raises Transient if the database cannot store the change: locked, full or unreachable. May be shared by
    threads, not across a fork. `worker` names one process: two that share a name would share claims.
    """

    def __init__(self, url: str) -> None:
        self._database = Database(url)
        self._group = GroupCommit(self._database)

    @classmethod
    def open_existing(cls, url: str) -> "Ledger | None":
        """The ledger at `url` if there is one of this version or newer. Creates and changes nothing."""
        if not Database.exists(url):
            return None
        ledger = cls(url)
        if ledger._database.has_table(tables.model_change.name):
            return ledger
        ledger.close()
        return None

    def upgrade(self) -> None:
        """Bring the tables to this version; their rows stay. Several processes may do this at once."""
        self._database.upgrade()

    def close(self) -> None:
        """Close all connections."""
        self._database.close()

    # Intake

    def record_received(self, radiograph: Radiograph, *, not_analysed_reason: str | None = None) -> IntakeOutcome:
        """
        Record a new radiograph as RECEIVED, or as NOT_ANALYSED if `not_analysed_reason` is given.

        Returns what the object turned out to be. Raises KeyError for an unknown reason code.
        """
        if self._database.has_one_writer:
            return self._group.record_received(radiograph, not_analysed_reason)
        with self._database.write() as connection:
            return intake.record_received(connection, radiograph, not_analysed_reason)

    def add_flag(self, uid: str, flag: str) -> None:
        """Add the flag to the radiograph. Raises KeyError if the ledger has no such radiograph."""
        with self._database.write() as connection:
            if lock_radiograph(connection, uid) is None:
                raise KeyError(uid)
            if intake.add_flag(connection, uid, flag):
                add_journal_line(connection, uid, "flagged", detail=flag, by="")

    # Claims

    def claim(self, uid: str, worker: str, *, lease_seconds: float, attempts: int) -> Entry | None:
        """
        Claim the radiograph for the worker for so long.

        Returns None if another has the claim, grading is finished, or all attempts are used: FAILED now.
        """
        with self._database.write() as connection:
            claimed = claims.claim(connection, uid, worker, lease_seconds=lease_seconds, attempts=attempts)
            return queries.find(connection, uid) if claimed else None

    def renew(self, uid: str, worker: str, lease_seconds: float) -> bool:
        """Renew the lease for so long from now; False if the claim is lost."""
        with self._database.write() as connection:
            return claims.renew(connection, uid, worker, lease_seconds)

    def report(
        self,
        uid: str,
        worker: str,
        reading: Mapping[str, Any],
        objects: Sequence[ResultObject],
        destinations: Mapping[str, Sequence[str]],
        *,
        undecided: bool = False,
        flags: Collection[str] = (),
    ) -> bool:
        """
        Record the answer: REPORTED, with a delivery of each object to every destination that takes its kind.

        An answer that is `undecided` between two grades of a knee adds a flag to the radiograph, beside the `flags` of
        its knees. Returns False if the claim is lost.
        """
        with self._database.write() as connection:
            row = claims.lock_claimed(connection, uid, worker)
            if row is None:
                return False
            claims.record_answer(
                connection,
                row,
                State.REPORTED,
                reading=reading,
                objects=objects,
                destinations=destinations,
                undecided=undecided,
                flags=flags,
            )
            return True

    def record_not_analysed(
        self,
        uid: str,
        worker: str,
        reason_code: str,
        detail: str,
        reading: Mapping[str, Any],
        objects: Sequence[ResultObject] = (),
        destinations: Mapping[str, Sequence[str]] | None = None,
        *,
        flags: Collection[str] = (),
    ) -> bool:
        """
        Record a refusal: NOT_ANALYSED, with its reason, and possibly with objects to deliver.

        Returns False if the claim is lost. Raises KeyError for an unknown reason code.
        """
        with self._database.write() as connection:
            row = claims.lock_claimed(connection, uid, worker)
            if row is None:
                return False
            claims.record_answer(
                connection,
                row,
                State.NOT_ANALYSED,
                reading=reading,
                objects=objects,
                destinations=destinations or {},
                reason_code=reason(reason_code).code,
                detail=detail,
                flags=flags,
            )
            return True

    def fail(self, uid: str, worker: str, reason_code: str, detail: str) -> bool:
        """Record FAILED with its reason; a person can retry it. False if the claim is lost."""
        values = {"reason": reason(reason_code).code, "detail": detail}
        return self._end_claim(
            uid, worker, state=State.FAILED, what="failed", detail=f"{reason_code}: {detail}", values=values
        )

    def release(self, uid: str, worker: str, detail: str) -> bool:
        """Return to RECEIVED after a transient fault; the attempt stays counted. False if the claim is lost."""
        values = {"detail": detail}
        return self._end_claim(uid, worker, state=State.RECEIVED, what="released", detail=detail, values=values)

    def retry(self, uid: str, by: str, *, graded: bool = False) -> bool:
        """
        Return a FAILED or NOT_ANALYSED radiograph to RECEIVED, with `graded` a graded one too; else requeue deliveries.

        Only deliveries that were given up are queued again. Returns whether there was anything to retry.
        """
        with self._database.write() as connection:
            return claims.retry(connection, uid, by, graded=graded)

    # Deliveries

    def record_sent(self, delivery_id: int, status: int) -> None:
        """Record the delivery as SENT; after the last one a REPORTED radiograph is DELIVERED."""
        with self._database.write() as connection:
            deliveries.record_sent(connection, delivery_id, status)

    def postpone(self, delivery_ids: Sequence[int], until: datetime, error: str) -> None:
        """Postpone the deliveries, and count one more attempt of each."""
        with self._database.write() as connection:
            deliveries.postpone(connection, delivery_ids, until, error)

    def give_up(self, delivery_id: int, error: str) -> None:
        """Record the delivery as GIVEN_UP, until a person retries it."""
        with self._database.write() as connection:
            deliveries.give_up(connection, delivery_id, error)

    def make_due(self, destination: str) -> int:
        """Make all postponed deliveries to the destination due now. Returns their count."""
        with self._database.write() as connection:
            return deliveries.make_due(connection, destination)

    # Models

    def promote(self, card: CardState, by: str, *, previous: CardState) -> None:
        """Record that the model of `card` is active from now on; that of `previous` was before."""
        with self._database.write() as connection:
            model_history.promote(connection, card, by, previous=previous)

    def roll_back(self, to: ModelChange, by: str) -> bool:
        """Record that `to`, the previous model, is active again. False if it was changed meanwhile."""
        with self._database.write() as connection:
            return model_history.roll_back(connection, to, by)

    def record_shadow_reading(self, uid: str, shadow_reading: ShadowReading, by: str) -> None:
        """Store the reading of a shadow model beside the radiograph's answer. Nothing is delivered."""
        with self._database.write() as connection:
            model_history.record_shadow_reading(connection, uid, shadow_reading, by)

    # Heartbeats

    def record_heartbeat(self, process: str, name: str, detail: Mapping[str, Any]) -> None:
        """Record that the process is alive; `detail` is what its last heartbeat shows."""
        with self._database.write() as connection:
            intake.record_heartbeat(connection, process, name, json.dumps(detail))

    def _end_claim(
        self, uid: str, worker: str, *, state: State, what: str, detail: str, values: Mapping[str, Any]
    ) -> bool:
        with self._database.write() as connection:
            row = claims.lock_claimed(connection, uid, worker)
            if row is None:
                return False
            change_state(connection, row, state, what=what, by=worker, detail=detail, values=values)
            return True
