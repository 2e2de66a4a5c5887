"""A knee on a film, as input of eligibility rules and grader: its joint, its laterality and its artefacts."""

from dataclasses import dataclass

import numpy as np

from node.finding import Laterality
from workers.detection.artefacts import Labels
from workers.detection.joints import Joint
from workers.laterality.vote import LateralityVote
from workers.preprocessing import Pose


@dataclass(frozen=True)
class Knee:
    """`artefacts` is None where the joint is not to be graded: none were segmented."""

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
        """The artefacts on a grid; NOTHING throughout where none were segmented."""
        return np.zeros((2, 2), np.uint8) if self.artefacts is None else self.artefacts
