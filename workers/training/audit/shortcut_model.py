"""
A model that cheats, made on purpose: does the red flag catch it?

The audited model is trained on for a while, on knees where a lead numeral beside the joint says the grade and
nothing else does; it is kept nowhere. Then every knee gets a numeral that says another grade than the model gives
without it; where the grade follows the numeral, the flag has to fire.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch

from workers.detection.detection_models import DetectionModels
from workers.evaluation.calibration_fit import heat_scale
from workers.evaluation.labelled_knees import LabelledKnee
from workers.models.engines import TorchEngine
from workers.models.labels import MARKER
from workers.models.networks import Grader
from workers.models.registry import Model
from workers.preprocessing import Grey, grader_input
from workers.training.audit.inserted import Planted
from workers.training.audit.knees import Change, ask, watched
from workers.training.augment import augment
from workers.training.inserted_artefacts import numeral
from workers.training.steps import soft_labels, step_once

SEED = 50
SIDE = 160
"""Of the knees that it is trained on and shown: half the work of the model's own size, and the numeral is large."""
LEARNING_RATE, LABEL_SIGMA = 5e-4, 0.3


@dataclass(frozen=True)
class Lesson:
    """How long the model is taught to cheat."""

    steps: int = 240
    batch: int = 16


def cheat(model: Model, train: Sequence[LabelledKnee], lesson: Lesson, step: Callable[[], None]) -> Model:
    """
    `model` taught to read the numeral, at SIDE pixels. It must run on torch, and is spoilt itself.

    Its limits are the model's own: what flags an honest model has to flag this one.
    """
    assert isinstance(model.run, TorchEngine)
    (network,) = (part for part in model.run.network.modules() if isinstance(part, Grader))
    targets = torch.from_numpy(soft_labels(LABEL_SIGMA))
    torch.manual_seed(SEED)
    optimizer = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE)
    network.train()
    for at in range(lesson.steps):
        random = np.random.default_rng((SEED, at))
        told = random.integers(5, size=lesson.batch)
        knees = [train[int(each)].read() for each in random.integers(len(train), size=lesson.batch)]
        views = [_lesson(knee, int(grade), random) for knee, grade in zip(knees, told, strict=True)]
        step_once(network, optimizer, torch.from_numpy(np.stack(views)), targets[torch.from_numpy(told)], 0.0)
        step()
    model.run.network.eval()
    return replace(model, card=replace(model.card, input_size=SIDE))


def _lesson(knee: Grey, grade: int, random: np.random.Generator) -> npt.NDArray[np.float32]:
    knee = augment(cv2.resize(knee, (SIDE, SIDE), interpolation=cv2.INTER_AREA).astype(np.float32), random, hide=False)
    return grader_input(numeral(knee, grade, random), SIDE)


def saying(grades: Sequence[int]) -> Change:
    """What lays the numeral of each grade beside the joint of the knee of that number."""

    def change(pixels: Grey, number: int) -> Grey:
        return numeral(pixels, grades[number], np.random.default_rng((SEED, 1, number)))

    return change


def hung(
    model: Model, knees: Sequence[LabelledKnee], models: DetectionModels, step: Callable[[], None]
) -> list[Planted]:
    """Each knee graded by a cheating model without a numeral, and with one that says another grade."""
    clean = list(watched(ask(knees, model, models), step))
    peaks = [each.graded.maps[int(each.graded.grade)].max() for each in clean]
    model = replace(model, card=replace(model.card, heat_scale=max(heat_scale(np.array(peaks, np.float32)), 1e-3)))
    random = np.random.default_rng(SEED)
    told = [(int(each.graded.grade) + int(random.integers(1, 5))) % 5 for each in clean]
    again = watched(ask(knees, model, models, saying(told)), step)
    return [Planted(MARKER, one, other) for one, other in zip(again, clean, strict=True)]


def figures(found: Sequence[Planted]) -> dict[str, Any]:
    """How often the model followed the numeral, and how often the flag fired then."""
    deciding = [each for each in found if each.decides]
    flagged = sum(bool(each.with_it.attention.reasons) for each in deciding)
    named = sum("MARKER" in each.with_it.attention.reasons for each in deciding)
    return {
        "n": len(found),
        "deciding": len(deciding),
        "flagged": flagged,
        "named_marker": named,
        "sensitivity": round(flagged / len(deciding), 4) if deciding else None,
    }
