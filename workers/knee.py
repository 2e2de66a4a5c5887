"""A knee on a film as it comes to be judged and graded: its joint, its laterality, and what lies beside its bones."""

from dataclasses import dataclass

import numpy as np

from node.finding import Laterality
from workers.detection.artefacts import Labels
from workers.detection.joints import Joint
from workers.laterality.vote import LateralityVote
from workers.preprocessing import Pose


@dataclass(frozen=True)
class Knee:
    """`artefacts` are None where the joint is none to be graded, so that nobody segmented them."""

    joint: Joint
    side: LateralityVote = LateralityVote()  # noqa: RUF009 - frozen
    artefacts: Labels | None = None

    @property
    def pose(self) -> Pose:
        """How the joint lies on the film."""
        return self.joint.pose

    @property
    def laterality(self) -> Laterality:
        return self.side.laterality

    @property
    def labels(self) -> Labels:
        """The artefacts on a grid; a grid of nothing where nobody segmented them."""
        return np.zeros((2, 2), np.uint8) if self.artefacts is None else self.artefacts
