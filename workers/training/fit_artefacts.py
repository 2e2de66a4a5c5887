"""Training of the artefact segmenter on real knees, most of them with inserted markers, text, metal or borders."""

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
from workers.training.inserted_artefacts import insert_artefact
from workers.training.steps import train_small_network

COVERED = 0.3
"""Part of an output cell that an artefact must cover to be its class."""
WEIGHTS = (1.0, 3.0, 3.0, 3.0, 3.0)
"""Weight of each class in the loss: most cells are nothing."""


@dataclass(frozen=True)
class ArtefactRecipe:
    """How the network is trained."""

    steps: int = 1500
    batch: int = 32
    learning_rate: float = 3e-3
    with_artefact: float = 0.6
    """Part of the knees that get one or two artefacts; `planted` in a card."""
    seed: int = 1


def fit_artefact_segmenter(
    recipe: ArtefactRecipe, train: Sequence[LabelledKnee], size: int, *, on_step: Callable[[int, float], None]
) -> ArtefactSegmenter:
    """Train on `train` and return the network."""
    torch.manual_seed(recipe.seed)
    network = ArtefactSegmenter().to(memory_format=torch.channels_last)
    knees = [cv2.resize(knee.read(), (2 * size, 2 * size), interpolation=cv2.INTER_AREA) for knee in train]
    weights = torch.tensor(WEIGHTS)

    def make_batch(step: int) -> tuple[torch.Tensor, torch.Tensor]:
        random = np.random.default_rng((recipe.seed, step))
        examples = [
            example(np.asarray(knees[int(at)], np.float32), random, size, recipe.with_artefact)
            for at in random.integers(len(knees), size=recipe.batch)
        ]
        views, truth = zip(*examples, strict=True)
        inputs = torch.from_numpy(np.stack(views)).to(memory_format=torch.channels_last)
        return inputs, torch.from_numpy(np.stack(truth))

    batches = prefetched(make_batch, range(1, recipe.steps + 1))
    train_small_network(network, recipe, batches, partial(functional.cross_entropy, weight=weights), on_step=on_step)
    return network.eval()


def example(
    knee: Grey, random: np.random.Generator, size: int, with_artefact: float
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """The network's input from a knee, (1, size, size), and the class of each cell, (size / 2, size / 2)."""
    knee, truth = augment(knee, random, erase=False), np.full((size // 2, size // 2), NOTHING, np.int64)
    if random.random() < with_artefact:
        for kind in random.choice((MARKER, TEXT, HARDWARE, BORDER), size=int(random.integers(1, 3)), replace=False):
            knee, cover = insert_artefact(knee, int(kind), random, beside=random.random() < 0.6)
            small = cv2.resize(cover, truth.shape[::-1], interpolation=cv2.INTER_AREA)
            truth[small > COVERED] = int(kind)
    low, high = random.uniform(0, 0.2), random.uniform(0.75, 1)
    return crop_input((knee * (high - low) + low).astype(np.float32), size), truth
