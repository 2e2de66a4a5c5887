"""The list of model cards, as a table and in full: what each is, its role here, and whether it can be used."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from node.errors import SettingsError
from node.ledger import Ledger, ModelUse
from node.settings import Settings
from workers.models.active_model import change_since_promotion, existing_ledger, requested_model
from workers.models.registry import (
    ARTEFACTS,
    DETECTOR,
    LEAD_MARKERS,
    ORIENTATION,
    REFINER,
    Card,
    card_names,
    folders,
    read_card,
    verified_folder,
)

ROLES = {DETECTOR: "finds", REFINER: "looks", ORIENTATION: "tells", ARTEFACTS: "names", LEAD_MARKERS: "reads"}
"""The `role`, in JSON, of the networks before the grader."""

Metric = Mapping[str, float]
"""A metric of a card with its 95 % interval: value, low, high."""


@dataclass(frozen=True)
class CardListing:
    """
    One card in the list.

    `role` is answers (the active model), shadow, finds, looks, tells, names or reads (the networks before the grader:
    ROLES), available or unusable. `fault` is why it cannot be used. `answered` and `shadowed` count films.
    """

    card: str
    role: str
    fault: str = ""
    name: str = ""
    version: str = ""
    kind: str = ""
    sha256: str = ""
    engine: str = ""
    accuracy: Metric | None = None
    qwk: Metric | None = None
    answered: int = 0
    answered_since: datetime | None = None
    answered_last: datetime | None = None
    shadowed: int = 0

    def as_json(self) -> dict[str, Any]:
        fields = asdict(self)
        for key in ("answered_since", "answered_last"):
            fields[key] = fields[key].isoformat(timespec="seconds") if fields[key] else None
        return fields


def card_listings(settings: Settings) -> list[CardListing]:
    """Every card, shipped or the site's own. Creates no ledger where there is none."""
    with existing_ledger(settings) as ledger:
        request = requested_model(settings, ledger)
        active_uses, shadow_uses = (ledger.model_uses(), ledger.shadow_model_uses()) if ledger else ([], [])
    roles = ROLES | {settings.work.shadow: "shadow", request.card: "answers"}
    listings = []
    for stem in card_names(folders(settings)):
        role = roles.get(stem, "available")
        try:
            card = read_card(stem, folders(settings))
        except SettingsError as error:
            listings.append(CardListing(stem, "unusable", str(error)))
            continue
        fault = _fault(card, settings)
        change = change_since_promotion(card, request) if role == "answers" else ""
        if change:
            fault = fault or f"it {change}"
        listings.append(_listing(card, "unusable" if fault else role, fault, active_uses, shadow_uses))
    return listings


def _fault(card: Card, settings: Settings) -> str:
    try:
        verified_folder(card, settings.work.engine, folders(settings))
    except SettingsError as error:
        return str(error)
    return ""


def _listing(
    card: Card, role: str, fault: str, active_uses: Sequence[ModelUse], shadow_uses: Sequence[ModelUse]
) -> CardListing:
    answered, shadowed = _use(card, active_uses), _use(card, shadow_uses)
    return CardListing(
        card.stem,
        role,
        fault,
        card.name,
        card.version,
        card.kind,
        card.weights_sha256,
        card.engine,
        _metric(card, "accuracy"),
        _metric(card, "qwk"),
        answered.answers if answered else 0,
        answered.first_at if answered else None,
        answered.last_at if answered else None,
        shadowed.answers if shadowed else 0,
    )


def _use(card: Card, uses: Sequence[ModelUse]) -> ModelUse | None:
    identity = (card.name, card.version, card.weights_sha256)
    return next((use for use in uses if (use.name, use.version, use.sha256) == identity), None)


def _metric(card: Card, name: str) -> Metric | None:
    """A metric of the card's [metrics.val]."""
    found: Any = card.contents
    for key in ("metrics", "val", name):
        found = found.get(key) if isinstance(found, dict) else None
    return found if _is_metric(found) else None


def _is_metric(value: object) -> bool:
    keys = ("value", "low", "high")
    return isinstance(value, dict) and all(isinstance(value.get(key), int | float) for key in keys)


def readable_cards(within: Sequence[Path]) -> Iterator[Card]:
    """Every card that can be read; the others are left out."""
    for stem in card_names(within):
        with suppress(SettingsError):
            yield read_card(stem, within)


def table(listings: Sequence[CardListing]) -> str:
    """The list as text; under each card that cannot be used is the reason."""
    head = ("card", "model", "kind", "weights", "engine", "role", "val accuracy", "val kappa", "answered")
    rows: list[tuple[str, ...]] = [head, *(_row(listing) for listing in listings)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    for number, listing in reversed(list(enumerate(listings, start=1))):
        if listing.fault:
            lines.insert(number + 1, f"    {listing.fault}")
    return "\n".join(lines)


def _row(listing: CardListing) -> tuple[str, ...]:
    model = f"{listing.name} {listing.version}".strip() or "-"
    since = f" since {listing.answered_since:%Y-%m-%d}" if listing.answered_since else ""
    films = f"{listing.answered} films{since}" if listing.answered else "none"
    shadow = f", {listing.shadowed} in shadow" if listing.shadowed else ""
    accuracy = f"{listing.accuracy['value']:.3f}" if listing.accuracy else "-"
    kappa = interval(listing.qwk) if listing.qwk else "-"
    kind, weights, engine = listing.kind or "-", listing.sha256[:12] or "-", listing.engine or "-"
    return (listing.card, model, kind, weights, engine, listing.role, accuracy, kappa, films + shadow)


def interval(metric: Metric) -> str:
    return f"{metric['value']:.3f} ({metric['low']:.3f} to {metric['high']:.3f})"


def card_as_text(card: Card, folder: Path | None) -> str:
    """The whole card as text; `folder` holds its verified files, None where they are not those of the card."""
    use, data = card.contents.get("use", {}), card.contents.get("data", {})
    lines = [f"{card.name} {card.version}", "", *_section("Card", f"{card.stem}, a {card.kind}")]
    lines += _section("Intended use", use.get("intended")) + _section("Not for", use.get("not_for"))
    lines += _section("Known failures", *use.get("known_failures", ()))
    lines += _section("Training data", data.get("attribution")) + _section("Split", data.get("split"))
    lines += _section("Started from", data.get("start"))
    lines += _section("Network", f"{card.architecture}, input of {card.input_size} pixels")
    lines += _section("Preparation", f"version {card.contents['preparation']}")
    lines += _section("Layer", card.contents.get("layer")) + _section("Engine", card.engine)
    lines += _section("Files", *(f"{file.name}  sha256 {file.sha256}" for file in (*card.weights, card.graph)))
    verified = f"just now: the files in {folder} are those that the card describes" if folder else "NO"
    lines += _section("Verified", verified)
    if len(card.weights) > 1:
        lines += _section("Weights as one", f"sha256 {card.weights_sha256}")
    for split, metrics in card.contents.get("metrics", {}).items():
        lines += _section(f"On {split}", f"{metrics['n']} knees" if "n" in metrics else None, *_metrics(metrics))
    return "\n".join(lines)


def _section(title: str, *values: str | None) -> list[str]:
    """One line for each value, the title before the first; no line for an absent value."""
    present = [value for value in values if value]
    return [f"{title if number == 0 else '':16}{value}" for number, value in enumerate(present)]


def _metrics(metrics: Mapping[str, Any]) -> Iterator[str]:
    for key, entry in metrics.items():
        for grade, metric in enumerate(entry if isinstance(entry, list) else [entry]):
            if _is_metric(metric):
                of = f" of KL {grade}" if isinstance(entry, list) else ""
                yield f"{key.replace('_', ' ') + of:24}{interval(metric)}"


def model_uses(ledger: Ledger | None) -> list[dict[str, Any]]:
    """How many films each model graded, and from when to when, as JSON."""
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
