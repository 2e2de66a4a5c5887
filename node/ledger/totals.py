"""Totals of events, grades and flags for the metrics. Rows are counted once; later calls count only new rows."""

import json
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from node.ledger import tables
from node.ledger.states import State
from node.ledger.transitions import now

_SETTLED_AFTER = timedelta(minutes=1)
"""Row ids are assigned before transactions end, so a row may appear after one with a higher id; not after so long."""

_AGREEMENT = {0: "same", 1: "one apart"}


@dataclass(frozen=True)
class LedgerTotals:
    """Totals since the ledger began, and the last rows that are counted for good."""

    events: Counter[str]
    """The journal's `what` -> number of lines."""
    grades: Counter[tuple[str, str, int, bool]]
    """(model, its version, grade, whether it is undecided) -> number of knees."""
    agreements: Counter[str]
    """Grades of shadow and answer: "same", "one apart" or "more" -> number of knees; "failed" -> of radiographs."""
    flags: Counter[str] = field(default_factory=Counter)
    """Code of a flag -> number of knees."""
    settled: "LedgerTotals | None" = field(default=None, repr=False)
    journal_id: int = 0
    answer_id: int = 0
    shadow_id: int = 0


def count(connection: Connection, since: LedgerTotals | None) -> LedgerTotals:
    """Count everything; rows that `since` has counted for good are not read again."""
    base = (since.settled if since else None) or LedgerTotals(Counter(), Counter(), Counter())
    limit = now() - _SETTLED_AFTER
    journal_id = _last_before(connection, tables.journal, limit, base.journal_id)
    answer_id = _last_before(connection, tables.answer, limit, base.answer_id)
    shadow_id = _last_before(connection, tables.shadow, limit, base.shadow_id)
    grades, flags = _count_grades_and_flags(connection, base.answer_id, answer_id)
    settled = LedgerTotals(
        base.events + _count_events(connection, base.journal_id, journal_id),
        base.grades + grades,
        base.agreements + _count_agreements(connection, base.shadow_id, shadow_id),
        base.flags + flags,
        journal_id=journal_id,
        answer_id=answer_id,
        shadow_id=shadow_id,
    )
    grades, flags = _count_grades_and_flags(connection, answer_id, None)
    return LedgerTotals(
        settled.events + _count_events(connection, journal_id, None),
        settled.grades + grades,
        settled.agreements + _count_agreements(connection, shadow_id, None),
        settled.flags + flags,
        settled=settled,
    )


def counts_by_reason(connection: Connection) -> dict[tuple[State, str], int]:
    """How many radiographs are in each state for each reason."""
    row = tables.radiograph.c
    query = sa.select(row.state, row.reason, sa.func.count()).where(row.reason.is_not(None))
    found = connection.execute(query.group_by(row.state, row.reason))
    return {(State(state), code): count for state, code, count in found}


def _last_before(connection: Connection, table: sa.Table, limit: datetime, at_least: int) -> int:
    query = sa.select(table.c.id).where(table.c.at < limit, table.c.id > at_least)
    return connection.execute(query.order_by(table.c.id.desc()).limit(1)).scalar() or at_least


def _count_events(connection: Connection, after: int, until: int | None) -> Counter[str]:
    line = tables.journal.c
    query = sa.select(line.what, sa.func.count()).where(line.id > after).group_by(line.what)
    if until is not None:
        query = query.where(line.id <= until)
    return Counter({row.what: row[1] for row in connection.execute(query)})


def _count_grades_and_flags(
    connection: Connection, after: int, until: int | None
) -> tuple[Counter[tuple[str, str, int, bool]], Counter[str]]:
    """Grades and flags of the knees of the answers, refused knees included."""
    row = tables.answer.c
    query = sa.select(row.model_name, row.model_version, row.reading).where(row.id > after)
    if until is not None:
        query = query.where(row.id <= until)
    grades: Counter[tuple[str, str, int, bool]] = Counter()
    flags: Counter[str] = Counter()
    for name, version, reading in connection.execute(query.execution_options(yield_per=500)):
        for knee in json.loads(reading).get("knees", ()):
            flags.update(flag["code"] for flag in knee.get("flags", ()))
            if name is not None and knee.get("grade") is not None:
                undecided = bool((knee.get("certainty") or {}).get("undecided"))
                grades[(name, version or "", int(knee["grade"]), undecided)] += 1
    return grades, flags


def _count_agreements(connection: Connection, after: int, until: int | None) -> Counter[str]:
    shadow, answer = tables.shadow.c, tables.answer.c
    query = sa.select(shadow.reading, answer.reading).join(tables.answer, answer.id == shadow.answer_id)
    query = query.where(shadow.id > after)
    if until is not None:
        query = query.where(shadow.id <= until)
    counts: Counter[str] = Counter()
    for shadow_json, answer_json in connection.execute(query.execution_options(yield_per=500)):
        if shadow_json is None:
            counts["failed"] += 1
            continue
        knees = (json.loads(reading).get("knees", ()) for reading in (shadow_json, answer_json))
        for one, other in zip(*knees, strict=False):
            if one.get("grade") is not None and other.get("grade") is not None:
                counts[_AGREEMENT.get(abs(int(one["grade"]) - int(other["grade"])), "more")] += 1
    return counts
