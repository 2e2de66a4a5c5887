"""Fit the network that reads lead letters, on what the node finds on composed films with letters and with none."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from rich.progress import track
from torch.nn import functional

from workers.letters import LEFT, NOTHING, RIGHT
from workers.networks import LetterReader
from workers.training.knees import LabelledKnee
from workers.training.letters import film_without_letters, patches_of, with_letters

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
) -> LetterReader:
    """Train on films of `train` and return the network."""
    torch.manual_seed(recipe.seed)
    shown, truth = examples(train, recipe, size)
    ordered = [np.flatnonzero(truth == name) for name in (NOTHING, RIGHT, LEFT)]
    network = LetterReader()
    optimizer = torch.optim.AdamW(network.parameters(), lr=recipe.learning_rate, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.learning_rate, recipe.steps)
    network.train()
    for step in range(1, recipe.steps + 1):
        random = np.random.default_rng((recipe.seed, step))
        # Half of them are none: what resembles a letter is more varied than letters are.
        chosen = np.concatenate(
            [random.choice(each, recipe.batch // n) for each, n in zip(ordered, (2, 4, 4), strict=True)]
        )
        loss = functional.cross_entropy(network(torch.from_numpy(shown[chosen]))[0], torch.from_numpy(truth[chosen]))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        watch(step, float(loss.detach()))
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
def judge(network: LetterReader, knees: Sequence[LabelledKnee], size: int, limit: float, films: int = 400) -> Reading:
    """How the network reads at a limit: each film with two letters and four other things, and with these alone."""
    letters = right = wrong = false = 0
    for at in track(range(films), "Judged", transient=True, console=Console(stderr=True)):
        random = np.random.default_rng((70, at))
        pixels, side = film_without_letters(knees, random)
        for count in (2, 0):
            film = with_letters(pixels, side, random, count, 4)
            patches, truth = patches_of(film, size)
            said = _said(network, patches, limit)
            letters += len(film.letters)
            right += int(((said == truth) & (said != NOTHING)).sum())
            wrong += int(((said != truth) & (said != NOTHING) & (truth != NOTHING)).sum())
            false += bool(not count and (said != NOTHING).any())
    return Reading(letters, right / letters, wrong / letters, films, false / films)


def _said(network: LetterReader, patches: npt.NDArray[np.float32], limit: float) -> npt.NDArray[np.int64]:
    if not len(patches):
        return np.zeros(0, np.int64)
    sure, name = network(torch.from_numpy(patches))[0].softmax(1).max(1)
    return np.where(sure.numpy() >= limit, name.numpy(), NOTHING).astype(np.int64)
