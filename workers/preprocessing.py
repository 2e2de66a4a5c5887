"""
From a joint on a film to the input of a network.

Training and service call the same functions here, so nothing differs between them. PREPARATION names
the recipe: it is written into each model's card, and a model prepared otherwise is refused at load.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

PREPARATION = 2
"""Change it whenever the same joint would give another input. Since 2 the joint is straightened (`Pose`)."""

Grey = npt.NDArray[np.float32]
"""A grey image, (rows, columns), 0.0 black to 1.0 white, bone bright."""


@dataclass(frozen=True)
class Box:
    """A rectangle in pixels of the image it was found on; x1 and y1 lie just outside it."""

    x0: float
    y0: float
    x1: float
    y1: float

    @property
    def width(self) -> float:
        return self.x1 - self.x0

    @property
    def height(self) -> float:
        return self.y1 - self.y0

    @property
    def middle(self) -> tuple[float, float]:
        return (self.x0 + self.x1) / 2, (self.y0 + self.y1) / 2

    def scaled(self, by: float) -> "Box":
        """The same rectangle on the image when that is `by` times as large."""
        return Box(self.x0 * by, self.y0 * by, self.x1 * by, self.y1 * by)

    def shared(self, other: "Box") -> float:
        """The area that both cover."""
        width = min(self.x1, other.x1) - max(self.x0, other.x0)
        height = min(self.y1, other.y1) - max(self.y0, other.y0)
        return max(0.0, width) * max(0.0, height)

    def enlarged(self, by: float) -> "Box":
        """The box with the same middle, `by` times as wide and as high."""
        x, y = self.middle
        half_x, half_y = self.width * by / 2, self.height * by / 2
        return Box(x - half_x, y - half_y, x + half_x, y + half_y)

    @classmethod
    def about(cls, middle: tuple[float, float], side: float) -> "Box":
        """The square box of that side about a middle."""
        x, y, half = *middle, side / 2
        return cls(x - half, y - half, x + half, y + half)

    @classmethod
    def whole(cls, image: Grey) -> "Box":
        """The box of all pixels."""
        return cls(0, 0, image.shape[1], image.shape[0])


@dataclass(frozen=True)
class Pose:
    """How a joint lies on an image: a square about `middle` (x, y), `side` wide, turned by `turn` degrees clockwise."""

    middle: tuple[float, float]
    side: float
    turn: float = 0.0

    @classmethod
    def of(cls, box: Box) -> "Pose":
        """That of a joint that fills a box and is not rotated."""
        return cls(box.middle, (box.width + box.height) / 2)

    @property
    def axes(self) -> npt.NDArray[np.float64]:
        """One step across the square and one down it, as rows (x, y) on the image."""
        cos, sin = np.cos(np.radians(self.turn)), np.sin(np.radians(self.turn))
        return np.array([[cos, sin], [-sin, cos]])

    @property
    def around(self) -> Box:
        """The smallest axis-parallel box around the square."""
        return Box.about(self.middle, self.side * float(np.abs(self.axes[0]).sum()))

    def within(self, places: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
        """Where places (n, 2) on the image lie in the square, its corners being 0 and 1."""
        within: npt.NDArray[np.float64] = (places - np.array(self.middle)) @ self.axes.T / self.side + 0.5
        return within

    def onto(self, size: int) -> npt.NDArray[np.float64]:
        """The affine map (2, 3) from the image to (size, size) pixels of the square, as OpenCV counts them."""
        turned = self.axes * (size / self.side)
        # A pixel's middle lies at a half in places and at a whole number in OpenCV's maps.
        shift = size / 2 - 0.5 - turned @ (np.array(self.middle) - 0.5)
        return np.column_stack([turned, shift])


def cut(image: Grey, pose: Pose, size: int) -> Grey:
    """Cut a joint out of `image`, straightened and resized to (size, size); beyond the film as `crop` does."""
    if size / pose.side < 0.5:
        around = pose.around
        image, part = _averaged(image, around, min(int(pose.side / size), *image.shape))
        pose = Pose(part.middle, pose.side * part.width / around.width, pose.turn)
    move = pose.onto(size)
    return np.asarray(
        cv2.warpAffine(image, move, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), np.float32
    )


def crop(image: Grey, box: Box, size: int) -> Grey:
    """Cut `box` out of `image` and resize it to (size, size); beyond the film its last pixels continue."""
    scale_x, scale_y = size / box.width, size / box.height
    # Averaging before shrinking keeps fine trabeculae from turning into moiré.
    shrink = min(scale_x, scale_y)
    if shrink < 0.5:
        image, box = _averaged(image, box, min(int(1 / shrink), *image.shape))
        scale_x, scale_y = size / box.width, size / box.height
    move = np.array(
        [[scale_x, 0, -box.x0 * scale_x + scale_x / 2 - 0.5], [0, scale_y, -box.y0 * scale_y + scale_y / 2 - 0.5]]
    )
    cut = cv2.warpAffine(image, move, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(cut, np.float32)


def resized(image: Grey, by: float) -> Grey:
    """The whole image `by` times as large; what shrinks much is halved first, which averages ten times as fast."""
    columns, rows = (max(1, round(length * by)) for length in image.shape[::-1])
    if by <= 0.5 and min(image.shape) > 1:
        image = np.asarray(cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA), np.float32)
    return np.asarray(cv2.resize(image, (columns, rows), interpolation=cv2.INTER_AREA), np.float32)


def _averaged(image: Grey, box: Box, cell: int) -> tuple[Grey, Box]:
    """
    The part of an image that a box needs, each `cell` x `cell` pixels averaged, and the box on it.

    Cells are counted from the image's corner, so the part is what the whole would be there, at a fraction of the time.
    """
    rows, columns = image.shape
    x0, x1 = _span(box.x0, box.x1, columns, cell)
    y0, y1 = _span(box.y0, box.y1, rows, cell)
    part = cv2.resize(image[y0:y1, x0:x1], None, fx=1 / cell, fy=1 / cell, interpolation=cv2.INTER_AREA)
    within = Box(box.x0 - x0, box.y0 - y0, box.x1 - x0, box.y1 - y0)
    return np.asarray(part, np.float32), within.scaled(1 / cell)


def _span(first: float, last: float, length: int, cell: int) -> tuple[int, int]:
    """From where to where a box needs an axis of `length` pixels, in whole cells and some to spare."""
    cells = round(length / cell)  # as OpenCV counts them: half a cell at the end is one if that makes them even
    low = min(max(0, int(first // cell) - 2), cells - 1) // 2 * 2
    high = min(cells, max(low + 2, int(last // cell) + 3))
    return low * cell, min(length, high * cell)


def film_input(pixels: Grey, size: int) -> tuple[npt.NDArray[np.float32], float]:
    """
    The whole film as the joint detector gets it, (1, size, size), and input pixels per film pixel.

    The film lies at the top left of the square, stretched in contrast; the rest is black.
    """
    scale = size / max(pixels.shape)
    small = resized(pixels, scale)
    view = np.zeros((size, size), np.float32)
    view[: small.shape[0], : small.shape[1]] = stretch(small)
    return normalised(view)[None], scale


def crop_input(crop_of_joint: Grey, size: int) -> npt.NDArray[np.float32]:
    """A crop as the small networks get it, (1, size, size): resized if need be, stretched in contrast, normalised."""
    if crop_of_joint.shape != (size, size):
        smaller = cv2.resize(crop_of_joint, (size, size), interpolation=cv2.INTER_AREA)
        crop_of_joint = np.asarray(smaller, np.float32)
    return normalised(stretch(crop_of_joint))[None]


def box_inputs(pixels: Grey, boxes: Sequence[Box], size: int) -> npt.NDArray[np.float32]:
    """What lies in boxes on a film as the small networks get it, (n, 1, size, size)."""
    return np.stack([crop_input(crop(pixels, box, size), size) for box in boxes])


def grader_input(knee: Grey, size: int) -> npt.NDArray[np.float32]:
    """
    A crop of a right knee (mirror a left one first) as a grader gets it, (3, size, size).

    The channels are the same knee three times: stretched between its 1st and 99th percentile, with its
    contrast evened out (CLAHE, Zuiderveld 1994), and with its local mean and spread taken out, so that
    an over- or under-exposed film still shows its joint space in one of them.
    """
    if knee.shape != (size, size):
        knee = crop(knee, Box.whole(knee), size)
    stretched = stretch(knee)
    even = cv2.createCLAHE(clipLimit=3.0, tileGridSize=(8, 8)).apply((stretched * 255).round().astype(np.uint8))
    mean = cv2.GaussianBlur(stretched, (0, 0), size / 24)
    spread = cv2.GaussianBlur((stretched - mean) ** 2, (0, 0), size / 24) ** 0.5
    local = np.clip((stretched - mean) / (4 * spread + 0.05), -1, 1) / 2 + 0.5
    channels = np.stack([stretched, even.astype(np.float32) / 255, local])
    return normalised(channels)


def normalised(image: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Grey levels of 0 to 1 as -2 to 2: all networks of Genu were trained on these."""
    return ((image - np.float32(0.5)) / np.float32(0.25)).astype(np.float32)


def stretch(image: Grey) -> Grey:
    """Spread the grey levels between the 1st and the 99th percentile over 0 to 1."""
    low, high = np.percentile(image, (1, 99))
    return np.asarray(np.clip((image - low) / max(float(high - low), 1e-3), 0, 1), np.float32)
