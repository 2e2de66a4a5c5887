"""Taking radiographs in: what is new, what is known, what contradicts, what is our own."""

from datetime import timedelta

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection

from node.ledger import tables
from node.ledger.records import CONFLICT_FLAG, IntakeOutcome
from node.ledger.states import State
from node.ledger.transitions import insert, note, now
from node.radiograph import Radiograph
from node.reasons import reason

_FORGOTTEN_AFTER = timedelta(days=1)
"""Workers are named by their process: their number would only grow."""


# Made once: a sender waits for these, and to make a statement takes longer than to run it.
_NEW = {
    dialect: made.on_conflict_do_nothing(index_elements=["sop_instance_uid"]).returning(
        tables.radiograph.c.sop_instance_uid
    )
    for dialect, made in (
        ("sqlite", sqlite.insert(tables.radiograph)),
        ("postgresql", postgresql.insert(tables.radiograph)),
    )
}
_OWN = sa.select(tables.result_object.c.kind).where(tables.result_object.c.sop_instance_uid == sa.bindparam("uid"))


def record_received(connection: Connection, came: Radiograph, not_analysed_reason: str | None) -> IntakeOutcome:
    """The object has a row, or is known to have one."""
    own = is_result(connection, came.sop_instance_uid)
    aside = "OWN_OBJECT" if own else not_analysed_reason
    state = State.NOT_ANALYSED if aside else State.RECEIVED
    made = connection.execute(
        _NEW[connection.dialect.name],
        {
            **_as_it_came(came),
            "state": state.value,
            "reason": reason(aside).code if aside else None,
            "detail": "",
            "attempts": 0,
            "changed_at": came.received_at,
        },
    ).first()
    if made is not None:
        told = f"{came.size} bytes from {came.calling_ae_title} at {came.calling_host}"
        note(connection, came.sop_instance_uid, "received", detail=told, by="receive", at=came.received_at)
        if aside:
            note(connection, came.sop_instance_uid, "put aside", detail=aside, by="receive")
        return IntakeOutcome.OWN if own else IntakeOutcome.NEW
    return IntakeOutcome.OWN if own else _again(connection, came)


def _again(connection: Connection, came: Radiograph) -> IntakeOutcome:
    known = connection.execute(
        sa.select(tables.radiograph.c.sha256).where(tables.radiograph.c.sop_instance_uid == came.sop_instance_uid)
    ).scalar_one()
    told = f"from {came.calling_ae_title} at {came.calling_host}"
    if known == came.sha256:
        note(connection, came.sop_instance_uid, "received again", detail=told, by="receive")
        return IntakeOutcome.KNOWN
    connection.execute(
        insert(connection, tables.conflict)
        .values(**_as_it_came(came))
        .on_conflict_do_nothing(index_elements=["sop_instance_uid", "sha256"])
    )
    add_flag(connection, came.sop_instance_uid, CONFLICT_FLAG)
    note(connection, came.sop_instance_uid, "conflict", detail=f"other bytes {told}: {came.sha256}", by="receive")
    return IntakeOutcome.CONFLICT


def _as_it_came(came: Radiograph) -> dict[str, object]:
    return {
        "sop_instance_uid": came.sop_instance_uid,
        "sop_class_uid": came.sop_class_uid,
        "transfer_syntax_uid": came.transfer_syntax_uid,
        "sha256": came.sha256,
        "size": came.size,
        "calling_ae_title": came.calling_ae_title,
        "calling_host": came.calling_host,
        "received_at": came.received_at,
    }


def is_result(connection: Connection, uid: str) -> bool:
    """Whether Genu made the object of that UID."""
    return connection.execute(_OWN, {"uid": uid}).first() is not None


def add_flag(connection: Connection, uid: str, flag: str) -> bool:
    """The radiograph has the flag. Returns whether it had not had it before."""
    made = insert(connection, tables.flag).values(sop_instance_uid=uid, flag=flag).on_conflict_do_nothing()
    return connection.execute(made.returning(tables.flag.c.flag)).first() is not None


def record_heartbeat(connection: Connection, process: str, name: str, detail: str) -> None:
    """The part was alive just now; parts of which nothing was heard for a day are forgotten."""
    moment = now()
    connection.execute(sa.delete(tables.beat).where(tables.beat.c.seen_at < moment - _FORGOTTEN_AFTER))
    made = insert(connection, tables.beat).values(part=process, name=name, seen_at=moment, detail=detail)
    connection.execute(
        made.on_conflict_do_update(index_elements=["part", "name"], set_={"seen_at": moment, "detail": detail})
    )
