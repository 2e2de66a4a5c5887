"""
Teach a trained grader to say of a joint on a film what it says of the clean crop.

A grader that learnt from grades alone is unsteady: moved by a fiftieth of its side, one knee in twelve changes its
grade. Here it learns from its own answers (Beyer et al. 2022, "a good teacher is patient and consistent"): the teacher,
as it was, sees the crop as it is; the pupil sees the same knee laid upright by its landmarks, as the node grades it,
cut out of a composed film or exposed otherwise. Half of the knees are two blended into one, so that there are more of
them than one can remember, many of them between two grades.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from workers.networks import Ensemble, Grader
from workers.prepare import Grey, Pose, cut, prepare
from workers.training.augment import expose
from workers.training.checkpoint import Kept, keep, resume
from workers.training.film_joints import missed_pose
from workers.training.films import Crop, compose
from workers.training.joint_films import quiet_workers
from workers.training.knees import LabelledKnee
from workers.training.posed import Posed, blended
from workers.training.steps import at_size, average, fold_statistics

Views = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]
"""Of n knees what the teacher and what the pupil sees, each (n, 3, size, size)."""

FOUR = 4
"""Knees that are made together: two of them on one film."""
EVERY = 50
"""Steps between two checkpoints."""


@dataclass(frozen=True)
class SteadyRecipe:
    """
    How a grader is made steady.

    `sizes` are (steps, pixels) in turn; of the `batch` knees of a step half are cut out of films.
    """

    sizes: tuple[tuple[int, int], ...] = ((700, 224), (300, 256))
    batch: int = 32
    learning_rate: float = 3e-4
    weight_decay: float = 0.02
    warm_up: float = 0.05
    average: float = 0.99
    part: float = 1.0
    """Of the way from the weights that it began with to those that it was taught: less is more accurate on crops and
    less steady on films (Wortsman et al. 2022, "Robust fine-tuning of zero-shot models")."""
    joint: tuple[float, float] = (220, 420)
    """How many pixels wide a joint is on a film."""
    seed: int = 1
    processes: int = 1
    """That make knees while the networks work; 0: this one does."""

    @property
    def steps(self) -> int:
        return sum(steps for steps, _ in self.sizes)

    def size(self, step: int) -> int:
        """Pixels of the input's side in `step`, counted from 0."""
        return at_size(self.sizes, step)


class Pairs(Dataset[Views]):
    """Four knees at a time; number n of a recipe is always the same four."""

    def __init__(self, knees: Sequence[LabelledKnee], poses: Sequence[Pose], recipe: SteadyRecipe) -> None:
        self.knees, self.poses, self.recipe = knees, poses, recipe

    def __len__(self) -> int:
        return self.recipe.steps * self.recipe.batch // FOUR

    def __getitem__(self, at: int) -> Views:
        random = np.random.default_rng((self.recipe.seed, at))
        size = self.recipe.size(at * FOUR // self.recipe.batch)
        knees = [self._knee(random) for _ in range(FOUR)]
        clean = [prepare(knee.pixels, size) for knee in knees]
        worn = [
            *on_a_film(knees[:2], random, size, self.recipe.joint),
            *(expose(cut(knee.pixels, missed_pose(knee.pose, random), size), random) for knee in knees[2:]),
        ]
        mirrored = random.random(FOUR) < 0.5
        shown = [each[:, ::-1] if turn else each for each, turn in zip(worn, mirrored, strict=True)]
        return np.stack(clean), np.stack([prepare(np.ascontiguousarray(each), size) for each in shown])

    def _knee(self, random: np.random.Generator) -> Posed:
        one, other = (
            Posed(self.knees[at].read(), self.poses[at]) for at in map(int, random.integers(len(self.knees), size=2))
        )
        return one if random.random() < 0.5 else blended(one, other, float(random.random()))


def on_a_film(pair: Sequence[Posed], random: np.random.Generator, size: int, joint: tuple[float, float]) -> list[Grey]:
    """Two right knees as a composed film of a right and a left one shows them, (size, size), both as right ones."""
    right, left = pair[0], pair[1].mirrored
    film = compose(
        [Crop(right.pixels), Crop(left.pixels)], random, joint=joint, longest=1200, grain=random.uniform(0.1, 0.6)
    )
    first, second = (
        cut(film.pixels, missed_pose(knee.on(laid), random), size)
        for knee, laid in zip((right, left), film.joints, strict=True)
    )
    return [first, second[:, ::-1]]


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
    for each in (teacher, pupil):
        fold_statistics(each)
    both = Ensemble([teacher]).requires_grad_(False)  # a knee and its mirror image together, as the node asks
    optimizer, schedule = _descent(pupil, recipe)
    learning: dict[str, Kept] = {"pupil": pupil, "averaged": averaged, "optimizer": optimizer, "schedule": schedule}
    done = resume(folder / "checkpoint.pt", recipe, learning)
    for step, (clean, worn) in enumerate(_batches(recipe, train, poses, done), start=done + 1):
        loss = _apart(pupil(worn.to(device))[0], both(clean.to(device))[0])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(pupil.parameters(), 5.0)
        optimizer.step()
        schedule.step()
        average(averaged, pupil, min(recipe.average, step / (10 + step)))
        if step % EVERY == 0:
            keep(folder / "checkpoint.pt", recipe, learning, step)
        watch(step, float(loss.detach()))
    average(averaged, teacher, recipe.part)
    return averaged


def _descent(pupil: Grader, recipe: SteadyRecipe) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    optimizer = torch.optim.AdamW(pupil.parameters(), recipe.learning_rate, weight_decay=recipe.weight_decay)
    return optimizer, torch.optim.lr_scheduler.OneCycleLR(
        optimizer, recipe.learning_rate, recipe.steps, pct_start=recipe.warm_up
    )


def _apart(pupil: Tensor, teacher: Tensor) -> Tensor:
    """The Kullback-Leibler divergence of the pupil's grades from the teacher's."""
    return functional.kl_div(pupil.log_softmax(1), teacher.log_softmax(1), reduction="batchmean", log_target=True)


def _batches(
    recipe: SteadyRecipe, train: Sequence[LabelledKnee], poses: Sequence[Pose], done: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """The batches after the first `done`, made by another process while the networks work."""
    fours, pairs = recipe.batch // FOUR, Pairs(train, poses, recipe)
    if recipe.processes:
        cv2.setNumThreads(1)  # a process that is forked off a parent with OpenCV's own threads waits for them for ever
    loader: DataLoader[Views] = DataLoader(
        pairs,
        fours,
        sampler=range(done * fours, len(pairs)),
        num_workers=recipe.processes,
        collate_fn=_together,
        worker_init_fn=quiet_workers,
    )
    yield from iter(loader)


def _together(views: list[Views]) -> tuple[Tensor, Tensor]:
    clean, worn = (torch.from_numpy(np.concatenate(each)) for each in zip(*views, strict=True))
    return clean.to(memory_format=torch.channels_last), worn.to(memory_format=torch.channels_last)
