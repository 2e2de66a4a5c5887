"""
Where the knee joints are on a film: boxes from a heat map of centres (Zhou et al. 2019, "Objects as Points").

The input is the whole film, reduced. It detects upright AP and PA knees, one or two on a film or a tight crop of one.
"""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from workers.models.registry import Model
from workers.preprocessing import Box, Grey, film_input

STRIDE = 8
"""Pixels of the detector's input to a cell of its output."""

MOST_SHARED = 0.3
"""Of two boxes that share more of the smaller one, the less confident one is left out."""


class Detection(NamedTuple):
    """A square box about a joint, in pixels of the film, and the detector's confidence, 0 to 1."""

    box: Box
    confidence: float


def detect_joints(pixels: Grey, detector: Model) -> list[Detection]:
    """The joints on a film (rows, columns), 0 to 1, bones bright; the most confident first."""
    view, scale = film_input(pixels, detector.card.input_size)
    output = detector.run(view[None])[0][0]
    found = peaks(output, detector.card.thresholds["centre"])
    return _without_repeats([Detection(box.scaled(1 / scale), confidence) for box, confidence in found])


def peaks(output: npt.NDArray[np.float32], limit: float) -> list[Detection]:
    """
    Detections in pixels of the detector's input, the most confident first.

    `output` (4, rows, columns) are the logit of a centre, the log of the side in cells, and the centre's offset from
    the middle of its cell, right and down. A peak is a cell of at least `limit` that no neighbour exceeds.
    """
    confidence = 1 / (1 + np.exp(-output[0]))
    top = (confidence == cv2.dilate(confidence, np.ones((3, 3), np.uint8))) & (confidence >= limit)
    found = []
    for row, column in zip(*np.nonzero(top), strict=True):
        side = float(np.exp(np.clip(output[1, row, column], -2, 4))) * STRIDE
        x = (column + 0.5 + float(output[2, row, column])) * STRIDE
        y = (row + 0.5 + float(output[3, row, column])) * STRIDE
        found.append(Detection(Box.about((x, y), side), float(confidence[row, column])))
    return sorted(found, key=lambda detection: -detection.confidence)


def _without_repeats(found: Sequence[Detection]) -> list[Detection]:
    """Without boxes that mostly cover a more confident one."""
    distinct: list[Detection] = []
    for detection in found:
        if all(_overlap(detection.box, other.box) < MOST_SHARED for other in distinct):
            distinct.append(detection)
    return distinct


def _overlap(one: Box, other: Box) -> float:
    return one.shared(other) / min(one.width * one.height, other.width * other.height)
