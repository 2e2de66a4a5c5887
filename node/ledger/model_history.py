"""Which model answers, since when and by whose hand; and what one in shadow said beside it."""

import json
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping

from node.finding import ModelIdentity
from node.ledger import tables
from node.ledger.records import CardState, ChangeKind, ModelChange, PairedReadings, ShadowReading
from node.ledger.transitions import hold, note, now

_C, _S, _A = tables.model_change.c, tables.shadow.c, tables.answer.c


def active_model(connection: Connection) -> ModelChange | None:
    """The last change; None before the first promotion."""
    found = connection.execute(sa.select(tables.model_change).order_by(_C.id.desc()).limit(1)).mappings().first()
    return _change(found) if found else None


def changes(connection: Connection) -> list[ModelChange]:
    """Oldest first."""
    found = connection.execute(sa.select(tables.model_change).order_by(_C.id)).mappings()
    return [_change(row) for row in found]


def previous_model(history: Sequence[ModelChange]) -> ModelChange | None:
    """What answered before the model that answers now, and was not rolled back from; None if nothing did."""
    standing_: list[ModelChange] = []
    for change in history:
        if change.what == "rolled back":
            standing_.pop()
        else:
            standing_.append(change)
    return standing_[-2] if len(standing_) > 1 else None


def promote(connection: Connection, card: CardState, by: str, *, previous: CardState) -> None:
    """The model answers from now on. Before the first promotion, what answered until now is written down as well."""
    _one_at_a_time(connection)
    if active_model(connection) is None:
        _write(connection, "shipped", previous, by="genu")
    _write(connection, "promoted", card, by=by)


def roll_back(connection: Connection, to: ModelChange, by: str) -> bool:
    """The model that answered before does so again. False: it is not `to`, for somebody has changed it meanwhile."""
    _one_at_a_time(connection)
    if previous_model(changes(connection)) != to:
        return False
    _write(connection, "rolled back", CardState(to.card, to.card_sha256, to.model), by=by)
    return True


def _one_at_a_time(connection: Connection) -> None:
    """Two people change nothing at the same moment; SQLite has one writer anyway."""
    if connection.dialect.name == "postgresql":
        connection.execute(sa.text("LOCK TABLE model_change IN SHARE ROW EXCLUSIVE MODE"))


def _write(connection: Connection, what: ChangeKind, answers: CardState, *, by: str) -> None:
    model = answers.model
    told = {"name": model.name, "version": model.version, "sha256": model.sha256}
    told |= {"card": answers.card, "card_sha256": answers.sha256}
    connection.execute(sa.insert(tables.model_change).values(at=now(), what=what, by=by, **told))


def _change(row: RowMapping) -> ModelChange:
    return ModelChange(
        at=row["at"],
        what=row["what"],
        card=row["card"],
        card_sha256=row["card_sha256"],
        model=ModelIdentity(row["name"], row["version"], row["sha256"]),
        by=row["by"],
    )


def record_shadow_reading(connection: Connection, uid: str, said: ShadowReading, by: str) -> None:
    """What a model in shadow said stands beside the radiograph's answer; without an answer there is nothing to do."""
    row = hold(connection, uid)
    if row is None or row["answer_id"] is None:
        return
    model = said.model
    connection.execute(
        sa.insert(tables.shadow).values(
            source_uid=uid,
            answer_id=row["answer_id"],
            at=said.at,
            card=said.card,
            model_name=model.name if model else None,
            model_version=model.version if model else None,
            model_sha256=model.sha256 if model else None,
            reading=None if said.reading is None else json.dumps(said.reading, allow_nan=False, separators=(",", ":")),
            fault=said.fault,
        )
    )
    told = f"{model.name} {model.version}" if model else said.card
    note(connection, uid, "shadow failed" if said.fault else "shadowed", detail=said.fault or told, by=by)


def shadow_readings(connection: Connection, uid: str) -> list[ShadowReading]:
    """Beside the answer that stands, oldest first."""
    standing_ = sa.select(tables.radiograph.c.answer_id).where(tables.radiograph.c.sop_instance_uid == uid)
    wanted = sa.select(tables.shadow).where(_S.answer_id == standing_.scalar_subquery()).order_by(_S.id)
    return [
        ShadowReading(
            at=row["at"],
            card=row["card"],
            model=ModelIdentity(row["model_name"], row["model_version"], row["model_sha256"])
            if row["model_name"]
            else None,
            reading=json.loads(row["reading"]) if row["reading"] else None,
            fault=row["fault"],
        )
        for row in connection.execute(wanted).mappings()
    ]


def paired_readings(connection: Connection, first: ModelIdentity, second: ModelIdentity) -> list[PairedReadings]:
    """Every radiograph that one of the two answered and the other graded in shadow, oldest first; the last time."""
    wanted = (
        sa.select(
            _S.source_uid, _A.reading.label("answer"), _S.reading.label("shadow"), _is(_A, first).label("in_order")
        )
        .join(tables.answer, _A.id == _S.answer_id)
        .where(_S.reading.is_not(None))
        .where(sa.or_(sa.and_(_is(_A, first), _is(_S, second)), sa.and_(_is(_A, second), _is(_S, first))))
        .order_by(_S.id)
    )
    found: dict[str, PairedReadings] = {}
    for row in connection.execute(wanted.execution_options(yield_per=500)).mappings():
        answer, shadow = (json.loads(row[key]).get("knees", []) for key in ("answer", "shadow"))
        both = (answer, shadow) if row["in_order"] else (shadow, answer)
        found[row["source_uid"]] = PairedReadings(row["source_uid"], *both)
    return list(found.values())


def _is(columns: Any, model: ModelIdentity) -> sa.ColumnElement[bool]:
    """Whether the row is that model's."""
    return sa.and_(
        columns.model_name == model.name,
        columns.model_version == model.version,
        columns.model_sha256 == model.sha256,
    )
