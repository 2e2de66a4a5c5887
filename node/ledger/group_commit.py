"""Group commit: radiographs that arrive at the same time are recorded in one transaction, with one fsync for all."""

import threading
from dataclasses import dataclass

from node.ledger import intake
from node.ledger.database import Database
from node.ledger.records import IntakeOutcome
from node.radiograph import Radiograph


@dataclass(eq=False)
class _PendingIntake:
    """A radiograph that one thread wants recorded, and the outcome."""

    radiograph: Radiograph
    not_analysed_reason: str | None
    outcome: IntakeOutcome | None = None
    error: BaseException | None = None

    @property
    def is_done(self) -> bool:
        return self.outcome is not None or self.error is not None


class GroupCommit:
    """
    Group commit for a database with one writer at a time.

    The thread that gets the write lock records everything pending; the other threads find their own recorded.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._write_lock = threading.Lock()
        self._pending: list[_PendingIntake] = []
        self._pending_lock = threading.Lock()

    def record_received(self, radiograph: Radiograph, not_analysed_reason: str | None) -> IntakeOutcome:
        """As `intake.record_received`, committed on return. An error of one radiograph is raised for it alone."""
        own = _PendingIntake(radiograph, not_analysed_reason)
        with self._pending_lock:
            self._pending.append(own)
        with self._write_lock:
            if not own.is_done:
                with self._pending_lock:
                    batch, self._pending = self._pending, []
                self._record(batch)
        if own.error is not None:
            raise own.error
        assert own.outcome is not None
        return own.outcome

    def _record(self, batch: list[_PendingIntake]) -> None:
        try:
            with self._database.write() as connection:
                outcomes = [
                    intake.record_received(connection, pending.radiograph, pending.not_analysed_reason)
                    for pending in batch
                ]
        except Exception as error:  # noqa: BLE001 - raised again in the thread that it belongs to
            if len(batch) == 1:
                batch[0].error = error
                return
            for pending in batch:
                self._record([pending])
        except BaseException as error:
            for pending in batch:
                pending.error = error
            raise
        else:
            for pending, outcome in zip(batch, outcomes, strict=True):
                pending.outcome = outcome
