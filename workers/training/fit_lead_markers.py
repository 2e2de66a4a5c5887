"""Fit the network that reads lead letters, on what the node finds on composed films with letters and with none."""

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
from workers.training.lead_letter_films import film_without_letters, patches_of, with_letters
from workers.training.steps import descend

Examples = tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]
"""(n, 1, size, size), and what each is."""


@dataclass(frozen=True)
class LettersRecipe:
    """How the network is trained."""

    films: int = 350
    copies: int = 8
    """Each film is lettered anew so many times."""
    steps: int = 2500
    batch: int = 256
    learning_rate: float = 3e-3
    seed: int = 1


def fit_letters(
    recipe: LettersRecipe, train: Sequence[LabelledKnee], size: int, *, watch: Callable[[int, float], None]
) -> LeadMarkerClassifier:
    """Train on films of `train` and return the network."""
    torch.manual_seed(recipe.seed)
    shown, truth = examples(train, recipe, size)
    ordered = [np.flatnonzero(truth == name) for name in (NOTHING, LETTER_R, LETTER_L)]
    network = LeadMarkerClassifier()

    def batches() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for step in range(1, recipe.steps + 1):
            random = np.random.default_rng((recipe.seed, step))
            # Half of them are none: what resembles a letter is more varied than letters are.
            parts = [random.choice(each, recipe.batch // n) for each, n in zip(ordered, (2, 4, 4), strict=True)]
            chosen = np.concatenate(parts)
            yield torch.from_numpy(shown[chosen]), torch.from_numpy(truth[chosen])

    descend(network, recipe, batches(), functional.cross_entropy, weight_decay=0.02, watch=watch)
    return network.eval()


def examples(knees: Sequence[LabelledKnee], recipe: LettersRecipe, size: int) -> Examples:
    """What the node would show the network of the recipe's films."""
    made: list[Examples] = []
    for at in track(range(recipe.films), "Films with letters", transient=True, console=Console(stderr=True)):
        random = np.random.default_rng((recipe.seed, 0, at))
        pixels, side = film_without_letters(knees, random)
        made += [patches_of(with_letters(pixels, side, random, 5, 5), size) for _ in range(recipe.copies)]
    shown, truth = zip(*made, strict=True)
    return np.concatenate(shown), np.concatenate(truth)


@dataclass(frozen=True)
class Reading:
    """Letters and films that were judged, and the parts of them that went well or ill."""

    letters: int
    read: float
    """Of letters, read rightly."""
    wrong: float
    """Of letters, read as the other one."""
    films: int
    false: float
    """Of films without a letter, those on which one was read."""


@torch.no_grad()
def judge(
    network: LeadMarkerClassifier, knees: Sequence[LabelledKnee], size: int, limit: float, films: int = 400
) -> Reading:
    """How the network reads at a limit: each film with two letters and four other things, and with these alone."""
    letters = right = wrong = false = 0
    for at in track(range(films), "Judged", transient=True, console=Console(stderr=True)):
        random = np.random.default_rng((70, at))
        pixels, side = film_without_letters(knees, random)
        for count in (2, 0):
            film = with_letters(pixels, side, random, count, 4)
            patches, truth = patches_of(film, size)
            told, _ = classify_letters(network(torch.from_numpy(patches))[0].numpy(), limit)
            letters += len(film.letters)
            right += int(((told == truth) & (told != NOTHING)).sum())
            wrong += int(((told != truth) & (told != NOTHING) & (truth != NOTHING)).sum())
            false += bool(not count and (told != NOTHING).any())
    return Reading(letters, right / letters, wrong / letters, films, false / films)
