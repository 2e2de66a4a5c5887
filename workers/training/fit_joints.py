"""
Training of the joint detector and the joint refiner together on composed films.

They learn from the same films, made by all processors while the networks train. The result is the moving average of the
weights with the best score over films made in several ways, one of which is not in the training (padded): a detector
that has learnt the joint begins to learn how composed films are made.
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
from workers.training.joint_figures import evaluate_joint_networks
from workers.training.joint_films import (
    Patients,
    TrainingSample,
    held_out_films,
    patients_of,
    random_training_film,
    training_sample,
)
from workers.training.steps import apply_gradients, update_average


@dataclass(frozen=True)
class JointRecipe:
    """How detector and refiner are trained."""

    steps: int = 3000
    batch: int = 64
    learning_rate: float = 2e-3
    average: float = 0.998
    seed: int = 1
    judge_every: int = 250
    processes: int = 2


@dataclass
class JointNetworks:
    """The detector and the refiner."""

    detector: JointDetector
    refiner: JointRefiner

    def to(self, device: str) -> "JointNetworks":
        return JointNetworks(self.detector.to(device), self.refiner.to(device))

    def both(self) -> tuple[nn.Module, nn.Module]:
        return self.detector, self.refiner


class TrainingFilms(Dataset[TrainingSample]):
    """Film number n of a seed is always the same film."""

    def __init__(self, patients: Patients, seed: int, number: int) -> None:
        self.patients, self.seed, self.number = patients, seed, number
        self.annotated = [crops for crops in patients if any(crop.points is not None for crop in crops)]

    def __len__(self) -> int:
        return self.number

    def __getitem__(self, at: int) -> TrainingSample:
        random = np.random.default_rng((self.seed, at))
        return training_sample(random_training_film(self.patients, random, self.annotated), random)


def fit_joints(
    recipe: JointRecipe,
    train: Sequence[LabelledKnee],
    val: Sequence[LabelledKnee],
    landmarks: dict[str, np.ndarray],
    folder: Path,
    *,
    on_step: Callable[[int, float, dict[str, float]], None] = lambda step, loss, figures: None,
    device: str = "cpu",
    seconds: float = float("inf"),
) -> JointNetworks:
    """
    Train on films of `train` patients, evaluate on films of `val` patients, return the best networks.

    Their state dicts are also written to folder/finder.pt and folder/look.pt. `seconds` limits the time.
    """
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(recipe.seed)
    networks = JointNetworks(JointDetector(), JointRefiner()).to(device)
    averages = JointNetworks(copy.deepcopy(networks.detector).eval(), copy.deepcopy(networks.refiner).eval())
    parameters = [weights for network in networks.both() for weights in network.parameters()]
    optimizer = torch.optim.AdamW(parameters, weight_decay=0.01)
    held_out = held_out_films(patients_of(val, landmarks), 12345)
    best: dict[str, tuple[float, nn.Module]] = {}
    began = time.monotonic()
    for step, batch in enumerate(batches(recipe, patients_of(train, landmarks)), start=1):
        done = max(step / recipe.steps, (time.monotonic() - began) / seconds)
        rate = recipe.learning_rate * min(1.0, step / 200) * 0.5 * (1 + np.cos(np.pi * min(1.0, done)))
        _set_learning_rate(optimizer, rate)
        value = joint_training_step(networks, optimizer, batch, device)
        _update_averages(averages, networks, min(recipe.average, (1 + step) / (10 + step)))
        last = step == recipe.steps or done >= 1
        figures: dict[str, float] = {}
        if step % recipe.judge_every == 0 or last:
            figures = evaluate_joint_networks(averages.detector, averages.refiner, held_out, device)
            _save_better(averages, figures, best, folder)
        on_step(step, value, figures)
        if last:
            break
    return _evaluation_mode(best["finder"][1], best["look"][1])


def _update_averages(averages: JointNetworks, networks: JointNetworks, decay: float) -> None:
    for averaged, network in zip(averages.both(), networks.both(), strict=True):
        update_average(averaged, network, decay)


def _set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate


def _save_better(
    averages: JointNetworks, figures: dict[str, float], best: dict[str, tuple[float, nn.Module]], folder: Path
) -> None:
    """Copy and save each network whose score is at least that of its best one so far."""
    for name, network in (("finder", averages.detector), ("look", averages.refiner)):
        if name not in best or figures[f"{name}_score"] >= best[name][0]:
            best[name] = (figures[f"{name}_score"], copy.deepcopy(network).cpu())
            torch.save(best[name][1].state_dict(), folder / f"{name}.pt")


def _evaluation_mode(detector: nn.Module, refiner: nn.Module) -> JointNetworks:
    assert isinstance(detector, JointDetector)
    assert isinstance(refiner, JointRefiner)
    return JointNetworks(detector.eval(), refiner.eval())


def batches(recipe: JointRecipe, patients: Patients) -> Iterator[tuple[Tensor, ...]]:
    """Batches of films made by other processes."""
    films = TrainingFilms(patients, recipe.seed, recipe.steps * recipe.batch)
    return loaded_by_processes(films, recipe.batch, _stacked, recipe.processes, length=len(films), prefetch=4)


def _stacked(samples: list[TrainingSample]) -> tuple[Tensor, ...]:
    names = ("film", "heat", "views", "kinds", "boxes", "points")
    return tuple(torch.from_numpy(np.stack([getattr(sample, name) for sample in samples])) for name in names)


def joint_training_step(
    networks: JointNetworks, optimizer: torch.optim.Optimizer, batch: Sequence[Tensor], device: str
) -> float:
    """One step of both networks; the loss."""
    films, heat, views, kinds, boxes, points = (tensor.to(device, non_blocking=True) for tensor in batch)
    for network in networks.both():
        network.train()
    with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
        found = networks.detector(films)[0]
        kind_logits, shifts, placed = networks.refiner(views.flatten(0, 1))
    value = detector_loss(found.float(), heat)
    value = value + refiner_loss(kind_logits.float(), shifts.float(), placed.float(), kinds, boxes, points)
    return apply_gradients(value, optimizer, *networks.both())


def detector_loss(output: Tensor, target: Tensor) -> Tensor:
    """Penalty-reduced focal loss of the centres (Law & Deng 2018), plus the boxes' absolute error near them."""
    heat, confidence = target[:, 0], torch.sigmoid(output[:, 0]).clamp(1e-4, 1 - 1e-4)
    centre = heat > 0.999
    right = -torch.log(confidence) * (1 - confidence) ** 2 * centre
    wrong = -torch.log(1 - confidence) * confidence**2 * (1 - heat) ** 4 * ~centre
    near = target[:, 4]
    error = functional.smooth_l1_loss(output[:, 1:4], target[:, 1:4], reduction="none", beta=0.1)
    boxes = (error * near[:, None]).sum()
    return (right.sum() + wrong.sum()) / centre.sum().clamp(min=1) + boxes / near.sum().clamp(min=1)


def refiner_loss(
    kind_logits: Tensor, shifts: Tensor, placed: Tensor, kinds: Tensor, boxes: Tensor, points: Tensor
) -> Tensor:
    """Cross-entropy of the kind, and the errors of box and landmarks where these are known."""
    kinds, boxes, points = kinds.flatten(), boxes.flatten(0, 1), points.flatten(0, 1)
    kind = functional.cross_entropy(kind_logits, kinds, label_smoothing=0.02)
    off = functional.smooth_l1_loss(shifts, boxes[:, :3], reduction="none", beta=0.02).mean(1)
    box = (off * boxes[:, 3]).sum() / boxes[:, 3].sum().clamp(min=1)
    known = points[..., 2]
    distance = functional.smooth_l1_loss(placed[..., :2], points[..., :2], reduction="none", beta=0.01).mean(-1)
    # A heat map that spreads over the view can have the right mean by chance: its spread is held to a fortieth of it.
    wide = functional.smooth_l1_loss(placed[..., 2], torch.full_like(known, 0.025), reduction="none", beta=0.02)
    landmarks = ((distance + 0.2 * wide) * known).sum() / known.sum().clamp(min=1)
    return kind + 10 * box + 30 * landmarks
