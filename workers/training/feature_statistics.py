"""Feature statistics of a grader's training knees, and the distance beyond which a joint is out of distribution."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from rich.progress import track

from workers.evaluation.labelled_films import joint_pose
from workers.evaluation.labelled_knees import LabelledKnee
from workers.models.networks import MirroredGrader
from workers.models.registry import Model
from workers.phantom import random_film
from workers.preprocessing import Box, Grey, cut, grader_input
from workers.training.film_joints import joints_on_composed_films, with_detection_error

SEED = 60
BATCH = 16
SHRINKAGE = 0.1
"""Shrinkage of the covariance (Ledoit & Wolf 2004): there are not many more knees than features."""

FilmAndBox = tuple[Grey, Box]
"""A film and the box of a joint on it."""
Features = list[npt.NDArray[np.float64]]
"""Of n knees, (n, width) for each depth."""


@dataclass(frozen=True)
class StatisticsSample:
    """How many knees are used: of each split half as crops, half on composed films."""

    train: int = 1200
    rendered: int = 120
    """Also rendered knees: the sample films that come with Genu are to be graded, so that a site can try it."""
    val: int = 800
    refused: float = 0.01
    """Part of the knees of val, crops or on films, that may lie beyond the limit."""


def fit_feature_statistics(
    network: MirroredGrader,
    train: Sequence[LabelledKnee],
    val: Sequence[LabelledKnee],
    refiner: Model,
    size: int,
    sample: StatisticsSample,
) -> float:
    """
    Fill network.familiar from knees of `train`; return the distance that is the limit.

    All are straightened by the landmarks of `refiner`, as the node grades them.
    """
    assert network.familiar is not None
    half = sample.train // 2

    def straightened(joints: Iterable[FilmAndBox]) -> list[Grey]:
        return [cut(pixels, joint_pose(pixels, box, refiner), size) for pixels, box in joints]

    # Generated one by one: all films at once would be gigabytes.
    knees = straightened(chain(_crops(train, half), _on_films(train, half), _rendered(sample.rendered)))
    for at, features in enumerate(_features(network, knees, size)):
        mean, white = whitening(features)
        network.familiar.get_buffer(f"mean_{at}").copy_(torch.from_numpy(mean))
        network.familiar.get_buffer(f"white_{at}").copy_(torch.from_numpy(white))
    held_out = [straightened(_crops(val, sample.val // 2)), straightened(_on_films(val, sample.val // 2))]
    return round(max(float(np.quantile(distances(network, crops, size), 1 - sample.refused)) for crops in held_out), 3)


def whitening(features: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The mean (d,) of features (n, d), and the matrix (d, d) after which the median distance from it is 1."""
    mean, covariance = features.mean(0), np.cov(features.T)
    isotropic = np.eye(len(covariance)) * np.trace(covariance) / len(covariance)
    white = np.linalg.cholesky(np.linalg.inv((1 - SHRINKAGE) * covariance + SHRINKAGE * isotropic))
    return mean, white / np.median(np.linalg.norm((features - mean) @ white, axis=1))


def distances(network: MirroredGrader, knees: Sequence[Grey], size: int) -> npt.NDArray[np.float64]:
    """The distance of knees from the training knees, (n,)."""
    assert network.familiar is not None
    depths = [torch.from_numpy(features).float() for features in _features(network, knees, size)]
    return np.asarray(network.familiar(depths).numpy(), np.float64)


@torch.no_grad()
def _features(network: MirroredGrader, knees: Sequence[Grey], size: int) -> Features:
    batches: list[list[torch.Tensor]] = []
    steps = range(0, len(knees), BATCH)
    for at in track(steps, "Feature statistics", transient=True, console=Console(stderr=True)):
        views = torch.from_numpy(np.stack([grader_input(knee, size) for knee in knees[at : at + BATCH]]))
        views = views.to(memory_format=torch.channels_last)
        batches.append(network.depths_of(views))
    return [torch.cat(parts).double().numpy() for parts in zip(*batches, strict=True)]


def _crops(knees: Sequence[LabelledKnee], count: int) -> Iterator[FilmAndBox]:
    random = np.random.default_rng((SEED, len(knees)))
    for at in random.integers(len(knees), size=count):
        pixels = knees[int(at)].as_displayed()
        yield pixels, Box.whole(pixels)


def _on_films(knees: Sequence[LabelledKnee], count: int) -> Iterator[FilmAndBox]:
    random = np.random.default_rng((SEED, 1, len(knees)))
    return ((joint.pixels, joint.box) for joint in joints_on_composed_films(knees, count, random, joint=(220, 420)))


def _rendered(count: int) -> Iterator[FilmAndBox]:
    random, done = np.random.default_rng((SEED, 2)), 0
    while done < count:
        film = random_film(random)
        for box in film.boxes[: count - done]:
            done += 1
            yield film.pixels.astype(np.float32) / np.float32(4095), with_detection_error(box, random)
