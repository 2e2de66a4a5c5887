"""Fit a grader: one recipe in, one set of weights out, resumable at every epoch."""

import copy
import json
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from workers.evaluation.labelled_knees import LabelledKnee
from workers.models.networks import GRADERS, Grader
from workers.preprocessing import Grey, grader_input
from workers.training.augment import augment
from workers.training.batches import prefetched
from workers.training.checkpoint import Kept, keep, resume
from workers.training.steps import at_size, average, blend, in_bf16, soft_labels, spare_slow_kernels, step_once


@dataclass(frozen=True)
class Recipe:
    """How a network is trained. The sizes are (epochs, pixels) in turn: small and cheap first (Tan & Le 2021)."""

    architecture: str
    sizes: tuple[tuple[int, int], ...] = ((4, 192), (4, 224), (2, 256))
    batch: int = 32
    learning_rate: float = 1e-3
    weight_decay: float = 0.02
    warm_up: float = 0.05
    label_sigma: float = 0.45
    average: float = 0.998
    mixup: float = 0.0
    """Alpha of the Beta distribution that two knees are blended by (Zhang et al. 2018); 0: none are."""
    ordinal: float = 0.0
    """Weight of the squared distance between the cumulated probabilities and the cumulated target beside
    the cross-entropy (Hou et al. 2016): two grades off costs more than one."""
    seed: int = 1

    @property
    def epochs(self) -> int:
        return sum(epochs for epochs, _ in self.sizes)

    def size(self, epoch: int) -> int:
        """Pixels of the input's side in `epoch`, counted from 0."""
        return at_size(self.sizes, epoch)

    def part_done(self, epoch: int, part: float = 0.0) -> float:
        """How much of the work is done, 0 to 1, after `part` of `epoch`: a step costs what it has pixels."""
        costs = [self.size(each) ** 2 for each in range(self.epochs)]
        return (sum(costs[:epoch]) + part * costs[epoch]) / sum(costs)


@dataclass(frozen=True)
class Progress:
    """Where a training stands after a step; `part` of its work is done, 0 to 1."""

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    part: float
    seconds_left: float


def fit(
    recipe: Recipe,
    train: Sequence[LabelledKnee],
    val: Sequence[LabelledKnee],
    folder: Path,
    *,
    start: Callable[[Grader], None] = lambda network: None,
    watch: Callable[[Progress], None] = lambda progress: None,
    device: str = "cpu",
) -> Grader:
    """
    Train on `train`, log each epoch's figures on `val` to folder/log.jsonl, return the averaged network.

    `start` fills a new network with the weights that it begins from; without it they are random.

    A folder that holds a checkpoint of the same recipe is carried on from there; another recipe's is an error.
    """
    folder.mkdir(parents=True, exist_ok=True)
    training = _begin(recipe, start, device)
    done = resume(folder / "checkpoint.pt", recipe, training.parts)
    pictures, held = [knee.read() for knee in train], [knee.read() for knee in val]
    grades = np.array([knee.kl for knee in train])
    steps = len(train) // recipe.batch
    for epoch in range(done, recipe.epochs):
        began = time.monotonic()
        loss = _train(training, _batches(pictures, grades, recipe, epoch), epoch, steps, watch=watch)
        figures = _judge(training.averaged, held, [knee.kl for knee in val], recipe.size(epoch), device)
        rate = recipe.learning_rate * _schedule((epoch + 1) / recipe.epochs, recipe.warm_up)
        run = {"size": recipe.size(epoch), "learning_rate": rate, "seconds": time.monotonic() - began}
        _log(folder / "log.jsonl", epoch=epoch, loss=loss, **run, **figures)
        keep(folder / "checkpoint.pt", recipe, training.parts, epoch + 1)
    return training.averaged


@dataclass(frozen=True)
class _Training:
    """What changes while a network is trained, and the recipe and device that it is trained with."""

    recipe: Recipe
    network: Grader
    averaged: Grader
    optimizer: torch.optim.Optimizer
    device: str

    @property
    def parts(self) -> dict[str, Kept]:
        return {"network": self.network, "averaged": self.averaged, "optimizer": self.optimizer}


def _begin(recipe: Recipe, start: Callable[[Grader], None], device: str) -> _Training:
    """A new network as the recipe's seed makes it, on `device`, and a copy of it for the average."""
    torch.manual_seed(recipe.seed)
    network = GRADERS[recipe.architecture]()
    start(network)
    network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    averaged = copy.deepcopy(network).eval()
    if device == "cpu":
        spare_slow_kernels(network)
    return _Training(recipe, network, averaged, _optimizer(network, recipe), device)


def _train(
    training: _Training,
    batches: Iterable[tuple[torch.Tensor, torch.Tensor]],
    epoch: int,
    steps: int,
    *,
    watch: Callable[[Progress], None],
) -> float:
    """One epoch of `steps` steps; the last step's loss."""
    recipe, network, device = training.recipe, training.network, training.device
    targets = torch.from_numpy(soft_labels(recipe.label_sigma))
    loss = math.nan
    network.train()
    began = time.monotonic()
    for step, (images, labels) in enumerate(batches):
        at = epoch * steps + step
        for group in training.optimizer.param_groups:
            group["lr"] = recipe.learning_rate * _schedule(at / (steps * recipe.epochs), recipe.warm_up)
        images, wanted = blend(images, targets[labels], recipe.mixup, np.random.default_rng((recipe.seed, at)))
        loss = step_once(network, training.optimizer, images.to(device), wanted.to(device), recipe.ordinal)
        average(training.averaged, network, min(recipe.average, (1 + at) / (10 + at)))
        part = recipe.part_done(epoch, (step + 1) / steps)
        left = (time.monotonic() - began) / (part - recipe.part_done(epoch)) * (1 - part)
        watch(Progress(epoch, recipe.epochs, step + 1, steps, loss, part, left))
    return loss


def _optimizer(network: Grader, recipe: Recipe) -> torch.optim.AdamW:
    decayed = [parameter for parameter in network.parameters() if parameter.ndim > 1]
    free = [parameter for parameter in network.parameters() if parameter.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": free, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=recipe.learning_rate)


def _schedule(part: float, warm_up: float) -> float:
    """A linear rise, then half a cosine down to nothing."""
    return part / warm_up if part < warm_up else 0.5 * (1 + math.cos(math.pi * (part - warm_up) / (1 - warm_up)))


def _batches(
    pictures: Sequence[Grey], grades: npt.NDArray[np.int64], recipe: Recipe, epoch: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Augmented, prepared batches of one epoch; the next is made while the network works on this one."""
    order = np.random.default_rng((recipe.seed, epoch)).permutation(len(pictures))
    size = recipe.size(epoch)

    def make(chosen: npt.NDArray[np.int64]) -> tuple[torch.Tensor, torch.Tensor]:
        prepared = [
            grader_input(augment(pictures[index], np.random.default_rng((recipe.seed, epoch, index))), size)
            for index in chosen
        ]
        images = torch.from_numpy(np.stack(prepared)).to(memory_format=torch.channels_last)
        return images, torch.from_numpy(grades[chosen])

    chunks = [order[at : at + recipe.batch] for at in range(0, len(order) - recipe.batch + 1, recipe.batch)]
    return prefetched(make, chunks)


@torch.no_grad()
def _judge(
    network: Grader, pictures: Sequence[Grey], grades: Sequence[int], size: int, device: str
) -> dict[str, float]:
    """Accuracy, quadratic weighted kappa and mean absolute error of the most probable grade."""
    from workers.evaluation.metrics import accuracy, mean_absolute_error, quadratic_weighted_kappa

    logits = []
    for at in range(0, len(pictures), 32):
        images = torch.from_numpy(np.stack([grader_input(knee, size) for knee in pictures[at : at + 32]]))
        with in_bf16(device):
            logits.append(network(images.to(device, memory_format=torch.channels_last))[0].float().cpu())
    found, truth = torch.cat(logits).argmax(1).numpy(), np.array(grades)
    return {
        "accuracy": accuracy(truth, found),
        "qwk": quadratic_weighted_kappa(truth, found),
        "mae": mean_absolute_error(truth, found),
    }


def _log(path: Path, **figures: float) -> None:
    with path.open("a", encoding="utf-8") as log:
        log.write(json.dumps({key: round(value, 7) for key, value in figures.items()}) + "\n")
