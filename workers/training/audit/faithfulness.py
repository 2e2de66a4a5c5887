"""
Whether a map shows what the network used, measured: what becomes of the grade when cells are taken away or given back.

Deletion and insertion (Petsiuk et al. 2018, "RISE"), gaps filled from their rims and never black, against the same
number of cells nearest to the middle and against cells at random. Beside that: whether the map changes
when the network's head is shuffled (Adebayo et al. 2018), and whether it stays when the box moves a little.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from workers.explanation.attribution import filled
from workers.grading.grader import grade_crops
from workers.models.registry import Model
from workers.preprocessing import Box, Grey, crop
from workers.training.audit.knees import AuditedKnee

STEPS = np.linspace(0, 1, 9)
"""Parts of the cells that are taken away, or given back, one after the other."""
DRAWS = 2000
SHIFT = 0.02
"""Of the box's side, by which it is moved to see whether the map stays."""

Array = npt.NDArray[np.float32]
Order = Callable[[AuditedKnee, np.random.Generator], Array]


def _by_map(asked: AuditedKnee, random: np.random.Generator) -> Array:
    return asked.heat_map.values + np.float32(1e-9) * random.random(asked.heat_map.values.shape, np.float32)


def _by_centre(asked: AuditedKnee, random: np.random.Generator) -> Array:
    rows, columns = asked.heat_map.values.shape
    y, x = np.mgrid[0:rows, 0:columns]
    return np.asarray(-np.hypot(x - (columns - 1) / 2, y - (rows - 1) / 2), np.float32)


def _at_random(asked: AuditedKnee, random: np.random.Generator) -> Array:
    return random.random(asked.heat_map.values.shape, np.float32)


ORDERS: Mapping[str, Order] = {"map": _by_map, "centre": _by_centre, "random": _at_random}


def curves(
    chosen: Sequence[AuditedKnee], model: Model, seed: int, step: Callable[[], None]
) -> dict[str, dict[str, Any]]:
    """
    Areas under the deletion curve (lower is better) and the insertion curve (higher is better), by order.

    `areas` are those of each knee, so that orders can be compared on the same knees.
    """
    told: dict[str, dict[str, Any]] = {"deletion": {}, "insertion": {}}
    for name, order in ORDERS.items():
        areas: dict[str, list[float]] = {"deletion": [], "insertion": []}
        for number, asked in enumerate(chosen):
            random = np.random.default_rng((seed, number))
            rank = order(asked, random)
            for kind, views in (("deletion", list(_taken(asked, rank))), ("insertion", list(_given(asked, rank)))):
                graded = grade_crops(views, [asked.graded.knee] * len(views), model)
                sure = [float(each.probabilities[int(asked.graded.grade)]) for each in graded]
                areas[kind].append(float(np.trapezoid(sure, STEPS)))
            step()
        for kind, each in areas.items():
            told[kind][name] = each
    return told


def compared(mine: Sequence[float], other: Sequence[float]) -> tuple[float, float, float]:
    """The mean difference on the same knees, and its 95 % interval (bootstrap over the knees)."""
    apart = np.array(mine) - np.array(other)
    random = np.random.default_rng(0)
    draws = apart[random.integers(0, len(apart), (DRAWS, len(apart)))].mean(1)
    low, high = np.percentile(draws, (2.5, 97.5))
    return float(apart.mean()), float(low), float(high)


def _taken(asked: AuditedKnee, rank: Array) -> Iterator[Grey]:
    for part in STEPS:
        gone = _first(rank, part, asked.joint.shape[0])
        yield np.full_like(asked.joint, asked.joint.mean()) if gone.all() else filled(asked.joint, gone)


def _given(asked: AuditedKnee, rank: Array) -> Iterator[Grey]:
    side = asked.joint.shape[0]
    vague = cv2.GaussianBlur(asked.joint, (0, 0), side / 10)
    for part in STEPS:
        seen = cv2.GaussianBlur(_first(rank, part, side).astype(np.float32), (0, 0), side / 100)
        yield np.asarray(asked.joint * seen + vague * (1 - seen), np.float32)


def _first(rank: Array, part: float, side: int) -> npt.NDArray[np.bool_]:
    """The part of the cells that come first, on the joint's pixels."""
    chosen = np.zeros(rank.size, np.uint8)
    chosen[np.argsort(-rank, axis=None)[: round(part * rank.size)]] = 1
    return cv2.resize(chosen.reshape(rank.shape), (side, side), interpolation=cv2.INTER_NEAREST) > 0


def stability(chosen: Sequence[AuditedKnee], model: Model) -> float:
    """The median correlation of the grade's map with that of the box moved by SHIFT, on what both show."""
    side, size = chosen[0].joint.shape[0], model.card.input_size
    off = SHIFT * side
    moved = [crop(each.joint, Box(off, off, side + off, side + off), size) for each in chosen]
    again = grade_crops(moved, [each.graded.knee for each in chosen], model)
    found = []
    for before, after in zip(chosen, again, strict=True):
        one, other = (each.maps[int(before.graded.grade)] for each in (before.graded, after))
        cells = one.shape[-1]
        move = np.array([[1, 0, SHIFT * cells], [0, 1, SHIFT * cells]])
        back = cv2.warpAffine(other, move, (cells, cells), borderMode=cv2.BORDER_REPLICATE)
        found.append(_alike(one, np.asarray(back, np.float32)))
    return float(np.median(found))


def shuffled(chosen: Sequence[AuditedKnee], model: Model, *, head_alone: bool = False) -> float:
    """
    The median correlation of the grade's map with that of the same network whose weights were shuffled.

    Each layer's own weights change places, or those of the head alone. Near 1 the map would show the film and not what
    the network has learnt. `model` must run on torch; it is spoilt afterwards.
    """
    import torch

    from workers.models.engines import TorchEngine
    from workers.models.networks import Grader

    assert isinstance(model.run, TorchEngine)
    generator = torch.Generator().manual_seed(0)
    heads = [part.head for part in model.run.network.modules() if isinstance(part, Grader)]
    for part in heads if head_alone else model.run.network.modules():
        if isinstance(part, torch.nn.Conv2d | torch.nn.Linear):
            flat = part.weight.data.reshape(-1)
            part.weight.data = flat[torch.randperm(flat.numel(), generator=generator)].reshape(part.weight.shape)
    spoilt = grade_crops([each.joint for each in chosen], [each.graded.knee for each in chosen], model)
    pairs = [(before, int(before.graded.grade), after) for before, after in zip(chosen, spoilt, strict=True)]
    return float(np.median([_alike(before.graded.maps[grade], after.maps[grade]) for before, grade, after in pairs]))


def _alike(one: Array, other: Array) -> float:
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1]) if one.std() > 0 and other.std() > 0 else 0.0
