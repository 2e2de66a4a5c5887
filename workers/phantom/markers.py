"""What a film shows besides the patient: lead letters, text from the console, the collimator's edges."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from node.finding import Laterality
from workers.phantom.shape import KneeShape
from workers.preprocessing import Box

Map = npt.NDArray[np.float32]


@dataclass(frozen=True)
class TextMark:
    """A short text with its middle at (x, y) and that tall, in pixels; `mirrored` where the film will be mirrored."""

    text: str
    x: float
    y: float
    height: float
    degrees: float = 0.0
    mirrored: bool = False
    frame: bool = False
    """Whether there is a frame around the text."""

    def cover(self, rows: int, columns: int) -> Map:
        """How much the text covers each pixel of a film, 0 to 1."""
        drawn = np.zeros((rows, columns), np.uint8)
        patch = self._patch()
        high, wide = patch.shape
        factor = self.height / (high - 64)
        reach = int(np.hypot(high, wide) * factor / 2) + 2
        left, top = max(0, int(self.x) - reach), max(0, int(self.y) - reach)
        right, bottom = min(columns, int(self.x) + reach), min(rows, int(self.y) + reach)
        if right <= left or bottom <= top:
            return drawn.astype(np.float32)
        # Shrunk with averaging first, or thin strokes break up.
        shrink = min(1.0, 2 * factor)
        patch = np.asarray(cv2.resize(patch, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA), np.uint8)
        middle = (patch.shape[1] / 2, patch.shape[0] / 2)
        angle = -self.degrees if self.mirrored else self.degrees
        move = np.asarray(cv2.getRotationMatrix2D(middle, angle, factor / shrink), np.float64)
        move[:, 2] += np.array([self.x - left, self.y - top]) - middle
        drawn[top:bottom, left:right] = cv2.warpAffine(patch, move, (right - left, bottom - top))
        return np.asarray(drawn * np.float32(1 / 255))

    def _patch(self) -> npt.NDArray[np.uint8]:
        """The text, large, with a border of 32 pixels."""
        (wide, high), _ = cv2.getTextSize(self.text, cv2.FONT_HERSHEY_SIMPLEX, 3.0, 9)
        patch = np.zeros((high + 64, wide + 64), np.uint8)
        cv2.putText(patch, self.text, (32, high + 32), cv2.FONT_HERSHEY_SIMPLEX, 3.0, 255, 9, cv2.LINE_AA)
        if self.frame:
            cv2.rectangle(patch, (6, 6), (patch.shape[1] - 7, patch.shape[0] - 7), 255, 7)
        return np.ascontiguousarray(patch[:, ::-1]) if self.mirrored else patch


@dataclass(frozen=True)
class CollimatorWindow:
    """The opening of the collimator: a rectangle in pixels, slightly turned, and the grey of what is outside."""

    x0: float
    y0: float
    x1: float
    y1: float
    degrees: float = 0.0
    shutter: float | None = 0.0
    """The grey (0 to 1) of the console's shutter outside; None leaves the unexposed detector as it is."""

    @classmethod
    def about(cls, rows: int, columns: int, random: np.random.Generator) -> "CollimatorWindow":
        """A window that leaves narrow borders."""
        x0, x1 = random.uniform(0.015, 0.045, 2) * columns
        y0, y1 = random.uniform(0.015, 0.045, 2) * rows
        return cls(x0, y0, columns - x1, rows - y1, random.uniform(-0.4, 0.4))

    def open(self, rows: int, columns: int) -> npt.NDArray[np.uint8]:
        """255 where the beam passes, 0 behind the shutters."""
        middle = np.array([(self.x0 + self.x1) / 2, (self.y0 + self.y1) / 2])
        half = np.array([(self.x1 - self.x0) / 2, (self.y1 - self.y0) / 2])
        angle = np.radians(self.degrees)
        turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        corners = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) * half @ turn + middle - 0.5
        mask = np.zeros((rows, columns), np.uint8)
        cv2.fillConvexPoly(mask, np.round(corners * 16).astype(np.int32), 255, cv2.LINE_AA, shift=4)
        return mask

    def inner_box(self, rows: int, columns: int) -> Box:
        """The axis-parallel rectangle within the opening."""
        lean = abs(np.sin(np.radians(self.degrees)))
        x, y = lean * (self.y1 - self.y0) / 2, lean * (self.x1 - self.x0) / 2
        return Box(max(self.x0 + x, 0), max(self.y0 + y, 0), min(self.x1 - x, columns), min(self.y1 - y, rows))


def side_markers(
    knees: Sequence[KneeShape],
    rows: int,
    columns: int,
    spacing_mm: float,
    random: np.random.Generator,
    *,
    mirrored: bool = False,
) -> tuple[TextMark, ...]:
    """A lead R or L of 11 mm beside the outer side of each knee, above the joint."""
    height = 11 / spacing_mm
    letters = []
    for knee in knees:
        from_edge = (0.085 + random.uniform(0, 0.02)) * columns
        x = from_edge if mirrored or knee.laterality is not Laterality.LEFT else columns - from_edge
        y = (0.10 + random.uniform(0, 0.05)) * rows
        letters.append(TextMark(str(knee.laterality.value), x, y, height, random.uniform(-6, 6), mirrored))
    return tuple(letters)
