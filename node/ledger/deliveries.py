"""Where the objects of an answer still have to go."""

from collections.abc import Mapping, Sequence
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping

from node.ledger import tables
from node.ledger.records import Delivery, ResultObject
from node.ledger.states import State
from node.ledger.transitions import hold, insert, move, note, now
from node.settings import OPTIONAL_KINDS

_D, _O = tables.delivery.c, tables.result_object.c


def ask(
    connection: Connection,
    uid: str,
    answer_id: int,
    *,
    objects: Sequence[ResultObject],
    destinations: Mapping[str, Sequence[str]],
    by: str,
) -> None:
    """
    The objects belong to the answer, and every destination that takes their kind is owed them, each once.

    An object made again under its UID goes out again only if its bytes are others. What waited of an older
    answer is given up: its file is the newer one now.
    """
    _give_up_older(connection, uid, [made.sop_instance_uid for made in objects], by=by)
    for made in objects:
        changed = _record(connection, uid, answer_id, made)
        for destination in (name for name, kinds in destinations.items() if made.kind in kinds):
            _owe(connection, uid, made, destination, anew=changed)
    if _all_sent(connection, uid):
        _delivered(connection, uid, by=by)


def _give_up_older(connection: Connection, uid: str, standing: Sequence[str], *, by: str) -> None:
    given_up = connection.execute(
        sa.update(tables.delivery)
        .where(_D.source_uid == uid, _D.state == "WAITING", _D.object_uid.not_in(standing))
        .values(state="GIVEN_UP", last_error="a newer answer took its place", changed_at=now())
    )
    if given_up.rowcount:
        note(connection, uid, "delivery given up", detail=f"{given_up.rowcount} objects of an older answer", by=by)


def _record(connection: Connection, uid: str, answer_id: int, made: ResultObject) -> bool:
    """The object has a row of this answer. Returns whether it was there before with other bytes."""
    known = connection.execute(
        sa.select(_O.sha256, _O.source_uid).where(_O.sop_instance_uid == made.sop_instance_uid)
    ).first()
    if known is not None and known.source_uid != uid:
        raise ValueError("a result's UID belongs to another radiograph")
    columns = {
        "source_uid": uid,
        "answer_id": answer_id,
        "kind": made.kind,
        "sop_class_uid": made.sop_class_uid,
        "transfer_syntax_uid": made.transfer_syntax_uid,
        "file": made.file,
        "sha256": made.sha256,
    }
    row = insert(connection, tables.result_object).values(sop_instance_uid=made.sop_instance_uid, **columns)
    connection.execute(row.on_conflict_do_update(index_elements=["sop_instance_uid"], set_=columns))
    return known is not None and known.sha256 != made.sha256


def _owe(connection: Connection, uid: str, made: ResultObject, destination: str, *, anew: bool) -> None:
    moment = now()
    fresh = {"state": "WAITING", "attempts": 0, "due_at": moment, "changed_at": moment, "status": None}
    row = insert(connection, tables.delivery).values(
        source_uid=uid,
        object_uid=made.sop_instance_uid,
        destination=destination,
        asked_at=moment,
        last_error="",
        **fresh,
    )
    again = sa.true() if anew else _D.state == "GIVEN_UP"
    connection.execute(row.on_conflict_do_update(index_elements=["object_uid", "destination"], set_=fresh, where=again))


def due_deliveries(connection: Connection, destination: str, moment: datetime, limit: int) -> list[Delivery]:
    """What the destination should get now, what has waited longest first."""
    wanted = _deliveries().where(_D.destination == destination, _D.state == "WAITING", _D.due_at <= moment)
    return _read(connection, wanted.order_by(_D.due_at, _D.id).limit(limit))


def next_due(connection: Connection, destination: str) -> datetime | None:
    """When something falls due there."""
    wanted = sa.select(sa.func.min(_D.due_at)).where(_D.destination == destination, _D.state == "WAITING")
    found: datetime | None = connection.execute(wanted).scalar()
    return found


def of(connection: Connection, uid: str) -> list[Delivery]:
    """Every delivery of a radiograph's objects."""
    return _read(connection, _deliveries().where(_D.source_uid == uid).order_by(_D.id))


def record_sent(connection: Connection, delivery_id: int, status: int) -> None:
    """The destination has the object. With the last of the answer's that is owed, the radiograph is DELIVERED."""
    row = _hold_delivery(connection, delivery_id)
    if row is None or row["state"] == "SENT":
        return
    values = {"state": "SENT", "status": status, "last_error": "", "attempts": row["attempts"] + 1}
    _change(connection, [delivery_id], values)
    uid, told = row["source_uid"], f"{row['object_uid']}, status 0x{status:04X}"
    note(connection, uid, "sent", detail=told, by=row["destination"])
    if _all_sent(connection, uid):
        _delivered(connection, uid, by=row["destination"])


def postpone(connection: Connection, delivery_ids: Sequence[int], until: datetime, error: str) -> None:
    """They wait until then. The journal has a line where the error is another than the last time."""
    waiting = sa.select(tables.delivery).where(_D.id.in_(delivery_ids), _D.state == "WAITING").order_by(_D.id)
    for row in connection.execute(waiting.with_for_update()).mappings().all():
        values = {"due_at": until, "last_error": error, "attempts": row["attempts"] + 1}
        _change(connection, [row["id"]], values)
        if row["last_error"] != error:
            told = f"{row['object_uid']}: {error}"
            note(connection, row["source_uid"], "delivery postponed", detail=told, by=row["destination"])


def give_up(connection: Connection, delivery_id: int, error: str) -> None:
    """It is not tried any more until a person asks again."""
    row = _hold_delivery(connection, delivery_id)
    if row is None or row["state"] != "WAITING":
        return
    _change(connection, [delivery_id], {"state": "GIVEN_UP", "last_error": error, "attempts": row["attempts"] + 1})
    told = f"{row['object_uid']}: {error}"
    note(connection, row["source_uid"], "delivery given up", detail=told, by=row["destination"])
    if _all_sent(connection, row["source_uid"]):
        _delivered(connection, row["source_uid"], by=row["destination"])


def make_due(connection: Connection, destination: str) -> int:
    """Everything that waits for the destination is due now. Their count."""
    moment = now()
    changed = connection.execute(
        sa.update(tables.delivery)
        .where(_D.destination == destination, _D.state == "WAITING", _D.due_at > moment)
        .values(due_at=moment)
    )
    return changed.rowcount


def revive(connection: Connection, uid: str) -> int:
    """What was given up of the standing answer's objects waits again. Their count."""
    given_up = sa.select(_D.id).where(_D.source_uid == uid, _D.state == "GIVEN_UP", _D.object_uid.in_(_standing(uid)))
    ids = connection.execute(given_up).scalars().all()
    _change(connection, ids, {"state": "WAITING", "due_at": now(), "attempts": 0})
    return len(ids)


def _standing(uid: str) -> sa.Select[tuple[str]]:
    """UIDs of the objects that belong to the radiograph's standing answer."""
    answer_id = sa.select(tables.radiograph.c.answer_id).where(tables.radiograph.c.sop_instance_uid == uid)
    return sa.select(_O.sop_instance_uid).where(_O.answer_id == answer_id.scalar_subquery())


def _all_sent(connection: Connection, uid: str) -> bool:
    """Whether all are sent, but for extras that were given up because a destination takes none of their kind."""
    owed = sa.select(_D.state, _O.kind).join_from(
        tables.delivery, tables.result_object, _D.object_uid == _O.sop_instance_uid
    )
    rows = connection.execute(owed.where(_D.object_uid.in_(_standing(uid)))).all()
    sent = [row for row in rows if row.state == "SENT"]
    return bool(sent) and all(row.state == "GIVEN_UP" and row.kind in OPTIONAL_KINDS for row in rows if row not in sent)


def _delivered(connection: Connection, uid: str, *, by: str) -> None:
    """A refusal's report is delivered too, but the radiograph stays NOT_ANALYSED."""
    row = hold(connection, uid)
    if row is not None and row["state"] == State.REPORTED:
        move(connection, row, State.DELIVERED, what="delivered", by=by)


def _hold_delivery(connection: Connection, delivery_id: int) -> RowMapping | None:
    """
    The delivery's row, and its radiograph's held.

    The radiograph's is held first: of two destinations that end at the same time one must see the other's end.
    """
    found = sa.select(_D.source_uid).where(_D.id == delivery_id)
    uid = connection.execute(found).scalar()
    if uid is None:
        return None
    hold(connection, uid)
    wanted = sa.select(tables.delivery).where(_D.id == delivery_id).with_for_update()
    return connection.execute(wanted).mappings().first()


def _change(connection: Connection, ids: Sequence[int], values: Mapping[str, object]) -> None:
    if ids:
        changed = sa.update(tables.delivery).where(_D.id.in_(ids)).values(changed_at=now(), **values)
        connection.execute(changed)


def _deliveries() -> sa.Select[tuple[object, ...]]:
    columns = (_D.id, _D.source_uid, _D.destination, _D.attempts, _D.due_at, _D.state, _D.last_error)
    made = (_O.kind, _O.sop_class_uid, _O.sop_instance_uid, _O.transfer_syntax_uid, _O.file, _O.sha256)
    return sa.select(*columns, *made).join(tables.result_object, _O.sop_instance_uid == _D.object_uid)


def _read(connection: Connection, wanted: sa.Select[tuple[object, ...]]) -> list[Delivery]:
    return [
        Delivery(
            id=row["id"],
            source_uid=row["source_uid"],
            destination=row["destination"],
            object=result_object(row),
            attempts=row["attempts"],
            due_at=row["due_at"],
            state=row["state"],
            last_error=row["last_error"],
        )
        for row in connection.execute(wanted).mappings()
    ]


def result_object(row: RowMapping) -> ResultObject:
    return ResultObject(
        kind=row["kind"],
        sop_class_uid=row["sop_class_uid"],
        sop_instance_uid=row["sop_instance_uid"],
        transfer_syntax_uid=row["transfer_syntax_uid"],
        file=row["file"],
        sha256=row["sha256"],
    )
