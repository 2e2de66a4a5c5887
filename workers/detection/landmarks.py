"""
A closer look at each joint that the finder found: what it is, where its box lies, where its bones meet.

The finder sees the whole film small. The look sees one joint and a little around it, large enough to tell a
prosthesis, a cast or another view from a knee, and to place sixteen landmarks along plateau and condyles.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from workers.preprocessing import Box, Grey, Pose, crop, stretch

if TYPE_CHECKING:
    from workers.models.registry import Model

WIDE = 1.6
"""The view's side in sides of the box."""

Points = npt.NDArray[np.float32]
"""Landmarks, (16, 2) x and y in pixels: T0..T8 along the tibial plateau, F0..F6 along the condyles, left to right."""


TYPICAL: Points = np.array(
    [
        [32, 184.5], [69, 186], [105.5, 179], [131, 152], [149.5, 160.5], [168, 152], [193.5, 179], [230, 186],
        [267, 184.5],
        [35, 164.5], [71, 170.5], [109.5, 154.5], [149.5, 128.5], [189.5, 154.5], [228, 170.5], [264, 164.5],
    ],
    np.float32,
) / np.float32(299)  # fmt: skip
"""Landmarks of an average knee, 0 to 1 of its box: the mean of 5,778 knees of train and their mirror images."""

MOST_MOVED, MOST_SIZED, MOST_TURNED = 0.15, 0.2, 30.0
"""How far the landmarks may lie off the box, in its sides, in log size and in degrees; what is farther off is cut."""


@dataclass(frozen=True)
class Look:
    """
    What a closer look says of a joint.

    `kinds` (8,) are the chances of JOINT_KINDS; `points` lie on the film.
    """

    box: Box
    kinds: npt.NDArray[np.float32]
    points: Points

    @property
    def tilt(self) -> float:
        """How far the plateau is turned on the film, in degrees, clockwise."""
        across = self.points[[0, 1, 2, 6, 7, 8]]
        slope = np.polyfit(across[:, 0], across[:, 1], 1)[0] if np.ptp(across[:, 0]) > 0 else 0.0
        return float(np.degrees(np.arctan(slope)))


def pose_of(points: Points | None, box: Box) -> Pose:
    """
    How a joint lies on a film by its landmarks: the turn, size and shift that lay an average knee nearest to them.

    Least squares (Umeyama 1991). Four times as near to the truth as the box on a composed film (`docs/grader.md`);
    without landmarks it is the box.
    """
    if points is None:
        return Pose.of(box)
    side = Pose.of(box).side
    typical, placed = TYPICAL.astype(np.float64), points.astype(np.float64)
    flat, seen = typical - typical.mean(0), placed - placed.mean(0)
    along, across = (flat * seen).sum(), (flat[:, 0] * seen[:, 1] - flat[:, 1] * seen[:, 0]).sum()
    turn = float(np.clip(np.degrees(np.arctan2(across, along)), -MOST_TURNED, MOST_TURNED))
    size = np.log(max(np.hypot(along, across) / (flat**2).sum(), 1e-6) / side)
    size = side * float(np.exp(np.clip(size, -MOST_SIZED, MOST_SIZED)))
    off = placed.mean(0) + (0.5 - typical.mean(0)) * size @ Pose((0, 0), size, turn).axes - np.array(box.middle)
    x, y = np.array(box.middle) + np.clip(off / side, -MOST_MOVED, MOST_MOVED) * side
    return Pose((float(x), float(y)), size, turn)


def look(pixels: Grey, boxes: Sequence[Box], looker: "Model") -> list[Look]:
    """A closer look at each box on a film (rows, columns), 0 to 1, bones bright."""
    if not boxes:
        return []
    size = looker.card.input_size
    kinds, shifts, points = looker.run(np.stack([view_of(pixels, box, size)[None] for box in boxes]))
    return [_look(box, *each) for box, *each in zip(boxes, kinds, shifts, points, strict=True)]


def view_of(pixels: Grey, box: Box, size: int) -> Grey:
    """What the look sees of a joint: (size, size), the box and a margin, spread over 0 to 1, then centred."""
    return (stretch(crop(pixels, grown(box, WIDE), size)) - np.float32(0.5)) / np.float32(0.25)


def grown(box: Box, by: float) -> Box:
    """The box about the same middle, `by` times as large."""
    x, y = box.middle
    half_x, half_y = box.width * by / 2, box.height * by / 2
    return Box(x - half_x, y - half_y, x + half_x, y + half_y)


def whole_film(shape: tuple[int, ...]) -> Box:
    """The box whose view is the whole film."""
    rows, columns = shape[0], shape[1]
    return Box.about((columns / 2, rows / 2), max(rows, columns) / WIDE)


def _look(
    box: Box, kinds: npt.NDArray[np.float32], shift: npt.NDArray[np.float32], points: npt.NDArray[np.float32]
) -> Look:
    chances = np.exp(kinds - kinds.max())
    x, y = box.middle
    middle = (x + float(shift[0]) * box.width, y + float(shift[1]) * box.width)
    refined = Box.about(middle, box.width * float(np.exp(np.clip(shift[2], -1, 1))))
    view = grown(box, WIDE)
    placed = points[:, :2] * view.width + np.array([view.x0, view.y0], np.float32)
    return Look(refined, chances / chances.sum(), placed.astype(np.float32))
