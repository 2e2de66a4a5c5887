"""Every card there is, as a table and in full: what it is, what it does here, and whether it can be used."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from node.errors import SettingsError
from node.ledger import Ledger, ModelUse
from node.settings import Settings
from workers.models.active_model import changed, existing_ledger, wanted
from workers.models.registry import (
    ARTEFACTS,
    DETECTOR,
    LEAD_MARKERS,
    ORIENTATION,
    REFINER,
    Card,
    folders,
    names,
    read_card,
    verified,
)

Figure = Mapping[str, float]
"""A figure of a card: value, low, high."""


@dataclass(frozen=True)
class Listed:
    """One card. `role`: answers, shadow, finds, tells, available or unusable; `fault` says why it cannot be used."""

    card: str
    role: str
    fault: str = ""
    name: str = ""
    version: str = ""
    kind: str = ""
    sha256: str = ""
    engine: str = ""
    accuracy: Figure | None = None
    qwk: Figure | None = None
    answered: int = 0
    answered_since: datetime | None = None
    answered_last: datetime | None = None
    shadowed: int = 0

    def as_json(self) -> dict[str, Any]:
        told = asdict(self)
        for key in ("answered_since", "answered_last"):
            told[key] = told[key].isoformat(timespec="seconds") if told[key] else None
        return told


def listed(settings: Settings) -> list[Listed]:
    """Every card, shipped or the site's own. No ledger is made by asking for what it knows."""
    with existing_ledger(settings) as ledger:
        asked = wanted(settings, ledger)
        answers, shadows = (ledger.model_uses(), ledger.shadow_model_uses()) if ledger else ([], [])
    roles = {DETECTOR: "finds", REFINER: "looks", ORIENTATION: "tells", ARTEFACTS: "names", LEAD_MARKERS: "reads"}
    roles |= {settings.work.shadow: "shadow", asked.card: "answers"}
    told = []
    for stem in names(folders(settings)):
        role = roles.get(stem, "available")
        try:
            card = read_card(stem, folders(settings))
        except SettingsError as error:
            told.append(Listed(stem, "unusable", str(error)))
            continue
        fault = _fault(card, settings)
        change = changed(card, asked) if role == "answers" else ""
        if change:
            fault = fault or f"it {change}"
        told.append(_listed(card, "unusable" if fault else role, fault, answers, shadows))
    return told


def _fault(card: Card, settings: Settings) -> str:
    try:
        verified(card, settings.work.engine, folders(settings))
    except SettingsError as error:
        return str(error)
    return ""


def _listed(card: Card, role: str, fault: str, answers: Sequence[ModelUse], shadows: Sequence[ModelUse]) -> Listed:
    answered, shadowed = _use(card, answers), _use(card, shadows)
    return Listed(
        card.stem,
        role,
        fault,
        card.name,
        card.version,
        card.kind,
        card.weights_sha256,
        card.engine,
        _figure(card, "accuracy"),
        _figure(card, "qwk"),
        answered.answers if answered else 0,
        answered.first_at if answered else None,
        answered.last_at if answered else None,
        shadowed.answers if shadowed else 0,
    )


def _use(card: Card, uses: Sequence[ModelUse]) -> ModelUse | None:
    mine = (card.name, card.version, card.weights_sha256)
    return next((use for use in uses if (use.name, use.version, use.sha256) == mine), None)


def _figure(card: Card, name: str) -> Figure | None:
    found: Any = card.told
    for key in ("metrics", "val", name):
        found = found.get(key) if isinstance(found, dict) else None
    return found if _is_figure(found) else None


def _is_figure(told: object) -> bool:
    ends = ("value", "low", "high")
    return isinstance(told, dict) and all(isinstance(told.get(end), int | float) for end in ends)


def readable(within: Sequence[Path]) -> Iterator[Card]:
    """Every card that can be read, whatever is the matter with the others."""
    for stem in names(within):
        with suppress(SettingsError):
            yield read_card(stem, within)


def table(told: Sequence[Listed]) -> str:
    """The list for people, and under each card that cannot be used why."""
    head = ("card", "model", "kind", "weights", "engine", "role", "val accuracy", "val kappa", "answered")
    rows: list[tuple[str, ...]] = [head, *(_row(each) for each in told)]
    wide = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, wide, strict=True)).rstrip() for row in rows]
    for place, each in reversed(list(enumerate(told, start=1))):
        if each.fault:
            lines.insert(place + 1, f"    {each.fault}")
    return "\n".join(lines)


def _row(each: Listed) -> tuple[str, ...]:
    model = f"{each.name} {each.version}".strip() or "-"
    since = f" since {each.answered_since:%Y-%m-%d}" if each.answered_since else ""
    films = f"{each.answered} films{since}" if each.answered else "none"
    shadow = f", {each.shadowed} in shadow" if each.shadowed else ""
    accuracy = f"{each.accuracy['value']:.3f}" if each.accuracy else "-"
    kappa = interval(each.qwk) if each.qwk else "-"
    kind, weights, engine = each.kind or "-", each.sha256[:12] or "-", each.engine or "-"
    return (each.card, model, kind, weights, engine, each.role, accuracy, kappa, films + shadow)


def interval(figure: Figure) -> str:
    return f"{figure['value']:.3f} ({figure['low']:.3f} to {figure['high']:.3f})"


def in_full(card: Card, home: Path | None) -> str:
    """The whole card for people; `home` is where its files lie, None where they are not what it says."""
    use, data = card.told.get("use", {}), card.told.get("data", {})
    lines = [f"{card.name} {card.version}", "", *_told("Card", f"{card.stem}, a {card.kind}")]
    lines += _told("Intended use", use.get("intended")) + _told("Not for", use.get("not_for"))
    lines += _told("Known failures", *use.get("known_failures", ()))
    lines += _told("Training data", data.get("attribution")) + _told("Split", data.get("split"))
    lines += _told("Begun from", data.get("start"))
    lines += _told("Network", f"{card.architecture}, input of {card.input_size} pixels")
    lines += _told("Preparation", f"version {card.told['preparation']}") + _told("Layer", card.told.get("layer"))
    lines += _told("Engine", card.engine)
    lines += _told("Files", *(f"{file.name}  sha256 {file.sha256}" for file in (*card.weights, card.graph)))
    lines += _told("Verified", f"just now: the files in {home} are those that the card describes" if home else "NO")
    if len(card.weights) > 1:
        lines += _told("Weights as one", f"sha256 {card.weights_sha256}")
    for split, figures in card.told.get("metrics", {}).items():
        lines += _told(f"On {split}", f"{figures['n']} knees" if "n" in figures else None, *_figures(figures))
    return "\n".join(lines)


def _told(name: str, *values: str | None) -> list[str]:
    """One thing of a card, its name in front; nothing where the card does not say it."""
    shown = [value for value in values if value]
    return [f"{name if place == 0 else '':16}{value}" for place, value in enumerate(shown)]


def _figures(figures: Mapping[str, Any]) -> Iterator[str]:
    for key, figure in figures.items():
        each = figure if isinstance(figure, list) else [figure]
        for grade, one in enumerate(each):
            if _is_figure(one):
                of = f" of KL {grade}" if isinstance(figure, list) else ""
                yield f"{key.replace('_', ' ') + of:24}{interval(one)}"


def uses_of(ledger: Ledger | None) -> list[dict[str, Any]]:
    """Which model answered how many films, and from when to when."""
    return [
        {
            "name": use.name,
            "version": use.version,
            "sha256": use.sha256,
            "films": use.answers,
            "since": use.first_at.isoformat(timespec="seconds"),
            "until": use.last_at.isoformat(timespec="seconds"),
        }
        for use in (ledger.model_uses() if ledger else [])
    ]
