"""
What lies beside the bones around a joint: lead markers, burned-in text, metal, the film's border.

A small network names every pixel of the joint's box. What it names is no evidence of arthrosis, so a heat map whose
peak lies there, or a grade that changes when it is taken away, is flagged (workers/explanation/attribution.py).
"""

from typing import TYPE_CHECKING

import cv2
import numpy as np
import numpy.typing as npt

from workers.models.labels import NOTHING
from workers.preprocessing import Grey, stretch

if TYPE_CHECKING:
    from workers.models.registry import Model

Labels = npt.NDArray[np.uint8]
"""(rows, columns) of MARKER, TEXT, HARDWARE, BORDER or NOTHING."""


def find_marks(joint: Grey, marker: "Model") -> Labels:
    """
    What lies on a joint that is cut out of its film, (side, side) and 0 to 1, on a grid of half the network's input.

    Raises nothing; a joint without marks is NOTHING throughout.
    """
    (logits,) = marker.run(view_of(joint, marker.card.input_size)[None])
    return labels(logits[0], marker.card.thresholds["mark"], marker.card.thresholds["sure"])


def labels(logits: npt.NDArray[np.float32], limit: float, sure: float) -> Labels:
    """
    The likeliest mark of each pixel, of logits (5, rows, columns), where there is one with a chance of `limit`.

    What hangs together is left out if it is a speck, or nowhere as certain as `sure`: a narrow joint space and its
    dense rims look a little like lead.
    """
    chances = np.exp(logits - logits.max(0))
    chances /= chances.sum(0)
    mark = chances[1:].sum(0)
    named = np.where(mark >= limit, chances[1:].argmax(0) + 1, NOTHING).astype(np.uint8)
    count, parts, told, _ = cv2.connectedComponentsWithStats((named > NOTHING).astype(np.uint8), connectivity=8)
    least = LEAST * named.size
    kept = [at for at in range(1, count) if told[at, cv2.CC_STAT_AREA] >= least and mark[parts == at].max() >= sure]
    return np.where(np.isin(parts, kept), named, NOTHING).astype(np.uint8)


LEAST = 3 / 64**2
"""Part of the answer that a mark covers at least: a letter of 3 % of the box's height does."""


def view_of(joint: Grey, size: int) -> npt.NDArray[np.float32]:
    """What the network sees of a joint, (1, size, size)."""
    if joint.shape != (size, size):
        joint = np.asarray(cv2.resize(joint, (size, size), interpolation=cv2.INTER_AREA), np.float32)
    return ((stretch(joint) - np.float32(0.5)) / np.float32(0.25))[None]
