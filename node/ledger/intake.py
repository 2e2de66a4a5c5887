"""Recording received objects: new, known, in conflict, or Genu's own. Also flags and heartbeats."""

from datetime import timedelta

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection

from node.ledger import tables
from node.ledger.records import CONFLICT_FLAG, IntakeOutcome
from node.ledger.states import State
from node.ledger.transitions import add_journal_line, insert, now
from node.radiograph import Radiograph
from node.reasons import reason

_HEARTBEATS_EXPIRE_AFTER = timedelta(days=1)
"""Workers are named by their process, so without expiry the number of rows would only grow."""


# Built once: a sender waits for these, and building a statement takes longer than running it.
_INSERT_RADIOGRAPH = {
    dialect: statement.on_conflict_do_nothing(index_elements=["sop_instance_uid"]).returning(
        tables.radiograph.c.sop_instance_uid
    )
    for dialect, statement in (
        ("sqlite", sqlite.insert(tables.radiograph)),
        ("postgresql", postgresql.insert(tables.radiograph)),
    )
}
_RESULT_KIND = sa.select(tables.result_object.c.kind).where(
    tables.result_object.c.sop_instance_uid == sa.bindparam("uid")
)


def record_received(connection: Connection, radiograph: Radiograph, not_analysed_reason: str | None) -> IntakeOutcome:
    """
    Insert a row for the object unless its UID has one. Returns what the object turned out to be.

    A new object is RECEIVED; NOT_ANALYSED if it is Genu's own or `not_analysed_reason` is given.
    """
    own = is_result(connection, radiograph.sop_instance_uid)
    code = "OWN_OBJECT" if own else not_analysed_reason
    state = State.NOT_ANALYSED if code else State.RECEIVED
    inserted = connection.execute(
        _INSERT_RADIOGRAPH[connection.dialect.name],
        {
            **_instance_columns(radiograph),
            "state": state.value,
            "reason": reason(code).code if code else None,
            "detail": "",
            "attempts": 0,
            "changed_at": radiograph.received_at,
        },
    ).first()
    if inserted is not None:
        uid, received_at = radiograph.sop_instance_uid, radiograph.received_at
        detail = f"{radiograph.size} bytes from {radiograph.calling_ae_title} at {radiograph.calling_host}"
        add_journal_line(connection, uid, "received", detail=detail, by="receive", at=received_at)
        if code:
            add_journal_line(connection, uid, "put aside", detail=code, by="receive")
        return IntakeOutcome.OWN if own else IntakeOutcome.NEW
    return IntakeOutcome.OWN if own else _record_again(connection, radiograph)


def _record_again(connection: Connection, radiograph: Radiograph) -> IntakeOutcome:
    """Record an object whose UID is known: the same bytes again, or a conflict."""
    uid = radiograph.sop_instance_uid
    known_sha256 = connection.execute(
        sa.select(tables.radiograph.c.sha256).where(tables.radiograph.c.sop_instance_uid == uid)
    ).scalar_one()
    sender = f"from {radiograph.calling_ae_title} at {radiograph.calling_host}"
    if known_sha256 == radiograph.sha256:
        add_journal_line(connection, uid, "received again", detail=sender, by="receive")
        return IntakeOutcome.KNOWN
    connection.execute(
        insert(connection, tables.conflict)
        .values(**_instance_columns(radiograph))
        .on_conflict_do_nothing(index_elements=["sop_instance_uid", "sha256"])
    )
    add_flag(connection, uid, CONFLICT_FLAG)
    add_journal_line(connection, uid, "conflict", detail=f"other bytes {sender}: {radiograph.sha256}", by="receive")
    return IntakeOutcome.CONFLICT


def _instance_columns(radiograph: Radiograph) -> dict[str, object]:
    return {
        "sop_instance_uid": radiograph.sop_instance_uid,
        "sop_class_uid": radiograph.sop_class_uid,
        "transfer_syntax_uid": radiograph.transfer_syntax_uid,
        "sha256": radiograph.sha256,
        "size": radiograph.size,
        "calling_ae_title": radiograph.calling_ae_title,
        "calling_host": radiograph.calling_host,
        "received_at": radiograph.received_at,
    }


def is_result(connection: Connection, uid: str) -> bool:
    """Whether Genu made the object of that UID."""
    return connection.execute(_RESULT_KIND, {"uid": uid}).first() is not None


def add_flag(connection: Connection, uid: str, flag: str) -> bool:
    """Add the flag to the radiograph. Returns False if it had the flag already."""
    row = insert(connection, tables.flag).values(sop_instance_uid=uid, flag=flag).on_conflict_do_nothing()
    return connection.execute(row.returning(tables.flag.c.flag)).first() is not None


def record_heartbeat(connection: Connection, process: str, name: str, detail: str) -> None:
    """Store the time of the process's last heartbeat. Processes without one for a day are removed."""
    moment = now()
    connection.execute(sa.delete(tables.beat).where(tables.beat.c.seen_at < moment - _HEARTBEATS_EXPIRE_AFTER))
    row = insert(connection, tables.beat).values(part=process, name=name, seen_at=moment, detail=detail)
    connection.execute(
        row.on_conflict_do_update(index_elements=["part", "name"], set_={"seen_at": moment, "detail": detail})
    )
