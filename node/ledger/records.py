"""Records that the ledger returns: plain data. Times have time zone UTC. Nothing here identifies a patient."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal, NamedTuple

from node.finding import ModelIdentity
from node.ledger.states import State
from node.settings import ObjectKind

ChangeKind = Literal["shipped", "promoted", "rolled back"]
DeliveryState = Literal["WAITING", "SENT", "GIVEN_UP"]

CONFLICT_FLAG = "CONFLICT"
"""Of a radiograph under whose UID other bytes were received too."""
UNDECIDED_FLAG = "UNDECIDED"
"""Of a radiograph whose answer is undecided between two neighbouring grades of a knee."""


class IntakeOutcome(StrEnum):
    """What a received object turned out to be."""

    NEW = "NEW"
    KNOWN = "KNOWN"
    """The same UID with the same bytes: acknowledged again, not graded again."""
    CONFLICT = "CONFLICT"
    """A known UID with other bytes: stored beside the first, flagged, never graded."""
    OWN = "OWN"
    """One of Genu's own results, routed back."""


@dataclass(frozen=True)
class Entry:
    """A radiograph in the ledger, with the reading of its current answer."""

    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    sha256: str
    size: int
    calling_ae_title: str
    calling_host: str
    received_at: datetime
    state: State
    reason: str | None
    """Code of node.reasons."""
    detail: str
    attempts: int
    lease_until: datetime | None
    worker: str | None
    changed_at: datetime
    flags: tuple[str, ...]
    reading: dict[str, Any] | None
    """Reading.as_json() of the current answer; None before the first."""


@dataclass(frozen=True)
class ResultObject:
    """An object that Genu made; its bytes are the file `file` in the results folder of the source (node.storage)."""

    kind: ObjectKind
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    file: str
    sha256: str


@dataclass(frozen=True)
class Delivery:
    """One result object to be sent to one destination."""

    id: int
    source_uid: str
    destination: str
    object: ResultObject
    attempts: int
    due_at: datetime
    state: DeliveryState
    last_error: str


@dataclass(frozen=True)
class Answer:
    """The reading of a radiograph by one model, or its refusal. Answers are added, never changed."""

    at: datetime
    state: State
    reason: str | None
    model_name: str | None
    model_version: str | None
    model_sha256: str | None
    reading: dict[str, Any]


@dataclass(frozen=True)
class ModelUse:
    """How many answers one model gave, and from when to when."""

    name: str
    version: str
    sha256: str
    answers: int
    first_at: datetime
    last_at: datetime


@dataclass(frozen=True)
class CardState:
    """A model card at the time of a promotion; `sha256` is of its file, calibration included."""

    card: str
    sha256: str
    model: ModelIdentity


@dataclass(frozen=True)
class ModelChange:
    """
    This model is active from `at`: it was promoted, or rolled back to.

    "shipped" is the first change of all, recorded with the first promotion: the model that was active until then.
    """

    at: datetime
    what: ChangeKind
    card: str
    card_sha256: str
    model: ModelIdentity
    by: str


@dataclass(frozen=True)
class ShadowReading:
    """The reading of a radiograph by a shadow model, beside the answer of the active one. It is never sent."""

    at: datetime
    card: str
    model: ModelIdentity | None
    """None if the model could not be loaded."""
    reading: dict[str, Any] | None
    """As Reading.as_json(); None if it failed: `fault` is why."""
    fault: str


@dataclass(frozen=True)
class PairedReadings:
    """The readings of one radiograph by two models: the knees of each."""

    source_uid: str
    first: list[dict[str, Any]]
    second: list[dict[str, Any]]


@dataclass(frozen=True)
class Conflict:
    """Another object that was received under the UID of a radiograph."""

    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    sha256: str
    size: int
    calling_ae_title: str
    calling_host: str
    received_at: datetime


@dataclass(frozen=True)
class JournalLine:
    """An event in the journal of a radiograph."""

    at: datetime
    what: str
    detail: str
    by: str


@dataclass(frozen=True)
class Heartbeat:
    """The last heartbeat of a process, at `seen_at`. `process` is its kind, such as "receive" or "work"."""

    process: str
    name: str
    seen_at: datetime
    detail: dict[str, Any]


class PendingDeliveries(NamedTuple):
    """The waiting deliveries of one destination, counted."""

    destination: str
    count: int  # type: ignore[assignment]  # hides tuple.count, which is not needed
    oldest_at: datetime
    last_error: str
