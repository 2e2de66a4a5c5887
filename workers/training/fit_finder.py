"""Fit the joint finder on composed and rendered films; keep the weights that find most on films held back."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from workers.knees import STRIDE, overview, peaks
from workers.networks import JointFinder
from workers.phantom import random_film
from workers.prepare import Box, Grey
from workers.training.films import LabelledFilm, compose, tight, without_joint
from workers.training.knees import LabelledKnee

SIZE = 256


@dataclass(frozen=True)
class FinderRecipe:
    """How the finder is trained. Few steps: it begins to learn the seams of composed films after that."""

    steps: int = 800
    batch: int = 16
    learning_rate: float = 2e-3
    seed: int = 1
    judge_every: int = 100


Pairs = Sequence[tuple[Grey, Grey]]
"""Each patient's right and left knee as hung (not mirrored)."""


def pairs(knees: Sequence[LabelledKnee]) -> Pairs:
    """The right and the left knee of every patient who has both, bones bright, as hung."""
    sides: dict[str, dict[str, LabelledKnee]] = {}
    for knee in knees:
        sides.setdefault(knee.patient, {})[knee.side] = knee
    return [(both["R"].as_hung(), both["L"].as_hung()) for both in sides.values() if len(both) == 2]


def film(patients: Pairs, random: np.random.Generator) -> LabelledFilm:
    """One film of the mixture: composed, tight, rendered, or with no joint on it."""
    both = patients[int(random.integers(len(patients)))]
    one = both[random.integers(2)]
    kind = random.random()
    if kind < 0.3:
        return compose(both, random)
    if kind < 0.45:
        return compose([one], random)
    if kind < 0.6:
        return tight(one, random)
    if kind < 0.88:
        rows, columns = (int(random.integers(200, 330)) for _ in range(2))
        rendered = random_film(random, rows=rows, columns=columns)
        return LabelledFilm(rendered.pixels.astype(np.float32) / np.float32(4095), tuple(rendered.boxes))
    return without_joint(one, random)


def targets(labelled: LabelledFilm, scale: float) -> npt.NDArray[np.float32]:
    """(5, 32, 32): heat with a soft bump at each centre, log side, shift right and down, and where these count."""
    cells = SIZE // STRIDE
    out = np.zeros((5, cells, cells), np.float32)
    rows, columns = np.mgrid[0:cells, 0:cells]
    for box in labelled.boxes:
        x, y = (box.x0 + box.x1) / 2 * scale / STRIDE, (box.y0 + box.y1) / 2 * scale / STRIDE
        side = box.width * scale / STRIDE
        spread = max(0.7, side / 9)
        bump = np.exp(-((columns + 0.5 - x) ** 2 + (rows + 0.5 - y) ** 2) / (2 * spread**2))
        row, column = min(cells - 1, max(0, int(y))), min(cells - 1, max(0, int(x)))
        bump[row, column] = 1
        out[0] = np.maximum(out[0], bump)
        near = bump > 0.5
        out[1][near] = np.log(side)
        out[2][near] = (x - columns - 0.5)[near]
        out[3][near] = (y - rows - 0.5)[near]
        out[4][near] = 1
    return out


def loss(answer: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Penalty-reduced focal loss of the centres (Law & Deng 2018), plus the boxes' absolute error near them."""
    heat, sure = wanted[:, 0], torch.sigmoid(answer[:, 0]).clamp(1e-4, 1 - 1e-4)
    centre = heat > 0.999
    right = -torch.log(sure) * (1 - sure) ** 2 * centre
    wrong = -torch.log(1 - sure) * sure**2 * (1 - heat) ** 4 * ~centre
    count = centre.sum().clamp(min=1)
    near = wanted[:, 4]
    boxes = sum(
        (functional.smooth_l1_loss(answer[:, at], wanted[:, at], reduction="none", beta=0.1) * near).sum()
        for at in (1, 2, 3)
    )
    return (right.sum() + wrong.sum()) / count + boxes / near.sum().clamp(min=1)


def found_right(network: JointFinder, held: Sequence[LabelledFilm], limit: float) -> dict[str, float]:
    """The part of films on which exactly the true joints are found, their centre within 10 % and side within 20 %."""
    network.eval()
    right, false = 0, 0
    for each in held:
        view, scale = overview(each.pixels, SIZE)
        with torch.no_grad():
            answer = network(torch.from_numpy(view)[None, None])[0][0].numpy()
        boxes = [box for box, _ in peaks(answer, limit)][: len(each.boxes) + 1]
        matched = sum(any(_close(box, true, scale) for box in boxes) for true in each.boxes)
        right += matched == len(each.boxes) == len(boxes)
        false += len(boxes) > matched
    return {"right": right / len(held), "false": false / len(held)}


def _close(box: Box, true: Box, scale: float) -> bool:
    side = true.width * scale
    apart = (
        np.hypot((box.x0 + box.x1) - (true.x0 + true.x1) * scale, (box.y0 + box.y1) - (true.y0 + true.y1) * scale) / 2
    )
    return bool(apart < 0.1 * side and abs(box.width / side - 1) < 0.2)


def fit_finder(
    recipe: FinderRecipe,
    train: Sequence[LabelledKnee],
    val: Sequence[LabelledKnee],
    folder: Path,
    *,
    watch: Callable[[int, float, dict[str, float]], None] = lambda step, loss, figures: None,
) -> JointFinder:
    """Train on films of `train` patients, judge on films of `val` patients, return the best seen."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(recipe.seed)
    network, patients = JointFinder(), pairs(train)
    others, fixed = pairs(val), np.random.default_rng(12345)
    held = [film(others, fixed) for _ in range(200)]
    optimizer = torch.optim.AdamW(network.parameters(), lr=recipe.learning_rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.learning_rate, recipe.steps)
    best, best_score = copy.deepcopy(network), -1.0
    for step in range(1, recipe.steps + 1):
        random = np.random.default_rng((recipe.seed, step))
        views, wanted = _batch(patients, random, recipe.batch)
        network.train()
        value = loss(network(views)[0], wanted)
        optimizer.zero_grad(set_to_none=True)
        value.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimizer.step()
        schedule.step()
        figures: dict[str, float] = {}
        if step % recipe.judge_every == 0:
            figures = found_right(network, held, 0.4)
            if figures["right"] > best_score:
                best, best_score = copy.deepcopy(network), figures["right"]
                torch.save(best.state_dict(), folder / "finder.pt")
        watch(step, float(value.detach()), figures)
    return best.eval()


def _batch(patients: Pairs, random: np.random.Generator, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    views, wanted = [], []
    for _ in range(size):
        labelled = film(patients, random)
        view, scale = overview(labelled.pixels, SIZE)
        views.append(view[None])
        wanted.append(targets(labelled, scale))
    return torch.from_numpy(np.stack(views)), torch.from_numpy(np.stack(wanted))
