"""How good a model is on labelled knees: `genu evaluate`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.progress import track

from workers.grade import softmax
from workers.prepare import prepare
from workers.registry import Model, load
from workers.training.figures import with_intervals
from workers.training.knees import LabelledKnee, read_labels

BATCH = 16


def evaluate(data: Path, split: str, model: str, *, engine: str = "", threads: int = 0) -> dict[str, Any]:
    """Every figure of `model` on one split of the folder `data`, with its interval."""
    knees = read_labels(data, split)
    loaded = load(model, engine=engine, threads=threads)
    logits, _ = answers(loaded, knees)
    found = softmax(logits / loaded.card.temperature).argmax(1)
    truth = np.array([knee.kl for knee in knees])
    figures = with_intervals(truth, found, [knee.patient for knee in knees])
    card = loaded.card
    told = {"name": card.name, "version": card.version, "sha256": card.weights_sha256, "engine": loaded.run.name}
    return {"model": told, "split": split, **figures}


def answers(model: Model, knees: Sequence[LabelledKnee]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Logits (n, 5) and, for each knee, the highest value of its predicted grade's map (n,)."""
    logits, heights = [], []
    size = model.card.input_size
    for at in track(range(0, len(knees), BATCH), "Grading", transient=True, console=Console(stderr=True)):
        batch = np.stack([prepare(knee.read(), size) for knee in knees[at : at + BATCH]])
        scores, maps = model.run(batch)
        logits.append(scores)
        heights.append(maps[np.arange(len(batch)), scores.argmax(1)].max((1, 2)))
    return np.concatenate(logits), np.concatenate(heights)


def say(figures: dict[str, Any]) -> str:
    """The figures as a table for a person."""
    model = figures["model"]
    lines = [f"{model['name']} {model['version']} ({model['engine']}) on {figures['split']}, n = {figures['n']}", ""]
    names = {"accuracy": "accuracy", "balanced_accuracy": "balanced accuracy", "macro_f1": "macro F1"}
    names |= {"qwk": "quadratic weighted kappa", "mae": "mean absolute error"}
    lines += [_row(name, figures[key]) for key, name in names.items()]
    lines += [_row(f"recall of KL {grade}", figure) for grade, figure in enumerate(figures["recall"])]
    return "\n".join([*lines, "", "In brackets: 95 % interval over patients."])


def _row(name: str, figure: dict[str, float | None]) -> str:
    if figure["value"] is None:
        return f"{name:26} no such knee"
    return f"{name:26} {figure['value']:.3f}  ({figure['low']:.3f} to {figure['high']:.3f})"
