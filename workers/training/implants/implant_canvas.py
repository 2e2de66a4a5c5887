"""A canvas over a knee, in units of the knee, to draw implants on, and how it is blended into the image."""

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from workers.detection.landmarks import Landmarks
from workers.preprocessing import Box, Grey

SHARP = 3
"""Sub-pixels along each side while drawing."""

XY = tuple[float, float]


class ImplantCanvas:
    """
    What lies over a knee: where it is dense, and where bone was removed.

    Coordinates are in widths of the tibial plateau from its middle: x along it to the image's right, y down.
    """

    def __init__(self, shape: tuple[int, ...], points: Landmarks) -> None:
        self.shape = (shape[0], shape[1])
        first, last = points[:2].mean(0), points[7:9].mean(0)
        self.across = (last - first) * 1.2
        self.down = np.array([-self.across[1], self.across[0]], np.float32)
        self.middle = (first + last) / 2
        size = (shape[0] * SHARP, shape[1] * SHARP)
        self.dense = np.zeros(size, np.uint8)
        self.removed = np.zeros(size, np.uint8)

    @property
    def unit(self) -> float:
        """Pixels of a plateau's width."""
        return float(np.hypot(*self.across))

    def place(self, points: Sequence[XY]) -> npt.NDArray[np.int32]:
        """Points of the canvas in sixteenths of its sub-pixels."""
        at = np.array(points, np.float32)
        on_film = self.middle + at[:, :1] * self.across + at[:, 1:] * self.down
        return np.asarray(np.round((on_film * SHARP + (SHARP - 1) / 2) * 16), np.int32)

    def fill(self, points: Sequence[XY], value: int = 255) -> None:
        """A dense area within these corners; with `value` 0 a hole."""
        cv2.fillPoly(self.dense, [self.place(points)], value, cv2.LINE_AA, shift=4)

    def empty(self, points: Sequence[XY]) -> None:
        """An area from which bone was removed."""
        cv2.fillPoly(self.removed, [self.place(points)], 255, cv2.LINE_AA, shift=4)

    def line(self, points: Sequence[XY], width: float, value: int = 255) -> None:
        """A dense line, `width` plateaus wide."""
        thick = max(1, round(width * self.unit * SHARP))
        cv2.polylines(self.dense, [self.place(points)], False, value, thick, cv2.LINE_AA, shift=4)

    def disc(self, at: XY, radius: float, value: int = 255) -> None:
        """A round head, or with `value` 0 a hole."""
        x, y = (int(value) for value in self.place([at])[0])
        cv2.circle(self.dense, (x, y), max(16, round(radius * self.unit * SHARP * 16)), value, -1, cv2.LINE_AA, shift=4)

    def onto(self, knee: Grey, random: np.random.Generator) -> tuple[Grey, Box | None]:
        """The knee under the canvas, as a detector shows it, and the box of the dense areas; None if there is none."""
        blur = random.uniform(0.3, 1.1) * SHARP
        dense, removed = (self._shrunk(mask, blur) for mask in (self.dense, self.removed))
        ys, xs = np.nonzero(dense > 0.2)
        if not len(xs):
            return knee, None
        soft = float(np.percentile(knee, random.uniform(8, 35)))
        tissue = cv2.GaussianBlur(knee, (0, 0), 0.12 * self.unit) * 0.35 + 0.65 * soft
        under = knee * (1 - removed) + tissue * removed
        # The console's window follows the metal: bone beside it is darker, or is not.
        under = under * random.uniform(0.55, 1.0) + random.uniform(0, 0.08)
        bone = float(np.percentile(under, 97))
        bright = float(np.clip(bone + random.uniform(0.08, 0.5), bone + 0.05, 1.0))
        opaque = random.uniform(0.85, 1.0)
        glow = cv2.GaussianBlur(dense, (0, 0), 0.04 * self.unit) * random.uniform(0, 0.12)
        shade = bright + random.normal(0, 0.01, knee.shape)
        blended = under * (1 - dense * opaque) + shade * dense * opaque + glow * (1 - dense)
        if blended.max() > 1 and random.random() < 0.5:  # not clipped: all is darker instead
            blended = blended / blended.max()
        box = Box(float(xs.min()), float(ys.min()), float(xs.max() + 1), float(ys.max() + 1))
        return np.clip(blended, 0, 1).astype(np.float32), box

    def cover(self) -> Grey:
        """How much of each pixel of the knee is metal, 0 to 1."""
        return self._shrunk(self.dense, 0.7 * SHARP)

    def _shrunk(self, drawn: npt.NDArray[np.uint8], blur: float) -> Grey:
        soft = cv2.GaussianBlur(drawn, (0, 0), blur)
        small = cv2.resize(soft, self.shape[::-1], interpolation=cv2.INTER_AREA)
        return np.asarray(small, np.float32) / np.float32(255)
