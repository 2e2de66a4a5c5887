"""Fit the network that names markers, text, metal and borders: real knees, half of them with something planted."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from workers.evaluation.labelled_knees import LabelledKnee
from workers.models.labels import BORDER, HARDWARE, MARKER, NOTHING, TEXT
from workers.models.networks import ArtefactSegmenter
from workers.preprocessing import Grey, crop_input
from workers.training.augment import augment
from workers.training.batches import prefetched
from workers.training.inserted_artefacts import plant
from workers.training.steps import descend

COVERED = 0.3
"""Part of a cell of the answer that a mark covers to be named."""
WEIGHTS = (1.0, 3.0, 3.0, 3.0, 3.0)
"""Of each name in the loss: most cells are nothing."""


@dataclass(frozen=True)
class MarksRecipe:
    """How the network is trained."""

    steps: int = 1500
    batch: int = 32
    learning_rate: float = 3e-3
    planted: float = 0.6
    seed: int = 1


def fit_marks(
    recipe: MarksRecipe, train: Sequence[LabelledKnee], size: int, *, watch: Callable[[int, float], None]
) -> ArtefactSegmenter:
    """Train on `train` and return the network."""
    torch.manual_seed(recipe.seed)
    network = ArtefactSegmenter().to(memory_format=torch.channels_last)
    knees = [cv2.resize(knee.read(), (2 * size, 2 * size), interpolation=cv2.INTER_AREA) for knee in train]
    weights = torch.tensor(WEIGHTS)

    def batch(step: int) -> tuple[torch.Tensor, torch.Tensor]:
        random = np.random.default_rng((recipe.seed, step))
        made = [
            example(np.asarray(knees[int(at)], np.float32), random, size, recipe.planted)
            for at in random.integers(len(knees), size=recipe.batch)
        ]
        views, truth = zip(*made, strict=True)
        shown = torch.from_numpy(np.stack(views)).to(memory_format=torch.channels_last)
        return shown, torch.from_numpy(np.stack(truth))

    batches = prefetched(batch, range(1, recipe.steps + 1))
    descend(network, recipe, batches, partial(functional.cross_entropy, weight=weights), watch=watch)
    return network.eval()


def example(
    knee: Grey, random: np.random.Generator, size: int, planted: float
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """What the network sees of a knee, (1, size, size), and what is true of it, (size / 2, size / 2)."""
    knee, truth = augment(knee, random, hide=False), np.full((size // 2, size // 2), NOTHING, np.int64)
    if random.random() < planted:
        for kind in random.choice((MARKER, TEXT, HARDWARE, BORDER), size=int(random.integers(1, 3)), replace=False):
            knee, cover = plant(knee, int(kind), random, beside=random.random() < 0.6)
            small = cv2.resize(cover, truth.shape[::-1], interpolation=cv2.INTER_AREA)
            truth[small > COVERED] = int(kind)
    low, high = random.uniform(0, 0.2), random.uniform(0.75, 1)
    return crop_input((knee * (high - low) + low).astype(np.float32), size), truth
