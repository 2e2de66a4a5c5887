"""
Teach a trained grader to say of a joint on a film what it says of the clean crop.

A grader that learnt from grades alone is unsteady: moved by a fiftieth of its side, one knee in twelve changes its
grade. Here it learns from its own answers (Beyer et al. 2022, "a good teacher is patient and consistent") and a little
from the readers': the teacher, as it was, has seen each crop laid upright by its landmarks, as the node grades it. The
pupil sees the knee twice, cut out of a composed film and out of the crop again, each time otherwise; what its two
answers differ by counts beside how far they lie from the teacher's.
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
from workers.evaluation.labelled_knees import LabelledKnee, truth_of
from workers.models.networks import Grader, MirroredGrader
from workers.preprocessing import Grey, Pose, cut, grader_input
from workers.training.augment import expose
from workers.training.batches import loaded_by_processes
from workers.training.checkpoint import Kept, keep, resume
from workers.training.film_joints import missed_pose
from workers.training.films import OUTSIDE, Crop, compose, mirrored
from workers.training.steps import apply_gradients, at_size, average, fold_statistics, soft_labels

Array = npt.NDArray[np.float32]
Views = tuple[Array, Array, npt.NDArray[np.int64]]
"""Of n knees what the pupil sees on a film and on the crop, each (n, 3, size, size), and which knees they are."""

FOUR = 4
"""Knees that are made together: two of them on one film."""
EVERY = 50
"""Steps between two checkpoints."""


@dataclass(frozen=True)
class SteadyRecipe:
    """
    How a grader is made steady.

    `sizes` are (steps, pixels) in turn; the `batch` views of a step are two of each of half as many knees.
    """

    sizes: tuple[tuple[int, int], ...] = ((300, 224), (600, 256))
    batch: int = 32
    learning_rate: float = 2e-4
    weight_decay: float = 0.02
    warm_up: float = 0.05
    average: float = 0.99
    labels: float = 0.2
    """The readers' part in what is learnt; the rest is the teacher's."""
    label_sigma: float = 0.5
    alike: float = 1.0
    """What the difference between the two views counts, in the distance from the teacher."""
    part: float = 1.0
    """Of the way from the weights that it began with to those that it was taught: less is more accurate on crops and
    less steady on films (Wortsman et al. 2022, "Robust fine-tuning of zero-shot models")."""
    joint: tuple[float, float] = (220, 420)
    """How many pixels wide a joint is on a film."""
    grain: tuple[float, float] = (0.1, 0.6)
    seed: int = 1
    processes: int = 1
    """That make knees while the networks work; 0: this one does."""

    @property
    def steps(self) -> int:
        return sum(steps for steps, _ in self.sizes)

    @property
    def fours(self) -> int:
        """Fours of knees to a step."""
        return max(1, self.batch // (2 * FOUR))

    def size(self, step: int) -> int:
        """Pixels of the input's side in `step`, counted from 0."""
        return at_size(self.sizes, step)


class Pairs(Dataset[Views]):
    """Two views of each of four knees at a time; number n of a recipe is always the same."""

    def __init__(self, knees: Sequence[LabelledKnee], poses: Sequence[Pose], recipe: SteadyRecipe) -> None:
        self.knees, self.poses, self.recipe = knees, poses, recipe

    def __len__(self) -> int:
        return self.recipe.steps * self.recipe.fours

    def __getitem__(self, at: int) -> Views:
        random = np.random.default_rng((self.recipe.seed, at))
        size = self.recipe.size(at // self.recipe.fours)
        which = random.integers(len(self.knees), size=FOUR)
        knees = [Crop(self.knees[each].read(), pose=self.poses[each]) for each in map(int, which)]
        filmed = [view for pair in (knees[:2], knees[2:]) for view in on_a_film(pair, random, size, self.recipe)]
        return (
            _prepared(filmed, random, size),
            _prepared([_again(knee, random, size) for knee in knees], random, size),
            which,
        )


def on_a_film(pair: Sequence[Crop], random: np.random.Generator, size: int, recipe: SteadyRecipe) -> list[Grey]:
    """Two right knees as a composed film of a right and a left one shows them, (size, size), both as right ones."""
    crops, grain = [pair[0], mirrored(pair[1])], random.uniform(*recipe.grain)
    film = compose(crops, random, joint=recipe.joint, longest=1200, grain=grain, seams=OUTSIDE)
    first, second = (
        cut(film.pixels, missed_pose(crop.pose_on(joint), random), size)
        for crop, joint in zip(crops, film.joints, strict=True)
    )
    return [first, second[:, ::-1]]


def _again(knee: Crop, random: np.random.Generator, size: int) -> Grey:
    """A knee as the node cuts it out of its crop, or moved a little and exposed otherwise."""
    assert knee.pose is not None
    if random.random() < 0.5:
        return cut(knee.pixels, knee.pose, size)
    return expose(cut(knee.pixels, missed_pose(knee.pose, random), size), random)


def _prepared(views: Sequence[Grey], random: np.random.Generator, size: int) -> Array:
    """Views as a grader is shown them, half of them mirrored."""
    mirrored = random.random(len(views)) < 0.5
    turned = [view[:, ::-1] if turn else view for view, turn in zip(views, mirrored, strict=True)]
    return np.stack([grader_input(np.ascontiguousarray(view), size) for view in turned])


def make_steady(
    recipe: SteadyRecipe,
    network: Grader,
    train: Sequence[LabelledKnee],
    poses: Sequence[Pose],
    folder: Path,
    *,
    watch: Callable[[int, float], None] = lambda step, loss: None,
    device: str = "cpu",
) -> Grader:
    """
    Return a steadier copy of `network`, taught on knees of `train`, which lie as `poses` say.

    Batch statistics stay as they are. A checkpoint in `folder` is carried on from.
    """
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(recipe.seed)
    teacher: Grader = copy.deepcopy(network).to(device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    pupil, averaged = copy.deepcopy(teacher), copy.deepcopy(teacher)
    fold_statistics(pupil)
    optimizer, schedule = _descent(pupil, recipe)
    learning: dict[str, Kept] = {"pupil": pupil, "averaged": averaged, "optimizer": optimizer, "schedule": schedule}
    done = resume(folder / "checkpoint.pt", recipe, learning)
    truth = targets(recipe, teacher, train, poses, folder / "teacher.pt").to(device)
    for step, (filmed, again, which) in enumerate(_batches(recipe, train, poses, done), start=done + 1):
        views = torch.cat([filmed, again]).to(device, memory_format=torch.channels_last)
        loss = apart(pupil(views)[0], truth[which], recipe.alike)
        value = apply_gradients(loss, optimizer, pupil)
        schedule.step()
        average(averaged, pupil, min(recipe.average, step / (10 + step)))
        if step % EVERY == 0:
            keep(folder / "checkpoint.pt", recipe, learning, step)
        watch(step, value)
    average(averaged, teacher, recipe.part)
    return averaged


@torch.no_grad()
def targets(
    recipe: SteadyRecipe, teacher: Grader, train: Sequence[LabelledKnee], poses: Sequence[Pose], kept: Path
) -> Tensor:
    """
    What each knee is to be called, (n, 5): by the teacher, who sees it and its mirror image, and by its readers.

    The teacher's answers are `kept` for a training that goes on, and not used for another teacher or other knees.
    """
    whose = _whose(teacher, train, poses, recipe.size(recipe.steps - 1))
    told: dict[str, Any] = torch.load(kept, weights_only=True) if kept.is_file() else {"whose": ""}
    if told["whose"] != whose:
        size, both = recipe.size(recipe.steps - 1), MirroredGrader(teacher).eval()
        device, said = next(teacher.parameters()).device, []
        for first in track(range(0, len(train), BATCH), "Teacher", transient=True, console=Console(stderr=True)):
            knees = zip(train[first : first + BATCH], poses[first : first + BATCH], strict=True)
            views = np.stack([grader_input(cut(knee.read(), pose, size), size) for knee, pose in knees])
            shown = torch.from_numpy(views).to(device, memory_format=torch.channels_last)
            said.append(both(shown)[0].softmax(1).cpu().numpy())
        told = {"whose": whose, "said": torch.from_numpy(np.concatenate(said))}
        torch.save(told, kept.with_suffix(".tmp"))
        kept.with_suffix(".tmp").replace(kept)
    taught, read = told["said"].numpy(), soft_labels(recipe.label_sigma)[truth_of(train)]
    return torch.from_numpy(np.asarray((1 - recipe.labels) * taught + recipe.labels * read, np.float32))


def _whose(teacher: Grader, train: Sequence[LabelledKnee], poses: Sequence[Pose], size: int) -> str:
    """A hash of the teacher and of what it is shown."""
    shown = [(knee.patient, knee.side, knee.path.name, pose) for knee, pose in zip(train, poses, strict=True)]
    told = hashlib.sha256(repr((size, shown)).encode())
    for name, values in teacher.state_dict().items():
        told.update(name.encode() + values.cpu().numpy().tobytes())
    return told.hexdigest()


def apart(logits: Tensor, truth: Tensor, alike: float) -> Tensor:
    """
    How far two views of n knees, `logits` (2 n, 5), lie from `truth` (n, 5), and `alike` times from each other.

    Kullback-Leibler divergences; between the views that of both directions (Jeffreys), halved.
    """
    first, second = logits.log_softmax(1).chunk(2)
    far = sum(functional.kl_div(said, truth, reduction="batchmean") for said in (first, second)) / 2
    between = ((first.exp() - second.exp()) * (first - second)).sum(1).mean() / 2
    return far + alike * between


def _descent(pupil: Grader, recipe: SteadyRecipe) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    optimizer = torch.optim.AdamW(pupil.parameters(), recipe.learning_rate, weight_decay=recipe.weight_decay)
    return optimizer, torch.optim.lr_scheduler.OneCycleLR(
        optimizer, recipe.learning_rate, recipe.steps, pct_start=recipe.warm_up
    )


def _batches(
    recipe: SteadyRecipe, train: Sequence[LabelledKnee], poses: Sequence[Pose], done: int
) -> Iterator[tuple[Tensor, ...]]:
    """The batches after the first `done`, made by another process while the networks work."""
    fours, pairs = recipe.fours, Pairs(train, poses, recipe)
    return loaded_by_processes(pairs, fours, _concatenated, recipe.processes, start=done * fours, length=len(pairs))


def _concatenated(views: list[Views]) -> tuple[Tensor, ...]:
    return tuple(torch.from_numpy(np.concatenate(arrays)) for arrays in zip(*views, strict=True))
