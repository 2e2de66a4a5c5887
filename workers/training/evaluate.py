"""How good a model is on labelled knees: `genu evaluate`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.progress import track

from workers.prepare import prepare
from workers.registry import Model
from workers.training.figures import with_intervals
from workers.training.knees import LabelledKnee, read_labels

BATCH = 16


@dataclass(frozen=True)
class Answers:
    """What a model said of n knees: logits (n, 5), and the highest value of the predicted grade's map (n,)."""

    logits: npt.NDArray[np.float32]
    heights: npt.NDArray[np.float32]


def evaluate(model: Model, data: Path, split: str) -> dict[str, Any]:
    """Every figure of `model` on one split of the folder `data`, with its interval."""
    knees = read_labels(data, split)
    probabilities = model.card.calibration.probabilities(answers(model, knees).logits)
    truth = np.array([knee.kl for knee in knees])
    figures = with_intervals(truth, probabilities, [knee.patient for knee in knees], model.card.calibration)
    card = model.card
    told = {"name": card.name, "version": card.version, "sha256": card.weights_sha256, "engine": model.run.name}
    return {"model": told, "split": split, **figures}


def answers(model: Model, knees: Sequence[LabelledKnee]) -> Answers:
    """What `model` says of labelled crops, whose sides are known."""
    logits, heights = [], []
    size = model.card.input_size
    for at in track(range(0, len(knees), BATCH), "Grading", transient=True, console=Console(stderr=True)):
        batch = np.stack([prepare(knee.read(), size) for knee in knees[at : at + BATCH]])
        scores, maps = model.run(batch)[:2]
        logits.append(scores)
        heights.append(maps[np.arange(len(batch)), scores.argmax(1)].max((1, 2)))
    return Answers(np.concatenate(logits), np.concatenate(heights))


def say(figures: dict[str, Any]) -> str:
    """The figures as a table for a person."""
    model = figures["model"]
    lines = [f"{model['name']} {model['version']} ({model['engine']}) on {figures['split']}, n = {figures['n']}", ""]
    names = {"accuracy": "accuracy", "balanced_accuracy": "balanced accuracy", "macro_f1": "macro F1"}
    names |= {"qwk": "quadratic weighted kappa", "mae": "mean absolute error", "auc_kl2": "AUC for KL 2 and above"}
    names |= {"ece": "calibration error (15 bins)", "coverage": "coverage of the sets", "set_size": "grades in a set"}
    lines += [_row(name, figures[key]) for key, name in names.items()]
    lines += [_row(f"recall of KL {grade}", figure) for grade, figure in enumerate(figures["recall"])]
    lines += [_row(f"coverage of KL {grade}", figure) for grade, figure in enumerate(figures["set_coverage"])]
    return "\n".join([*lines, "", "In brackets: 95 % interval over patients."])


def _row(name: str, figure: dict[str, float | None]) -> str:
    if figure["value"] is None:
        return f"{name:26} no such knee"
    return f"{name:26} {figure['value']:.3f}  ({figure['low']:.3f} to {figure['high']:.3f})"
