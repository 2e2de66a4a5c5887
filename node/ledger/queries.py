"""Queries of the sweep, the admin page, the metrics and the command line."""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping

from node.ledger import tables
from node.ledger.deliveries import result_object
from node.ledger.records import (
    Answer,
    Conflict,
    Entry,
    Heartbeat,
    JournalLine,
    ModelUse,
    PendingDeliveries,
    ResultObject,
)
from node.ledger.states import State

_R, _A, _D = tables.radiograph.c, tables.answer.c, tables.delivery.c


def find(connection: Connection, uid: str) -> Entry | None:
    found = _read(connection, _select_entries().where(_R.sop_instance_uid == uid))
    return found[0] if found else None


def listing(
    connection: Connection,
    *,
    state: State | None,
    reason: str | None,
    flag: str | None,
    limit: int,
    before: datetime | None,
) -> list[Entry]:
    """The radiographs that fit, newest first; `before` is a time of reception."""
    query = _select_entries()
    if state is not None:
        query = query.where(_R.state == State(state).value)
    if reason is not None:
        query = query.where(_R.reason == reason)
    if flag is not None:
        flagged = sa.select(tables.flag.c.sop_instance_uid).where(tables.flag.c.flag == flag)
        query = query.where(_R.sop_instance_uid.in_(flagged))
    if before is not None:
        query = query.where(_R.received_at < before)
    return _read(connection, query.order_by(_R.received_at.desc(), _R.sop_instance_uid).limit(limit))


def unfinished(connection: Connection, moment: datetime) -> list[str]:
    """UIDs of radiographs that no worker has claimed, oldest first."""
    abandoned = sa.and_(_R.state == State.GRADING.value, _R.lease_until <= moment)
    query = sa.select(_R.sop_instance_uid).where(sa.or_(_R.state == State.RECEIVED.value, abandoned))
    return list(connection.execute(query.order_by(_R.received_at)).scalars())


def counts_by_state(connection: Connection) -> dict[State, int]:
    found = connection.execute(sa.select(_R.state, sa.func.count()).group_by(_R.state)).all()
    return dict.fromkeys(State, 0) | {State(state): count for state, count in found}


def oldest_by_state(connection: Connection) -> dict[State, datetime]:
    found = connection.execute(sa.select(_R.state, sa.func.min(_R.received_at)).group_by(_R.state)).all()
    return {State(state): moment for state, moment in found}


def pending_deliveries(connection: Connection) -> list[PendingDeliveries]:
    latest = tables.delivery.alias("latest")
    last_error = (
        sa.select(latest.c.last_error)
        .where(latest.c.destination == _D.destination, latest.c.state == "WAITING")
        .order_by(latest.c.changed_at.desc(), latest.c.id.desc())
        .limit(1)
        .scalar_subquery()
    )
    query = sa.select(_D.destination, sa.func.count(), sa.func.min(_D.asked_at), last_error)
    query = query.where(_D.state == "WAITING")
    return [
        PendingDeliveries(*row) for row in connection.execute(query.group_by(_D.destination).order_by(_D.destination))
    ]


def result_objects(connection: Connection, uid: str, *, superseded: bool) -> list[ResultObject]:
    of_source = tables.result_object.c.source_uid == uid
    query = sa.select(tables.result_object).where(of_source).order_by(tables.result_object.c.answer_id)
    if not superseded:
        current = sa.select(_R.answer_id).where(_R.sop_instance_uid == uid).scalar_subquery()
        query = query.where(tables.result_object.c.answer_id == current)
    found = connection.execute(query.order_by(tables.result_object.c.kind)).mappings()
    return [result_object(row) for row in found]


def answers(connection: Connection, uid: str) -> list[Answer]:
    query = sa.select(tables.answer).where(_A.source_uid == uid).order_by(_A.id)
    return [
        Answer(
            at=row["at"],
            state=State(row["state"]),
            reason=row["reason"],
            model_name=row["model_name"],
            model_version=row["model_version"],
            model_sha256=row["model_sha256"],
            reading=json.loads(row["reading"]),
        )
        for row in connection.execute(query).mappings()
    ]


def model_uses(connection: Connection, table: sa.Table) -> list[ModelUse]:
    """The models in `table`: that of answers or of shadow readings. Shadow readings that failed do not count."""
    model = (table.c.model_name, table.c.model_version, table.c.model_sha256)
    first, last = sa.func.min(table.c.at).label("first"), sa.func.max(table.c.at).label("last")
    query = sa.select(*model, sa.func.count(), first, last).where(table.c.model_name.is_not(None))
    query = query.where(table.c.reading.is_not(None)).group_by(*model)
    return [ModelUse(*row) for row in connection.execute(query.order_by(last))]


def conflicts(connection: Connection, uid: str) -> list[Conflict]:
    columns = [column for column in tables.conflict.c if column.name != "id"]
    query = sa.select(*columns).where(tables.conflict.c.sop_instance_uid == uid).order_by(tables.conflict.c.id)
    return [Conflict(**row) for row in connection.execute(query).mappings()]


def journal(connection: Connection, uid: str) -> list[JournalLine]:
    lines = tables.journal.c
    query = sa.select(lines.at, lines.what, lines.detail, lines.by).where(lines.sop_instance_uid == uid)
    return [JournalLine(*row) for row in connection.execute(query.order_by(lines.id))]


def heartbeats(connection: Connection) -> list[Heartbeat]:
    query = sa.select(tables.beat).order_by(tables.beat.c.part, tables.beat.c.name)
    return [
        Heartbeat(process=row["part"], name=row["name"], seen_at=row["seen_at"], detail=json.loads(row["detail"]))
        for row in connection.execute(query).mappings()
    ]


def known_hashes(connection: Connection, hashes: Sequence[str]) -> set[str]:
    """Those of the hashes that a radiograph or a conflict refers to."""
    selects = [
        sa.select(table.c.sha256).where(table.c.sha256.in_(hashes)) for table in (tables.radiograph, tables.conflict)
    ]
    return set(connection.execute(sa.union(*selects)).scalars())


def _select_entries() -> sa.Select[Any]:
    return sa.select(tables.radiograph, _A.reading).outerjoin(tables.answer, _A.id == _R.answer_id)


def _read(connection: Connection, query: sa.Select[Any]) -> list[Entry]:
    rows = connection.execute(query).mappings().all()
    flags: dict[str, list[str]] = {}
    uids = [row["sop_instance_uid"] for row in rows]
    flagged = sa.select(tables.flag).where(tables.flag.c.sop_instance_uid.in_(uids)).order_by(tables.flag.c.flag)
    for uid, flag in connection.execute(flagged):
        flags.setdefault(uid, []).append(flag)
    return [_entry(row, tuple(flags.get(row["sop_instance_uid"], ()))) for row in rows]


def _entry(row: RowMapping, flags: tuple[str, ...]) -> Entry:
    return Entry(
        sop_instance_uid=row["sop_instance_uid"],
        sop_class_uid=row["sop_class_uid"],
        transfer_syntax_uid=row["transfer_syntax_uid"],
        sha256=row["sha256"],
        size=row["size"],
        calling_ae_title=row["calling_ae_title"],
        calling_host=row["calling_host"],
        received_at=row["received_at"],
        state=State(row["state"]),
        reason=row["reason"],
        detail=row["detail"],
        attempts=row["attempts"],
        lease_until=row["lease_until"],
        worker=row["worker"],
        changed_at=row["changed_at"],
        flags=flags,
        reading=json.loads(row["reading"]) if row["reading"] else None,
    )
