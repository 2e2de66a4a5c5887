"""Which model answers and which runs in shadow, as the workers say it themselves; and what a shadow said."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from node.finding import Finding, ModelIdentity
from node.ledger import Beat, ModelChange, ShadowReading
from node.settings import Work

PREFIXES = {"answers": "", "shadow": "shadow_"}
"""What a worker's heartbeat puts before its words on the model of each role."""


@dataclass(frozen=True)
class Serving:
    """A model, its role ("answers" or "shadow"), and how many workers have it so."""

    role: str
    model: ModelIdentity
    workers: int
    source: str
    """Whose word it is that it answers."""
    behind: bool
    """Another one was promoted, and these workers have not taken it up."""


@dataclass(frozen=True)
class Beside:
    """What a model in shadow said of the knees of one radiograph, or why it said nothing."""

    name: str
    knees: tuple[Finding, ...]
    fault: str


def live(beats: Sequence[Beat], now: datetime, silent_after: timedelta) -> list[Beat]:
    """The workers that were heard of lately."""
    return [beat for beat in beats if beat.part == "work" and now - beat.seen_at <= silent_after]


def serving(workers: Sequence[Beat], change: ModelChange | None, work: Work) -> list[Serving]:
    """Every model that some worker has loaded: those that answer first."""
    counted: dict[tuple[str, ModelIdentity], int] = {}
    for beat in workers:
        for role in PREFIXES:
            model = model_of(beat, role)
            if model:
                counted[role, model] = counted.get((role, model), 0) + 1
    expected = change.model if change and not work.model else None
    return [
        Serving(
            role,
            model,
            count,
            _source(model, change, work) if role == "answers" else "[work] shadow",
            role == "answers" and expected is not None and model != expected,
        )
        for (role, model), count in sorted(counted.items(), key=lambda each: each[0][0])
    ]


def _source(model: ModelIdentity, change: ModelChange | None, work: Work) -> str:
    if work.model:
        return "[work] model"
    if change is None:
        return "shipped"
    return f"{change.what} by {change.by}" if change.model == model else "not taken over from yet"


def model_of(beat: Beat, role: str) -> ModelIdentity | None:
    """The model that a worker says it has in that role."""
    prefix = PREFIXES[role]
    name, version, sha256 = (str(beat.detail.get(prefix + key) or "") for key in ("model", "version", "sha256"))
    return ModelIdentity(name, version, sha256) if name else None


def troubles(workers: Sequence[Beat]) -> list[tuple[str, str]]:
    """What keeps a model from its work, each once: (role, words)."""
    found = [(role, str(beat.detail.get(f"{PREFIXES[role]}trouble") or "")) for beat in workers for role in PREFIXES]
    return sorted({(role, told) for role, told in found if told})


def beside(said: Sequence[ShadowReading]) -> list[Beside]:
    """What was said in shadow, for the page; a reading of another version of Genu is said to be one."""
    told = []
    for each in said:
        name = f"{each.model.name} {each.model.version}" if each.model else each.card
        try:
            knees = tuple(Finding.from_json(knee) for knee in (each.reading or {}).get("knees", ()))
            fault = each.fault
        except (KeyError, ValueError, TypeError, AttributeError, IndexError):
            knees, fault = (), "another version of Genu wrote this reading; this one cannot show it"
        told.append(Beside(name, knees, fault))
    return told
