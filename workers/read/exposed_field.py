"""
The exposed field: where the detector saw the patient, and not a shutter, a collimator, a frame or padding.

Header first (padding, shutters, collimator), then the picture itself: along a side of the film a bright strip, or
one of a single grey level, with a straight, sharp edge is a border, also if it is a little tilted. Air beside a
leg is none: it is exposed, and its edge is not straight.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
from pydicom import Dataset

from workers.preprocessing import Grey
from workers.read.header import numbers, text, whole
from workers.read.photometric import padding
from workers.read.stored_values import Stored, Words

Mask = npt.NDArray[np.bool_]

LEAST_LEFT = 0.05
"""A shutter or padding that hides more than all but this part of the film is a mistake in the header."""

SEARCH_SIDE = 400
"""Borders are looked for on the film scaled down to this; the lengths below are in its pixels."""
REACH = 4
"""An edge happens within so many pixels."""
BRIGHT, FALL = 0.8, 0.15
"""Where little arrived the film is at least so bright, and at the edge of the field it falls by so much."""
ONE_LEVEL, STEP = 0.01, 0.025
"""A border painted by the modality is of one level within this, and at its edge the film differs by so much."""
DEEPEST = 0.45
"""No border reaches further into the film than this part of it: what lies in the middle is what was to be seen."""
PLAIN = 0.95
"""Part of a bright border that must be brighter than half the film; a femur is as bright, and not so plain."""


@dataclass(frozen=True)
class Edge:
    """What counts as the edge of a border: tangent of the largest tilt, part of it on one line, within how much."""

    steepest: float
    straight: float
    stray: float


@dataclass(frozen=True)
class Field:
    """`exposed` is the field. `hidden` is not to be shown: there the film has the grey level `shade`."""

    exposed: Mask
    hidden: Mask | None
    shade: float
    notes: tuple[str, ...]


def told_field(stored: Stored, header: Dataset) -> Field:
    """What the header says of the field; left out where it would hide the whole film."""
    exposed, hidden, notes = np.ones(stored.words.shape, np.bool_), None, []
    for name, seen, hides in _told(stored, header):
        if np.count_nonzero(exposed & seen) < LEAST_LEFT * seen.size:
            notes.append(f"the {name} in the header hides the whole film and was left out")
            continue
        exposed &= seen
        if hides and not seen.all():
            hidden = ~seen if hidden is None else hidden | ~seen
    shade = numbers(header, "ShutterPresentationValue")
    return Field(exposed, hidden, float(np.clip(shade[0] / 65535, 0, 1)) if shade else 0.0, tuple(notes))


def _told(stored: Stored, header: Dataset) -> Iterator[tuple[str, Mask, bool]]:
    """What the header says is seen: by whom, where, and whether the rest must not be shown."""
    ends = padding(stored, header)
    if ends is not None:
        yield "padding value", (stored.words < ends[0]) | (stored.words > ends[1]), True
    shape = (stored.words.shape[0], stored.words.shape[1])
    for prefix, name, hides in (("Shutter", "shutter", True), ("Collimator", "collimator", False)):
        for seen in _windows(header, prefix, shape):
            yield name, seen, hides


def _windows(header: Dataset, kind: str, shape: tuple[int, int]) -> Iterator[Mask]:
    """
    Openings of the display shutter (PS3.3 C.7.6.11) or the collimator (C.8.7.3), of each shape that is told.

    Edges count pixels from 1; those of a collimator may lie outside the image.
    """
    shapes = _shapes(header, f"{kind}Shape")
    if "RECTANGULAR" in shapes:
        sides = ("LeftVertical", "RightVertical", "UpperHorizontal", "LowerHorizontal")
        edges = [whole(header, f"{kind}{side}Edge") for side in sides]
        if all(edge is not None for edge in edges):
            left, right, upper, lower = (int(np.clip(edge or 0, 0, 65535)) for edge in edges)
            seen = np.zeros(shape, np.bool_)
            seen[max(upper - 1, 0) : lower, max(left - 1, 0) : right] = True
            yield seen
    if "CIRCULAR" in shapes:
        centre, radius = numbers(header, f"CenterOfCircular{kind}"), whole(header, f"RadiusOfCircular{kind}")
        if len(centre) == 2 and radius:
            rows, columns = np.ogrid[: shape[0], : shape[1]]
            yield (rows + 1 - centre[0]) ** 2 + (columns + 1 - centre[1]) ** 2 <= float(radius) ** 2
    if "POLYGONAL" in shapes:
        corners = numbers(header, f"VerticesOfThePolygonal{kind}")
        if 6 <= len(corners) <= 2000 and len(corners) % 2 == 0:
            points = np.clip(np.array(corners).reshape(-1, 2)[:, ::-1] - 1, -65535, 65535).astype(np.int32)
            yield cv2.fillPoly(np.zeros(shape, np.uint8), [points], 1) > 0


def _shapes(header: Dataset, keyword: str) -> set[str]:
    value = header.get(keyword) if text(header, keyword) else None
    each = [value] if isinstance(value, str) else value or []
    return {str(shape).strip().upper() for shape in each}


def find_borders(words: Words, exposed: Mask, *, rising: bool) -> Mask:
    """`exposed` without the borders that the picture shows. `rising`: high stored values are bright on the film."""
    scale = min(1.0, SEARCH_SIDE / max(words.shape))
    size = (max(16, round(words.shape[1] * scale)), max(16, round(words.shape[0] * scale)))
    small = cv2.medianBlur(cv2.resize(words, size, interpolation=cv2.INTER_AREA), 3).astype(np.float32)
    inside = cv2.resize(exposed.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0
    if not inside.any():
        return exposed
    low, high = np.percentile(small[inside], (0.1, 99.9) if rising else (99.9, 0.1))
    small = (small - low) / (float(high - low) or 1.0)
    found = False
    for _ in range(3):  # a white frame, a black border within it, and one more
        cuts = [_cut_side(np.rot90(small, turn), np.rot90(inside, turn)) for turn in range(4)]
        found = found or any(cuts)
        if not any(cuts):
            break
    if not found or np.count_nonzero(inside) < LEAST_LEFT * inside.size:
        return exposed
    full = (words.shape[1], words.shape[0])
    return exposed & (cv2.resize(inside.astype(np.uint8), full, interpolation=cv2.INTER_NEAREST) > 0)


def _cut_side(small: Grey, inside: Mask) -> bool:
    """The border along the top of `small` is cut off `inside`, in place; False if there is none."""
    height, width = small.shape
    columns = np.arange(width)
    first = np.argmax(inside, axis=0)
    outermost = small[np.minimum(first + 2, height - 1), columns][inside.any(axis=0)]
    level = float(np.median(outermost)) if outermost.size else 0.5
    if level >= BRIGHT:
        depth, shape = _falls(small, first), Edge(steepest=0.36, straight=0.7, stray=1.5)
    else:
        depth, shape = _leaves(small, inside, level), Edge(steepest=0.1, straight=0.75, stray=1.0)
    ending = columns[inside.any(axis=0) & (depth < 0.95 * height)]
    line = _line(ending, depth[ending], shape) if len(ending) >= 0.15 * width else None
    if line is None:
        return False
    edge = line[0] * columns + line[1]
    on_line = ending[np.abs(depth[ending] - edge[ending]) <= shape.stray]
    if np.mean(edge[on_line] - first[on_line]) < 2 or edge.mean() > DEEPEST * height:
        return False
    below = np.arange(height)[:, None] - edge[None, :]
    strip = small[inside & (below < -REACH)]
    if level >= BRIGHT and strip.size and np.mean(strip >= 0.5) < PLAIN:
        return False
    # The edge itself is blurred: the field begins behind it.
    inside &= below > REACH / 2
    return True


def _falls(small: Grey, first: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
    """
    Where each column first falls steeply, its height if it never does.

    Behind a collimator the film is bright but not of one level: scatter darkens it towards the field.
    """
    fall = small[:-REACH] - small[REACH:]
    fall[np.arange(len(fall))[:, None] < first[None, :]] = 0
    steep = fall >= FALL
    return np.where(steep.any(axis=0), np.argmax(steep, axis=0) + REACH // 2, len(small))


def _leaves(small: Grey, inside: Mask, level: float) -> npt.NDArray[np.intp]:
    """Where each column leaves the one level, its height if it never does or only little by little."""
    border = (np.abs(small - level) <= ONE_LEVEL) | ~inside
    depth = np.where(border.all(axis=0), len(small), np.argmin(border, axis=0))
    beyond = small[np.minimum(depth + REACH - 1, len(small) - 1), np.arange(small.shape[1])]
    return np.where(np.abs(beyond - level) >= STEP, depth, len(small))


def _line(x: npt.NDArray[np.intp], y: npt.NDArray[np.intp], shape: Edge) -> tuple[float, float] | None:
    """Slope and start of the line that most of the points lie on, or None if they lie on none."""
    third = max(1, len(x) // 3)
    slope = float(np.median((y[third:] - y[:-third]) / (x[third:] - x[:-third])))
    start = float(np.median(y - slope * x))
    on_line = np.mean(np.abs(y - slope * x - start) <= shape.stray)
    return None if abs(slope) > shape.steepest or on_line < shape.straight else (slope, start)
