"""Fit the network that tells how a joint hangs: crops of known side and polarity, mirrored and inverted at will."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from workers.evaluation.labelled_knees import LabelledKnee, upright
from workers.models.networks import OrientationClassifier
from workers.preprocessing import Grey, crop, crop_input
from workers.training.augment import vary
from workers.training.film_joints import joints_on_films
from workers.training.steps import descend

WIDE = 128
"""Pixels of a crop's side while it is varied: enough for what the network sees of it."""


@dataclass(frozen=True)
class UprightRecipe:
    """How the teller is trained."""

    steps: int = 1200
    batch: int = 64
    learning_rate: float = 3e-3
    films: int = 0
    """Knees beside the crops that are cut out of composed films."""
    seed: int = 1


def fit_upright(
    recipe: UprightRecipe, train: Sequence[LabelledKnee], size: int, *, watch: Callable[[int, float], None]
) -> OrientationClassifier:
    """Train on `train` and return the network."""
    torch.manual_seed(recipe.seed)
    network = OrientationClassifier().to(memory_format=torch.channels_last)
    knees = [*shrunk(train), *_on_films(train, recipe)]

    def batches() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for step in range(1, recipe.steps + 1):
            random = np.random.default_rng((recipe.seed, step))
            chosen = [knees[int(at)] for at in random.integers(len(knees), size=recipe.batch)]
            views, truth = hung(chosen, random, size)
            yield torch.from_numpy(views).to(memory_format=torch.channels_last), torch.from_numpy(truth)

    descend(network, recipe, batches(), functional.binary_cross_entropy_with_logits, watch=watch)
    return network.eval()


@torch.no_grad()
def part_right(network: OrientationClassifier, knees: Sequence[LabelledKnee], size: int) -> tuple[float, float]:
    """The part of knees whose polarity, and whose side, is told right: each knee hung in all four ways."""
    given, right = shrunk(knees), []
    for dark, left in product((False, True), repeat=2):
        shown = [1 - knee if dark else knee for knee in given]
        views = np.stack([crop_input(np.ascontiguousarray(each[:, ::-1] if left else each), size) for each in shown])
        right.append((network(torch.from_numpy(views))[0].numpy() > 0) == (dark, left))
    told = np.concatenate(right).mean(0)
    return float(told[0]), float(told[1])


def shrunk(knees: Sequence[LabelledKnee]) -> list[Grey]:
    """Each knee as a right one with bright bones, (WIDE, WIDE)."""
    return [crop_input(knee.read(), WIDE)[0] * np.float32(0.25) + np.float32(0.5) for knee in knees]


def _on_films(knees: Sequence[LabelledKnee], recipe: UprightRecipe) -> list[Grey]:
    """Some of them off composed films, as right ones with bright bones, (WIDE, WIDE)."""
    random = np.random.default_rng((recipe.seed, 0))
    joints = joints_on_films(knees, recipe.films, random, joint=(110, 200))
    return [upright(crop(each.pixels, each.box, WIDE), inverted=False, left=each.knee.side == "L") for each in joints]


def hung(
    knees: Sequence[Grey], random: np.random.Generator, size: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Right knees with bright bones, hung at random: the network's (n, 1, size, size), and dark, left (n, 2)."""
    truth = random.integers(0, 2, (len(knees), 2)).astype(np.float32)
    views = []
    for knee, (dark, left) in zip(knees, truth, strict=True):
        shown = vary(knee, random)
        shown = shown[:, ::-1] if left else shown
        views.append(crop_input(np.ascontiguousarray(1 - shown if dark else shown), size))
    return np.stack(views), truth
