"""
Faithfulness of the maps: how the grade changes when cells of the image are deleted or inserted.

Deletion and insertion (Petsiuk et al. 2018, "RISE"), gaps filled from their rims and never black, against the same
number of cells nearest to the centre and against random cells. Also whether the map changes when the network's weights
are shuffled (Adebayo et al. 2018), and whether it is stable when the box moves a little.
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
"""Parts of the cells that are deleted, or inserted, one after the other."""
DRAWS = 2000
SHIFT = 0.02
"""Of the box's side, by which it is moved to measure the stability of the map."""

Array = npt.NDArray[np.float32]
Order = Callable[[AuditedKnee, np.random.Generator], Array]


def _by_map(knee: AuditedKnee, random: np.random.Generator) -> Array:
    return knee.heat_map.values + np.float32(1e-9) * random.random(knee.heat_map.values.shape, np.float32)


def _by_centre(knee: AuditedKnee, random: np.random.Generator) -> Array:
    rows, columns = knee.heat_map.values.shape
    y, x = np.mgrid[0:rows, 0:columns]
    return np.asarray(-np.hypot(x - (columns - 1) / 2, y - (rows - 1) / 2), np.float32)


def _at_random(knee: AuditedKnee, random: np.random.Generator) -> Array:
    return random.random(knee.heat_map.values.shape, np.float32)


ORDERS: Mapping[str, Order] = {"map": _by_map, "centre": _by_centre, "random": _at_random}


def deletion_insertion_areas(
    knees: Sequence[AuditedKnee], model: Model, seed: int, step: Callable[[], None]
) -> dict[str, dict[str, Any]]:
    """
    Areas under the deletion curve (lower is better) and the insertion curve (higher is better), by order.

    `areas` are those of each knee, so that orders can be compared on the same knees.
    """
    results: dict[str, dict[str, Any]] = {"deletion": {}, "insertion": {}}
    for name, order in ORDERS.items():
        areas: dict[str, list[float]] = {"deletion": [], "insertion": []}
        for number, knee in enumerate(knees):
            random = np.random.default_rng((seed, number))
            rank = order(knee, random)
            for kind, views in (("deletion", list(_deleted(knee, rank))), ("insertion", list(_inserted(knee, rank)))):
                graded = grade_crops(views, [knee.graded.knee] * len(views), model)
                confidence = [float(one.probabilities[int(knee.graded.grade)]) for one in graded]
                areas[kind].append(float(np.trapezoid(confidence, STEPS)))
            step()
        for kind, values in areas.items():
            results[kind][name] = values
    return results


def paired_difference(first: Sequence[float], second: Sequence[float]) -> tuple[float, float, float]:
    """The mean difference on the same knees, and its 95 % interval (bootstrap over the knees)."""
    differences = np.array(first) - np.array(second)
    random = np.random.default_rng(0)
    resampled = differences[random.integers(0, len(differences), (DRAWS, len(differences)))].mean(1)
    low, high = np.percentile(resampled, (2.5, 97.5))
    return float(differences.mean()), float(low), float(high)


def _deleted(knee: AuditedKnee, rank: Array) -> Iterator[Grey]:
    for part in STEPS:
        deleted = _first(rank, part, knee.joint.shape[0])
        yield np.full_like(knee.joint, knee.joint.mean()) if deleted.all() else filled(knee.joint, deleted)


def _inserted(knee: AuditedKnee, rank: Array) -> Iterator[Grey]:
    side = knee.joint.shape[0]
    blurred = cv2.GaussianBlur(knee.joint, (0, 0), side / 10)
    for part in STEPS:
        shown = cv2.GaussianBlur(_first(rank, part, side).astype(np.float32), (0, 0), side / 100)
        yield np.asarray(knee.joint * shown + blurred * (1 - shown), np.float32)


def _first(rank: Array, part: float, side: int) -> npt.NDArray[np.bool_]:
    """The mask, (side, side), of the `part` of the cells with the highest rank."""
    chosen = np.zeros(rank.size, np.uint8)
    chosen[np.argsort(-rank, axis=None)[: round(part * rank.size)]] = 1
    return cv2.resize(chosen.reshape(rank.shape), (side, side), interpolation=cv2.INTER_NEAREST) > 0


def stability(knees: Sequence[AuditedKnee], model: Model) -> float:
    """The median correlation of the grade's map with that of the box moved by SHIFT, where they overlap."""
    side, size = knees[0].joint.shape[0], model.card.input_size
    off = SHIFT * side
    moved = [crop(knee.joint, Box(off, off, side + off, side + off), size) for knee in knees]
    again = grade_crops(moved, [knee.graded.knee for knee in knees], model)
    correlations = []
    for before, after in zip(knees, again, strict=True):
        one, other = (graded.maps[int(before.graded.grade)] for graded in (before.graded, after))
        cells = one.shape[-1]
        move = np.array([[1, 0, SHIFT * cells], [0, 1, SHIFT * cells]])
        back = cv2.warpAffine(other, move, (cells, cells), borderMode=cv2.BORDER_REPLICATE)
        correlations.append(_correlation(one, np.asarray(back, np.float32)))
    return float(np.median(correlations))


def shuffled_weight_correlation(knees: Sequence[AuditedKnee], model: Model, *, head_alone: bool = False) -> float:
    """
    The median correlation of the grade's map with that of the same network with shuffled weights.

    The weights are shuffled within each layer, or in the head alone. Near 1 the map would show the film and not what
    the network has learnt. `model` must run on torch; its weights are changed in place.
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
    shuffled = grade_crops([knee.joint for knee in knees], [knee.graded.knee for knee in knees], model)
    pairs = [(before, int(before.graded.grade), after) for before, after in zip(knees, shuffled, strict=True)]
    return float(
        np.median([_correlation(before.graded.maps[grade], after.maps[grade]) for before, grade, after in pairs])
    )


def _correlation(one: Array, other: Array) -> float:
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1]) if one.std() > 0 and other.std() > 0 else 0.0
