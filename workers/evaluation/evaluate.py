"""Evaluation of a model on labelled knees: `genu evaluate`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.progress import track

from workers.evaluation.labelled_films import BATCH, as_film, grade_films
from workers.evaluation.labelled_knees import LabelledKnee, read_labels, true_grades
from workers.evaluation.metrics import Grades, Predictions, with_intervals
from workers.grading.grader import Graded
from workers.models.registry import Model


@dataclass(frozen=True)
class CalibrationInputs:
    """What a calibration is fitted to: logits of n knees (n, 5), and the peak of the most probable grade's map (n,)."""

    logits: npt.NDArray[np.float32]
    peaks: npt.NDArray[np.float32]


@dataclass(frozen=True)
class Evaluation:
    """A model on labelled knees: their true grades, its predictions, and the figures, ready for JSON."""

    model: Model
    knees: Sequence[LabelledKnee]
    truth: Grades
    graded: Sequence[Graded]
    predictions: Predictions
    figures: dict[str, Any]


def evaluate(model: Model, data: Path, split: str, refiner: Model) -> Evaluation:
    """Every figure of `model`, with its interval, on one split of the folder `data`; `refiner` finds the landmarks."""
    knees = read_labels(data, split)
    truth, graded = true_grades(knees), grade_labelled_knees(model, knees, refiner)
    card = model.card
    predictions = Predictions.calibrated(card.calibration, np.stack([one.probabilities for one in graded]))
    identity = {"name": card.name, "version": card.version, "sha256": card.weights_sha256, "engine": model.run.name}
    flattered = card.contents.get("calibration", {}).get("split") == split
    figures = {
        "model": identity,
        "split": split,
        "flattered": flattered,
        **with_intervals(truth, predictions, [knee.patient for knee in knees]),
    }
    return Evaluation(model, knees, truth, graded, predictions, figures)


def grade_labelled_knees(model: Model, knees: Sequence[LabelledKnee], refiner: Model) -> list[Graded]:
    """The grades of labelled crops, whose sides are known; `refiner` finds the landmarks that straighten each joint."""
    graded: list[Graded] = []
    for at in track(range(0, len(knees), BATCH), "Grading", transient=True, console=Console(stderr=True)):
        graded += grade_films([as_film(knee) for knee in knees[at : at + BATCH]], model, refiner)
    return graded


def calibration_inputs(model: Model, knees: Sequence[LabelledKnee], refiner: Model) -> CalibrationInputs:
    """The outputs of `model` that its calibration is fitted to."""
    graded = grade_labelled_knees(model, knees, refiner)
    peaks = [one.maps[one.logits.argmax()].max() for one in graded]
    return CalibrationInputs(np.stack([one.logits for one in graded]), np.array(peaks, np.float32))


FLATTERED = (
    "Temperature and sets were fitted to this split: its calibration error and coverage are too good.\n"
    "The card has those of knees held out from the fit (genu models show)."
)
ROWS = {"accuracy": "accuracy", "balanced_accuracy": "balanced accuracy", "macro_f1": "macro F1"}
ROWS |= {"qwk": "quadratic weighted kappa", "mae": "mean absolute error", "auc_kl2": "AUC for KL 2 and above"}
ROWS |= {"ece": "calibration error (15 bins)", "coverage": "coverage of the sets", "set_size": "grades in a set"}
"""The figures of a table, and their names."""


def format_figures(figures: dict[str, Any]) -> str:
    """The figures as a table for a person."""
    model = figures["model"]
    lines = [f"{model['name']} {model['version']} ({model['engine']}) on {figures['split']}, n = {figures['n']}", ""]
    lines += [f"{name:28} {format_with_interval(figure)}" for name, figure in table_rows(figures)]
    notes = ["In brackets: 95 % interval over patients.", *([FLATTERED] if figures["flattered"] else [])]
    return "\n".join([*lines, "", *notes])


def table_rows(figures: dict[str, Any]) -> list[tuple[str, dict[str, float | None]]]:
    """The rows of a table of figures: name, and value with its interval."""
    rows = [(name, figures[key]) for key, name in ROWS.items()]
    rows += [(f"recall of KL {grade}", figure) for grade, figure in enumerate(figures["recall"])]
    return rows + [(f"coverage of KL {grade}", figure) for grade, figure in enumerate(figures["set_coverage"])]


def format_with_interval(figure: dict[str, float | None]) -> str:
    """A figure and its interval in words."""
    if figure["value"] is None:
        return "no such knee"
    return f"{figure['value']:.3f}  ({figure['low']:.3f} to {figure['high']:.3f})"
