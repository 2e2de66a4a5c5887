"""From the joints on a film to their grades and maps: one forward pass for all of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from node.finding import KLGrade, Laterality
from workers.knees import Knee
from workers.prepare import Grey, crop, prepare
from workers.registry import Model

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Graded:
    """
    One knee's answer.

    `maps` (5, rows, columns) lie over knee.box in the film's own orientation; they are signed, and the
    mean of a grade's map plus its bias is its logit. Grad-CAM is their positive part over the cells.
    """

    knee: Knee
    logits: Array
    probabilities: Array
    grade: KLGrade
    maps: Array


VIEWS = {Laterality.RIGHT: (False,), Laterality.LEFT: (True,), Laterality.UNKNOWN: (False, True)}
"""Which mirrorings of a knee the grader is shown. It knows right knees only; of an unknown side it sees both."""


def grade(pixels: Grey, knees: Sequence[Knee], model: Model) -> list[Graded]:
    """
    Grade the knees found on `pixels` (rows, columns; 0 to 1, bone bright).

    The answer for a knee of unknown side is the mean of both mirrorings', maps and logits alike, so that
    the maps still add up to the logits.
    """
    if not knees:
        return []
    size = model.card.input_size
    shown = [(at, mirrored) for at, knee in enumerate(knees) for mirrored in VIEWS[knee.laterality]]
    crops = [crop(pixels, knee.box, size) for knee in knees]
    logits, maps = model.run(np.stack([prepare(_turned(crops[at], mirrored), size) for at, mirrored in shown]))
    answers = []
    for at, knee in enumerate(knees):
        mine = [number for number, (owner, _) in enumerate(shown) if owner == at]
        mean_logits = logits[mine].mean(0)
        upright = np.stack([_turned(maps[number], shown[number][1]) for number in mine])
        mean_maps = upright.mean(axis=0, dtype=np.float32)
        probabilities = softmax(mean_logits / model.card.temperature)
        answers.append(Graded(knee, mean_logits, probabilities, KLGrade(int(probabilities.argmax())), mean_maps))
    return answers


def _turned(image: Array, mirrored: bool) -> Array:
    """The image, or its mirror image: the last axis runs across the film."""
    return np.ascontiguousarray(image[..., ::-1]) if mirrored else image


def softmax(logits: Array) -> Array:
    """Probabilities over the last axis."""
    raised = np.exp(logits - logits.max(-1, keepdims=True))
    return np.asarray(raised / raised.sum(-1, keepdims=True), np.float32)
