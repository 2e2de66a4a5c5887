"""
Where the knee joints are on a film, which side each is, and how that is known; or why there is none to grade.

What is not told by the header, by a bilateral film's order or by the image (upright.py) stays unknown.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np
import numpy.typing as npt
from pydicom import Dataset

from node.errors import Ungradable
from node.finding import Laterality
from node.reasons import reason
from workers.prepare import Box, Grey, stretch

if TYPE_CHECKING:
    from workers.read import Film
    from workers.registry import Model

STRIDE = 8
"""Pixels of the finder's input to a cell of its answer."""

TIGHT = 0.5
"""A box that covers this part of a nearly square image: the image is itself the crop of a joint."""


@dataclass(frozen=True)
class Knee:
    """
    One joint: a square box in pixels of the stored image, its side, what told the side, how sure the finder is.

    `tilt` is the plateau's turn on the film in degrees, clockwise; `points` are its landmarks (workers.look), None
    before anybody looked. `evidence` is what each witness says of the side ("R" or "L"), the strongest first.
    """

    box: Box
    laterality: Laterality
    laterality_source: str
    confidence: float
    tilt: float = 0.0
    points: npt.NDArray[np.float32] | None = None
    evidence: tuple[tuple[str, str], ...] = ()

    @property
    def side_conflict(self) -> bool:
        """Whether what was stated of the side and what the image shows differ."""
        return len({says for _, says in self.evidence}) > 1


Found = Sequence[tuple[Box, float]]
"""Joint boxes on an image with the finder's confidence, the surest first."""


def find_knees(film: "Film", finder: "Model", found: Found | None = None) -> list[Knee]:
    """
    The joints on a film, ordered from the image's left to its right; `found` saves asking the finder again.

    Raises
    ------
    Ungradable
        NOT_A_KNEE if no joint is found, JOINT_CUT_OFF if none that is found lies wholly enough on the film.
    """
    found = locate(film.pixels, finder) if found is None else found
    if not found:
        raise Ungradable(reason("NOT_A_KNEE"))
    whole = [
        (box, sure) for box, sure in found if _visible(box, film.pixels.shape) >= finder.card.thresholds["visible"]
    ]
    if not whole:
        raise Ungradable(reason("JOINT_CUT_OFF"))
    whole = sorted(whole, key=lambda each: each[0].x0)[:2]
    boxes = [_tight(box, film.pixels.shape) if len(whole) == 1 else box for box, _ in whole]
    sides = tell_sides(film.header, boxes)
    return [Knee(box, side, source, sure) for box, (side, source), (_, sure) in zip(boxes, sides, whole, strict=True)]


def locate(pixels: Grey, finder: "Model") -> Found:
    """Where the finder sees joints."""
    size = finder.card.input_size
    view, scale = overview(pixels, size)
    answer = finder.run(view[None, None])[0][0]
    limit = finder.card.thresholds["centre"]
    found = [(_scaled(box, 1 / scale), sure) for box, sure in peaks(answer, limit)]
    return _without_repeats(found)


def overview(pixels: Grey, size: int) -> tuple[Grey, float]:
    """The whole film in a square of `size`, at the top left, stretched in contrast; and view pixels per film pixel."""
    rows, columns = pixels.shape
    scale = size / max(rows, columns)
    small = cv2.resize(
        pixels, (max(1, round(columns * scale)), max(1, round(rows * scale))), interpolation=cv2.INTER_AREA
    )
    view = np.zeros((size, size), np.float32)
    view[: small.shape[0], : small.shape[1]] = stretch(small.astype(np.float32))
    return (view - 0.5) / 0.25, scale


def peaks(answer: npt.NDArray[np.float32], limit: float) -> list[tuple[Box, float]]:
    """Boxes in view pixels, of the cells that stand above their neighbours and above `limit`, surest first."""
    sure = 1 / (1 + np.exp(-answer[0]))
    top = (sure == cv2.dilate(sure, np.ones((3, 3), np.uint8))) & (sure >= limit)
    boxes = []
    for row, column in zip(*np.nonzero(top), strict=True):
        half = float(np.exp(np.clip(answer[1, row, column], -2, 4))) * STRIDE / 2
        x = (column + 0.5 + float(answer[2, row, column])) * STRIDE
        y = (row + 0.5 + float(answer[3, row, column])) * STRIDE
        boxes.append((Box(x - half, y - half, x + half, y + half), float(sure[row, column])))
    return sorted(boxes, key=lambda each: -each[1])


def _without_repeats(found: Found) -> Found:
    """Leave out boxes that mostly cover a surer one."""
    kept: list[tuple[Box, float]] = []
    for box, sure in found:
        if all(_overlap(box, other) < 0.3 for other, _ in kept):
            kept.append((box, sure))
    return kept


def _overlap(one: Box, other: Box) -> float:
    width = min(one.x1, other.x1) - max(one.x0, other.x0)
    height = min(one.y1, other.y1) - max(one.y0, other.y0)
    shared = max(0.0, width) * max(0.0, height)
    return shared / min(one.width * one.height, other.width * other.height)


def _scaled(box: Box, by: float) -> Box:
    return Box(box.x0 * by, box.y0 * by, box.x1 * by, box.y1 * by)


def _visible(box: Box, shape: tuple[int, ...]) -> float:
    """The part of the box that lies on the film."""
    width = min(box.x1, shape[1]) - max(box.x0, 0)
    height = min(box.y1, shape[0]) - max(box.y0, 0)
    return max(0.0, width) * max(0.0, height) / (box.width * box.height)


def _tight(box: Box, shape: tuple[int, ...]) -> Box:
    """The whole image where it is itself the crop of one joint, as the grader was trained on."""
    rows, columns = shape[0], shape[1]
    nearly_square = 0.8 <= columns / rows <= 1.25
    covered = _visible(box, shape) * box.width * box.height / (rows * columns)
    return Box(0, 0, columns, rows) if nearly_square and covered >= TIGHT else box


def tell_sides(header: Dataset, boxes: Sequence[Box]) -> list[tuple[Laterality, str]]:
    """The side of each joint, in the order of `boxes` from the image's left, and what told it."""
    stated, source = stated_side(header)
    if len(boxes) == 1:
        return [(stated, source)] if isinstance(stated, Laterality) else [(Laterality.UNKNOWN, "none")]
    # A film is hung as if the patient faced the reader: the patient's right knee on the image's left.
    first, second = (Laterality.LEFT, Laterality.RIGHT) if is_mirrored(header) else (Laterality.RIGHT, Laterality.LEFT)
    return [(first, "position"), (second, "position")]


def is_mirrored(header: Dataset) -> bool:
    """Whether Patient Orientation (0020,0020) says that the image's rows run to the patient's right."""
    orientation = header.get("PatientOrientation") or [""]
    return str(orientation[0]).upper().startswith("R")


SIDE_CODES = {"24028007": "R", "7771000": "L", "51440002": "B", "G-A100": "R", "G-A101": "L", "G-A102": "B"}
"""SNOMED CT (and retired SRT) codes of CID 244 Laterality."""


def stated_side(header: Dataset) -> tuple[Laterality | str, str]:
    """What the header says, "R", "L", "B" or "", and which attribute said it."""
    for keyword in ("ImageLaterality", "Laterality", "FrameLaterality"):
        value = str(header.get(keyword) or "").strip().upper()
        if value in ("R", "L"):
            return Laterality(value), keyword
        if value == "B":
            return "B", keyword
    for region in header.get("AnatomicRegionSequence") or []:
        for modifier in region.get("AnatomicRegionModifierSequence") or []:
            side = SIDE_CODES.get(str(modifier.get("CodeValue") or ""), "")
            if side:
                return (Laterality(side) if side in ("R", "L") else side), "AnatomicRegionSequence"
    return "", "none"
