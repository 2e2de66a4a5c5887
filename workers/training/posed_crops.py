"""Crops of a joint and how the joint lies on them: mirrored, and laid on a film."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from rich.console import Console
from rich.progress import track

from workers.evaluation.labelled_films import pose_on
from workers.evaluation.labelled_knees import LabelledKnee
from workers.models.registry import Model
from workers.preprocessing import Box, Grey, Pose
from workers.training.films import Joint


@dataclass(frozen=True)
class Posed:
    """A crop of a joint and how the joint lies on it."""

    pixels: Grey
    pose: Pose

    @property
    def mirrored(self) -> "Posed":
        """The mirror image."""
        x, y = self.pose.middle
        pose = Pose((self.pixels.shape[1] - x, y), self.pose.side, -self.pose.turn)
        return Posed(np.ascontiguousarray(self.pixels[:, ::-1]), pose)

    def on(self, laid: Joint) -> Pose:
        """How it lies on a film that the crop was laid on."""
        grown = laid.box.width / self.pixels.shape[1]
        off = (np.array(self.pose.middle) - self.pixels.shape[1] / 2) * grown @ Pose((0, 0), 1, laid.tilt).axes
        x, y = np.array(laid.box.middle) + off
        return Pose((float(x), float(y)), self.pose.side * grown, self.pose.turn + laid.tilt)


def poses_of(train: Sequence[LabelledKnee], looker: Model) -> list[Pose]:
    """How each knee lies on its crop, as a right one."""
    told = []
    for knee in track(train, "Landmarks", transient=True, console=Console(stderr=True)):
        pixels = knee.read()
        told.append(pose_on(pixels, Box.whole(pixels), looker))
    return told
