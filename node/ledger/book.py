"""The ledger as the doors and the workers use it. Every method is one transaction."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from node.ledger import claims, deliveries, keeping, tallies, views
from node.ledger.database import Database
from node.ledger.group_commit import GroupCommit
from node.ledger.rows import hold, move, note
from node.ledger.states import State
from node.ledger.tallies import Tally
from node.ledger.words import (
    Answer,
    Beat,
    Conflict,
    Delivery,
    Entry,
    JournalLine,
    Kept,
    ModelUse,
    ResultObject,
    Waiting,
)
from node.radiograph import Radiograph
from node.reasons import reason


class Ledger:
    """
    What has happened is committed when a method returns, with its line in the journal.

    A method raises Transient when the database does not take it: locked, full or away. May be shared by threads,
    not across a fork. `worker` names one process: two that share a name would share claims.
    """

    def __init__(self, url: str) -> None:
        self._database = Database(url)
        self._group = GroupCommit(self._database)

    def upgrade(self) -> None:
        """The tables are those of this version; what is in them stays. Several processes may do it at once."""
        self._database.upgrade()

    def close(self) -> None:
        """No connection is left."""
        self._database.close()

    # Taking in

    def keep(self, radiograph: Radiograph, *, put_aside: str | None = None) -> Kept:
        """A new radiograph is RECEIVED, or NOT_ANALYSED because of `put_aside`; any other is told for what it is."""
        if self._database.has_one_writer:
            return self._group.keep(radiograph, put_aside)
        with self._database.write() as connection:
            return keeping.keep(connection, radiograph, put_aside)

    def is_result(self, uid: str) -> bool:
        """Whether Genu made the object of that UID."""
        with self._database.read() as connection:
            return keeping.is_result(connection, uid)

    def flag(self, uid: str, flag: str) -> None:
        """The radiograph carries the flag. Raises KeyError for one that the ledger does not know."""
        with self._database.write() as connection:
            if hold(connection, uid) is None:
                raise KeyError(uid)
            if keeping.raise_flag(connection, uid, flag):
                note(connection, uid, "flagged", detail=flag, by="")

    # Working

    def claim(self, uid: str, worker: str, *, lease_seconds: float, attempts: int) -> Entry | None:
        """The radiograph is the worker's for so long; None: it is someone's, it is done, or now FAILED of attempts."""
        with self._database.write() as connection:
            taken = claims.claim(connection, uid, worker, lease_seconds=lease_seconds, attempts=attempts)
            return views.find(connection, uid) if taken else None

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
    ) -> bool:
        """
        REPORTED; each destination is owed the objects of the kinds it takes. False: the claim was lost.

        Where the answer is `undecided` between two grades of a knee, the radiograph has a flag that says so.
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
            )
            return True

    def set_aside(
        self,
        uid: str,
        worker: str,
        reason_code: str,
        detail: str,
        reading: Mapping[str, Any],
        objects: Sequence[ResultObject] = (),
        destinations: Mapping[str, Sequence[str]] | None = None,
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

    def ask_again(self, uid: str, by: str) -> bool:
        """FAILED or NOT_ANALYSED is RECEIVED again with no attempt counted; given-up deliveries wait again."""
        with self._database.write() as connection:
            return claims.ask_again(connection, uid, by)

    def unfinished(self, now: datetime) -> list[str]:
        """RECEIVED, or GRADING with a lease that is over; oldest first."""
        with self._database.read() as connection:
            return views.unfinished(connection, now)

    # Delivering

    def due(self, destination: str, now: datetime, limit: int) -> list[Delivery]:
        """What the destination should get now, what has waited longest first."""
        with self._database.read() as connection:
            return deliveries.due(connection, destination, now, limit)

    def next_due(self, destination: str) -> datetime | None:
        """When the next of what waits for the destination falls due."""
        with self._database.read() as connection:
            return deliveries.next_due(connection, destination)

    def sent(self, delivery_id: int, status: int) -> None:
        """SENT; with the last of a REPORTED radiograph's, that is DELIVERED."""
        with self._database.write() as connection:
            deliveries.sent(connection, delivery_id, status)

    def postpone(self, delivery_ids: Sequence[int], until: datetime, error: str) -> None:
        """They wait until then, one attempt more counted."""
        with self._database.write() as connection:
            deliveries.postpone(connection, delivery_ids, until, error)

    def give_up(self, delivery_id: int, error: str) -> None:
        """GIVEN_UP until a person asks again."""
        with self._database.write() as connection:
            deliveries.give_up(connection, delivery_id, error)

    def hasten(self, destination: str) -> int:
        """All that waits for the destination is due now; how many had been postponed."""
        with self._database.write() as connection:
            return deliveries.hasten(connection, destination)

    def deliveries(self, uid: str) -> list[Delivery]:
        """Every delivery of a radiograph's objects, older answers' too."""
        with self._database.read() as connection:
            return deliveries.of(connection, uid)

    def waiting(self) -> list[Waiting]:
        """What each destination has still to get."""
        with self._database.read() as connection:
            return views.waiting(connection)

    # Looking

    def find(self, uid: str) -> Entry | None:
        """The radiograph's entry, if there is one."""
        with self._database.read() as connection:
            return views.find(connection, uid)

    def listing(
        self,
        *,
        state: State | None = None,
        reason: str | None = None,
        flag: str | None = None,
        limit: int = 100,
        before: datetime | None = None,
    ) -> list[Entry]:
        """The radiographs that are so, newest first; `before` is the received_at of the last one seen."""
        with self._database.read() as connection:
            return views.listing(connection, state=state, reason=reason, flag=flag, limit=limit, before=before)

    def counts(self) -> dict[State, int]:
        """How many radiographs are in each state."""
        with self._database.read() as connection:
            return views.counts(connection)

    def oldest(self) -> dict[State, datetime]:
        """When the oldest radiograph of each state came in."""
        with self._database.read() as connection:
            return views.oldest(connection)

    def reasons(self) -> dict[tuple[State, str], int]:
        """How many radiographs are in which state for which reason."""
        with self._database.read() as connection:
            return tallies.reasons(connection)

    def tally(self, since: Tally | None = None) -> Tally:
        """How often what has happened, ever; an earlier tally saves counting its part again."""
        with self._database.read() as connection:
            return tallies.tally(connection, since)

    def objects(self, uid: str, *, superseded: bool = False) -> list[ResultObject]:
        """What was made of a radiograph: of the answer that stands, or with `superseded` of all."""
        with self._database.read() as connection:
            return views.objects(connection, uid, superseded=superseded)

    def answers(self, uid: str) -> list[Answer]:
        """Everything that was ever said of a radiograph, oldest first."""
        with self._database.read() as connection:
            return views.answers(connection, uid)

    def models(self) -> list[ModelUse]:
        """Which models answered, how often, and when."""
        with self._database.read() as connection:
            return views.models(connection)

    def conflicts(self, uid: str) -> list[Conflict]:
        """The other bytes that came under the UID."""
        with self._database.read() as connection:
            return views.conflicts(connection, uid)

    def journal(self, uid: str) -> list[JournalLine]:
        """What happened to a radiograph, oldest first."""
        with self._database.read() as connection:
            return views.journal(connection, uid)

    def known_files(self, hashes: Sequence[str]) -> set[str]:
        """Which of these contents the ledger speaks of; the others are nobody's."""
        with self._database.read() as connection:
            return views.known_files(connection, hashes)

    # Living

    def beat(self, part: str, name: str, detail: Mapping[str, Any]) -> None:
        """The part was alive just now."""
        with self._database.write() as connection:
            keeping.beat(connection, part, name, json.dumps(detail))

    def parts(self) -> list[Beat]:
        """Each part's last sign of life."""
        with self._database.read() as connection:
            return views.parts(connection)

    def _let_go(self, uid: str, worker: str, *, state: State, what: str, told: str, values: Mapping[str, Any]) -> bool:
        with self._database.write() as connection:
            row = claims.held_by(connection, uid, worker)
            if row is None:
                return False
            move(connection, row, state, what=what, by=worker, detail=told, values=values)
            return True
