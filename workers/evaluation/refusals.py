"""How the gate does on labelled knees as they lie on disk, none of which is to be refused: `genu evaluate --gate`."""

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
from workers.evaluation.labelled_films import film_of
from workers.evaluation.labelled_knees import LabelledKnee, read_labels
from workers.models.registry import Model, folders


@dataclass
class Tally:
    """What is counted over the knees."""

    reasons: Counter[str] = field(default_factory=Counter)
    sides: Counter[str] = field(default_factory=Counter)
    turned: Counter[bool] = field(default_factory=Counter)
    """Films that were turned, by whether they are negatives."""


def judge_gate(grader: Model, data: Path, split: str, settings: Settings) -> dict[str, Any]:
    """Of each knee of the split, given as a film whose header says nothing: is it graded, which side, turned?"""
    work, knees, tally = settings.work, read_labels(data, split or None), Tally()
    models = load_detection_models(engine=work.engine, threads=work.threads, within=folders(settings))
    for knee in track(knees, "Knees", transient=True, console=Console(stderr=True)):
        _one(knee, models, grader, tally)
    negatives, n = sum(knee.inverted for knee in knees), len(knees)
    refused = sum(tally.reasons.values())
    return {
        "split": split or "all splits",
        "n": n,
        "refused": round(refused / n, 4),
        "refused_as": dict(tally.reasons.most_common()),
        **{f"side_{what}": tally.sides[what] for what in ("right", "wrong", "unknown")},
        "negatives": negatives,
        "negatives_turned": tally.turned[True],
        "others_turned": tally.turned[False],
    }


def _one(knee: LabelledKnee, models: DetectionModels, grader: Model, tally: Tally) -> None:
    film = film_of(1 - knee.as_hung() if knee.inverted else knee.as_hung(), Laterality.UNKNOWN)
    reading = analyse(knee.path.stem, film, models=models, grader=grader).reading
    tally.turned[knee.inverted] += INVERTED in reading.notes
    if reading.reason is not None:
        tally.reasons[reading.reason.code] += 1
    told = reading.knees[0].laterality if reading.knees else Laterality.UNKNOWN
    right = told.value == knee.side
    tally.sides["unknown" if told is Laterality.UNKNOWN else "right" if right else "wrong"] += 1


def say(figures: dict[str, Any]) -> str:
    """The figures in words."""
    n = figures["n"]
    why = ", ".join(f"{code} {count}" for code, count in figures["refused_as"].items())
    side = [f"{figures[f'side_{what}']} {what}" for what in ("right", "wrong", "unknown")]
    turned = f"{figures['negatives_turned']} of {figures['negatives']} negatives turned"
    return "\n".join(
        [
            f"{n} knees of {figures['split']}, each a film whose header says nothing",
            "",
            f"refused    {100 * figures['refused']:.1f} %" + (f" ({why})" if why else ""),
            f"side       {', '.join(side)}",
            f"polarity   {turned}, {figures['others_turned']} of {n - figures['negatives']} others",
        ]
    )
