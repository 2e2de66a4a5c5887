"""The reading half of the ledger: nothing here changes it."""

from collections.abc import Sequence
from datetime import datetime

from node.finding import ModelIdentity
from node.ledger import deliveries, intake, model_history, queries, tables, totals
from node.ledger.database import Database
from node.ledger.records import (
    Answer,
    Conflict,
    Delivery,
    Entry,
    Heartbeat,
    JournalLine,
    ModelChange,
    ModelUse,
    PairedReadings,
    PendingDeliveries,
    ResultObject,
    ShadowReading,
)
from node.ledger.states import State
from node.ledger.totals import LedgerTotals


class ReadOnlyLedger:
    """
    The methods of Ledger that only read. Each is one transaction on one snapshot of the ledger.

    A method raises Transient if the database cannot be reached.
    """

    _database: Database

    def is_result(self, uid: str) -> bool:
        """Whether Genu made the object of that UID."""
        with self._database.read() as connection:
            return intake.is_result(connection, uid)

    def unfinished(self, now: datetime) -> list[str]:
        """UIDs of radiographs RECEIVED, or GRADING with an expired lease; oldest first."""
        with self._database.read() as connection:
            return queries.unfinished(connection, now)

    def due_deliveries(self, destination: str, now: datetime, limit: int) -> list[Delivery]:
        """Deliveries to the destination that are due, those due longest first."""
        with self._database.read() as connection:
            return deliveries.due_deliveries(connection, destination, now, limit)

    def next_due(self, destination: str) -> datetime | None:
        """When the next delivery to the destination is due; None if none waits."""
        with self._database.read() as connection:
            return deliveries.next_due(connection, destination)

    def deliveries(self, uid: str) -> list[Delivery]:
        """Every delivery of a radiograph's objects, those of older answers included."""
        with self._database.read() as connection:
            return deliveries.deliveries_of(connection, uid)

    def pending_deliveries(self) -> list[PendingDeliveries]:
        """The number of waiting deliveries of each destination."""
        with self._database.read() as connection:
            return queries.pending_deliveries(connection)

    def find(self, uid: str) -> Entry | None:
        """The radiograph's entry, if there is one."""
        with self._database.read() as connection:
            return queries.find(connection, uid)

    def listing(
        self,
        *,
        state: State | None = None,
        reason: str | None = None,
        flag: str | None = None,
        limit: int = 100,
        before: datetime | None = None,
    ) -> list[Entry]:
        """The radiographs that fit, newest first; `before` is the received_at of the last one on the previous page."""
        with self._database.read() as connection:
            return queries.listing(connection, state=state, reason=reason, flag=flag, limit=limit, before=before)

    def counts_by_state(self) -> dict[State, int]:
        """How many radiographs are in each state."""
        with self._database.read() as connection:
            return queries.counts_by_state(connection)

    def oldest_by_state(self) -> dict[State, datetime]:
        """When the oldest radiograph in each state was received."""
        with self._database.read() as connection:
            return queries.oldest_by_state(connection)

    def counts_by_reason(self) -> dict[tuple[State, str], int]:
        """How many radiographs are in each state for each reason; those without a reason are left out."""
        with self._database.read() as connection:
            return totals.counts_by_reason(connection)

    def totals(self, since: LedgerTotals | None = None) -> LedgerTotals:
        """Count all events since the ledger began; earlier totals save counting the same rows again."""
        with self._database.read() as connection:
            return totals.count(connection, since)

    def result_objects(self, uid: str, *, superseded: bool = False) -> list[ResultObject]:
        """The result objects of the current answer, or with `superseded` of all answers."""
        with self._database.read() as connection:
            return queries.result_objects(connection, uid, superseded=superseded)

    def answers(self, uid: str) -> list[Answer]:
        """All answers of a radiograph, oldest first."""
        with self._database.read() as connection:
            return queries.answers(connection, uid)

    def model_uses(self) -> list[ModelUse]:
        """Which models gave answers, how many, and when."""
        with self._database.read() as connection:
            return queries.model_uses(connection, tables.answer)

    def active_model(self) -> ModelChange | None:
        """The last change of the active model; None before the first promotion."""
        with self._database.read() as connection:
            return model_history.active_model(connection)

    def model_changes(self) -> list[ModelChange]:
        """Every change of the active model, oldest first."""
        with self._database.read() as connection:
            return model_history.changes(connection)

    def shadow_model_uses(self) -> list[ModelUse]:
        """Which models graded in shadow, how often, and when."""
        with self._database.read() as connection:
            return queries.model_uses(connection, tables.shadow)

    def shadow_readings(self, uid: str) -> list[ShadowReading]:
        """The readings of shadow models beside the current answer, oldest first."""
        with self._database.read() as connection:
            return model_history.shadow_readings(connection, uid)

    def paired_readings(self, first: ModelIdentity, second: ModelIdentity) -> list[PairedReadings]:
        """The readings of every radiograph that one of the two models answered and the other graded in shadow."""
        with self._database.read() as connection:
            return model_history.paired_readings(connection, first, second)

    def conflicts(self, uid: str) -> list[Conflict]:
        """Other objects that were received under the UID."""
        with self._database.read() as connection:
            return queries.conflicts(connection, uid)

    def journal(self, uid: str) -> list[JournalLine]:
        """The journal of a radiograph, oldest line first."""
        with self._database.read() as connection:
            return queries.journal(connection, uid)

    def known_hashes(self, hashes: Sequence[str]) -> set[str]:
        """Those of the hashes that the ledger refers to; files of the others are orphans."""
        with self._database.read() as connection:
            return queries.known_hashes(connection, hashes)

    def heartbeats(self) -> list[Heartbeat]:
        """The last heartbeat of each process."""
        with self._database.read() as connection:
            return queries.heartbeats(connection)
