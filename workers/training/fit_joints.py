"""
Fit the joint finder and the closer look together on composed films.

They learn from the same films, made by all processors while the networks work. What is kept is the running mean of
the weights that did best over films made in several ways, one of which the training never shows (padded): a finder
begins to learn how composed films are made after it has learnt the joint.
"""

import copy
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Dataset

from workers.evaluation.labelled_knees import LabelledKnee
from workers.models.networks import JointDetector, JointRefiner
from workers.training.batches import loaded_by_processes
from workers.training.joint_figures import judged
from workers.training.joint_films import Patients, Sample, film_of, held_back, patients_of, sample
from workers.training.steps import apply_gradients, average


@dataclass(frozen=True)
class JointRecipe:
    """How finder and look are trained."""

    steps: int = 3000
    batch: int = 64
    learning_rate: float = 2e-3
    average: float = 0.998
    seed: int = 1
    judge_every: int = 250
    processes: int = 2


@dataclass
class Pair:
    """The two networks."""

    finder: JointDetector
    look: JointRefiner

    def to(self, device: str) -> "Pair":
        return Pair(self.finder.to(device), self.look.to(device))

    def both(self) -> tuple[nn.Module, nn.Module]:
        return self.finder, self.look


class Films(Dataset[Sample]):
    """Film number n of a seed is always the same film."""

    def __init__(self, patients: Patients, seed: int, number: int) -> None:
        self.patients, self.seed, self.number = patients, seed, number
        self.annotated = [both for both in patients if any(crop.points is not None for crop in both)]

    def __len__(self) -> int:
        return self.number

    def __getitem__(self, at: int) -> Sample:
        random = np.random.default_rng((self.seed, at))
        return sample(film_of(self.patients, random, self.annotated), random)


def fit_joints(
    recipe: JointRecipe,
    train: Sequence[LabelledKnee],
    val: Sequence[LabelledKnee],
    landmarks: dict[str, np.ndarray],
    folder: Path,
    *,
    watch: Callable[[int, float, dict[str, float]], None] = lambda step, loss, figures: None,
    device: str = "cpu",
    seconds: float = float("inf"),
) -> Pair:
    """Train on films of `train` patients, judge on films of `val` patients, return the best seen."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(recipe.seed)
    pair = Pair(JointDetector(), JointRefiner()).to(device)
    mean = Pair(copy.deepcopy(pair.finder).eval(), copy.deepcopy(pair.look).eval())
    optimizer = torch.optim.AdamW([each for net in pair.both() for each in net.parameters()], weight_decay=0.01)
    held = held_back(patients_of(val, landmarks), 12345)
    best: dict[str, tuple[float, nn.Module]] = {}
    began = time.monotonic()
    for step, batch in enumerate(batches(recipe, patients_of(train, landmarks)), start=1):
        done = max(step / recipe.steps, (time.monotonic() - began) / seconds)
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate * min(1.0, step / 200) * 0.5 * (1 + np.cos(np.pi * min(1.0, done)))
        value = step_once(pair, optimizer, [each.to(device, non_blocking=True) for each in batch], device)
        for averaged, network in zip(mean.both(), pair.both(), strict=True):
            average(averaged, network, min(recipe.average, (1 + step) / (10 + step)))
        last = step == recipe.steps or done >= 1
        figures: dict[str, float] = {}
        if step % recipe.judge_every == 0 or last:
            figures = judged(mean.finder, mean.look, held, device)
            for name, network in (("finder", mean.finder), ("look", mean.look)):
                if name not in best or figures[f"{name}_score"] >= best[name][0]:
                    best[name] = (figures[f"{name}_score"], copy.deepcopy(network).cpu())
                    torch.save(best[name][1].state_dict(), folder / f"{name}.pt")
        watch(step, value, figures)
        if last:
            break
    return _kept(best["finder"][1], best["look"][1])


def _kept(finder: nn.Module, look: nn.Module) -> Pair:
    assert isinstance(finder, JointDetector)
    assert isinstance(look, JointRefiner)
    return Pair(finder.eval(), look.eval())


def batches(recipe: JointRecipe, patients: Patients) -> Iterator[tuple[Tensor, ...]]:
    """Batches of films made by other processes."""
    films = Films(patients, recipe.seed, recipe.steps * recipe.batch)
    return loaded_by_processes(films, recipe.batch, _stacked, recipe.processes, length=len(films), prefetch=4)


def _stacked(samples: list[Sample]) -> tuple[Tensor, ...]:
    names = ("film", "heat", "views", "kinds", "boxes", "points")
    return tuple(torch.from_numpy(np.stack([getattr(sample, name) for sample in samples])) for name in names)


def step_once(pair: Pair, optimizer: torch.optim.Optimizer, batch: list[Tensor], device: str) -> float:
    """One step of both networks; the loss."""
    films, heat, views, kinds, boxes, points = batch
    for network in pair.both():
        network.train()
    with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
        found = pair.finder(films)[0]
        said, shift, placed = pair.look(views.flatten(0, 1))
    value = finder_loss(found.float(), heat)
    value = value + look_loss(said.float(), shift.float(), placed.float(), kinds, boxes, points)
    return apply_gradients(value, optimizer, *pair.both())


def finder_loss(answer: Tensor, wanted: Tensor) -> Tensor:
    """Penalty-reduced focal loss of the centres (Law & Deng 2018), plus the boxes' absolute error near them."""
    heat, sure = wanted[:, 0], torch.sigmoid(answer[:, 0]).clamp(1e-4, 1 - 1e-4)
    centre = heat > 0.999
    right = -torch.log(sure) * (1 - sure) ** 2 * centre
    wrong = -torch.log(1 - sure) * sure**2 * (1 - heat) ** 4 * ~centre
    near = wanted[:, 4]
    away = functional.smooth_l1_loss(answer[:, 1:4], wanted[:, 1:4], reduction="none", beta=0.1)
    boxes = (away * near[:, None]).sum()
    return (right.sum() + wrong.sum()) / centre.sum().clamp(min=1) + boxes / near.sum().clamp(min=1)


def look_loss(said: Tensor, shift: Tensor, placed: Tensor, kinds: Tensor, boxes: Tensor, points: Tensor) -> Tensor:
    """Cross-entropy of the kind, and how far box and landmarks lie off where they are known."""
    kinds, boxes, points = kinds.flatten(), boxes.flatten(0, 1), points.flatten(0, 1)
    gate = functional.cross_entropy(said, kinds, label_smoothing=0.02)
    off = functional.smooth_l1_loss(shift, boxes[:, :3], reduction="none", beta=0.02).mean(1)
    box = (off * boxes[:, 3]).sum() / boxes[:, 3].sum().clamp(min=1)
    known = points[..., 2]
    apart = functional.smooth_l1_loss(placed[..., :2], points[..., :2], reduction="none", beta=0.01).mean(-1)
    # A heat map that spreads over the view has the right mean by chance: it is held to a fortieth of the view.
    wide = functional.smooth_l1_loss(placed[..., 2], torch.full_like(known, 0.025), reduction="none", beta=0.02)
    landmarks = ((apart + 0.2 * wide) * known).sum() / known.sum().clamp(min=1)
    return gate + 10 * box + 30 * landmarks
