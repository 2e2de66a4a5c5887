"""Which model is active, since when and set by whom; and the readings of shadow models."""

import json
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping

from node.finding import ModelIdentity
from node.ledger import tables
from node.ledger.records import CardState, ChangeKind, ModelChange, PairedReadings, ShadowReading
from node.ledger.transitions import add_journal_line, lock_radiograph, now

_C, _S, _A = tables.model_change.c, tables.shadow.c, tables.answer.c


def active_model(connection: Connection) -> ModelChange | None:
    """The last change of the active model; None before the first promotion."""
    found = connection.execute(sa.select(tables.model_change).order_by(_C.id.desc()).limit(1)).mappings().first()
    return _change(found) if found else None


def changes(connection: Connection) -> list[ModelChange]:
    """Every change of the active model, oldest first."""
    found = connection.execute(sa.select(tables.model_change).order_by(_C.id)).mappings()
    return [_change(row) for row in found]


def previous_model(history: Sequence[ModelChange]) -> ModelChange | None:
    """The model that was active before the current one and was not rolled back from; None if there is none."""
    active: list[ModelChange] = []
    for change in history:
        if change.what == "rolled back":
            active.pop()
        else:
            active.append(change)
    return active[-2] if len(active) > 1 else None


def promote(connection: Connection, card: CardState, by: str, *, previous: CardState) -> None:
    """Record the model of `card` as active. The first promotion also records `previous`, as shipped."""
    _lock_model_changes(connection)
    if active_model(connection) is None:
        _insert_change(connection, "shipped", previous, by="genu")
    _insert_change(connection, "promoted", card, by=by)


def roll_back(connection: Connection, to: ModelChange, by: str) -> bool:
    """Record the previous model as active again. False if it is not `to`: it was changed meanwhile."""
    _lock_model_changes(connection)
    if previous_model(changes(connection)) != to:
        return False
    _insert_change(connection, "rolled back", CardState(to.card, to.card_sha256, to.model), by=by)
    return True


def _lock_model_changes(connection: Connection) -> None:
    """Lock the table, so that two people cannot change the model at the same time; SQLite has one writer anyway."""
    if connection.dialect.name == "postgresql":
        connection.execute(sa.text("LOCK TABLE model_change IN SHARE ROW EXCLUSIVE MODE"))


def _insert_change(connection: Connection, what: ChangeKind, card: CardState, *, by: str) -> None:
    model = card.model
    columns = {"name": model.name, "version": model.version, "sha256": model.sha256}
    columns |= {"card": card.card, "card_sha256": card.sha256}
    connection.execute(sa.insert(tables.model_change).values(at=now(), what=what, by=by, **columns))


def _change(row: RowMapping) -> ModelChange:
    return ModelChange(
        at=row["at"],
        what=row["what"],
        card=row["card"],
        card_sha256=row["card_sha256"],
        model=ModelIdentity(row["name"], row["version"], row["sha256"]),
        by=row["by"],
    )


def record_shadow_reading(connection: Connection, uid: str, shadow_reading: ShadowReading, by: str) -> None:
    """Store the reading of a shadow model beside the current answer; a radiograph without an answer has none."""
    row = lock_radiograph(connection, uid)
    if row is None or row["answer_id"] is None:
        return
    model, reading = shadow_reading.model, shadow_reading.reading
    connection.execute(
        sa.insert(tables.shadow).values(
            source_uid=uid,
            answer_id=row["answer_id"],
            at=shadow_reading.at,
            card=shadow_reading.card,
            model_name=model.name if model else None,
            model_version=model.version if model else None,
            model_sha256=model.sha256 if model else None,
            reading=None if reading is None else json.dumps(reading, allow_nan=False, separators=(",", ":")),
            fault=shadow_reading.fault,
        )
    )
    what = "shadow failed" if shadow_reading.fault else "shadowed"
    name = f"{model.name} {model.version}" if model else shadow_reading.card
    add_journal_line(connection, uid, what, detail=shadow_reading.fault or name, by=by)


def shadow_readings(connection: Connection, uid: str) -> list[ShadowReading]:
    """The readings of shadow models beside the current answer, oldest first."""
    answer_id = sa.select(tables.radiograph.c.answer_id).where(tables.radiograph.c.sop_instance_uid == uid)
    query = sa.select(tables.shadow).where(_S.answer_id == answer_id.scalar_subquery()).order_by(_S.id)
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
        for row in connection.execute(query).mappings()
    ]


def paired_readings(connection: Connection, first: ModelIdentity, second: ModelIdentity) -> list[PairedReadings]:
    """
    The readings of every radiograph that one of the two models answered and the other graded in shadow.

    Oldest first; of a radiograph that was graded several times, the last pair.
    """
    query = (
        sa.select(
            _S.source_uid, _A.reading.label("answer"), _S.reading.label("shadow"), _is_by(_A, first).label("in_order")
        )
        .join(tables.answer, _A.id == _S.answer_id)
        .where(_S.reading.is_not(None))
        .where(sa.or_(sa.and_(_is_by(_A, first), _is_by(_S, second)), sa.and_(_is_by(_A, second), _is_by(_S, first))))
        .order_by(_S.id)
    )
    found: dict[str, PairedReadings] = {}
    for row in connection.execute(query.execution_options(yield_per=500)).mappings():
        answer, shadow = (json.loads(row[key]).get("knees", []) for key in ("answer", "shadow"))
        knees = (answer, shadow) if row["in_order"] else (shadow, answer)
        found[row["source_uid"]] = PairedReadings(row["source_uid"], *knees)
    return list(found.values())


def _is_by(columns: Any, model: ModelIdentity) -> sa.ColumnElement[bool]:
    """Whether the row belongs to that model."""
    return sa.and_(
        columns.model_name == model.name,
        columns.model_version == model.version,
        columns.model_sha256 == model.sha256,
    )
