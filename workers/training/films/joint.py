"""Composed films, their joints, and the crops that they are made of."""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from workers.detection.landmarks import TYPICAL, Landmarks
from workers.models.labels import KNEE, OTHER
from workers.preprocessing import Box, Grey, Pose


@dataclass(frozen=True)
class LabelledJoint:
    """A joint on a film: its box, its turn in degrees (clockwise), its landmarks if they are known, and its kind."""

    box: Box
    tilt: float = 0.0
    points: Landmarks | None = None
    kind: int = KNEE


@dataclass(frozen=True)
class LabelledFilm:
    """A film, (rows, columns) 0 to 1 with bright bones, its joints, and the kind of what it shows if it has none."""

    pixels: Grey
    joints: tuple[LabelledJoint, ...]
    kind: int = OTHER

    @property
    def boxes(self) -> tuple[Box, ...]:
        return tuple(joint.box for joint in self.joints)


@dataclass(frozen=True)
class Crop:
    """
    A crop of one joint as displayed, bones bright, to compose films of.

    `points` are its landmarks and `pose` how the joint lies on it, both in its pixels, if they are known.
    """

    pixels: Grey
    points: Landmarks | None = None
    pose: Pose | None = None

    def pose_on_film(self, joint: LabelledJoint) -> Pose:
        """The pose of the joint on a film where the crop is `joint`; its pose on the crop must be known."""
        assert self.pose is not None
        columns = self.pixels.shape[1]
        scale = joint.box.width / columns
        offset = (np.array(self.pose.middle) - columns / 2) * scale @ Pose((0, 0), 1, joint.tilt).axes
        x, y = np.array(joint.box.middle) + offset
        return Pose((float(x), float(y)), self.pose.side * scale, self.pose.turn + joint.tilt)


def mirrored(crop: Crop) -> Crop:
    """The crop's mirror image, its landmarks still from left to right."""
    pixels, points, pose = np.ascontiguousarray(crop.pixels[:, ::-1]), crop.points, crop.pose
    if points is not None:
        mirrored_points = points * np.array([-1, 1], np.float32) + np.array([pixels.shape[1] - 1, 0], np.float32)
        points = left_to_right(mirrored_points)
    if pose is not None:
        x, y = pose.middle
        pose = Pose((pixels.shape[1] - x, y), pose.side, -pose.turn)
    return Crop(pixels, points, pose)


def left_to_right(points: Landmarks) -> Landmarks:
    """Plateau and condyles each from the image's left to its right."""
    plateau, condyles = points[:9], points[9:]
    if plateau[0, 0] > plateau[-1, 0]:
        plateau = plateau[::-1]
    if condyles[0, 0] > condyles[-1, 0]:
        condyles = condyles[::-1]
    return np.concatenate([plateau, condyles]).astype(np.float32)


def points_of(crop: Crop) -> Landmarks:
    """The crop's landmarks, or those of an average knee on it."""
    rows, columns = crop.pixels.shape
    return crop.points if crop.points is not None else TYPICAL * np.array([columns, rows], np.float32)


def moved(joint: LabelledJoint, by: npt.NDArray[np.float64]) -> LabelledJoint:
    """The joint after the film that it is on was turned and shifted by the affine map `by` (2, 3)."""
    x, y = by @ [*joint.box.middle, 1]
    turn = float(np.degrees(np.arctan2(by[1, 0], by[0, 0])))
    points = None if joint.points is None else (joint.points @ by[:, :2].T + by[:, 2]).astype(np.float32)
    return replace(joint, box=Box.about((x, y), joint.box.width), tilt=joint.tilt + turn, points=points)
