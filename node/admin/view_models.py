"""What the pages show, as plain data: everything that needs a decision is decided here, not in a template."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from pydicom.uid import UID

from node.finding import Finding, Laterality, Reading
from node.ledger import Beat, Entry, State, Waiting
from node.ledger.records import CONFLICT_FLAG, UNDECIDED_FLAG
from node.reasons import FLAGS as KNEE_FLAGS
from node.reasons import REASONS, Reason
from node.settings import Destination

STATES: Mapping[State, tuple[str, str]] = {
    State.RECEIVED: ("Received", "kept and acknowledged; waits for a worker"),
    State.GRADING: ("Grading", "a worker has it"),
    State.REPORTED: ("Reported", "graded; results wait to be delivered"),
    State.DELIVERED: ("Delivered", "every destination answered that it has the results"),
    State.CONFIRMED: ("Confirmed", "the destination proved that it keeps the results"),
    State.NOT_ANALYSED: ("Not analysed", "no grade, for a reason that is shown"),
    State.FAILED: ("Failed", "something broke; a person can ask again"),
}
"""The states in the order of the journey: what the page calls each, and what it means."""

UNFINISHED = (State.RECEIVED, State.GRADING, State.REPORTED)

FLAGS = {
    CONFLICT_FLAG: "Another object came with the same UID and other content. It is kept apart and was not graded.",
    UNDECIDED_FLAG: "Two neighbouring grades of a knee could not be told apart: look for yourself.",
    **{flag.code: f"{flag.meaning}. {flag.advice}" for flag in KNEE_FLAGS.values()},
}
"""What the flags of a radiograph mean."""

RED = frozenset(flag.code for flag in KNEE_FLAGS.values() if flag.red)
"""Of them, those that are grave."""

GRADES = {
    0: "no sign of osteoarthritis",
    1: "doubtful: possible osteophytic lipping",
    2: "minimal: definite osteophytes, possible narrowing",
    3: "moderate: osteophytes, definite narrowing",
    4: "severe: large osteophytes, marked narrowing",
}
"""What the grades mean, in a line (Kellgren & Lawrence 1957)."""

SIDES = {Laterality.RIGHT: "Right", Laterality.LEFT: "Left", Laterality.UNKNOWN: "Side unknown"}
SOURCES = {
    "ImageLaterality": "Image Laterality of the header",
    "Laterality": "Laterality of the header",
    "AnatomicRegionSequence": "the header's anatomic region",
    "FrameLaterality": "Frame Laterality of the header",
    "SeriesDescription": "Series Description of the header",
    "ProtocolName": "Protocol Name of the header",
    "marker": "the marker on the film",
    "position": "its place on the film",
    "image": "the image itself",
    "none": "nothing on the film or in the header",
}
PATIENT = (
    ("name", "Name"),
    ("id", "Patient ID"),
    ("birth_date", "Born"),
    ("study_date", "Study date"),
    ("description", "Study"),
)
"""The keys of patient.json that are shown, and their names."""

REFRESH = timedelta(seconds=4)


@dataclass(frozen=True)
class Tile:
    """One state on top of the page: how many, and since when the oldest of them waits."""

    state: State
    name: str
    meaning: str
    count: int
    oldest: datetime | None
    waits: bool
    """Whether something has still to happen, so that age matters."""


@dataclass(frozen=True)
class Row:
    """One line of the list."""

    entry: Entry
    grades: tuple[Finding, ...]
    reason: Reason | None


@dataclass(frozen=True)
class Bar:
    grade: int
    percent: float
    chosen: bool
    kept: bool
    """Whether the grade belongs to the set of those that could not be ruled out."""


@dataclass(frozen=True)
class Knee:
    """One knee of the reading."""

    finding: Finding
    bars: list[Bar]


@dataclass(frozen=True)
class Outlet:
    """A destination, whether it answers, and what waits for it."""

    name: str
    address: str
    """Empty if the settings do not name it any more."""
    objects: str
    waiting: Waiting | None
    down_since: datetime | None
    next_try: datetime | None
    error: str
    heard: str
    """In front of "nothing waits": whether it answered when something was last sent."""

    @property
    def light(self) -> str:
        if self.down_since or self.error:
            return "bad"
        if self.waiting:
            return "warn"
        return "good" if self.heard.startswith("answered") else ""


@dataclass(frozen=True)
class Part:
    """One process of the node and when it was last heard of."""

    part: str
    name: str
    seen_at: datetime
    silent: bool


def tiles(counts: Mapping[State, int], oldest: Mapping[State, datetime]) -> list[Tile]:
    return [
        Tile(state, name, meaning, counts.get(state, 0), oldest.get(state), state in UNFINISHED)
        for state, (name, meaning) in STATES.items()
    ]


def row(entry: Entry) -> Row:
    reading = reading_of(entry)
    return Row(entry, reading.knees if reading else (), reason_of(entry.reason))


def destinations(settings: Sequence[Destination], waiting: Sequence[Waiting], beats: Sequence[Beat]) -> list[Outlet]:
    """Every destination of the settings, and those that something still waits for though they have left."""
    waits = {one.destination: one for one in waiting}
    details = {beat.name: beat.detail for beat in beats if beat.part == "deliver"}
    known = {one.name: one for one in settings}
    told = []
    for name in [*known, *sorted(waits.keys() - known.keys())]:
        one, detail, waits_for_it = known.get(name), details.get(name, {}), waits.get(name)
        told.append(
            Outlet(
                name=name,
                address=one.address if one else "",
                objects=" + ".join(one.objects) if one else "",
                waiting=waits_for_it,
                down_since=moment(detail.get("since")) if detail.get("state") == "down" else None,
                next_try=moment(detail.get("next_try")),
                error=waits_for_it.last_error if waits_for_it else "",
                heard={"up": "answered last time, ", "down": ""}.get(str(detail.get("state")), "not called yet, "),
            )
        )
    return told


def moment(text: object) -> datetime | None:
    """The time that an ISO 8601 text with a time zone says; None for anything else."""
    try:
        found = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return found if found.tzinfo is not None else None


def knees(reading: Reading | None) -> list[Knee]:
    return [Knee(finding, bars(finding)) for finding in reading.knees] if reading else []


def parts(beats: Sequence[Beat], now: datetime, silent_after: timedelta) -> list[Part]:
    """Every process heard of in the last day, by the order of the journey."""
    order = {name: place for place, name in enumerate(("receive", "work", "deliver", "sweep", "admin"))}
    told = [
        Part(beat.part, beat.name, beat.seen_at, now - beat.seen_at > silent_after)
        for beat in beats
        if now - beat.seen_at < timedelta(days=1)
    ]
    return sorted(told, key=lambda part: (order.get(part.part, 9), part.name))


def reading_of(entry: Entry) -> Reading | None:
    """The reading in the ledger; None also when another version of Genu wrote one that this one cannot read."""
    if entry.reading is None:
        return None
    try:
        return Reading.from_json(entry.reading)
    except (KeyError, ValueError, TypeError, AttributeError, IndexError):
        return None


def name_of(uid: str) -> str:
    """What the standard calls the UID; the UID itself if it has no name."""
    return UID(uid).name


def reason_of(code: str | None) -> Reason | None:
    if code is None:
        return None
    return REASONS.get(code, Reason(code, "A reason that this version of Genu does not know", "Update Genu."))


def bars(knee: Finding) -> list[Bar]:
    """The probability of each grade, as a bar."""
    sure = knee.certainty
    return [
        Bar(
            grade,
            100 * min(1.0, max(0.0, probability)),
            chosen=grade == knee.grade,
            kept=sure is not None and sure.lowest <= grade <= sure.highest,
        )
        for grade, probability in enumerate(knee.probabilities or ())
    ]


def patient(content: bytes | None) -> list[tuple[str, str]] | None:
    """Who was examined, as (name, value); None when nothing is known. Values are as hostile as their sender."""
    if content is None:
        return None
    try:
        told: Any = json.loads(content)
    except ValueError:
        return None
    if not isinstance(told, dict):
        return None
    return [(name, _readable(key, str(told.get(key) or ""))) for key, name in PATIENT]


def _readable(key: str, value: str) -> str:
    if key == "name":
        groups = [", ".join(part for part in group.split("^") if part.strip()) for group in value.split("=")]
        return " · ".join(group for group in groups if group)  # PS3.5 section 6.2, PN: up to three groups
    if key.endswith("_date") and len(value) == 8 and value.isdigit():
        return f"{value[:4]}-{value[4:6]}-{value[6:]}"
    return value


def age(since: datetime | None, now: datetime | None = None) -> str:
    """How long ago, in the largest unit that says it: 8 s, 12 min, 3 h, 5 d."""
    if since is None:
        return ""
    seconds = max(0, int(((now or datetime.now(UTC)) - since).total_seconds()))
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size or (unit == "min" and seconds >= size):
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def stamp(when: datetime) -> str:
    return when.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def size(megabytes: float) -> str:
    return f"{megabytes / 1024:.1f} GiB" if megabytes >= 1024 else f"{megabytes:.0f} MiB"
