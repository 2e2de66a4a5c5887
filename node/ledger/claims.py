"""A worker's claim on a radiograph, from the first attempt to its end."""

import json
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping

from node.ledger import deliveries, tables
from node.ledger.intake import add_flag
from node.ledger.records import UNDECIDED_FLAG, ResultObject
from node.ledger.states import State
from node.ledger.transitions import hold, move, note, now
from node.reasons import FLAGS, reason


def claim(connection: Connection, uid: str, worker: str, *, lease_seconds: float, attempts: int) -> bool:
    """Whether the radiograph is now the worker's, until the lease ends. Used-up attempts end it as FAILED."""
    row = hold(connection, uid)
    if row is None or not _free(row, now()):
        return False
    if row["attempts"] >= attempts:
        why = reason("ATTEMPTS_EXHAUSTED").code
        told = f"{row['attempts']} attempts; the last: {row['detail'] or 'broke off without a word'}"
        ended = {"reason": why, "detail": told}
        move(connection, row, State.FAILED, what="failed", by=worker, detail=f"{why}: {told}", values=ended)
        return False
    took_over = f", taken over from {row['worker']}" if row["worker"] else ""
    move(
        connection,
        row,
        State.GRADING,
        what="claimed",
        by=worker,
        detail=f"attempt {row['attempts'] + 1}{took_over}",
        values={
            "worker": worker,
            "attempts": row["attempts"] + 1,
            "lease_until": now() + timedelta(seconds=lease_seconds),
        },
    )
    return True


def _free(row: RowMapping, moment: datetime) -> bool:
    if row["state"] == State.RECEIVED:
        return True
    return bool(row["state"] == State.GRADING and row["lease_until"] <= moment)


def renew(connection: Connection, uid: str, worker: str, lease_seconds: float) -> bool:
    """Whether the worker still has the radiograph; if so, for so long from now. The journal says nothing of it."""
    kept = connection.execute(
        sa.update(tables.radiograph)
        .where(
            tables.radiograph.c.sop_instance_uid == uid,
            tables.radiograph.c.state == State.GRADING.value,
            tables.radiograph.c.worker == worker,
        )
        .values(lease_until=now() + timedelta(seconds=lease_seconds))
    )
    return bool(kept.rowcount)


def held_by(connection: Connection, uid: str, worker: str) -> RowMapping | None:
    """The row, held, if the worker's claim on it stands (a lease that ran out stands until someone takes over)."""
    row = hold(connection, uid)
    if row is None or row["state"] != State.GRADING or row["worker"] != worker:
        return None
    return row


def answer(
    connection: Connection,
    row: RowMapping,
    state: State,
    *,
    reading: Mapping[str, Any],
    objects: Sequence[ResultObject],
    destinations: Mapping[str, Sequence[str]],
    undecided: bool = False,
    flags: Collection[str] = (),
    reason_code: str | None = None,
    detail: str = "",
) -> None:
    """The reading stands, its objects wait for their destinations, and the radiograph is in `state`."""
    uid, worker, model = row["sop_instance_uid"], row["worker"], reading.get("model") or {}
    answer_id = connection.execute(
        sa.insert(tables.answer)
        .values(
            source_uid=uid,
            at=now(),
            state=state.value,
            reason=reason_code,
            model_name=model.get("name"),
            model_version=model.get("version"),
            model_sha256=model.get("sha256"),
            reading=json.dumps(reading, allow_nan=False, separators=(",", ":")),
        )
        .returning(tables.answer.c.id)
    ).scalar_one()
    values = {"answer_id": answer_id, "reason": reason_code, "detail": detail}
    what = "reported" if state is State.REPORTED else "not analysed"
    told = f"{reason_code}: {detail}" if reason_code else f"{model.get('name')} {model.get('version')}"
    move(connection, row, state, what=what, by=worker, detail=told, values=values)
    # What an earlier answer said of the knees falls with it.
    flag = tables.flag.c
    connection.execute(sa.delete(tables.flag).where(flag.sop_instance_uid == uid, flag.flag.in_(sorted(FLAGS))))
    for code in sorted({*flags, UNDECIDED_FLAG} if undecided else {*flags}):
        add_flag(connection, uid, code)
    deliveries.ask(connection, uid, answer_id, objects=objects, destinations=destinations, by=worker)


GRADED = (State.REPORTED, State.DELIVERED, State.CONFIRMED)


def retry(connection: Connection, uid: str, by: str, *, graded: bool = False) -> bool:
    """Whether there was something to do again: the grading, with `graded` of a graded one too, or what was given up."""
    row = hold(connection, uid)
    if row is None or row["reason"] == "OWN_OBJECT":  # never graded, or a loop would begin
        return False
    state = State(row["state"])
    if state in (State.FAILED, State.NOT_ANALYSED) or (graded and state in GRADED):
        told = f"was {state.value}: {row['reason']}" if row["reason"] else f"was {state.value}"
        move(connection, row, State.RECEIVED, what="asked again", by=by, detail=told, values={"attempts": 0})
        return True
    count = deliveries.revive(connection, uid)
    if count:
        note(connection, uid, "delivery asked again", detail=f"{count} objects", by=by)
    return count > 0
