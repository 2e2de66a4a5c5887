"""What every change of the ledger uses: a locked row, an allowed transition, a journal line."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection, RowMapping

from node.ledger import tables
from node.ledger.states import State, check_transition

_INSERT_JOURNAL_LINE = sa.insert(tables.journal)


def now() -> datetime:
    return datetime.now(UTC)


def insert(connection: Connection, table: sa.Table) -> sqlite.Insert | postgresql.Insert:
    """An INSERT that supports ON CONFLICT, which both databases write in the same way."""
    return sqlite.insert(table) if connection.dialect.name == "sqlite" else postgresql.insert(table)


def add_journal_line(
    connection: Connection, uid: str, what: str, *, detail: str = "", by: str, at: datetime | None = None
) -> None:
    """Add a line to the journal of the radiograph; its time is `at`, or now."""
    line = {"sop_instance_uid": uid, "at": at or now(), "what": what, "detail": detail, "by": by}
    connection.execute(_INSERT_JOURNAL_LINE, line)


def lock_radiograph(connection: Connection, uid: str) -> RowMapping | None:
    """The radiograph's row, locked against other writers until this transaction ends; None if there is none."""
    query = sa.select(tables.radiograph).where(tables.radiograph.c.sop_instance_uid == uid).with_for_update()
    return connection.execute(query).mappings().first()


def change_state(
    connection: Connection,
    row: RowMapping,
    state: State,
    *,
    what: str,
    by: str,
    detail: str = "",
    values: Mapping[str, Any] | None = None,
) -> None:
    """
    Set `state` and `values` of a radiograph whose row is locked, and add a journal line.

    Columns of the claim and of the reason that `values` does not name are cleared. Raises ValueError for a change that
    TRANSITIONS does not allow.
    """
    check_transition(State(row["state"]), state)
    moment = now()
    columns = {"lease_until": None, "worker": None, "reason": None, "detail": "", **(values or {})}
    connection.execute(
        sa.update(tables.radiograph)
        .where(tables.radiograph.c.sop_instance_uid == row["sop_instance_uid"])
        .values(state=state.value, changed_at=moment, **columns)
    )
    add_journal_line(connection, row["sop_instance_uid"], what, detail=detail, by=by, at=moment)
