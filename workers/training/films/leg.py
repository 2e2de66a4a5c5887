"""
A crop of one joint continued as a leg: shafts above and below, soft tissue beside it, air around it.

Every pixel of the leg is sampled from the crop by one smooth map: the joint as it is, the shafts from the strips next
to it, narrowed and wandering. So there is no edge where the crop ends; where the map leaves the crop differs from leg
to leg, and lies inside the joint's box as often as on it, so that a detector that learns such places learns nothing of
the box. Where a film is to be graded the joint's sides stay as they are: rims with their osteophytes reach to a
twentieth of the box from them.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from workers.preprocessing import Box, Grey
from workers.training.films.joint import Crop, LabelledJoint


@dataclass(frozen=True)
class Leg:
    """A leg (rows, columns), how much it covers what lies behind it (0 to 1), and the joint on it."""

    pixels: Grey
    cover: Grey
    joint: LabelledJoint


@dataclass(frozen=True)
class Seams:
    """
    Where a crop may end on a leg, in sides of the crop.

    The soft tissue beside it begins at most `inset` inside, along an edge that wanders by `wave`; up to `uncovered`
    from its middle the leg is opaque, and no other leg that is as straight covers it.
    """

    inset: float
    wave: float
    uncovered: float


ANYWHERE, OUTSIDE = Seams(0.07, 0.02, 0.0), Seams(0.02, 0.005, 0.47)
"""Seams from which a detector learns nothing of the box, and seams outside all that a grade depends on."""


def leg_of(
    crop: Crop,
    random: np.random.Generator,
    *,
    size: float,
    up: float,
    down: float,
    beside: float,
    seams: Seams,
) -> Leg:
    """
    The crop as a joint of `size` pixels with `up` and `down` pixels of leg above and below, and `beside` on each side.
    """
    side = max(12, round(size))
    knee = _resized(crop.pixels, side)
    reach_up, reach_down, margin = max(0, round(up)), max(0, round(down)), max(1, round(beside))
    y = np.arange(-reach_up, side + reach_down, dtype=np.float32)[:, None]
    x = np.arange(-margin, side + margin, dtype=np.float32)[None, :]
    above = np.maximum(0, side * random.uniform(0, 0.09) + _wave(x, side, random, 0.02) - y)
    below = np.maximum(0, y - side * random.uniform(0.91, 1) + _wave(x, side, random, 0.02))
    fetch_x, outside = _across(x, y, above, below, side, seams, random)
    fetch_y = y + above - below + _wander(above, side, random) - _wander(below, side, random)
    drawn = cv2.remap(
        knee, fetch_x.astype(np.float32), fetch_y.astype(np.float32), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    pixels = _soften(np.asarray(drawn, np.float32), np.maximum(above, below), outside, side, random)
    box = Box(margin, reach_up, margin + side, reach_up + side)
    points = None
    if crop.points is not None:
        scale = side / crop.pixels.shape[0]
        points = (crop.points * scale + (scale - 1) / 2 + np.array([margin, reach_up], np.float32)).astype(np.float32)
    cover = _cover(pixels.shape, margin, side, seams, random)
    return Leg(pixels, cover, LabelledJoint(box, points=points))


def _resized(pixels: Grey, side: int) -> Grey:
    how = cv2.INTER_AREA if side < pixels.shape[0] else cv2.INTER_CUBIC
    return np.asarray(np.clip(cv2.resize(pixels, (side, side), interpolation=how), 0, 1), np.float32)


def _across(
    x: Grey, y: Grey, above: Grey, below: Grey, side: int, seams: Seams, random: np.random.Generator
) -> tuple[Grey, Grey]:
    """The column of the crop that each pixel is sampled from, and how far beyond the crop's sides it lies."""
    middle = side * random.uniform(0.45, 0.55)
    fetch = np.broadcast_to(x, above.shape).astype(np.float32)
    for far, lean in ((above, random.normal(0, 0.07)), (below, random.normal(0, 0.07))):
        narrow = random.uniform(0.6, 1.0)
        shape = narrow + (1 - narrow) * np.exp(-far / (side * random.uniform(0.2, 0.8)))
        fetch = middle + (fetch - middle - lean * far) / shape
    inset = side * random.uniform(0, seams.inset)
    edge = _wave(y, side, random, seams.wave)
    low, high = inset + edge, side - 1 - inset + edge
    outside = np.maximum(0, np.maximum(low - fetch, fetch - high))
    return np.clip(fetch, low, high), outside


def _wander(far: Grey, side: int, random: np.random.Generator) -> Grey:
    """How deep in the crop the shaft `far` pixels from it is sampled: back and forth in a strip, from 0 on."""
    deep, pace = side * random.uniform(0.02, 0.13), side * random.uniform(0.1, 0.5)
    swing = (1 - np.cos(far / pace) * np.cos(far / pace * 0.37)) / 2
    return np.asarray(deep * swing * np.minimum(1, far / (0.05 * side)), np.float32)


def _wave(along: Grey, side: int, random: np.random.Generator, height: float) -> Grey:
    """An edge that is nowhere straight."""
    phase, length = random.uniform(0, 2 * np.pi, 3), side * random.uniform(0.08, 0.5, 3)
    waves = sum(np.sin(along / period + start) for start, period in zip(phase, length, strict=True))
    return np.asarray(waves * (height * side * random.uniform(0.2, 1) / 3), np.float32)


def _soften(pixels: Grey, far: Grey, outside: Grey, side: int, random: np.random.Generator) -> Grey:
    """Blur what was sampled more than once, vary its brightness, and add grain of its own."""
    blurred = cv2.GaussianBlur(pixels, (0, 0), max(0.6, side * random.uniform(0.004, 0.03)), sigmaY=side * 0.03)
    share = np.clip(far / (0.15 * side), 0, 1) * random.uniform(0.3, 0.95)
    share = np.maximum(share, np.clip(outside / (0.08 * side), 0, 1))
    drift = 1 + random.normal(0, 0.12) * np.tanh(far / side) - random.uniform(0, 0.15) * np.tanh(outside / side * 2)
    soft = (pixels * (1 - share) + blurred * share) * drift
    coarse = random.normal(0, 1, (max(2, pixels.shape[0] // 3), max(2, pixels.shape[1] // 3))).astype(np.float32)
    grain = cv2.resize(coarse, (pixels.shape[1], pixels.shape[0]), interpolation=cv2.INTER_LINEAR)
    return np.asarray(np.clip(soft + grain * share * random.uniform(0, 0.03), 0, 1), np.float32)


def _cover(
    shape: tuple[int, ...], margin: int, side: int, seams: Seams, random: np.random.Generator
) -> npt.NDArray[np.float32]:
    """1 on the leg, falling to 0 towards the air; its outline swells and wanders."""
    rows, columns = shape
    down = np.linspace(-1, 1, rows, dtype=np.float32)[:, None]
    swell = 1 + random.normal(0, 0.1) * down + random.normal(0, 0.1) * down**2
    half = (side / 2 + margin * random.uniform(0.1, 0.8)) * swell
    soft = max(1.0, side * random.uniform(0.01, 0.12))
    if seams.uncovered:
        soft = max(1.0, min(soft, margin / 3))
        half = np.maximum(half, side * seams.uncovered + 2 * soft)
    off = np.abs(np.arange(columns, dtype=np.float32)[None, :] - columns / 2) - half
    return np.asarray(1 / (1 + np.exp(np.clip(off / soft * 2, -30, 30))), np.float32)
