"""How good a model is on labelled knees: `genu evaluate`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.progress import track

from workers.evaluation.labelled_films import BATCH, as_film, grade_films
from workers.evaluation.labelled_knees import LabelledKnee, read_labels, truth_of
from workers.evaluation.metrics import Grades, Said, with_intervals
from workers.grading.grader import Graded
from workers.models.registry import Model


@dataclass(frozen=True)
class Answers:
    """What a model said of n knees: logits (n, 5), and the highest value of the likeliest grade's map (n,)."""

    logits: npt.NDArray[np.float32]
    heights: npt.NDArray[np.float32]


@dataclass(frozen=True)
class Judgement:
    """A model on labelled knees: what is true of them, what it said, and the figures, ready for JSON."""

    model: Model
    knees: Sequence[LabelledKnee]
    truth: Grades
    graded: Sequence[Graded]
    said: Said
    figures: dict[str, Any]


def evaluate(model: Model, data: Path, split: str, looker: Model) -> Judgement:
    """Every figure of `model` on one split of the folder `data`, with its interval."""
    knees = read_labels(data, split)
    truth, graded = truth_of(knees), graded_by(model, knees, looker)
    said = Said.by(model.card.calibration, np.stack([each.probabilities for each in graded]))
    card = model.card
    told = {"name": card.name, "version": card.version, "sha256": card.weights_sha256, "engine": model.run.name}
    flattered = card.contents.get("calibration", {}).get("split") == split
    figures = {
        "model": told,
        "split": split,
        "flattered": flattered,
        **with_intervals(truth, said, [knee.patient for knee in knees]),
    }
    return Judgement(model, knees, truth, graded, said, figures)


def graded_by(model: Model, knees: Sequence[LabelledKnee], looker: Model) -> list[Graded]:
    """What `model` says of labelled crops, whose sides are known, laid upright by `looker` as on a film."""
    graded: list[Graded] = []
    for at in track(range(0, len(knees), BATCH), "Grading", transient=True, console=Console(stderr=True)):
        graded += grade_films([as_film(knee) for knee in knees[at : at + BATCH]], model, looker)
    return graded


def answers(model: Model, knees: Sequence[LabelledKnee], looker: Model) -> Answers:
    """What calibration needs of the answers of `model`."""
    graded = graded_by(model, knees, looker)
    heights = [each.maps[each.logits.argmax()].max() for each in graded]
    return Answers(np.stack([each.logits for each in graded]), np.array(heights, np.float32))


FLATTERED = (
    "Temperature and sets were fitted to this split, so its calibration error and coverage are flattering;\n"
    "the card has those of knees that the fit had not seen (genu models show)."
)
ROWS = {"accuracy": "accuracy", "balanced_accuracy": "balanced accuracy", "macro_f1": "macro F1"}
ROWS |= {"qwk": "quadratic weighted kappa", "mae": "mean absolute error", "auc_kl2": "AUC for KL 2 and above"}
ROWS |= {"ece": "calibration error (15 bins)", "coverage": "coverage of the sets", "set_size": "grades in a set"}
"""The figures of a table, and their names."""


def say(figures: dict[str, Any]) -> str:
    """The figures as a table for a person."""
    model = figures["model"]
    lines = [f"{model['name']} {model['version']} ({model['engine']}) on {figures['split']}, n = {figures['n']}", ""]
    lines += [f"{name:28} {with_range(figure)}" for name, figure in rows_of(figures)]
    notes = ["In brackets: 95 % interval over patients.", *([FLATTERED] if figures["flattered"] else [])]
    return "\n".join([*lines, "", *notes])


def rows_of(figures: dict[str, Any]) -> list[tuple[str, dict[str, float | None]]]:
    """The rows of a table of figures: name, and value with its interval."""
    told = [(name, figures[key]) for key, name in ROWS.items()]
    told += [(f"recall of KL {grade}", figure) for grade, figure in enumerate(figures["recall"])]
    return told + [(f"coverage of KL {grade}", figure) for grade, figure in enumerate(figures["set_coverage"])]


def with_range(figure: dict[str, float | None]) -> str:
    """A figure and its interval in words."""
    if figure["value"] is None:
        return "no such knee"
    return f"{figure['value']:.3f}  ({figure['low']:.3f} to {figure['high']:.3f})"
