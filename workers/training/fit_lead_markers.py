"""Training of the lead marker classifier on the candidates that the node finds on composed films."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from rich.progress import track
from torch.nn import functional

from workers.evaluation.labelled_knees import LabelledKnee
from workers.laterality.lead_markers import classify_letters
from workers.models.labels import LETTER_L, LETTER_R, NOTHING
from workers.models.networks import LeadMarkerClassifier
from workers.training.lead_letter_films import film_without_letters, labelled_patches, with_letters
from workers.training.steps import train_small_network

Examples = tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]
"""Inputs (n, 1, size, size), and their classes (n,)."""


@dataclass(frozen=True)
class LeadMarkerRecipe:
    """How the network is trained."""

    films: int = 350
    copies: int = 8
    """How often each film gets new letters."""
    steps: int = 2500
    batch: int = 256
    learning_rate: float = 3e-3
    seed: int = 1


def fit_lead_marker_classifier(
    recipe: LeadMarkerRecipe, train: Sequence[LabelledKnee], size: int, *, on_step: Callable[[int, float], None]
) -> LeadMarkerClassifier:
    """Train on films of `train` and return the network."""
    torch.manual_seed(recipe.seed)
    inputs, truth = examples(train, recipe, size)
    indices_of = [np.flatnonzero(truth == kind) for kind in (NOTHING, LETTER_R, LETTER_L)]
    network = LeadMarkerClassifier()

    def batches() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for step in range(1, recipe.steps + 1):
            random = np.random.default_rng((recipe.seed, step))
            # Half of them are no letter: what resembles one is more varied than letters are.
            shares = zip(indices_of, (2, 4, 4), strict=True)
            parts = [random.choice(indices, recipe.batch // share) for indices, share in shares]
            chosen = np.concatenate(parts)
            yield torch.from_numpy(inputs[chosen]), torch.from_numpy(truth[chosen])

    train_small_network(network, recipe, batches(), functional.cross_entropy, weight_decay=0.02, on_step=on_step)
    return network.eval()


def examples(knees: Sequence[LabelledKnee], recipe: LeadMarkerRecipe, size: int) -> Examples:
    """The network's inputs on the recipe's films, as the node would make them, and their classes."""
    found: list[Examples] = []
    for at in track(range(recipe.films), "Films with letters", transient=True, console=Console(stderr=True)):
        random = np.random.default_rng((recipe.seed, 0, at))
        pixels, side = film_without_letters(knees, random)
        found += [labelled_patches(with_letters(pixels, side, random, 5, 5), size) for _ in range(recipe.copies)]
    inputs, truth = zip(*found, strict=True)
    return np.concatenate(inputs), np.concatenate(truth)


@dataclass(frozen=True)
class LeadMarkerFigures:
    """Numbers of letters and films, and how many were classified right and wrong."""

    letters: int
    read: float
    """Part of the letters that are read right."""
    wrong: float
    """Part of the letters that are read as the other one."""
    films: int
    false: float
    """Part of the films without a letter on which one is read."""


@torch.no_grad()
def evaluate_lead_markers(
    network: LeadMarkerClassifier, knees: Sequence[LabelledKnee], size: int, limit: float, films: int = 400
) -> LeadMarkerFigures:
    """The figures at a limit: each film with two letters and four distractors, and with the distractors alone."""
    letters = right = wrong = false = 0
    for at in track(range(films), "Evaluating", transient=True, console=Console(stderr=True)):
        random = np.random.default_rng((70, at))
        pixels, side = film_without_letters(knees, random)
        for count in (2, 0):
            film = with_letters(pixels, side, random, count, 4)
            patches, truth = labelled_patches(film, size)
            predicted, _ = classify_letters(network(torch.from_numpy(patches))[0].numpy(), limit)
            letters += len(film.letters)
            right += int(((predicted == truth) & (predicted != NOTHING)).sum())
            wrong += int(((predicted != truth) & (predicted != NOTHING) & (truth != NOTHING)).sum())
            false += bool(not count and (predicted != NOTHING).any())
    return LeadMarkerFigures(letters, right / letters, wrong / letters, films, false / films)
