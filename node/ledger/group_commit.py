"""Radiographs that come at the same time are kept in one transaction: one wait for the disk, not one each."""

import threading
from dataclasses import dataclass

from node.ledger import intake
from node.ledger.database import Database
from node.ledger.records import IntakeOutcome
from node.radiograph import Radiograph


@dataclass(eq=False)
class _Errand:
    """One thread's radiograph, and what came of it."""

    came: Radiograph
    not_analysed_reason: str | None
    kept: IntakeOutcome | None = None
    error: BaseException | None = None

    @property
    def is_done(self) -> bool:
        return self.kept is not None or self.error is not None


class GroupCommit:
    """For a database with one writer at a time. Who has the turn does what all have handed in; they find it done."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._turn = threading.Lock()
        self._waiting: list[_Errand] = []
        self._list = threading.Lock()

    def record_received(self, came: Radiograph, not_analysed_reason: str | None) -> IntakeOutcome:
        """As `intake.record_received`, committed on return. An error of one radiograph is raised for it alone."""
        errand = _Errand(came, not_analysed_reason)
        with self._list:
            self._waiting.append(errand)
        with self._turn:
            if not errand.is_done:
                with self._list:
                    errands, self._waiting = self._waiting, []
                self._do(errands)
        if errand.error is not None:
            raise errand.error
        assert errand.kept is not None
        return errand.kept

    def _do(self, errands: list[_Errand]) -> None:
        try:
            with self._database.write() as connection:
                kept = [intake.record_received(connection, each.came, each.not_analysed_reason) for each in errands]
        except Exception as error:  # noqa: BLE001 - raised again where it belongs
            if len(errands) == 1:
                errands[0].error = error
                return
            for each in errands:
                self._do([each])
        except BaseException as error:
            for each in errands:
                each.error = error
            raise
        else:
            for each, what in zip(errands, kept, strict=True):
                each.kept = what
