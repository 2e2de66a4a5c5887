"""
The lead letters on a film: an R or L that was exposed with the knee, and lies on the side that it names.

A small network classifies what is bright against its surroundings, of a letter's size and alone. A mirrored letter
names the same side: it is mirrored with the knee beside it. One in a row of others is a word. To miss a letter costs
little and to misread one much, for a marker outweighs the header (vote.py), so the limit is high.
"""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from workers.laterality.vote import LeadMarker
from workers.models.calibration import softmax
from workers.models.labels import LEAD_LETTERS, NOTHING
from workers.models.registry import Model
from workers.preprocessing import Box, Grey, crop, normalised, resized

JOINT = 200
"""Width of a joint's box, in pixels, on the film in which letters are searched: a letter of 11 mm has about 18."""
TALL = (0.045, 0.3)
"""A letter's height, in sides of the joint's box."""
WIDE = (0.3, 1.5)
"""A letter's width, in heights."""
FILLED = (0.12, 0.85)
"""Part of its box that a letter covers."""
BRIGHTER = (0.17, 0.32)
"""How much brighter than its surroundings a letter is, in the film's grey levels: what a faint one needs would merge a
bright one with the bone behind it."""
MOST = 40
"""So many candidates are classified, the brightest ones."""
MARGIN = 1.8
"""Side of the network's input, in a letter's longer side."""


def read_lead_markers(pixels: Grey, boxes: Sequence[Box], model: Model) -> list[LeadMarker]:
    """The R and L that are certain on a film (rows, columns), whose joints lie in `boxes`."""
    if not boxes:
        return []
    found, patches = letter_candidates(pixels, float(np.mean([box.width for box in boxes])), model.card.input_size)
    if not found:
        return []
    (logits,) = model.run(patches)
    letters = zip(found, *classify_letters(logits, model.card.thresholds["letter"]), strict=True)
    return [
        (box, LEAD_LETTERS[letter], float(probability)) for box, letter, probability in letters if letter != NOTHING
    ]


def classify_letters(
    logits: npt.NDArray[np.float32], limit: float
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """The class (n,) of logits (n, 3), NOTHING where its probability is below `limit`, and that probability (n,)."""
    probabilities = softmax(logits)
    highest = probabilities.max(1)
    return np.where(highest >= limit, probabilities.argmax(1), NOTHING), highest


def letter_candidates(pixels: Grey, side: float, size: int) -> tuple[list[Box], npt.NDArray[np.float32]]:
    """What may be a letter on a film whose joints are `side` pixels wide: boxes, and inputs (n, 1, size, size)."""
    factor = min(1.0, JOINT / side)
    small = resized(pixels, factor)
    low, high = np.percentile(small[::4, ::4], (1, 99.5))
    contrast = (small - _surroundings(small)) / max(float(high - low), 1e-3)
    found: list[tuple[float, Box]] = []
    for limit in BRIGHTER:
        for box in isolated(
            cv2.connectedComponentsWithStats((contrast > limit).astype(np.uint8), connectivity=8)[2][1:]
        ):
            part = contrast[int(box.y0) : int(box.y1), int(box.x0) : int(box.x1)]
            if not any(_overlap(box, other) > 0.7 for _, other in found):
                found.append((float(part.max()), box))
    boxes = [box for _, box in sorted(found, key=lambda candidate: -candidate[0])[:MOST]]
    patches = [_patch(small, box, size) for box in boxes]
    whole = [box.scaled(1 / factor) for box in boxes]
    return whole, np.stack(patches) if patches else np.zeros((0, 1, size, size), np.float32)


def isolated(stats: npt.NDArray[Any]) -> list[Box]:
    """The boxes of those parts, (n, 5) of OpenCV's statistics, that may be a letter and belong to no word."""
    left, top, width, height, area = stats.T.astype(np.float64)
    tall = (height >= TALL[0] * JOINT) & (height <= TALL[1] * JOINT)
    like = tall & (width >= WIDE[0] * height) & (width <= WIDE[1] * height)
    like &= (area >= FILLED[0] * width * height) & (area <= FILLED[1] * width * height)
    boxes = []
    for at in np.flatnonzero(like):
        gap = np.maximum(left - left[at] - width[at], left[at] - left - width)
        level = np.abs(top + height / 2 - top[at] - height[at] / 2) < 0.4 * height[at]
        equal = (height > 0.7 * height[at]) & (height < 1.4 * height[at]) & (width < 2 * height[at])
        if not (level & equal & (gap > 0) & (gap < 0.8 * height[at])).any():
            boxes.append(Box(left[at], top[at], left[at] + width[at], top[at] + height[at]))
    return boxes


def _surroundings(small: Grey) -> Grey:
    """The mean grey around each pixel, as far as a letter reaches; on a coarser grid, where it costs a tenth."""
    rows, columns = small.shape
    coarse = cv2.resize(small, (max(1, columns // 4), max(1, rows // 4)), interpolation=cv2.INTER_AREA)
    blurred = cv2.GaussianBlur(coarse, (0, 0), 0.1 * JOINT / 4)
    return np.asarray(cv2.resize(blurred, (columns, rows), interpolation=cv2.INTER_LINEAR), np.float32)


def _overlap(one: Box, other: Box) -> float:
    """The part that two boxes share, of what they cover together."""
    shared = one.shared(other)
    return shared / (one.width * one.height + other.width * other.height - shared)


def _patch(small: Grey, box: Box, size: int) -> npt.NDArray[np.float32]:
    """The network's input for a letter, (1, size, size)."""
    cut = crop(small, Box.about(box.middle, MARGIN * max(box.width, box.height)), size)
    low, high = float(cut.min()), float(cut.max())
    return normalised((cut - low) / max(high - low, 1e-3))[None]
