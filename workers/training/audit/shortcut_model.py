"""
A model trained on purpose to use a shortcut: does the red flag report it?

A copy of the audited model is trained further on knees where a lead numeral beside the joint shows the grade and
nothing else does; it is not saved. Then every knee gets a numeral of another grade than the model predicts without
it; where the grade follows the numeral, the knee must be flagged.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch

from workers.detection.detection_models import DetectionModels
from workers.evaluation.calibration_fit import fit_heat_scale
from workers.evaluation.labelled_knees import LabelledKnee
from workers.models.engines import TorchEngine
from workers.models.labels import MARKER
from workers.models.networks import Grader
from workers.models.registry import Model
from workers.preprocessing import Grey, grader_input
from workers.training.audit.inserted import ArtefactPair
from workers.training.audit.knees import FilmTransform, audit_knees, with_progress
from workers.training.augment import augment
from workers.training.inserted_artefacts import insert_numeral
from workers.training.steps import soft_labels, training_step

SEED = 50
SIDE = 160
"""Input size of training and evaluation: half the cost of the model's own size, and the numeral is large."""
LEARNING_RATE, LABEL_SIGMA = 5e-4, 0.3


@dataclass(frozen=True)
class ShortcutRecipe:
    """How long the shortcut is trained."""

    steps: int = 240
    batch: int = 16


def train_shortcut(
    model: Model, train: Sequence[LabelledKnee], recipe: ShortcutRecipe, step: Callable[[], None]
) -> Model:
    """
    `model` trained to read the numeral, at SIDE pixels. It must run on torch; its network is changed in place.

    Its limits are the model's own: those that flag the audited model have to flag this one.
    """
    assert isinstance(model.run, TorchEngine)
    (network,) = (part for part in model.run.network.modules() if isinstance(part, Grader))
    targets = torch.from_numpy(soft_labels(LABEL_SIGMA))
    torch.manual_seed(SEED)
    optimizer = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE)
    network.train()
    for at in range(recipe.steps):
        random = np.random.default_rng((SEED, at))
        grades = random.integers(5, size=recipe.batch)
        knees = [train[int(index)].read() for index in random.integers(len(train), size=recipe.batch)]
        views = [_training_view(knee, int(grade), random) for knee, grade in zip(knees, grades, strict=True)]
        training_step(network, optimizer, torch.from_numpy(np.stack(views)), targets[torch.from_numpy(grades)], 0.0)
        step()
    model.run.network.eval()
    return replace(model, card=replace(model.card, input_size=SIDE))


def _training_view(knee: Grey, grade: int, random: np.random.Generator) -> npt.NDArray[np.float32]:
    knee = augment(cv2.resize(knee, (SIDE, SIDE), interpolation=cv2.INTER_AREA).astype(np.float32), random, erase=False)
    return grader_input(insert_numeral(knee, grade, random), SIDE)


def numeral_inserter(grades: Sequence[int]) -> FilmTransform:
    """Inserts the numeral of `grades[number]` beside the joint of the knee of that number."""

    def insert(pixels: Grey, number: int) -> Grey:
        return insert_numeral(pixels, grades[number], np.random.default_rng((SEED, 1, number)))

    return insert


def audit_with_numerals(
    model: Model, knees: Sequence[LabelledKnee], models: DetectionModels, step: Callable[[], None]
) -> list[ArtefactPair]:
    """Each knee graded by a shortcut model without a numeral, and with that of another grade."""
    audited = list(with_progress(audit_knees(knees, model, models), step))
    peaks = [knee.graded.maps[int(knee.graded.grade)].max() for knee in audited]
    model = replace(model, card=replace(model.card, heat_scale=max(fit_heat_scale(np.array(peaks, np.float32)), 1e-3)))
    random = np.random.default_rng(SEED)
    shown = [(int(knee.graded.grade) + int(random.integers(1, 5))) % 5 for knee in audited]
    again = with_progress(audit_knees(knees, model, models, numeral_inserter(shown)), step)
    return [ArtefactPair(MARKER, one, other) for one, other in zip(again, audited, strict=True)]


def shortcut_figures(pairs: Sequence[ArtefactPair]) -> dict[str, Any]:
    """How often the grade followed the numeral, and how often it was flagged then."""
    deciding = [pair for pair in pairs if pair.changes_grade]
    flagged = sum(bool(pair.flags) for pair in deciding)
    named = sum("MARKER" in pair.flags for pair in deciding)
    return {
        "n": len(pairs),
        "deciding": len(deciding),
        "flagged": flagged,
        "named_marker": named,
        "sensitivity": round(flagged / len(deciding), 4) if deciding else None,
    }
