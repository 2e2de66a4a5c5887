"""
Refinement of each detected joint: its kind, its box, and sixteen landmarks along plateau and condyles.

The detector gets the whole film, reduced. The refiner gets one joint and a margin around it, large enough to tell a
replacement, a cast or another view from a knee, and to place the landmarks.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from workers.models.labels import JOINT_KINDS, KNEE
from workers.models.registry import Model
from workers.preprocessing import Box, Grey, Pose, box_inputs

WIDE = 1.6
"""Side of the refiner's input, in sides of the box."""

Landmarks = npt.NDArray[np.float32]
"""Landmarks, (16, 2) x and y in pixels: T0..T8 along the tibial plateau, F0..F6 along the condyles, left to right."""


TYPICAL: Landmarks = np.array(
    [
        [32, 184.5], [69, 186], [105.5, 179], [131, 152], [149.5, 160.5], [168, 152], [193.5, 179], [230, 186],
        [267, 184.5],
        [35, 164.5], [71, 170.5], [109.5, 154.5], [149.5, 128.5], [189.5, 154.5], [228, 170.5], [264, 164.5],
    ],
    np.float32,
) / np.float32(299)  # fmt: skip
"""Landmarks of an average knee, 0 to 1 of its box: the mean of 5,778 knees of train and their mirror images."""

MOST_MOVED, MOST_SIZED, MOST_TURNED = 0.15, 0.2, 30.0
"""How far the landmarks may lie off the box, in its sides, in log size and in degrees; beyond that they are clipped."""


@dataclass(frozen=True)
class Refinement:
    """
    A joint as the refiner found it, in pixels of the film.

    `kinds` (8,) are the probabilities of JOINT_KINDS.
    """

    box: Box
    kinds: npt.NDArray[np.float32]
    landmarks: Landmarks

    def kind(self, limit: float) -> str:
        """ "knee" if its probability reaches `limit`, otherwise the most probable other of JOINT_KINDS."""
        return JOINT_KINDS[KNEE if self.kinds[KNEE] >= limit else int(self.kinds[1:].argmax()) + 1]

    @property
    def tilt(self) -> float:
        """Rotation of the tibial plateau on the film, in degrees, clockwise."""
        ends = self.landmarks[[0, 1, 2, 6, 7, 8]]
        slope = np.polyfit(ends[:, 0], ends[:, 1], 1)[0] if np.ptp(ends[:, 0]) > 0 else 0.0
        return float(np.degrees(np.arctan(slope)))


def pose_of(landmarks: Landmarks | None, box: Box) -> Pose:
    """
    The rotation, scale and shift that lay an average knee nearest to the landmarks of a joint.

    Least squares (Umeyama 1991). Four times as near to the truth as the box on a composed film (`docs/grader.md`);
    without landmarks it is the box, not rotated.
    """
    if landmarks is None:
        return Pose.of(box)
    side = Pose.of(box).side
    typical, placed = TYPICAL.astype(np.float64), landmarks.astype(np.float64)
    centred, found = typical - typical.mean(0), placed - placed.mean(0)
    cosine = (centred * found).sum()
    sine = (centred[:, 0] * found[:, 1] - centred[:, 1] * found[:, 0]).sum()
    turn = float(np.clip(np.degrees(np.arctan2(sine, cosine)), -MOST_TURNED, MOST_TURNED))
    size = np.log(max(np.hypot(cosine, sine) / (centred**2).sum(), 1e-6) / side)
    size = side * float(np.exp(np.clip(size, -MOST_SIZED, MOST_SIZED)))
    off = placed.mean(0) + (0.5 - typical.mean(0)) * size @ Pose((0, 0), size, turn).axes - np.array(box.middle)
    x, y = np.array(box.middle) + np.clip(off / side, -MOST_MOVED, MOST_MOVED) * side
    return Pose((float(x), float(y)), size, turn)


def refine(pixels: Grey, boxes: Sequence[Box], refiner: Model) -> list[Refinement]:
    """The joint in each box on a film (rows, columns), 0 to 1, bones bright."""
    if not boxes:
        return []
    views = [box.enlarged(WIDE) for box in boxes]
    outputs = refiner.run(box_inputs(pixels, views, refiner.card.input_size))
    return [_refinement(box, view, *output) for box, view, *output in zip(boxes, views, *outputs, strict=True)]


def whole_film(shape: tuple[int, ...]) -> Box:
    """The box for which the refiner's input is the whole film of that shape (rows, columns)."""
    rows, columns = shape[0], shape[1]
    return Box.about((columns / 2, rows / 2), max(rows, columns) / WIDE)


def _refinement(
    box: Box,
    view: Box,
    kinds: npt.NDArray[np.float32],
    shift: npt.NDArray[np.float32],
    points: npt.NDArray[np.float32],
) -> Refinement:
    """From the refiner's output for one box, and the view around it, to pixels of the film."""
    probabilities = np.exp(kinds - kinds.max())
    x, y = box.middle
    middle = (x + float(shift[0]) * box.width, y + float(shift[1]) * box.width)
    refined = Box.about(middle, box.width * float(np.exp(np.clip(shift[2], -1, 1))))
    placed = points[:, :2] * view.width + np.array([view.x0, view.y0], np.float32)
    return Refinement(refined, probabilities / probabilities.sum(), placed.astype(np.float32))
