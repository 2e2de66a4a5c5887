"""The ledger as the doors and the workers use it. Every method is one transaction."""

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
from node.ledger.transitions import hold, move, note
from node.radiograph import Radiograph
from node.reasons import reason


class Ledger(ReadOnlyLedger):
    """
    What has happened is committed when a method returns, with its line in the journal.

    A method raises Transient when the database does not take it: locked, full or away. May be shared by threads,
    not across a fork. `worker` names one process: two that share a name would share claims.
    """

    def __init__(self, url: str) -> None:
        self._database = Database(url)
        self._group = GroupCommit(self._database)

    @classmethod
    def open_existing(cls, url: str) -> "Ledger | None":
        """The ledger at `url` if there is one of this version or a newer; none is made, and nothing is changed."""
        if not Database.is_there(url):
            return None
        ledger = cls(url)
        if ledger._database.has_table(tables.model_change.name):
            return ledger
        ledger.close()
        return None

    def upgrade(self) -> None:
        """The tables are those of this version; what is in them stays. Several processes may do it at once."""
        self._database.upgrade()

    def close(self) -> None:
        """No connection is left."""
        self._database.close()

    # Taking in

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
        """The radiograph carries the flag. Raises KeyError for one that the ledger does not know."""
        with self._database.write() as connection:
            if hold(connection, uid) is None:
                raise KeyError(uid)
            if intake.add_flag(connection, uid, flag):
                note(connection, uid, "flagged", detail=flag, by="")

    # Working

    def claim(self, uid: str, worker: str, *, lease_seconds: float, attempts: int) -> Entry | None:
        """The radiograph is the worker's for so long; None: it is someone's, it is done, or now FAILED of attempts."""
        with self._database.write() as connection:
            taken = claims.claim(connection, uid, worker, lease_seconds=lease_seconds, attempts=attempts)
            return queries.find(connection, uid) if taken else None

    def renew(self, uid: str, worker: str, lease_seconds: float) -> bool:
        """The lease runs for so long from now; False: the claim was lost."""
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
        REPORTED; each destination is owed the objects of the kinds it takes. False: the claim was lost.

        Where the answer is `undecided` between two grades of a knee, the radiograph has a flag that says so, beside
        the `flags` of its knees.
        """
        with self._database.write() as connection:
            row = claims.held_by(connection, uid, worker)
            if row is None:
                return False
            claims.answer(
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
        """NOT_ANALYSED, because; the refusal may have objects to deliver as well. False: the claim was lost."""
        with self._database.write() as connection:
            row = claims.held_by(connection, uid, worker)
            if row is None:
                return False
            claims.answer(
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
        """FAILED, because; a person can ask again. False: the claim was lost."""
        values = {"reason": reason(reason_code).code, "detail": detail}
        return self._let_go(
            uid, worker, state=State.FAILED, what="failed", told=f"{reason_code}: {detail}", values=values
        )

    def release(self, uid: str, worker: str, detail: str) -> bool:
        """RECEIVED again after a fault that may pass; the attempt stays counted. False: the claim was lost."""
        values = {"detail": detail}
        return self._let_go(uid, worker, state=State.RECEIVED, what="released", told=detail, values=values)

    def retry(self, uid: str, by: str, *, graded: bool = False) -> bool:
        """FAILED, NOT_ANALYSED, with `graded` also a graded one, is RECEIVED again; given-up deliveries wait again."""
        with self._database.write() as connection:
            return claims.retry(connection, uid, by, graded=graded)

    # Delivering

    def record_sent(self, delivery_id: int, status: int) -> None:
        """SENT; with the last of a REPORTED radiograph's, that is DELIVERED."""
        with self._database.write() as connection:
            deliveries.record_sent(connection, delivery_id, status)

    def postpone(self, delivery_ids: Sequence[int], until: datetime, error: str) -> None:
        """They wait until then, one attempt more counted."""
        with self._database.write() as connection:
            deliveries.postpone(connection, delivery_ids, until, error)

    def give_up(self, delivery_id: int, error: str) -> None:
        """GIVEN_UP until a person asks again."""
        with self._database.write() as connection:
            deliveries.give_up(connection, delivery_id, error)

    def make_due(self, destination: str) -> int:
        """All that waits for the destination is due now; how many had been postponed."""
        with self._database.write() as connection:
            return deliveries.make_due(connection, destination)

    # Answering

    def promote(self, card: CardState, by: str, *, previous: CardState) -> None:
        """The model of that card answers from now on; that of `previous` did before."""
        with self._database.write() as connection:
            model_history.promote(connection, card, by, previous=previous)

    def roll_back(self, to: ModelChange, by: str) -> bool:
        """`to`, which answered before, does so again. False: somebody has changed it meanwhile."""
        with self._database.write() as connection:
            return model_history.roll_back(connection, to, by)

    def record_shadow_reading(self, uid: str, said: ShadowReading, by: str) -> None:
        """What a model in shadow said stands beside the radiograph's answer. It owes nobody anything."""
        with self._database.write() as connection:
            model_history.record_shadow_reading(connection, uid, said, by)

    # Living

    def record_heartbeat(self, process: str, name: str, detail: Mapping[str, Any]) -> None:
        """The part was alive just now."""
        with self._database.write() as connection:
            intake.record_heartbeat(connection, process, name, json.dumps(detail))

    def _let_go(self, uid: str, worker: str, *, state: State, what: str, told: str, values: Mapping[str, Any]) -> bool:
        with self._database.write() as connection:
            row = claims.held_by(connection, uid, worker)
            if row is None:
                return False
            move(connection, row, state, what=what, by=worker, detail=told, values=values)
            return True
