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


def grade(pixels: Grey, knees: Sequence[Knee], model: Model) -> list[Graded]:
    """Grade the knees found on `pixels` (rows, columns; 0 to 1, bone bright)."""
    if not knees:
        return []
    size = model.card.input_size
    # Graders know right knees only; a knee of unknown side is graded as it lies.
    mirrored = [knee.laterality is Laterality.LEFT for knee in knees]
    crops = [crop(pixels, knee.box, size) for knee in knees]
    shown = [np.ascontiguousarray(cut[:, ::-1]) if turn else cut for cut, turn in zip(crops, mirrored, strict=True)]
    logits, maps = model.run(np.stack([prepare(knee, size) for knee in shown]))
    probabilities = softmax(logits / model.card.temperature)
    return [
        Graded(
            knee=knee,
            logits=logits[at],
            probabilities=probabilities[at],
            grade=KLGrade(int(probabilities[at].argmax())),
            maps=np.ascontiguousarray(maps[at, :, :, ::-1]) if mirrored[at] else maps[at],
        )
        for at, knee in enumerate(knees)
    ]


def softmax(logits: Array) -> Array:
    """Probabilities over the last axis."""
    raised = np.exp(logits - logits.max(-1, keepdims=True))
    return (raised / raised.sum(-1, keepdims=True)).astype(np.float32)
