"""What the ledger says: plain data. All times are UTC and know it; nothing here is about a patient."""

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
"""On a radiograph whose UID also came with other bytes."""
UNDECIDED_FLAG = "UNDECIDED"
"""On a radiograph whose answer could not tell two neighbouring grades of a knee apart."""


class IntakeOutcome(StrEnum):
    """What an arriving object turned out to be."""

    NEW = "NEW"
    KNOWN = "KNOWN"
    """The same UID with the same bytes: acknowledged again, not graded again."""
    CONFLICT = "CONFLICT"
    """A known UID with other bytes: kept beside the first, flagged, never graded."""
    OWN = "OWN"
    """One of Genu's own results, routed back."""


@dataclass(frozen=True)
class Entry:
    """A radiograph as the ledger knows it."""

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
    """What was last said of it: Reading.as_json()."""


@dataclass(frozen=True)
class ResultObject:
    """A DICOM object that Genu made; its bytes are `file` in the vault's results of the source."""

    kind: ObjectKind
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    file: str
    sha256: str


@dataclass(frozen=True)
class Delivery:
    """One object that one destination shall get."""

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
    """What was once said of a radiograph, and which model said it. Answers are added, never changed."""

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
    """A card as it was when its model was made to answer; the hash is that of its file, calibration and all."""

    card: str
    sha256: str
    model: ModelIdentity


@dataclass(frozen=True)
class ModelChange:
    """
    From `at` on this model answers: it was promoted, or rolled back to.

    "shipped" is the first of all, written with the first promotion: what had answered until then.
    """

    at: datetime
    what: ChangeKind
    card: str
    card_sha256: str
    model: ModelIdentity
    by: str


@dataclass(frozen=True)
class ShadowReading:
    """What a model that runs in shadow said of a radiograph that another had answered. It is never sent."""

    at: datetime
    card: str
    model: ModelIdentity | None
    """None if the model could not even be loaded."""
    reading: dict[str, Any] | None
    """As Reading.as_json(); None if it came to nothing, and `fault` says why."""
    fault: str


@dataclass(frozen=True)
class PairedReadings:
    """What two models said of the same knees of one radiograph: the knees of their readings."""

    source_uid: str
    first: list[dict[str, Any]]
    second: list[dict[str, Any]]


@dataclass(frozen=True)
class Conflict:
    """Other bytes under a UID that was taken."""

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
    """Something that happened to a radiograph."""

    at: datetime
    what: str
    detail: str
    by: str


@dataclass(frozen=True)
class Heartbeat:
    """A part of the node that lived at `seen_at`."""

    process: str
    name: str
    seen_at: datetime
    detail: dict[str, Any]


class PendingDeliveries(NamedTuple):
    """What one destination has still to get."""

    destination: str
    count: int  # type: ignore[assignment]  # it hides tuple.count, which nobody wants
    oldest_at: datetime
    last_error: str
