"""What a grader takes for a knee: how its features lie on knees of its training, and how far off a joint may lie."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from rich.progress import track

from workers.evaluation.labelled_films import pose_on
from workers.evaluation.labelled_knees import LabelledKnee
from workers.models.networks import MirroredGrader
from workers.models.registry import Model
from workers.phantom import random_film
from workers.preprocessing import Box, Grey, cut, grader_input
from workers.training.film_joints import joints_on_films, missed

SEED = 60
BATCH = 16
SHRUNK = 0.1
"""Part of the covariance that is made round (Ledoit & Wolf 2004): there are not many more knees than features."""

Seen = tuple[Grey, Box]
"""A film and the box of a joint on it."""
Features = list[npt.NDArray[np.float64]]
"""Of n knees, (n, width) for each depth."""


@dataclass(frozen=True)
class Sample:
    """How many knees are looked at: of each part of the data half as crops, half as a film shows them."""

    train: int = 1200
    rendered: int = 120
    """Beside them, rendered knees: the films that come with Genu are graded, so that a site can try it."""
    val: int = 800
    refused: float = 0.01
    """Part of the knees of val, crops or on films, that may lie beyond the limit."""


def fit_familiar(
    network: MirroredGrader,
    train: Sequence[LabelledKnee],
    val: Sequence[LabelledKnee],
    looker: Model,
    size: int,
    sample: Sample,
) -> float:
    """
    Fill network.familiar from knees of `train`; return the distance beyond which a joint is none to grade.

    All are laid upright by `looker`, as the node grades them.
    """
    assert network.familiar is not None
    half = sample.train // 2

    def laid(joints: Iterable[Seen]) -> list[Grey]:
        return [cut(pixels, pose_on(pixels, box, looker), size) for pixels, box in joints]

    # One after the other: all these films at once would be gigabytes.
    seen = laid(chain(_crops(train, half), _on_films(train, half), _rendered(sample.rendered)))
    for at, features in enumerate(_features(network, seen, size)):
        mean, white = whitening(features)
        network.familiar.get_buffer(f"mean_{at}").copy_(torch.from_numpy(mean))
        network.familiar.get_buffer(f"white_{at}").copy_(torch.from_numpy(white))
    held = [laid(_crops(val, sample.val // 2)), laid(_on_films(val, sample.val // 2))]
    return round(max(float(np.quantile(distances(network, each, size), 1 - sample.refused)) for each in held), 3)


def whitening(features: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The mean (d,) of n features, and the matrix (d, d) after which the distance of the median one is 1."""
    mean, covariance = features.mean(0), np.cov(features.T)
    round_one = np.eye(len(covariance)) * np.trace(covariance) / len(covariance)
    white = np.linalg.cholesky(np.linalg.inv((1 - SHRUNK) * covariance + SHRUNK * round_one))
    return mean, white / np.median(np.linalg.norm((features - mean) @ white, axis=1))


def distances(network: MirroredGrader, knees: Sequence[Grey], size: int) -> npt.NDArray[np.float64]:
    """How far knees lie from those that the network knows, (n,)."""
    assert network.familiar is not None
    depths = [torch.from_numpy(each).float() for each in _features(network, knees, size)]
    return np.asarray(network.familiar(depths).numpy(), np.float64)


@torch.no_grad()
def _features(network: MirroredGrader, knees: Sequence[Grey], size: int) -> Features:
    told: list[list[torch.Tensor]] = []
    steps = range(0, len(knees), BATCH)
    for at in track(steps, "What it knows", transient=True, console=Console(stderr=True)):
        views = torch.from_numpy(np.stack([grader_input(knee, size) for knee in knees[at : at + BATCH]]))
        views = views.to(memory_format=torch.channels_last)
        told.append(network.depths_of(views))
    return [torch.cat(each).double().numpy() for each in zip(*told, strict=True)]


def _crops(knees: Sequence[LabelledKnee], count: int) -> Iterator[Seen]:
    random = np.random.default_rng((SEED, len(knees)))
    for at in random.integers(len(knees), size=count):
        pixels = knees[int(at)].as_hung()
        yield pixels, Box.whole(pixels)


def _on_films(knees: Sequence[LabelledKnee], count: int) -> Iterator[Seen]:
    random = np.random.default_rng((SEED, 1, len(knees)))
    return ((each.pixels, each.box) for each in joints_on_films(knees, count, random, joint=(220, 420)))


def _rendered(count: int) -> Iterator[Seen]:
    random, made = np.random.default_rng((SEED, 2)), 0
    while made < count:
        film = random_film(random)
        for box in film.boxes[: count - made]:
            made += 1
            yield film.pixels.astype(np.float32) / np.float32(4095), missed(box, random)
