"""
Where the knee joints are on a film, which side each is, and how that is known; or why there is none to grade.

The finder knows upright AP and PA knees, one or two on a film or a tight crop of one. The side is what header and
place say here, and what the image adds in upright.py: a vote (sides.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import cv2
import numpy as np
import numpy.typing as npt

from node.errors import Ungradable
from node.evidence import Agreement, Evidence
from node.finding import Laterality
from node.reasons import Flag, Reason, flag, reason
from workers.detection.landmarks import Points, pose_of
from workers.laterality.vote import Side, tell_sides
from workers.preprocessing import Box, Grey, Pose, resized, stretch

if TYPE_CHECKING:
    from workers.detection.artefacts import Labels
    from workers.models.registry import Model
    from workers.read import Film

STRIDE = 8
"""Pixels of the finder's input to a cell of its answer."""

TIGHT = 0.85
"""A box that covers so much of a nearly square image: it is itself the crop of a joint (those of val: .86 and more)."""


HALF = 0.5
"""Of a joint cut off by the film's edge at least so much is seen: less is a bit of the other leg."""

LEAST_MM, MOST_MM = 60.0, 220.0
"""Width of the box of an adult's knee, about 100 mm (72 to 123 on the films that the grader knows), and what may
lie between: a small joint at one end, a large one magnified on the detector and boxed generously at the other."""

LEAST_FILM_MM, MOST_FILM_MM = 60.0, 1500.0
"""Longer side of a film. Where the detector's spacing says otherwise, somebody has resized the image under it."""


@dataclass(frozen=True)
class Knee:
    """
    One joint: a square box in pixels of the stored image, its side, what told the side, how sure the finder is.

    `reason` says why it must not be graded, None that it may; `flags` are what a reader should know of it.
    `field_of_view_mm` is the width of the box, None where the header vouches for no millimetres.
    """

    box: Box
    laterality: Laterality
    laterality_source: str
    confidence: float
    tilt: float = 0.0
    """The plateau's turn on the film, in degrees, clockwise."""
    points: Points | None = None
    """Landmarks (workers.detection.landmarks); None before anybody looked."""
    marks: "Labels | None" = None
    """What lies beside the bones in the box (workers.detection.artefacts); None before anybody looked."""
    evidence: tuple[Evidence, ...] = ()
    agreement: Agreement = Agreement.NONE
    flags: tuple[Flag, ...] = ()
    reason: Reason | None = None
    field_of_view_mm: float | None = None
    scale_source: str = "none"

    @property
    def pose(self) -> Pose:
        """How it is laid upright for the grader and all who look at what the grader sees."""
        return pose_of(self.points, self.box)

    def sided(self, side: Side) -> "Knee":
        """The knee with that side, and a flag if its witnesses contradict each other."""
        others = tuple(each for each in self.flags if each.code != "SIDE_CONFLICT")
        return replace(
            self,
            laterality=side.laterality,
            laterality_source=side.source,
            evidence=side.evidence,
            agreement=side.agreement,
            flags=(*others, flag("SIDE_CONFLICT")) if side.agreement is Agreement.CONFLICT else others,
        )


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
    seen = {box: _visible(box, film.pixels.shape) for box, _ in found}
    whole = [each for each in found if seen[each[0]] >= finder.card.thresholds["visible"]]
    if not whole:
        raise Ungradable(reason("JOINT_CUT_OFF"))
    # Of several candidates, those that are as large as a knee come first; the surest of them are taken.
    whole = [each for each in whole if knee_sized(width_mm(film, each[0])[0])] or whole
    # One that is cut off is no candidate, but a knee that the film shows and nobody grades.
    parts = [each for each in found if HALF <= seen[each[0]] < finder.card.thresholds["visible"]]
    joints = sorted([*whole, *parts][:2], key=lambda each: each[0].x0)
    boxes = [_tight(box, film.pixels.shape) if len(joints) == 1 else box for box, _ in joints]
    knees = [_knee(film, box, each[1], cut=each in parts) for box, each in zip(boxes, joints, strict=True)]
    sides = tell_sides(film.header, [knee.box for knee in knees], parts=in_part(knees))
    return [knee.sided(side) for knee, side in zip(knees, sides, strict=True)]


def _knee(film: "Film", box: Box, sure: float, *, cut: bool) -> Knee:
    """A joint whose side nobody has told yet."""
    mm, scale = width_mm(film, box)
    why = reason("JOINT_CUT_OFF") if cut else None
    return Knee(box, Laterality.UNKNOWN, "none", sure, field_of_view_mm=mm, scale_source=scale, reason=why)


def in_part(knees: Sequence[Knee]) -> set[int]:
    """The numbers of those that lie on the film in part."""
    return {at for at, knee in enumerate(knees) if knee.reason is not None and knee.reason.code == "JOINT_CUT_OFF"}


def width_mm(film: "Film", box: Box) -> tuple[float | None, str]:
    """
    The width of a box on a film, and what a millimetre is there: "calibrated", "detector plane" or "none".

    The patient is nearer to the tube than the detector, so a width in its plane is up to a third too large.
    """
    spacing = film.spacing
    if spacing.row_mm is None or spacing.column_mm is None:
        return None, "none"
    rows, columns = film.pixels.shape
    longer = max(rows * spacing.row_mm, columns * spacing.column_mm)
    if spacing.kind == "calibrated":
        return box.width * spacing.column_mm, "calibrated"
    if spacing.kind == "detector" and LEAST_FILM_MM <= longer <= MOST_FILM_MM:
        return box.width * spacing.column_mm, "detector plane"
    return None, "none"


def knee_sized(mm: float | None) -> bool:
    """Whether a box of that width may be an adult's knee; what has no millimetres may."""
    return mm is None or LEAST_MM <= mm <= MOST_MM


def locate(pixels: Grey, finder: "Model") -> Found:
    """Where the finder sees joints."""
    size = finder.card.input_size
    view, scale = overview(pixels, size)
    answer = finder.run(view[None, None])[0][0]
    limit = finder.card.thresholds["centre"]
    found = [(box.scaled(1 / scale), sure) for box, sure in peaks(answer, limit)]
    return _without_repeats(found)


def overview(pixels: Grey, size: int) -> tuple[Grey, float]:
    """The whole film in a square of `size`, at the top left, stretched in contrast; and view pixels per film pixel."""
    scale = size / max(pixels.shape)
    small = resized(pixels, scale)
    view = np.zeros((size, size), np.float32)
    view[: small.shape[0], : small.shape[1]] = stretch(small)
    return (view - 0.5) / 0.25, scale


def peaks(answer: npt.NDArray[np.float32], limit: float) -> list[tuple[Box, float]]:
    """Boxes in view pixels, of the cells that stand above their neighbours and above `limit`, surest first."""
    sure = 1 / (1 + np.exp(-answer[0]))
    top = (sure == cv2.dilate(sure, np.ones((3, 3), np.uint8))) & (sure >= limit)
    boxes = []
    for row, column in zip(*np.nonzero(top), strict=True):
        side = float(np.exp(np.clip(answer[1, row, column], -2, 4))) * STRIDE
        x = (column + 0.5 + float(answer[2, row, column])) * STRIDE
        y = (row + 0.5 + float(answer[3, row, column])) * STRIDE
        boxes.append((Box.about((x, y), side), float(sure[row, column])))
    return sorted(boxes, key=lambda each: -each[1])


def _without_repeats(found: Found) -> Found:
    """Leave out boxes that mostly cover a surer one."""
    kept: list[tuple[Box, float]] = []
    for box, sure in found:
        if all(_overlap(box, other) < 0.3 for other, _ in kept):
            kept.append((box, sure))
    return kept


def _overlap(one: Box, other: Box) -> float:
    return one.shared(other) / min(one.width * one.height, other.width * other.height)


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
