"""What the ledger is asked, by the doors, the workers and the command line: nothing here changes it."""

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
    """The reading half of the Ledger. Every method sees one moment of it, and raises Transient if it is away."""

    _database: Database

    def is_result(self, uid: str) -> bool:
        """Whether Genu made the object of that UID."""
        with self._database.read() as connection:
            return intake.is_result(connection, uid)

    def unfinished(self, now: datetime) -> list[str]:
        """RECEIVED, or GRADING with a lease that is over; oldest first."""
        with self._database.read() as connection:
            return queries.unfinished(connection, now)

    def due_deliveries(self, destination: str, now: datetime, limit: int) -> list[Delivery]:
        """What the destination should get now, what has waited longest first."""
        with self._database.read() as connection:
            return deliveries.due_deliveries(connection, destination, now, limit)

    def next_due(self, destination: str) -> datetime | None:
        """When the next of what waits for the destination falls due."""
        with self._database.read() as connection:
            return deliveries.next_due(connection, destination)

    def deliveries(self, uid: str) -> list[Delivery]:
        """Every delivery of a radiograph's objects, older answers' too."""
        with self._database.read() as connection:
            return deliveries.of(connection, uid)

    def pending_deliveries(self) -> list[PendingDeliveries]:
        """What each destination has still to get."""
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
        """The radiographs that are so, newest first; `before` is the received_at of the last one seen."""
        with self._database.read() as connection:
            return queries.listing(connection, state=state, reason=reason, flag=flag, limit=limit, before=before)

    def counts_by_state(self) -> dict[State, int]:
        """How many radiographs are in each state."""
        with self._database.read() as connection:
            return queries.counts_by_state(connection)

    def oldest_by_state(self) -> dict[State, datetime]:
        """When the oldest radiograph of each state came in."""
        with self._database.read() as connection:
            return queries.oldest_by_state(connection)

    def counts_by_reason(self) -> dict[tuple[State, str], int]:
        """How many radiographs are in which state for which reason."""
        with self._database.read() as connection:
            return totals.counts_by_reason(connection)

    def totals(self, since: LedgerTotals | None = None) -> LedgerTotals:
        """How often what has happened, ever; an earlier tally saves counting its part again."""
        with self._database.read() as connection:
            return totals.count(connection, since)

    def result_objects(self, uid: str, *, superseded: bool = False) -> list[ResultObject]:
        """What was made of a radiograph: of the answer that stands, or with `superseded` of all."""
        with self._database.read() as connection:
            return queries.result_objects(connection, uid, superseded=superseded)

    def answers(self, uid: str) -> list[Answer]:
        """Everything that was ever said of a radiograph, oldest first."""
        with self._database.read() as connection:
            return queries.answers(connection, uid)

    def model_uses(self) -> list[ModelUse]:
        """Which models answered, how often, and when."""
        with self._database.read() as connection:
            return queries.model_uses(connection, tables.answer)

    def active_model(self) -> ModelChange | None:
        """Which model was made to answer last; None before the first promotion."""
        with self._database.read() as connection:
            return model_history.active_model(connection)

    def model_changes(self) -> list[ModelChange]:
        """Every change of the model that answers, oldest first."""
        with self._database.read() as connection:
            return model_history.changes(connection)

    def shadow_model_uses(self) -> list[ModelUse]:
        """Which models graded in shadow, how often, and when."""
        with self._database.read() as connection:
            return queries.model_uses(connection, tables.shadow)

    def shadow_readings(self, uid: str) -> list[ShadowReading]:
        """What was said in shadow beside the answer that stands."""
        with self._database.read() as connection:
            return model_history.shadow_readings(connection, uid)

    def paired_readings(self, first: ModelIdentity, second: ModelIdentity) -> list[PairedReadings]:
        """Every radiograph that one of the two models answered while the other graded it in shadow."""
        with self._database.read() as connection:
            return model_history.paired_readings(connection, first, second)

    def conflicts(self, uid: str) -> list[Conflict]:
        """The other bytes that came under the UID."""
        with self._database.read() as connection:
            return queries.conflicts(connection, uid)

    def journal(self, uid: str) -> list[JournalLine]:
        """What happened to a radiograph, oldest first."""
        with self._database.read() as connection:
            return queries.journal(connection, uid)

    def known_hashes(self, hashes: Sequence[str]) -> set[str]:
        """Which of these contents the ledger speaks of; the others are nobody's."""
        with self._database.read() as connection:
            return queries.known_hashes(connection, hashes)

    def heartbeats(self) -> list[Heartbeat]:
        """Each part's last sign of life."""
        with self._database.read() as connection:
            return queries.heartbeats(connection)
