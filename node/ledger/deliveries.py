"""The deliveries of an answer's objects to destinations."""

from collections.abc import Mapping, Sequence
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping

from node.ledger import tables
from node.ledger.records import Delivery, ResultObject
from node.ledger.states import State
from node.ledger.transitions import add_journal_line, change_state, insert, lock_radiograph, now
from node.settings import OPTIONAL_KINDS

_D, _O = tables.delivery.c, tables.result_object.c


def enqueue(
    connection: Connection,
    uid: str,
    answer_id: int,
    *,
    objects: Sequence[ResultObject],
    destinations: Mapping[str, Sequence[str]],
    by: str,
) -> None:
    """
    Record the objects of the answer, and one delivery of each to every destination that takes its kind.

    An object that was recorded before under its UID is sent again only if its bytes differ. Deliveries of an older
    answer that still wait are given up: their files have been replaced.
    """
    _give_up_older(connection, uid, [result.sop_instance_uid for result in objects], by=by)
    for result in objects:
        changed = _record(connection, uid, answer_id, result)
        for destination in (name for name, kinds in destinations.items() if result.kind in kinds):
            _add_delivery(connection, uid, result, destination, again=changed)
    if _all_sent(connection, uid):
        _set_delivered(connection, uid, by=by)


def _give_up_older(connection: Connection, uid: str, current: Sequence[str], *, by: str) -> None:
    given_up = connection.execute(
        sa.update(tables.delivery)
        .where(_D.source_uid == uid, _D.state == "WAITING", _D.object_uid.not_in(current))
        .values(state="GIVEN_UP", last_error="a newer answer took its place", changed_at=now())
    )
    if given_up.rowcount:
        detail = f"{given_up.rowcount} objects of an older answer"
        add_journal_line(connection, uid, "delivery given up", detail=detail, by=by)


def _record(connection: Connection, uid: str, answer_id: int, result: ResultObject) -> bool:
    """Record the object for this answer. Returns whether it was known with other bytes."""
    known = connection.execute(
        sa.select(_O.sha256, _O.source_uid).where(_O.sop_instance_uid == result.sop_instance_uid)
    ).first()
    if known is not None and known.source_uid != uid:
        raise ValueError("a result's UID belongs to another radiograph")
    columns = {
        "source_uid": uid,
        "answer_id": answer_id,
        "kind": result.kind,
        "sop_class_uid": result.sop_class_uid,
        "transfer_syntax_uid": result.transfer_syntax_uid,
        "file": result.file,
        "sha256": result.sha256,
    }
    row = insert(connection, tables.result_object).values(sop_instance_uid=result.sop_instance_uid, **columns)
    connection.execute(row.on_conflict_do_update(index_elements=["sop_instance_uid"], set_=columns))
    return known is not None and known.sha256 != result.sha256


def _add_delivery(connection: Connection, uid: str, result: ResultObject, destination: str, *, again: bool) -> None:
    """Add a delivery; one that exists waits again if it was given up, or with `again` in any case."""
    moment = now()
    initial = {"state": "WAITING", "attempts": 0, "due_at": moment, "changed_at": moment, "status": None}
    row = insert(connection, tables.delivery).values(
        source_uid=uid,
        object_uid=result.sop_instance_uid,
        destination=destination,
        asked_at=moment,
        last_error="",
        **initial,
    )
    condition = sa.true() if again else _D.state == "GIVEN_UP"
    keys = ["object_uid", "destination"]
    connection.execute(row.on_conflict_do_update(index_elements=keys, set_=initial, where=condition))


def due_deliveries(connection: Connection, destination: str, moment: datetime, limit: int) -> list[Delivery]:
    """Deliveries to the destination that are due, those due longest first."""
    query = _select_deliveries().where(_D.destination == destination, _D.state == "WAITING", _D.due_at <= moment)
    return _read(connection, query.order_by(_D.due_at, _D.id).limit(limit))


def next_due(connection: Connection, destination: str) -> datetime | None:
    """When the next delivery to the destination is due; None if none waits."""
    query = sa.select(sa.func.min(_D.due_at)).where(_D.destination == destination, _D.state == "WAITING")
    found: datetime | None = connection.execute(query).scalar()
    return found


def deliveries_of(connection: Connection, uid: str) -> list[Delivery]:
    """Every delivery of a radiograph's objects."""
    return _read(connection, _select_deliveries().where(_D.source_uid == uid).order_by(_D.id))


def record_sent(connection: Connection, delivery_id: int, status: int) -> None:
    """Record that the destination accepted the object. After the answer's last one the radiograph is DELIVERED."""
    row = _lock_delivery(connection, delivery_id)
    if row is None or row["state"] == "SENT":
        return
    values = {"state": "SENT", "status": status, "last_error": "", "attempts": row["attempts"] + 1}
    _update(connection, [delivery_id], values)
    uid, detail = row["source_uid"], f"{row['object_uid']}, status 0x{status:04X}"
    add_journal_line(connection, uid, "sent", detail=detail, by=row["destination"])
    if _all_sent(connection, uid):
        _set_delivered(connection, uid, by=row["destination"])


def postpone(connection: Connection, delivery_ids: Sequence[int], until: datetime, error: str) -> None:
    """Postpone the deliveries. A journal line is added where the error differs from the last one."""
    waiting = sa.select(tables.delivery).where(_D.id.in_(delivery_ids), _D.state == "WAITING").order_by(_D.id)
    for row in connection.execute(waiting.with_for_update()).mappings().all():
        values = {"due_at": until, "last_error": error, "attempts": row["attempts"] + 1}
        _update(connection, [row["id"]], values)
        if row["last_error"] != error:
            detail = f"{row['object_uid']}: {error}"
            add_journal_line(connection, row["source_uid"], "delivery postponed", detail=detail, by=row["destination"])


def give_up(connection: Connection, delivery_id: int, error: str) -> None:
    """Give up the delivery until a person retries it."""
    row = _lock_delivery(connection, delivery_id)
    if row is None or row["state"] != "WAITING":
        return
    _update(connection, [delivery_id], {"state": "GIVEN_UP", "last_error": error, "attempts": row["attempts"] + 1})
    detail = f"{row['object_uid']}: {error}"
    add_journal_line(connection, row["source_uid"], "delivery given up", detail=detail, by=row["destination"])
    if _all_sent(connection, row["source_uid"]):
        _set_delivered(connection, row["source_uid"], by=row["destination"])


def make_due(connection: Connection, destination: str) -> int:
    """Make all postponed deliveries to the destination due now. Returns their count."""
    moment = now()
    updated = connection.execute(
        sa.update(tables.delivery)
        .where(_D.destination == destination, _D.state == "WAITING", _D.due_at > moment)
        .values(due_at=moment)
    )
    return updated.rowcount


def requeue_given_up(connection: Connection, uid: str) -> int:
    """Queue given up deliveries of the current answer's objects again. Returns their count."""
    current = _D.object_uid.in_(_current_objects(uid))
    given_up = sa.select(_D.id).where(_D.source_uid == uid, _D.state == "GIVEN_UP", current)
    ids = connection.execute(given_up).scalars().all()
    _update(connection, ids, {"state": "WAITING", "due_at": now(), "attempts": 0})
    return len(ids)


def _current_objects(uid: str) -> sa.Select[tuple[str]]:
    """UIDs of the objects that belong to the radiograph's current answer."""
    answer_id = sa.select(tables.radiograph.c.answer_id).where(tables.radiograph.c.sop_instance_uid == uid)
    return sa.select(_O.sop_instance_uid).where(_O.answer_id == answer_id.scalar_subquery())


def _all_sent(connection: Connection, uid: str) -> bool:
    """Whether all are sent, but for optional kinds that were given up because a destination takes none of them."""
    query = sa.select(_D.state, _O.kind).join_from(
        tables.delivery, tables.result_object, _D.object_uid == _O.sop_instance_uid
    )
    rows = connection.execute(query.where(_D.object_uid.in_(_current_objects(uid)))).all()
    sent = [row for row in rows if row.state == "SENT"]
    return bool(sent) and all(row.state == "GIVEN_UP" and row.kind in OPTIONAL_KINDS for row in rows if row not in sent)


def _set_delivered(connection: Connection, uid: str, *, by: str) -> None:
    """Set DELIVERED. After the report of a refusal is delivered, the radiograph stays NOT_ANALYSED."""
    row = lock_radiograph(connection, uid)
    if row is not None and row["state"] == State.REPORTED:
        change_state(connection, row, State.DELIVERED, what="delivered", by=by)


def _lock_delivery(connection: Connection, delivery_id: int) -> RowMapping | None:
    """
    Lock the rows of the radiograph and of the delivery; returns the latter.

    The radiograph's is locked first: of two destinations that finish at the same time, one sees that the other has.
    """
    found = sa.select(_D.source_uid).where(_D.id == delivery_id)
    uid = connection.execute(found).scalar()
    if uid is None:
        return None
    lock_radiograph(connection, uid)
    query = sa.select(tables.delivery).where(_D.id == delivery_id).with_for_update()
    return connection.execute(query).mappings().first()


def _update(connection: Connection, ids: Sequence[int], values: Mapping[str, object]) -> None:
    if ids:
        connection.execute(sa.update(tables.delivery).where(_D.id.in_(ids)).values(changed_at=now(), **values))


def _select_deliveries() -> sa.Select[tuple[object, ...]]:
    columns = (_D.id, _D.source_uid, _D.destination, _D.attempts, _D.due_at, _D.state, _D.last_error)
    result_columns = (_O.kind, _O.sop_class_uid, _O.sop_instance_uid, _O.transfer_syntax_uid, _O.file, _O.sha256)
    return sa.select(*columns, *result_columns).join(tables.result_object, _O.sop_instance_uid == _D.object_uid)


def _read(connection: Connection, query: sa.Select[tuple[object, ...]]) -> list[Delivery]:
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
        for row in connection.execute(query).mappings()
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
