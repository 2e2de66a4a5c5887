"""Training of the orientation classifier: crops of known side and polarity, mirrored and inverted at random."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from workers.evaluation.labelled_knees import LabelledKnee, normalised
from workers.models.networks import OrientationClassifier
from workers.preprocessing import Grey, crop, crop_input
from workers.training.augment import vary
from workers.training.film_joints import joints_on_composed_films
from workers.training.steps import train_small_network

WIDE = 128
"""Pixels of a crop's side during augmentation: more than the network's input."""


@dataclass(frozen=True)
class OrientationRecipe:
    """How the network is trained."""

    steps: int = 1200
    batch: int = 64
    learning_rate: float = 3e-3
    films: int = 0
    """Knees cut out of composed films, in addition to the crops."""
    seed: int = 1


def fit_orientation_classifier(
    recipe: OrientationRecipe, train: Sequence[LabelledKnee], size: int, *, on_step: Callable[[int, float], None]
) -> OrientationClassifier:
    """Train on `train` and return the network."""
    torch.manual_seed(recipe.seed)
    network = OrientationClassifier().to(memory_format=torch.channels_last)
    knees = [*shrunk(train), *_on_films(train, recipe)]

    def batches() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for step in range(1, recipe.steps + 1):
            random = np.random.default_rng((recipe.seed, step))
            chosen = [knees[int(at)] for at in random.integers(len(knees), size=recipe.batch)]
            views, truth = randomly_oriented(chosen, random, size)
            yield torch.from_numpy(views).to(memory_format=torch.channels_last), torch.from_numpy(truth)

    train_small_network(network, recipe, batches(), functional.binary_cross_entropy_with_logits, on_step=on_step)
    return network.eval()


@torch.no_grad()
def orientation_accuracy(
    network: OrientationClassifier, knees: Sequence[LabelledKnee], size: int
) -> tuple[float, float]:
    """The accuracy of polarity and of side; each knee in all four orientations."""
    originals, right = shrunk(knees), []
    for dark, left in product((False, True), repeat=2):
        shown = [1 - knee if dark else knee for knee in originals]
        views = np.stack([crop_input(np.ascontiguousarray(knee[:, ::-1] if left else knee), size) for knee in shown])
        right.append((network(torch.from_numpy(views))[0].numpy() > 0) == (dark, left))
    dark_right, left_right = np.concatenate(right).mean(0)
    return float(dark_right), float(left_right)


def shrunk(knees: Sequence[LabelledKnee]) -> list[Grey]:
    """Each knee as a right one with bright bones, (WIDE, WIDE)."""
    return [crop_input(knee.read(), WIDE)[0] * np.float32(0.25) + np.float32(0.5) for knee in knees]


def _on_films(knees: Sequence[LabelledKnee], recipe: OrientationRecipe) -> list[Grey]:
    """Some of them cut out of composed films, as right ones with bright bones, (WIDE, WIDE)."""
    random = np.random.default_rng((recipe.seed, 0))
    joints = joints_on_composed_films(knees, recipe.films, random, joint=(110, 200))
    return [
        normalised(crop(joint.pixels, joint.box, WIDE), inverted=False, left=joint.knee.side == "L") for joint in joints
    ]


def randomly_oriented(
    knees: Sequence[Grey], random: np.random.Generator, size: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Right knees with bright bones in random orientation: inputs (n, 1, size, size), and dark, left (n, 2)."""
    truth = random.integers(0, 2, (len(knees), 2)).astype(np.float32)
    views = []
    for knee, (dark, left) in zip(knees, truth, strict=True):
        shown = vary(knee, random)
        shown = shown[:, ::-1] if left else shown
        views.append(crop_input(np.ascontiguousarray(1 - shown if dark else shown), size))
    return np.stack(views), truth
