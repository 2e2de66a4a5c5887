"""What is known of a composed film: its joints, where they are and what they are."""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from workers.detection.landmarks import TYPICAL, Landmarks
from workers.models.labels import KNEE, OTHER
from workers.preprocessing import Box, Grey


@dataclass(frozen=True)
class Joint:
    """A joint on a film: its box, its turn in degrees (clockwise), its landmarks if they are known, and its kind."""

    box: Box
    tilt: float = 0.0
    points: Landmarks | None = None
    kind: int = KNEE


@dataclass(frozen=True)
class LabelledFilm:
    """A film, (rows, columns) 0 to 1 with bright bones, the joints on it, and what it shows if it has none."""

    pixels: Grey
    joints: tuple[Joint, ...]
    kind: int = OTHER

    @property
    def boxes(self) -> tuple[Box, ...]:
        return tuple(joint.box for joint in self.joints)


@dataclass(frozen=True)
class Crop:
    """A crop of one joint as hung, bones bright, to compose films of, and its landmarks in its pixels if known."""

    pixels: Grey
    points: Landmarks | None = None


def mirrored(crop: Crop) -> Crop:
    """The crop's mirror image, its landmarks still from left to right."""
    pixels = np.ascontiguousarray(crop.pixels[:, ::-1])
    if crop.points is None:
        return Crop(pixels)
    points = crop.points * np.array([-1, 1], np.float32) + np.array([pixels.shape[1] - 1, 0], np.float32)
    return Crop(pixels, left_to_right(points))


def left_to_right(points: Landmarks) -> Landmarks:
    """Plateau and condyles each from the image's left to its right."""
    plateau, condyles = points[:9], points[9:]
    if plateau[0, 0] > plateau[-1, 0]:
        plateau = plateau[::-1]
    if condyles[0, 0] > condyles[-1, 0]:
        condyles = condyles[::-1]
    return np.concatenate([plateau, condyles]).astype(np.float32)


def points_of(crop: Crop) -> Landmarks:
    """The crop's landmarks, or where those of an average knee would lie on it."""
    rows, columns = crop.pixels.shape
    return crop.points if crop.points is not None else TYPICAL * np.array([columns, rows], np.float32)


def moved(joint: Joint, by: npt.NDArray[np.float64]) -> Joint:
    """The joint after the film that it is on was turned and shifted by the affine map `by` (2, 3)."""
    x, y = by @ [*joint.box.middle, 1]
    turn = float(np.degrees(np.arctan2(by[1, 0], by[0, 0])))
    points = None if joint.points is None else (joint.points @ by[:, :2].T + by[:, 2]).astype(np.float32)
    return replace(joint, box=Box.about((x, y), joint.box.width), tilt=joint.tilt + turn, points=points)
