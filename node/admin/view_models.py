"""View models: what the pages show, as plain data. Decisions are made here, not in the templates."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from pydicom.uid import UID

from node.finding import Finding, Laterality, Reading
from node.ledger import Entry, Heartbeat, PendingDeliveries, State
from node.ledger.records import CONFLICT_FLAG, UNDECIDED_FLAG
from node.reasons import FLAGS as KNEE_FLAGS
from node.reasons import REASONS, Reason
from node.settings import Destination

STATE_TEXTS: Mapping[State, tuple[str, str]] = {
    State.RECEIVED: ("Received", "stored and acknowledged; waiting for a worker"),
    State.GRADING: ("Grading", "a worker is processing it"),
    State.REPORTED: ("Reported", "graded; the results are waiting for delivery"),
    State.DELIVERED: ("Delivered", "every destination acknowledged the results"),
    State.CONFIRMED: ("Confirmed", "the destination confirmed that it stored the results"),
    State.NOT_ANALYSED: ("Not analysed", "not graded; the reason is shown"),
    State.FAILED: ("Failed", "an error occurred; a person can try again"),
}
"""The states in the order of processing: name on the page, and meaning."""

UNFINISHED = (State.RECEIVED, State.GRADING, State.REPORTED)

FLAG_MEANINGS = {
    CONFLICT_FLAG: (
        "Another object with the same UID and different content was received. "
        "It is stored separately and was not graded."
    ),
    UNDECIDED_FLAG: "Two neighbouring grades of a knee could not be told apart: review the image yourself.",
    **{flag.code: f"{flag.meaning}. {flag.advice}" for flag in KNEE_FLAGS.values()},
}
"""Flag of a radiograph -> its meaning, and advice."""

RED_FLAGS = frozenset(flag.code for flag in KNEE_FLAGS.values() if flag.red)
"""The flags that are shown in red."""

GRADE_MEANINGS = {
    0: "no sign of osteoarthritis",
    1: "doubtful: possible osteophytic lipping",
    2: "minimal: definite osteophytes, possible narrowing",
    3: "moderate: osteophytes, definite narrowing",
    4: "severe: large osteophytes, marked narrowing",
}
"""The meaning of each grade (Kellgren & Lawrence 1957)."""

LATERALITY_NAMES = {Laterality.RIGHT: "Right", Laterality.LEFT: "Left", Laterality.UNKNOWN: "Side unknown"}
PATIENT_FIELDS = (
    ("name", "Name"),
    ("id", "Patient ID"),
    ("birth_date", "Born"),
    ("study_date", "Study date"),
    ("description", "Study"),
)
"""The keys of patient.json that are shown, and their labels."""

REFRESH_INTERVAL = timedelta(seconds=4)


@dataclass(frozen=True)
class StateTile:
    """One state at the top of the page: how many radiographs are in it, and since when the oldest."""

    state: State
    name: str
    meaning: str
    count: int
    oldest: datetime | None
    unfinished: bool
    """Whether processing has still to go on, so that age matters."""


@dataclass(frozen=True)
class RadiographRow:
    """One row of the list."""

    entry: Entry
    grades: tuple[Finding, ...]
    reason: Reason | None


@dataclass(frozen=True)
class ProbabilityBar:
    """The probability of one grade."""

    grade: int
    percent: float
    predicted: bool
    in_prediction_set: bool
    """Whether the grade could not be ruled out."""


@dataclass(frozen=True)
class KneeView:
    """One knee of the reading, with a bar for each grade."""

    finding: Finding
    bars: list[ProbabilityBar]


@dataclass(frozen=True)
class DestinationView:
    """A destination, whether it answers, and what waits for it."""

    name: str
    address: str
    """Empty if it is no longer in the settings."""
    objects: str
    waiting: PendingDeliveries | None
    down_since: datetime | None
    next_try: datetime | None
    error: str
    last_contact: str
    """Prefix of "nothing waits": whether it answered when something was last sent."""

    @property
    def css_class(self) -> str:
        if self.down_since or self.error:
            return "bad"
        if self.waiting:
            return "warn"
        return "good" if self.last_contact.startswith("answered") else ""


@dataclass(frozen=True)
class ProcessView:
    """One process of the node and the time of its last heartbeat."""

    process: str
    """receive, work, deliver, sweep or admin."""
    name: str
    """Of this instance of the process."""
    seen_at: datetime
    silent: bool


def state_tiles(counts: Mapping[State, int], oldest: Mapping[State, datetime]) -> list[StateTile]:
    return [
        StateTile(state, name, meaning, counts.get(state, 0), oldest.get(state), state in UNFINISHED)
        for state, (name, meaning) in STATE_TEXTS.items()
    ]


def radiograph_row(entry: Entry) -> RadiographRow:
    reading = reading_of(entry)
    return RadiographRow(entry, reading.knees if reading else (), reason_of(entry.reason))


def destination_views(
    settings: Sequence[Destination], waiting: Sequence[PendingDeliveries], beats: Sequence[Heartbeat]
) -> list[DestinationView]:
    """Every destination of the settings, and those that were removed from them while something still waits for them."""
    queues = {queue.destination: queue for queue in waiting}
    details = {beat.name: beat.detail for beat in beats if beat.process == "deliver"}
    configured = {destination.name: destination for destination in settings}
    views = []
    for name in [*configured, *sorted(queues.keys() - configured.keys())]:
        destination, detail, queue = configured.get(name), details.get(name, {}), queues.get(name)
        views.append(
            DestinationView(
                name=name,
                address=destination.address if destination else "",
                objects=" + ".join(destination.objects) if destination else "",
                waiting=queue,
                down_since=parse_time(detail.get("since")) if detail.get("state") == "down" else None,
                next_try=parse_time(detail.get("next_try")),
                error=queue.last_error if queue else "",
                last_contact={"up": "answered last time, ", "down": ""}.get(
                    str(detail.get("state")), "not contacted yet, "
                ),
            )
        )
    return views


def parse_time(text: object) -> datetime | None:
    """The time in an ISO 8601 text with a time zone; None for anything else."""
    try:
        time = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return time if time.tzinfo is not None else None


def knee_views(reading: Reading | None) -> list[KneeView]:
    return [KneeView(finding, probability_bars(finding)) for finding in reading.knees] if reading else []


def process_views(beats: Sequence[Heartbeat], now: datetime, silent_after: timedelta) -> list[ProcessView]:
    """Every process with a heartbeat in the last day, in the order of processing."""
    order = {name: place for place, name in enumerate(("receive", "work", "deliver", "sweep", "admin"))}
    views = [
        ProcessView(beat.process, beat.name, beat.seen_at, now - beat.seen_at > silent_after)
        for beat in beats
        if now - beat.seen_at < timedelta(days=1)
    ]
    return sorted(views, key=lambda view: (order.get(view.process, 9), view.name))


def reading_of(entry: Entry) -> Reading | None:
    """The reading in the ledger; None also when another version of Genu wrote one that this version cannot parse."""
    if entry.reading is None:
        return None
    try:
        return Reading.from_json(entry.reading)
    except (KeyError, ValueError, TypeError, AttributeError, IndexError):
        return None


def uid_name(uid: str) -> str:
    """The name of the UID in PS3.6; the UID itself if it has no name."""
    return UID(uid).name


def reason_of(code: str | None) -> Reason | None:
    """The reason of the code, with its meaning and advice; None without a code."""
    if code is None:
        return None
    return REASONS.get(code, Reason(code, "A reason that this version of Genu does not know", "Update Genu."))


def probability_bars(knee: Finding) -> list[ProbabilityBar]:
    certainty = knee.certainty
    return [
        ProbabilityBar(
            grade,
            100 * min(1.0, max(0.0, probability)),
            predicted=grade == knee.grade,
            in_prediction_set=certainty is not None and certainty.lowest <= grade <= certainty.highest,
        )
        for grade, probability in enumerate(knee.probabilities or ())
    ]


def patient_fields(content: bytes | None) -> list[tuple[str, str]] | None:
    """The patient in patient.json, as (label, value); None when nothing is known. The values are untrusted input."""
    if content is None:
        return None
    try:
        patient: Any = json.loads(content)
    except ValueError:
        return None
    if not isinstance(patient, dict):
        return None
    return [(label, _formatted(key, str(patient.get(key) or ""))) for key, label in PATIENT_FIELDS]


def _formatted(key: str, value: str) -> str:
    if key == "name":
        groups = [", ".join(part for part in group.split("^") if part.strip()) for group in value.split("=")]
        return " · ".join(group for group in groups if group)  # PS3.5 section 6.2, PN: up to three groups
    if key.endswith("_date") and len(value) == 8 and value.isdigit():
        return f"{value[:4]}-{value[4:6]}-{value[6:]}"
    return value


def age(since: datetime | None, now: datetime | None = None) -> str:
    """How long ago, in the largest suitable unit: 8 s, 12 min, 3 h, 5 d."""
    if since is None:
        return ""
    seconds = max(0, int(((now or datetime.now(UTC)) - since).total_seconds()))
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size or (unit == "min" and seconds >= size):
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def timestamp(when: datetime) -> str:
    return when.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def size(megabytes: float) -> str:
    return f"{megabytes / 1024:.1f} GiB" if megabytes >= 1024 else f"{megabytes:.0f} MiB"
