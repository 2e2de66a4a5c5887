"""
Consistency training: a trained grader learns to predict of a joint on a film what it predicts of the clean crop.

A grader that was trained on grades alone is inconsistent: moved by a fiftieth of its side, one knee in twelve changes
its grade. Here it is distilled from its own predictions (Beyer et al. 2022, "a good teacher is patient and consistent")
and a little from the readers': the teacher, a copy of it, gets each crop straightened by its landmarks, as the node
grades it. The student gets the knee twice, cut out of a composed film and out of the crop again, each time changed at
random; the difference of its two predictions counts beside their distance from the teacher's.
"""

import copy
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor
from torch.nn import functional
from torch.utils.data import Dataset

from workers.evaluation.labelled_films import BATCH
from workers.evaluation.labelled_knees import LabelledKnee, true_grades
from workers.models.networks import Grader, MirroredGrader
from workers.preprocessing import Grey, Pose, cut, grader_input
from workers.training.augment import vary_exposure
from workers.training.batches import loaded_by_processes
from workers.training.checkpoint import Stateful, load_checkpoint, save_checkpoint
from workers.training.film_joints import with_pose_error
from workers.training.films import OUTSIDE, Crop, compose, mirrored
from workers.training.steps import apply_gradients, fold_batch_norm, size_at, soft_labels, update_average

Array = npt.NDArray[np.float32]
Views = tuple[Array, Array, npt.NDArray[np.int64]]
"""The student's inputs of n knees on films and on crops, each (n, 3, size, size), and the knees' indices (n,)."""

FOUR = 4
"""Knees in one example: two of them on one film."""
EVERY = 50
"""Steps between two checkpoints."""


@dataclass(frozen=True)
class ConsistencyRecipe:
    """
    How a grader is trained for consistency; [training.steady] in a card.

    `sizes` are (steps, pixels) in turn; the `batch` views of a step are two of each of half as many knees.
    """

    sizes: tuple[tuple[int, int], ...] = ((300, 224), (600, 256))
    batch: int = 32
    learning_rate: float = 2e-4
    weight_decay: float = 0.02
    warm_up: float = 0.05
    average: float = 0.99
    labels: float = 0.2
    """The readers' part in the targets; the rest is the teacher's."""
    label_sigma: float = 0.5
    alike: float = 1.0
    """Weight of the difference between the two views; the distance from the teacher has 1."""
    part: float = 1.0
    """Interpolation between the teacher's weights, 0, and the student's, 1: less is more accurate on crops and less
    consistent on films (Wortsman et al. 2022, "Robust fine-tuning of zero-shot models")."""
    joint: tuple[float, float] = (220, 420)
    """Range of the width of a joint on a film, in pixels."""
    grain: tuple[float, float] = (0.1, 0.6)
    seed: int = 1
    processes: int = 1
    """Other processes that make the views; 0: this one does."""

    @property
    def steps(self) -> int:
        return sum(steps for steps, _ in self.sizes)

    @property
    def fours(self) -> int:
        """Examples of FOUR knees in a step."""
        return max(1, self.batch // (2 * FOUR))

    def size(self, step: int) -> int:
        """Pixels of the input's side in `step`, counted from 0."""
        return size_at(self.sizes, step)


class ViewPairs(Dataset[Views]):
    """Two views of each of four knees at a time; example n of a recipe is always the same."""

    def __init__(self, knees: Sequence[LabelledKnee], poses: Sequence[Pose], recipe: ConsistencyRecipe) -> None:
        self.knees, self.poses, self.recipe = knees, poses, recipe

    def __len__(self) -> int:
        return self.recipe.steps * self.recipe.fours

    def __getitem__(self, at: int) -> Views:
        random = np.random.default_rng((self.recipe.seed, at))
        size = self.recipe.size(at // self.recipe.fours)
        which = random.integers(len(self.knees), size=FOUR)
        knees = [Crop(self.knees[index].read(), pose=self.poses[index]) for index in map(int, which)]
        filmed = [view for pair in (knees[:2], knees[2:]) for view in views_on_film(pair, random, size, self.recipe)]
        return (
            _prepared(filmed, random, size),
            _prepared([_again(knee, random, size) for knee in knees], random, size),
            which,
        )


def views_on_film(
    pair: Sequence[Crop], random: np.random.Generator, size: int, recipe: ConsistencyRecipe
) -> list[Grey]:
    """Two right knees cut out of one composed film, (size, size); the second is on it as a left one."""
    crops, grain = [pair[0], mirrored(pair[1])], random.uniform(*recipe.grain)
    film = compose(crops, random, joint=recipe.joint, longest=1200, grain=grain, seams=OUTSIDE)
    first, second = (
        cut(film.pixels, with_pose_error(crop.pose_on_film(joint), random), size)
        for crop, joint in zip(crops, film.joints, strict=True)
    )
    return [first, second[:, ::-1]]


def _again(knee: Crop, random: np.random.Generator, size: int) -> Grey:
    """A knee as the node cuts it out of its crop, or with a random pose error and exposure."""
    assert knee.pose is not None
    if random.random() < 0.5:
        return cut(knee.pixels, knee.pose, size)
    return vary_exposure(cut(knee.pixels, with_pose_error(knee.pose, random), size), random)


def _prepared(views: Sequence[Grey], random: np.random.Generator, size: int) -> Array:
    """Views as inputs of a grader, half of them mirrored at random."""
    mirrored = random.random(len(views)) < 0.5
    turned = [view[:, ::-1] if turn else view for view, turn in zip(views, mirrored, strict=True)]
    return np.stack([grader_input(np.ascontiguousarray(view), size) for view in turned])


def train_consistency(
    recipe: ConsistencyRecipe,
    network: Grader,
    train: Sequence[LabelledKnee],
    poses: Sequence[Pose],
    folder: Path,
    *,
    on_step: Callable[[int, float], None] = lambda step, loss: None,
    device: str = "cpu",
) -> Grader:
    """
    Return a more consistent copy of `network`, trained on knees of `train`, whose poses on their crops are `poses`.

    Batch statistics stay as they are. A checkpoint in `folder` is resumed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(recipe.seed)
    teacher: Grader = copy.deepcopy(network).to(device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    student, averaged = copy.deepcopy(teacher), copy.deepcopy(teacher)
    fold_batch_norm(student)
    optimizer, schedule = _optimizer(student, recipe)
    stateful: dict[str, Stateful] = {"pupil": student, "averaged": averaged}
    stateful |= {"optimizer": optimizer, "schedule": schedule}
    done = load_checkpoint(folder / "checkpoint.pt", recipe, stateful)
    truth = consistency_targets(recipe, teacher, train, poses, folder / "teacher.pt").to(device)
    for step, (filmed, again, which) in enumerate(_batches(recipe, train, poses, done), start=done + 1):
        views = torch.cat([filmed, again]).to(device, memory_format=torch.channels_last)
        loss = consistency_loss(student(views)[0], truth[which], recipe.alike)
        value = apply_gradients(loss, optimizer, student)
        schedule.step()
        update_average(averaged, student, min(recipe.average, step / (10 + step)))
        if step % EVERY == 0:
            save_checkpoint(folder / "checkpoint.pt", recipe, stateful, step)
        on_step(step, value)
    update_average(averaged, teacher, recipe.part)
    return averaged


@torch.no_grad()
def consistency_targets(
    recipe: ConsistencyRecipe, teacher: Grader, train: Sequence[LabelledKnee], poses: Sequence[Pose], cache: Path
) -> Tensor:
    """
    The targets (n, 5): the teacher's predictions for each knee and its mirror image, blended with the readers' grades.

    The teacher's predictions are cached in the file `cache`, which is not used for another teacher or other knees.
    """
    key = _cache_key(teacher, train, poses, recipe.size(recipe.steps - 1))
    cached: dict[str, Any] = torch.load(cache, weights_only=True) if cache.is_file() else {"whose": ""}
    if cached["whose"] != key:
        size, both = recipe.size(recipe.steps - 1), MirroredGrader(teacher).eval()
        device, predictions = next(teacher.parameters()).device, []
        for first in track(range(0, len(train), BATCH), "Teacher", transient=True, console=Console(stderr=True)):
            knees = zip(train[first : first + BATCH], poses[first : first + BATCH], strict=True)
            views = np.stack([grader_input(cut(knee.read(), pose, size), size) for knee, pose in knees])
            inputs = torch.from_numpy(views).to(device, memory_format=torch.channels_last)
            predictions.append(both(inputs)[0].softmax(1).cpu().numpy())
        cached = {"whose": key, "said": torch.from_numpy(np.concatenate(predictions))}
        torch.save(cached, cache.with_suffix(".tmp"))
        cache.with_suffix(".tmp").replace(cache)
    teachers, readers = cached["said"].numpy(), soft_labels(recipe.label_sigma)[true_grades(train)]
    return torch.from_numpy(np.asarray((1 - recipe.labels) * teachers + recipe.labels * readers, np.float32))


def _cache_key(teacher: Grader, train: Sequence[LabelledKnee], poses: Sequence[Pose], size: int) -> str:
    """A hash of the teacher and of its inputs."""
    inputs = [(knee.patient, knee.side, knee.path.name, pose) for knee, pose in zip(train, poses, strict=True)]
    digest = hashlib.sha256(repr((size, inputs)).encode())
    for name, values in teacher.state_dict().items():
        digest.update(name.encode() + values.cpu().numpy().tobytes())
    return digest.hexdigest()


def consistency_loss(logits: Tensor, truth: Tensor, alike: float) -> Tensor:
    """
    The distance of two views of n knees, `logits` (2 n, 5), from `truth` (n, 5), and `alike` times from each other.

    Kullback-Leibler divergences; between the views that of both directions (Jeffreys), halved.
    """
    first, second = logits.log_softmax(1).chunk(2)
    distance = sum(functional.kl_div(view, truth, reduction="batchmean") for view in (first, second)) / 2
    between = ((first.exp() - second.exp()) * (first - second)).sum(1).mean() / 2
    return distance + alike * between


def _optimizer(
    student: Grader, recipe: ConsistencyRecipe
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    optimizer = torch.optim.AdamW(student.parameters(), recipe.learning_rate, weight_decay=recipe.weight_decay)
    return optimizer, torch.optim.lr_scheduler.OneCycleLR(
        optimizer, recipe.learning_rate, recipe.steps, pct_start=recipe.warm_up
    )


def _batches(
    recipe: ConsistencyRecipe, train: Sequence[LabelledKnee], poses: Sequence[Pose], done: int
) -> Iterator[tuple[Tensor, ...]]:
    """The batches after the first `done`, made by other processes."""
    fours, pairs = recipe.fours, ViewPairs(train, poses, recipe)
    return loaded_by_processes(pairs, fours, _concatenated, recipe.processes, start=done * fours, length=len(pairs))


def _concatenated(views: list[Views]) -> tuple[Tensor, ...]:
    return tuple(torch.from_numpy(np.concatenate(arrays)) for arrays in zip(*views, strict=True))
