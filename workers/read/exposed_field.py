"""
The exposed field: the part of the detector without shutter, collimator, frame and padding.

Header first (padding, shutters, collimator), then the image: along a side of the film a bright strip, or one of a
single grey level, with a straight, sharp edge is a border, even if it is slightly tilted. Air beside a leg is no
border: it is exposed, and its edge is not straight.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
from pydicom import Dataset

from workers.preprocessing import Grey
from workers.read.header import integer, numbers, text
from workers.read.photometric import padding_range
from workers.read.stored_values import StoredFrame, Words

Mask = npt.NDArray[np.bool_]

MIN_EXPOSED = 0.05
"""A shutter or padding that leaves less than this part of the film exposed is an error in the header."""

SEARCH_SIDE = 400
"""Borders are searched on the film scaled down to this longer side; the lengths below are in its pixels."""
EDGE_WIDTH = 4
"""An edge is at most so many pixels wide."""
BRIGHT, FALL = 0.8, 0.15
"""Behind a collimator the film is at least so bright, and at the edge of the field it falls by so much."""
ONE_LEVEL, STEP = 0.01, 0.025
"""A border drawn by the modality has one grey level within this, and at its edge the film differs by so much."""
MAX_DEPTH = 0.45
"""No border reaches further into the film than this part of it: the middle is what the exposure was for."""
PLAIN = 0.95
"""Part of a bright border that has to be brighter than half the film; a femur is as bright, and less uniform."""


@dataclass(frozen=True)
class EdgeLimits:
    """Limits of a border's edge: tangent of the tilt, least part of it on one line, and distance from that line."""

    max_slope: float
    min_straight: float
    tolerance: float


@dataclass(frozen=True)
class ExposedField:
    """`exposed` is the field. `hidden` must not be displayed: there the film has the grey level `shade`."""

    exposed: Mask
    hidden: Mask | None
    shade: float
    notes: tuple[str, ...]


def header_field(stored: StoredFrame, header: Dataset) -> ExposedField:
    """The field by the header; an attribute that would hide the whole film is ignored."""
    exposed, hidden, notes = np.ones(stored.words.shape, np.bool_), None, []
    for name, opening, hides in _header_openings(stored, header):
        if np.count_nonzero(exposed & opening) < MIN_EXPOSED * opening.size:
            notes.append(f"the {name} in the header hides the whole film and was left out")
            continue
        exposed &= opening
        if hides and not opening.all():
            hidden = ~opening if hidden is None else hidden | ~opening
    shade = numbers(header, "ShutterPresentationValue")
    return ExposedField(exposed, hidden, float(np.clip(shade[0] / 65535, 0, 1)) if shade else 0.0, tuple(notes))


def _header_openings(stored: StoredFrame, header: Dataset) -> Iterator[tuple[str, Mask, bool]]:
    """Each opening in the header: the name of its attributes, its mask, and whether the rest must not be displayed."""
    ends = padding_range(stored, header)
    if ends is not None:
        yield "padding value", (stored.words < ends[0]) | (stored.words > ends[1]), True
    shape = (stored.words.shape[0], stored.words.shape[1])
    for prefix, name, hides in (("Shutter", "shutter", True), ("Collimator", "collimator", False)):
        for opening in _openings(header, prefix, shape):
            yield name, opening, hides


def _openings(header: Dataset, kind: str, shape: tuple[int, int]) -> Iterator[Mask]:
    """
    Openings of the display shutter (PS3.3 C.7.6.11) or the collimator (C.8.7.3), one for each shape in the header.

    Edges count pixels from 1; those of a collimator may lie outside the image.
    """
    shapes = _shapes(header, f"{kind}Shape")
    if "RECTANGULAR" in shapes:
        sides = ("LeftVertical", "RightVertical", "UpperHorizontal", "LowerHorizontal")
        edges = [integer(header, f"{kind}{side}Edge") for side in sides]
        if all(edge is not None for edge in edges):
            left, right, upper, lower = (int(np.clip(edge or 0, 0, 65535)) for edge in edges)
            opening = np.zeros(shape, np.bool_)
            opening[max(upper - 1, 0) : lower, max(left - 1, 0) : right] = True
            yield opening
    if "CIRCULAR" in shapes:
        centre, radius = numbers(header, f"CenterOfCircular{kind}"), integer(header, f"RadiusOfCircular{kind}")
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
    shapes = [value] if isinstance(value, str) else value or []
    return {str(shape).strip().upper() for shape in shapes}


def exclude_borders(words: Words, exposed: Mask, *, rising: bool) -> Mask:
    """`exposed` without the borders in the image. `rising`: high stored values are bright on the film."""
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
        excluded = [_exclude_top(np.rot90(small, turn), np.rot90(inside, turn)) for turn in range(4)]
        found = found or any(excluded)
        if not any(excluded):
            break
    if not found or np.count_nonzero(inside) < MIN_EXPOSED * inside.size:
        return exposed
    full = (words.shape[1], words.shape[0])
    return exposed & (cv2.resize(inside.astype(np.uint8), full, interpolation=cv2.INTER_NEAREST) > 0)


def _exclude_top(small: Grey, inside: Mask) -> bool:
    """Exclude the border along the top of `small` from `inside`, in place; False if there is none."""
    height, width = small.shape
    columns = np.arange(width)
    first = np.argmax(inside, axis=0)
    outermost = small[np.minimum(first + 2, height - 1), columns][inside.any(axis=0)]
    level = float(np.median(outermost)) if outermost.size else 0.5
    if level >= BRIGHT:
        depth, limits = _bright_depth(small, first), EdgeLimits(max_slope=0.36, min_straight=0.7, tolerance=1.5)
    else:
        depth = _uniform_depth(small, inside, level)
        limits = EdgeLimits(max_slope=0.1, min_straight=0.75, tolerance=1.0)
    ending = columns[inside.any(axis=0) & (depth < 0.95 * height)]
    line = _line(ending, depth[ending], limits) if len(ending) >= 0.15 * width else None
    if line is None:
        return False
    edge = line[0] * columns + line[1]
    on_line = ending[np.abs(depth[ending] - edge[ending]) <= limits.tolerance]
    if np.mean(edge[on_line] - first[on_line]) < 2 or edge.mean() > MAX_DEPTH * height:
        return False
    below = np.arange(height)[:, None] - edge[None, :]
    strip = small[inside & (below < -EDGE_WIDTH)]
    if level >= BRIGHT and strip.size and np.mean(strip >= 0.5) < PLAIN:
        return False
    # The edge itself is blurred: the field begins after it.
    inside &= below > EDGE_WIDTH / 2
    return True


def _bright_depth(small: Grey, first: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
    """
    The row where each column first falls steeply; the column's height if it never does.

    Behind a collimator the film is bright but not of one level: scatter darkens it towards the field.
    """
    fall = small[:-EDGE_WIDTH] - small[EDGE_WIDTH:]
    fall[np.arange(len(fall))[:, None] < first[None, :]] = 0
    steep = fall >= FALL
    return np.where(steep.any(axis=0), np.argmax(steep, axis=0) + EDGE_WIDTH // 2, len(small))


def _uniform_depth(small: Grey, inside: Mask, level: float) -> npt.NDArray[np.intp]:
    """The row where each column leaves the level; its height if it never does, or only gradually."""
    border = (np.abs(small - level) <= ONE_LEVEL) | ~inside
    depth = np.where(border.all(axis=0), len(small), np.argmin(border, axis=0))
    beyond = small[np.minimum(depth + EDGE_WIDTH - 1, len(small) - 1), np.arange(small.shape[1])]
    return np.where(np.abs(beyond - level) >= STEP, depth, len(small))


def _line(x: npt.NDArray[np.intp], y: npt.NDArray[np.intp], limits: EdgeLimits) -> tuple[float, float] | None:
    """Slope and start of the line that most of the points lie on, or None if they lie on none."""
    third = max(1, len(x) // 3)
    slope = float(np.median((y[third:] - y[:-third]) / (x[third:] - x[:-third])))
    start = float(np.median(y - slope * x))
    on_line = np.mean(np.abs(y - slope * x - start) <= limits.tolerance)
    return None if abs(slope) > limits.max_slope or on_line < limits.min_straight else (slope, start)
