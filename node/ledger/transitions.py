"""What every change of the ledger shares: a row under lock, a legal move, a line in the journal."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection, RowMapping

from node.ledger import tables
from node.ledger.states import State, check_move

_NOTE = sa.insert(tables.journal)


def now() -> datetime:
    return datetime.now(UTC)


def insert(connection: Connection, table: sa.Table) -> sqlite.Insert | postgresql.Insert:
    """An INSERT that knows ON CONFLICT, which both databases have in the same words."""
    return sqlite.insert(table) if connection.dialect.name == "sqlite" else postgresql.insert(table)


def note(connection: Connection, uid: str, what: str, *, detail: str = "", by: str, at: datetime | None = None) -> None:
    """The journal has one more line."""
    line = {"sop_instance_uid": uid, "at": at or now(), "what": what, "detail": detail, "by": by}
    connection.execute(_NOTE, line)


def hold(connection: Connection, uid: str) -> RowMapping | None:
    """The radiograph's row, which nobody else changes until this transaction ends."""
    wanted = sa.select(tables.radiograph).where(tables.radiograph.c.sop_instance_uid == uid).with_for_update()
    return connection.execute(wanted).mappings().first()


def move(
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
    The radiograph, whose row is held, is in `state` with `values`, and the journal says what happened.

    Raises ValueError for a move that MOVES does not have.
    """
    check_move(State(row["state"]), state)
    moment = now()
    changed = {"lease_until": None, "worker": None, "reason": None, "detail": "", **(values or {})}
    connection.execute(
        sa.update(tables.radiograph)
        .where(tables.radiograph.c.sop_instance_uid == row["sop_instance_uid"])
        .values(state=state.value, changed_at=moment, **changed)
    )
    note(connection, row["sop_instance_uid"], what, detail=detail, by=by, at=moment)
