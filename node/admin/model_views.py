"""Which models the workers have loaded, for answers and in shadow, as they report it; and what shadow models graded."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from node.finding import Finding, ModelIdentity
from node.ledger import Heartbeat, ModelChange, ShadowReading
from node.settings import Work

HEARTBEAT_PREFIXES = {"answers": "", "shadow": "shadow_"}
"""Role of a model -> prefix of its keys in a worker's heartbeat."""


@dataclass(frozen=True)
class LoadedModel:
    """A model, its role ("answers" or "shadow"), and how many workers have loaded it in that role."""

    role: str
    model: ModelIdentity
    workers: int
    source: str
    """What selected it: a setting, a promotion, or the release ("shipped")."""
    outdated: bool
    """Another model was promoted, and these workers have not loaded it."""


@dataclass(frozen=True)
class ShadowComparison:
    """The findings of a shadow model on the knees of one radiograph, or why it has none."""

    name: str
    knees: tuple[Finding, ...]
    error: str


def live_workers(beats: Sequence[Heartbeat], now: datetime, silent_after: timedelta) -> list[Heartbeat]:
    """The heartbeats of workers that are at most `silent_after` old."""
    return [beat for beat in beats if beat.process == "work" and now - beat.seen_at <= silent_after]


def loaded_models(workers: Sequence[Heartbeat], change: ModelChange | None, work: Work) -> list[LoadedModel]:
    """Every model that some worker has loaded: those that answer first."""
    counts: dict[tuple[str, ModelIdentity], int] = {}
    for beat in workers:
        for role in HEARTBEAT_PREFIXES:
            model = model_of(beat, role)
            if model:
                counts[role, model] = counts.get((role, model), 0) + 1
    expected = change.model if change and not work.model else None
    return [
        LoadedModel(
            role,
            model,
            count,
            _source(model, change, work) if role == "answers" else "[work] shadow",
            role == "answers" and expected is not None and model != expected,
        )
        for (role, model), count in sorted(counts.items(), key=lambda entry: entry[0][0])
    ]


def _source(model: ModelIdentity, change: ModelChange | None, work: Work) -> str:
    if work.model:
        return "[work] model"
    if change is None:
        return "shipped"
    return f"{change.what} by {change.by}" if change.model == model else "not yet replaced by the promoted model"


def model_of(beat: Heartbeat, role: str) -> ModelIdentity | None:
    """The model that a worker reports in that role."""
    prefix = HEARTBEAT_PREFIXES[role]
    name, version, sha256 = (str(beat.detail.get(prefix + key) or "") for key in ("model", "version", "sha256"))
    return ModelIdentity(name, version, sha256) if name else None


def model_errors(workers: Sequence[Heartbeat]) -> list[tuple[str, str]]:
    """Why a model cannot be used, without duplicates: (role, message)."""
    errors = [
        (role, str(beat.detail.get(f"{prefix}trouble") or ""))
        for beat in workers
        for role, prefix in HEARTBEAT_PREFIXES.items()
    ]
    return sorted({(role, message) for role, message in errors if message})


def shadow_comparisons(readings: Sequence[ShadowReading]) -> list[ShadowComparison]:
    """The shadow readings of a radiograph; one that this version of Genu cannot parse has an error instead of knees."""
    comparisons = []
    for shadow in readings:
        name = f"{shadow.model.name} {shadow.model.version}" if shadow.model else shadow.card
        try:
            knees = tuple(Finding.from_json(knee) for knee in (shadow.reading or {}).get("knees", ()))
            error = shadow.fault
        except (KeyError, ValueError, TypeError, AttributeError, IndexError):
            knees, error = (), "another version of Genu wrote this reading; this version cannot show it"
        comparisons.append(ShadowComparison(name, knees, error))
    return comparisons
