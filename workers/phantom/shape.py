"""The contents of a rendered film: knees, their poses, and their true joint spaces."""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from node.finding import Laterality
from workers.preprocessing import Box


@dataclass(frozen=True)
class KneeShape:
    """
    One knee. The joint spaces are millimetres on the film, independent of the `scale` of the bones.

    `tilt_degrees` is its varus (+) or valgus (-); `osteophytes` goes from 0, none, to 1, large.
    """

    laterality: Laterality
    medial_mm: float = 5.0
    lateral_mm: float = 5.5
    osteophytes: float = 0.0
    tilt_degrees: float = 0.0
    scale: float = 1.0

    def right(self) -> "KneeShape":
        """The same knee as a right one: left knees are rendered as right ones and mirrored."""
        return replace(self, laterality=Laterality.RIGHT)


@dataclass(frozen=True)
class Pose:
    """The middle of a knee's plateau on the film (pixels, edge coordinates), and its rotation."""

    x: float
    y: float
    rotation_degrees: float = 0.0


@dataclass(frozen=True)
class JointSpace:
    """The true width of one compartment's joint space and the two points (x, y, pixels) between which it lies."""

    compartment: str
    mm: float
    femur: tuple[float, float]
    tibia: tuple[float, float]


@dataclass(frozen=True)
class RenderedFilm:
    """A rendered radiograph, MONOCHROME2 (bone bright), with its true contents."""

    pixels: npt.NDArray[np.uint16]
    spacing_mm: float
    boxes: tuple[Box, ...] = ()
    """Framed by `framing.joint_box`, in the order of `knees`; a box may reach beyond a film that cuts the knee."""
    knees: tuple[KneeShape, ...] = ()
    joint_spaces: tuple[tuple[JointSpace, ...], ...] = ()
    """For each knee its medial and its lateral compartment."""
    opening: Box | None = None
    """The largest axis-parallel rectangle within the collimator's opening; None: the whole detector was exposed."""
    bits: int = 12
