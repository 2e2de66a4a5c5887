"""Radiographs that come at the same time are kept in one transaction: one wait for the disk, not one each."""

import threading
from dataclasses import dataclass

from node.ledger import intake
from node.ledger.database import Database
from node.ledger.records import Kept
from node.radiograph import Radiograph


@dataclass(eq=False)
class _Errand:
    """One thread's radiograph, and what came of it."""

    came: Radiograph
    put_aside: str | None
    kept: Kept | None = None
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

    def keep(self, came: Radiograph, put_aside: str | None) -> Kept:
        """As `intake.keep`, committed when it returns. What is wrong with one radiograph is raised for it alone."""
        errand = _Errand(came, put_aside)
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
                kept = [intake.keep(connection, each.came, each.put_aside) for each in errands]
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
