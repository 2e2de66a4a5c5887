"""How often what happened, for the metrics: counted once, and then only what has been added."""

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
"""Numbers are given out before transactions end, so a younger line may appear before an older one; not for so long."""

_AGREEMENT = {0: "same", 1: "one apart"}


@dataclass(frozen=True)
class LedgerTotals:
    """What has happened since the ledger began."""

    events: Counter[str]
    """The journal's `what` -> how often."""
    grades: Counter[tuple[str, str, int, bool]]
    """(model, its version, grade, whether it was undecided) -> knees that were given it."""
    agreements: Counter[str]
    """"same", "one apart" or "more" -> knees on which the shadow and the answer were so; "failed" -> radiographs."""
    flags: Counter[str] = field(default_factory=Counter)
    """Code of a flag -> knees that were given it."""
    settled: "LedgerTotals | None" = field(default=None, repr=False)
    journal_id: int = 0
    answer_id: int = 0
    shadow_id: int = 0


def count(connection: Connection, since: LedgerTotals | None) -> LedgerTotals:
    """All that has happened; what `since` had counted for good is not counted again."""
    base = (since.settled if since else None) or LedgerTotals(Counter(), Counter(), Counter())
    limit = now() - _SETTLED_AFTER
    journal_id = _last_before(connection, tables.journal, limit, base.journal_id)
    answer_id = _last_before(connection, tables.answer, limit, base.answer_id)
    shadow_id = _last_before(connection, tables.shadow, limit, base.shadow_id)
    grades, flags = _answers(connection, base.answer_id, answer_id)
    settled = LedgerTotals(
        base.events + _events(connection, base.journal_id, journal_id),
        base.grades + grades,
        base.agreements + _agreements(connection, base.shadow_id, shadow_id),
        base.flags + flags,
        journal_id=journal_id,
        answer_id=answer_id,
        shadow_id=shadow_id,
    )
    grades, flags = _answers(connection, answer_id, None)
    return LedgerTotals(
        settled.events + _events(connection, journal_id, None),
        settled.grades + grades,
        settled.agreements + _agreements(connection, shadow_id, None),
        settled.flags + flags,
        settled=settled,
    )


def counts_by_reason(connection: Connection) -> dict[tuple[State, str], int]:
    """How many radiographs stand where they do for which reason."""
    row = tables.radiograph.c
    wanted = sa.select(row.state, row.reason, sa.func.count()).where(row.reason.is_not(None))
    found = connection.execute(wanted.group_by(row.state, row.reason))
    return {(State(state), code): count for state, code, count in found}


def _last_before(connection: Connection, table: sa.Table, limit: datetime, at_least: int) -> int:
    wanted = sa.select(table.c.id).where(table.c.at < limit, table.c.id > at_least)
    return connection.execute(wanted.order_by(table.c.id.desc()).limit(1)).scalar() or at_least


def _events(connection: Connection, after: int, until: int | None) -> Counter[str]:
    line = tables.journal.c
    wanted = sa.select(line.what, sa.func.count()).where(line.id > after).group_by(line.what)
    if until is not None:
        wanted = wanted.where(line.id <= until)
    return Counter({row.what: row[1] for row in connection.execute(wanted)})


def _answers(
    connection: Connection, after: int, until: int | None
) -> tuple[Counter[tuple[str, str, int, bool]], Counter[str]]:
    """Grades and flags that knees were given, graded or not."""
    row = tables.answer.c
    wanted = sa.select(row.model_name, row.model_version, row.reading).where(row.id > after)
    if until is not None:
        wanted = wanted.where(row.id <= until)
    grades: Counter[tuple[str, str, int, bool]] = Counter()
    flags: Counter[str] = Counter()
    for name, version, reading in connection.execute(wanted.execution_options(yield_per=500)):
        for knee in json.loads(reading).get("knees", ()):
            flags.update(flag["code"] for flag in knee.get("flags", ()))
            if name is not None and knee.get("grade") is not None:
                undecided = bool((knee.get("certainty") or {}).get("undecided"))
                grades[(name, version or "", int(knee["grade"]), undecided)] += 1
    return grades, flags


def _agreements(connection: Connection, after: int, until: int | None) -> Counter[str]:
    shadow, answer = tables.shadow.c, tables.answer.c
    wanted = sa.select(shadow.reading, answer.reading).join(tables.answer, answer.id == shadow.answer_id)
    wanted = wanted.where(shadow.id > after)
    if until is not None:
        wanted = wanted.where(shadow.id <= until)
    counted: Counter[str] = Counter()
    for ours, theirs in connection.execute(wanted.execution_options(yield_per=500)):
        if ours is None:
            counted["failed"] += 1
            continue
        for one, other in zip(json.loads(ours).get("knees", ()), json.loads(theirs).get("knees", ()), strict=False):
            if one.get("grade") is not None and other.get("grade") is not None:
                counted[_AGREEMENT.get(abs(int(one["grade"]) - int(other["grade"])), "more")] += 1
    return counted
