"""Eligibility rules on labelled knees as they lie on disk, none of which should be refused: `genu evaluate --gate`."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track

from node.finding import Laterality
from node.settings import Settings
from workers.analysis import analyse
from workers.detection.detection_models import DetectionModels, load_detection_models
from workers.detection.polarity import INVERTED
from workers.evaluation.labelled_films import film_from_pixels
from workers.evaluation.labelled_knees import LabelledKnee, read_labels
from workers.models.registry import Model, folders


@dataclass
class RefusalCounts:
    """Counts over the knees."""

    reasons: Counter[str] = field(default_factory=Counter)
    sides: Counter[str] = field(default_factory=Counter)
    turned: Counter[bool] = field(default_factory=Counter)
    """Films whose polarity was inverted, by whether they are negatives."""


def evaluate_eligibility(grader: Model, data: Path, split: str, settings: Settings) -> dict[str, Any]:
    """
    Refusals, sides and polarity of the knees of a split, each analysed as a film whose header states nothing.

    `split` "" takes all splits.
    """
    work, knees, counts = settings.work, read_labels(data, split or None), RefusalCounts()
    models = load_detection_models(engine=work.engine, threads=work.threads, within=folders(settings))
    for knee in track(knees, "Knees", transient=True, console=Console(stderr=True)):
        _count(knee, models, grader, counts)
    negatives, n = sum(knee.inverted for knee in knees), len(knees)
    refused = sum(counts.reasons.values())
    return {
        "split": split or "all splits",
        "n": n,
        "refused": round(refused / n, 4),
        "refused_as": dict(counts.reasons.most_common()),
        **{f"side_{what}": counts.sides[what] for what in ("right", "wrong", "unknown")},
        "negatives": negatives,
        "negatives_turned": counts.turned[True],
        "others_turned": counts.turned[False],
    }


def _count(knee: LabelledKnee, models: DetectionModels, grader: Model, counts: RefusalCounts) -> None:
    film = film_from_pixels(1 - knee.as_displayed() if knee.inverted else knee.as_displayed(), Laterality.UNKNOWN)
    reading = analyse(knee.path.stem, film, models=models, grader=grader).reading
    counts.turned[knee.inverted] += INVERTED in reading.notes
    if reading.reason is not None:
        counts.reasons[reading.reason.code] += 1
    laterality = reading.knees[0].laterality if reading.knees else Laterality.UNKNOWN
    right = laterality.value == knee.side
    counts.sides["unknown" if laterality is Laterality.UNKNOWN else "right" if right else "wrong"] += 1


def format_refusals(figures: dict[str, Any]) -> str:
    """The figures as text."""
    n = figures["n"]
    why = ", ".join(f"{code} {count}" for code, count in figures["refused_as"].items())
    side = [f"{figures[f'side_{what}']} {what}" for what in ("right", "wrong", "unknown")]
    turned = f"{figures['negatives_turned']} of {figures['negatives']} negatives inverted"
    return "\n".join(
        [
            f"{n} knees of {figures['split']}, each a film whose header states nothing",
            "",
            f"refused    {100 * figures['refused']:.1f} %" + (f" ({why})" if why else ""),
            f"side       {', '.join(side)}",
            f"polarity   {turned}, {figures['others_turned']} of {n - figures['negatives']} others",
        ]
    )
