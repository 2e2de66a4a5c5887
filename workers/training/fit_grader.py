"""Training of a grader by a recipe, resumable at every epoch."""

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
from workers.training.checkpoint import Stateful, load_checkpoint, save_checkpoint
from workers.training.steps import (
    in_bf16,
    keep_slow_kernels_in_fp32,
    mixup,
    size_at,
    soft_labels,
    training_step,
    update_average,
)


@dataclass(frozen=True)
class GraderRecipe:
    """How a grader is trained. `sizes` are (epochs, pixels) in turn: small and cheap first (Tan & Le 2021)."""

    architecture: str
    sizes: tuple[tuple[int, int], ...] = ((4, 192), (4, 224), (2, 256))
    batch: int = 32
    learning_rate: float = 1e-3
    weight_decay: float = 0.02
    warm_up: float = 0.05
    label_sigma: float = 0.45
    average: float = 0.998
    mixup: float = 0.0
    """Alpha of mixup's Beta distribution (Zhang et al. 2018); 0: no mixup."""
    ordinal: float = 0.0
    """Weight of the squared distance between the cumulated probabilities and the cumulated target beside
    the cross-entropy (Hou et al. 2016): two grades off costs more than one."""
    seed: int = 1

    @property
    def epochs(self) -> int:
        return sum(epochs for epochs, _ in self.sizes)

    def size(self, epoch: int) -> int:
        """Pixels of the input's side in `epoch`, counted from 0."""
        return size_at(self.sizes, epoch)

    def fraction_done(self, epoch: int, part: float = 0.0) -> float:
        """The part of the work that is done, 0 to 1, after `part` of `epoch`: a step costs as much as it has pixels."""
        costs = [self.size(number) ** 2 for number in range(self.epochs)]
        return (sum(costs[:epoch]) + part * costs[epoch]) / sum(costs)


@dataclass(frozen=True)
class TrainingProgress:
    """Progress of a training after a step; `part` of its work is done, 0 to 1."""

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    part: float
    seconds_left: float


def fit_grader(
    recipe: GraderRecipe,
    train: Sequence[LabelledKnee],
    val: Sequence[LabelledKnee],
    folder: Path,
    *,
    start: Callable[[Grader], None] = lambda network: None,
    on_step: Callable[[TrainingProgress], None] = lambda progress: None,
    device: str = "cpu",
) -> Grader:
    """
    Train on `train`, log each epoch's figures on `val` to folder/log.jsonl, return the averaged network.

    `start` loads the initial weights into a new network; without it they are random.

    A checkpoint of the same recipe in `folder` is resumed; another recipe's raises ValueError.
    """
    folder.mkdir(parents=True, exist_ok=True)
    training = _begin(recipe, start, device)
    done = load_checkpoint(folder / "checkpoint.pt", recipe, training.stateful)
    images, val_images = [knee.read() for knee in train], [knee.read() for knee in val]
    grades = np.array([knee.kl for knee in train])
    steps = len(train) // recipe.batch
    for epoch in range(done, recipe.epochs):
        began = time.monotonic()
        loss = _train(training, _batches(images, grades, recipe, epoch), epoch, steps, on_step=on_step)
        figures = _evaluate(training.averaged, val_images, [knee.kl for knee in val], recipe.size(epoch), device)
        rate = recipe.learning_rate * _schedule((epoch + 1) / recipe.epochs, recipe.warm_up)
        run = {"size": recipe.size(epoch), "learning_rate": rate, "seconds": time.monotonic() - began}
        _log(folder / "log.jsonl", epoch=epoch, loss=loss, **run, **figures)
        save_checkpoint(folder / "checkpoint.pt", recipe, training.stateful, epoch + 1)
    return training.averaged


@dataclass(frozen=True)
class _Training:
    """The networks and the optimizer of a training, with its recipe and device."""

    recipe: GraderRecipe
    network: Grader
    averaged: Grader
    optimizer: torch.optim.Optimizer
    device: str

    @property
    def stateful(self) -> dict[str, Stateful]:
        return {"network": self.network, "averaged": self.averaged, "optimizer": self.optimizer}


def _begin(recipe: GraderRecipe, start: Callable[[Grader], None], device: str) -> _Training:
    """A new network by the recipe's seed, on `device`, and a copy of it for the moving average."""
    torch.manual_seed(recipe.seed)
    network = GRADERS[recipe.architecture]()
    start(network)
    network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    averaged = copy.deepcopy(network).eval()
    if device == "cpu":
        keep_slow_kernels_in_fp32(network)
    return _Training(recipe, network, averaged, _optimizer(network, recipe), device)


def _train(
    training: _Training,
    batches: Iterable[tuple[torch.Tensor, torch.Tensor]],
    epoch: int,
    steps: int,
    *,
    on_step: Callable[[TrainingProgress], None],
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
        images, wanted = mixup(images, targets[labels], recipe.mixup, np.random.default_rng((recipe.seed, at)))
        loss = training_step(network, training.optimizer, images.to(device), wanted.to(device), recipe.ordinal)
        update_average(training.averaged, network, min(recipe.average, (1 + at) / (10 + at)))
        part = recipe.fraction_done(epoch, (step + 1) / steps)
        left = (time.monotonic() - began) / (part - recipe.fraction_done(epoch)) * (1 - part)
        on_step(TrainingProgress(epoch, recipe.epochs, step + 1, steps, loss, part, left))
    return loss


def _optimizer(network: Grader, recipe: GraderRecipe) -> torch.optim.AdamW:
    decayed = [parameter for parameter in network.parameters() if parameter.ndim > 1]
    free = [parameter for parameter in network.parameters() if parameter.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": free, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=recipe.learning_rate)


def _schedule(part: float, warm_up: float) -> float:
    """The learning rate's factor: a linear rise, then half a cosine down to 0."""
    return part / warm_up if part < warm_up else 0.5 * (1 + math.cos(math.pi * (part - warm_up) / (1 - warm_up)))


def _batches(
    images: Sequence[Grey], grades: npt.NDArray[np.int64], recipe: GraderRecipe, epoch: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Augmented, prepared batches of one epoch, made one ahead of the training."""
    order = np.random.default_rng((recipe.seed, epoch)).permutation(len(images))
    size = recipe.size(epoch)

    def make(chosen: npt.NDArray[np.int64]) -> tuple[torch.Tensor, torch.Tensor]:
        prepared = [
            grader_input(augment(images[index], np.random.default_rng((recipe.seed, epoch, index))), size)
            for index in chosen
        ]
        batch = torch.from_numpy(np.stack(prepared)).to(memory_format=torch.channels_last)
        return batch, torch.from_numpy(grades[chosen])

    chunks = [order[at : at + recipe.batch] for at in range(0, len(order) - recipe.batch + 1, recipe.batch)]
    return prefetched(make, chunks)


@torch.no_grad()
def _evaluate(
    network: Grader, images: Sequence[Grey], grades: Sequence[int], size: int, device: str
) -> dict[str, float]:
    """Accuracy, quadratic weighted kappa and mean absolute error of the most probable grade."""
    from workers.evaluation.metrics import accuracy, mean_absolute_error, quadratic_weighted_kappa

    logits = []
    for at in range(0, len(images), 32):
        batch = torch.from_numpy(np.stack([grader_input(knee, size) for knee in images[at : at + 32]]))
        with in_bf16(device):
            logits.append(network(batch.to(device, memory_format=torch.channels_last))[0].float().cpu())
    predicted, truth = torch.cat(logits).argmax(1).numpy(), np.array(grades)
    return {
        "accuracy": accuracy(truth, predicted),
        "qwk": quadratic_weighted_kappa(truth, predicted),
        "mae": mean_absolute_error(truth, predicted),
    }


def _log(path: Path, **figures: float) -> None:
    with path.open("a", encoding="utf-8") as log:
        log.write(json.dumps({key: round(value, 7) for key, value in figures.items()}) + "\n")
