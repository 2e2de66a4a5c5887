"""
The lead letters on a film: an R or L that was exposed with the knee, and lies on the side that it names.

What is bright against its surroundings, of a letter's size and alone is shown to a small network, one after the other.
A letter that is mirrored names the same side: it hangs as the knee beside it does. One in a row of others is a word.
To be silent costs little and to be wrong much, for a marker outweighs the header (sides.py), so the limit is high.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import numpy.typing as npt

from workers.laterality.vote import Marker
from workers.models.calibration import softmax
from workers.models.labels import LEAD_LETTERS, NOTHING
from workers.preprocessing import Box, Grey, crop, resized

if TYPE_CHECKING:
    from workers.models.registry import Model

JOINT = 200
"""How many pixels wide a joint's box is where letters are looked for: a letter of 11 mm has about 18."""
TALL = (0.045, 0.3)
"""A letter's height, in sides of the joint's box."""
WIDE = (0.3, 1.5)
"""A letter's width, in heights."""
FILLED = (0.12, 0.85)
"""Part of its box that a letter covers."""
BRIGHTER = (0.17, 0.32)
"""How much brighter than its surroundings a letter is, in the film's grey levels: what a faint one needs would melt a
bright one into the bone behind it."""
MOST = 40
"""So many are looked at, the brightest ones."""
MARGIN = 1.8
"""The side of what the network sees, in a letter's longer side."""


def read_markers(pixels: Grey, boxes: Sequence[Box], reader: "Model") -> list[Marker]:
    """The R and L that are read for sure on a film (rows, columns), whose joints lie in `boxes`."""
    if not boxes:
        return []
    found, patches = look_for_letters(pixels, float(np.mean([box.width for box in boxes])), reader.card.input_size)
    if not found:
        return []
    (logits,) = reader.run(patches)
    told = zip(found, *said(logits, reader.card.thresholds["letter"]), strict=True)
    return [(box, LEAD_LETTERS[name], float(sure)) for box, name, sure in told if name != NOTHING]


def said(logits: npt.NDArray[np.float32], limit: float) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Of logits (n, 3) what each is (n,), NOTHING where that is less sure than `limit`, and how sure it is (n,)."""
    chances = softmax(logits)
    sure = chances.max(1)
    return np.where(sure >= limit, chances.argmax(1), NOTHING), sure


def look_for_letters(pixels: Grey, side: float, size: int) -> tuple[list[Box], npt.NDArray[np.float32]]:
    """What may be a letter on a film whose joints are `side` pixels wide: boxes, and patches (n, 1, size, size)."""
    factor = min(1.0, JOINT / side)
    small = resized(pixels, factor)
    low, high = np.percentile(small[::4, ::4], (1, 99.5))
    contrast = (small - _surroundings(small)) / max(float(high - low), 1e-3)
    found: list[tuple[float, Box]] = []
    for limit in BRIGHTER:
        for box in alone(cv2.connectedComponentsWithStats((contrast > limit).astype(np.uint8), connectivity=8)[2][1:]):
            part = contrast[int(box.y0) : int(box.y1), int(box.x0) : int(box.x1)]
            if not any(_overlap(box, other) > 0.7 for _, other in found):
                found.append((float(part.max()), box))
    boxes = [box for _, box in sorted(found, key=lambda each: -each[0])[:MOST]]
    patches = [_patch(small, box, size) for box in boxes]
    whole = [box.scaled(1 / factor) for box in boxes]
    return whole, np.stack(patches) if patches else np.zeros((0, 1, size, size), np.float32)


def alone(stats: npt.NDArray[Any]) -> list[Box]:
    """The boxes of those parts, (n, 5) of OpenCV's statistics, that may be a letter and stand in no word."""
    left, top, width, height, area = stats.T.astype(np.float64)
    tall = (height >= TALL[0] * JOINT) & (height <= TALL[1] * JOINT)
    like = tall & (width >= WIDE[0] * height) & (width <= WIDE[1] * height)
    like &= (area >= FILLED[0] * width * height) & (area <= FILLED[1] * width * height)
    kept = []
    for at in np.flatnonzero(like):
        gap = np.maximum(left - left[at] - width[at], left[at] - left - width)
        level = np.abs(top + height / 2 - top[at] - height[at] / 2) < 0.4 * height[at]
        equal = (height > 0.7 * height[at]) & (height < 1.4 * height[at]) & (width < 2 * height[at])
        if not (level & equal & (gap > 0) & (gap < 0.8 * height[at])).any():
            kept.append(Box(left[at], top[at], left[at] + width[at], top[at] + height[at]))
    return kept


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
    """What the network sees of a letter, (1, size, size)."""
    cut = crop(small, Box.about(box.middle, MARGIN * max(box.width, box.height)), size)
    low, high = float(cut.min()), float(cut.max())
    return (((cut - low) / max(high - low, 1e-3) - np.float32(0.5)) / np.float32(0.25)).astype(np.float32)[None]
