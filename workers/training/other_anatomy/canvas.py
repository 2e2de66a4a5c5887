"""A canvas on which bones add up as they do on a film: by how much they take from the beam."""

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from workers.preprocessing import Grey

XY = tuple[float, float]


class Canvas:
    """
    Thickness of bone and of soft tissue over a square of `side` pixels; coordinates run from -1 to 1.

    Everything is drawn with one random turn, scale and shift: whole or close up; `near_vertical` limits the turn.
    """

    def __init__(self, side: int, random: np.random.Generator, *, near_vertical: bool = False) -> None:
        self.side, self.random = side, random
        self.bone = np.zeros((side, side), np.float32)
        self.soft = np.zeros((side, side), np.float32)
        turn = random.normal(0, 0.12) if near_vertical or random.random() < 0.6 else random.uniform(0, 2 * np.pi)
        self.scale = float(random.uniform(0.8, 1.1) if random.random() < 0.5 else random.uniform(1.0, 1.9))
        flip = random.choice([-1, 1])
        self.matrix = np.array([[flip * np.cos(turn), -np.sin(turn)], [flip * np.sin(turn), np.cos(turn)]]) * self.scale
        self.shift = random.normal(0, 0.08, 2) * self.scale

    def place(self, points: Sequence[XY] | npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Pixels of points."""
        return ((np.asarray(points, float) @ self.matrix.T + self.shift) + 1) / 2 * self.side

    def pixels(self, length: float) -> float:
        return length * self.scale * self.side / 2

    def tube(self, path: Sequence[XY], widths: Sequence[float], weight: float = 1.0, cortex: float = 0.3) -> None:
        """A bone along a path; `widths` are its half widths at equal steps: flared ends, a waist between them."""
        steps = 40
        at = np.linspace(0, 1, steps)
        given = np.asarray(path, float)
        line = np.stack([np.interp(at, np.linspace(0, 1, len(given)), given[:, axis]) for axis in (0, 1)], 1)
        half = np.interp(at, np.linspace(0, 1, len(widths)), widths)
        half = half * (1 + 0.04 * np.sin(at * self.random.uniform(8, 25) + self.random.uniform(0, 6)))
        along = np.gradient(line, axis=0)
        normal = np.stack([-along[:, 1], along[:, 0]], 1) / (np.linalg.norm(along, axis=1, keepdims=True) + 1e-9)
        outline = np.concatenate([line + normal * half[:, None], (line - normal * half[:, None])[::-1]])
        mask = np.zeros((self.side, self.side), np.uint8)
        self._fill(mask, outline)
        for end, wide in ((line[0], half[0]), (line[-1], half[-1])):
            self._disc(mask, end, float(wide))
        self._add(mask, float(np.median(half)), weight, cortex)

    def blob(self, middle: XY, radii: XY, weight: float = 1.0, turn: float = 0.0, cortex: float = 0.25) -> None:
        """A short bone or the end of one: an ellipse, not quite."""
        angle = np.linspace(0, 2 * np.pi, 48, endpoint=False)
        wobble = 1 + sum(self.random.normal(0, 0.05) * np.sin(k * angle + self.random.uniform(0, 6)) for k in (2, 3, 4))
        x, y = radii[0] * np.cos(angle) * wobble, radii[1] * np.sin(angle) * wobble
        outline = np.stack(
            [x * np.cos(turn) - y * np.sin(turn) + middle[0], x * np.sin(turn) + y * np.cos(turn) + middle[1]], 1
        )
        mask = np.zeros((self.side, self.side), np.uint8)
        self._fill(mask, outline)
        self._add(mask, min(radii), weight, cortex)

    def ring(self, middle: XY, radii: XY, thick: float, weight: float = 1.0, part: XY = (0, 2 * np.pi)) -> None:
        """A curved bone: a rib, the pelvic ring, the skull's vault."""
        angle = np.linspace(*part, 60)
        path = np.stack([middle[0] + radii[0] * np.cos(angle), middle[1] + radii[1] * np.sin(angle)], 1)
        mask = np.zeros((self.side, self.side), np.uint8)
        points = np.round(self.place(path) * 16).astype(np.int32)
        wide = max(1, round(self.pixels(2 * thick)))
        cv2.polylines(mask, [points], False, 255, wide, cv2.LINE_AA, shift=4)
        self._add(mask, thick, weight, 0.35)

    def flesh(self, path: Sequence[XY], wide: float, weight: float = 1.0) -> None:
        """Soft tissue about a path."""
        mask = np.zeros((self.side, self.side), np.uint8)
        points = np.round(self.place(path) * 16).astype(np.int32)
        if len(points) > 1:
            thick = max(1, round(self.pixels(2 * wide)))
            cv2.polylines(mask, [points], False, 255, min(thick, 2000), cv2.LINE_AA, shift=4)
        else:
            self._disc(mask, np.asarray(path[0], float), wide)
        blurred = cv2.GaussianBlur(mask, (0, 0), max(0.8, self.pixels(wide) * 0.12))
        self.soft = np.maximum(self.soft, blurred.astype(np.float32) / 255 * weight)

    def _fill(self, mask: npt.NDArray[np.uint8], outline: npt.NDArray[np.float64]) -> None:
        points = np.round(self.place(outline) * 16).astype(np.int32)
        cv2.fillPoly(mask, [points], 255, cv2.LINE_AA, shift=4)

    def _disc(self, mask: npt.NDArray[np.uint8], at: npt.NDArray[np.float64], radius: float) -> None:
        x, y = np.round(self.place([(float(at[0]), float(at[1]))])[0] * 16).astype(int)
        cv2.circle(mask, (int(x), int(y)), max(8, round(self.pixels(radius) * 16)), 255, -1, cv2.LINE_AA, shift=4)

    def _add(self, mask: npt.NDArray[np.uint8], half: float, weight: float, cortex: float) -> None:
        """Bright along its edge, where the cortex is seen along its wall, and round in the middle."""
        inside = mask.astype(np.float32) / 255
        reach = max(1.0, self.pixels(half))
        depth = cv2.distanceTransform((mask > 127).astype(np.uint8), cv2.DIST_L2, 3)
        wall = np.exp(-(((depth - reach * 0.12) / (reach * self.random.uniform(0.1, 0.22) + 0.7)) ** 2)) * inside
        body = np.sqrt(np.clip(depth / reach, 0, 1)) * inside
        self.bone += np.float32(weight) * (body * np.float32(0.7 - cortex * 0.5) + wall * np.float32(cortex * 1.6))

    def film(self, size: tuple[int, int], random: np.random.Generator) -> Grey:
        """What a detector of that size shows of the canvas."""
        coarse = random.normal(0, 1, (self.side, self.side)).astype(np.float32)
        grain = cv2.GaussianBlur(coarse, (0, 0), random.uniform(0.7, 1.6)) * random.uniform(0.03, 0.22)
        bone = cv2.GaussianBlur(self.bone * (1 + grain), (0, 0), random.uniform(0.4, 1.4))
        dense = self.soft * random.uniform(0.25, 1.1) + bone * random.uniform(0.7, 1.6)
        shown = 1 - np.exp(-dense)
        shown = shown / max(float(shown.max()), 0.05)
        slow = cv2.resize(
            random.random((3, 3)).astype(np.float32), (self.side, self.side), interpolation=cv2.INTER_CUBIC
        )
        shown = np.clip(shown * (1 + 0.2 * (slow - 0.5)), 0, 1) ** float(np.exp(random.normal(0, 0.25)))
        rows, columns = size
        longest = max(rows, columns)
        fitted = cv2.resize(shown, (longest, longest), interpolation=cv2.INTER_AREA)
        top, left = (longest - rows) // 2, (longest - columns) // 2
        return np.clip(fitted[top : top + rows, left : left + columns], 0, 1).astype(np.float32)
