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
from node.ledger.transitions import add_journal_line, change_state, lock_radiograph, now
from node.reasons import FLAGS, reason


def claim(connection: Connection, uid: str, worker: str, *, lease_seconds: float, attempts: int) -> bool:
    """
    Claim the radiograph for the worker until the lease ends. Returns whether the claim was given.

    A radiograph whose `attempts` are all used becomes FAILED instead.
    """
    row = lock_radiograph(connection, uid)
    if row is None or not _is_claimable(row, now()):
        return False
    if row["attempts"] >= attempts:
        code = reason("ATTEMPTS_EXHAUSTED").code
        detail = f"{row['attempts']} attempts; the last: {row['detail'] or 'ended without an error message'}"
        values = {"reason": code, "detail": detail}
        change_state(connection, row, State.FAILED, what="failed", by=worker, detail=f"{code}: {detail}", values=values)
        return False
    taken_over = f", taken over from {row['worker']}" if row["worker"] else ""
    change_state(
        connection,
        row,
        State.GRADING,
        what="claimed",
        by=worker,
        detail=f"attempt {row['attempts'] + 1}{taken_over}",
        values={
            "worker": worker,
            "attempts": row["attempts"] + 1,
            "lease_until": now() + timedelta(seconds=lease_seconds),
        },
    )
    return True


def _is_claimable(row: RowMapping, moment: datetime) -> bool:
    if row["state"] == State.RECEIVED:
        return True
    return bool(row["state"] == State.GRADING and row["lease_until"] <= moment)


def renew(connection: Connection, uid: str, worker: str, lease_seconds: float) -> bool:
    """Renew the lease for so long from now; False if the claim is lost. No journal line is written."""
    renewed = connection.execute(
        sa.update(tables.radiograph)
        .where(
            tables.radiograph.c.sop_instance_uid == uid,
            tables.radiograph.c.state == State.GRADING.value,
            tables.radiograph.c.worker == worker,
        )
        .values(lease_until=now() + timedelta(seconds=lease_seconds))
    )
    return bool(renewed.rowcount)


def lock_claimed(connection: Connection, uid: str, worker: str) -> RowMapping | None:
    """The row, locked, if the worker has the claim. An expired lease is valid until another worker takes over."""
    row = lock_radiograph(connection, uid)
    if row is None or row["state"] != State.GRADING or row["worker"] != worker:
        return None
    return row


def record_answer(
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
    """Store the reading as the current answer, enqueue its objects for delivery, and set `state`."""
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
    line = f"{reason_code}: {detail}" if reason_code else f"{model.get('name')} {model.get('version')}"
    change_state(connection, row, state, what=what, by=worker, detail=line, values=values)
    # The knees' flags belong to the answer: those of an earlier answer are removed.
    flag = tables.flag.c
    connection.execute(sa.delete(tables.flag).where(flag.sop_instance_uid == uid, flag.flag.in_(sorted(FLAGS))))
    for code in sorted({*flags, UNDECIDED_FLAG} if undecided else {*flags}):
        add_flag(connection, uid, code)
    deliveries.enqueue(connection, uid, answer_id, objects=objects, destinations=destinations, by=worker)


GRADED = (State.REPORTED, State.DELIVERED, State.CONFIRMED)


def retry(connection: Connection, uid: str, by: str, *, graded: bool = False) -> bool:
    """
    Return a FAILED or NOT_ANALYSED radiograph to RECEIVED, with `graded` a graded one too; else requeue deliveries.

    Only deliveries that were given up are queued again. Returns whether there was anything to retry.
    """
    row = lock_radiograph(connection, uid)
    if row is None or row["reason"] == "OWN_OBJECT":  # never graded, or a loop would begin
        return False
    state = State(row["state"])
    if state in (State.FAILED, State.NOT_ANALYSED) or (graded and state in GRADED):
        detail = f"was {state.value}: {row['reason']}" if row["reason"] else f"was {state.value}"
        change_state(connection, row, State.RECEIVED, what="asked again", by=by, detail=detail, values={"attempts": 0})
        return True
    count = deliveries.requeue_given_up(connection, uid)
    if count:
        add_journal_line(connection, uid, "delivery asked again", detail=f"{count} objects", by=by)
    return count > 0
