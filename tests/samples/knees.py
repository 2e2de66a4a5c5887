"""Knees as detection leaves them, for tests of what comes after it."""

from typing import Any

from node.evidence import Agreement, LateralitySource
from node.finding import Laterality
from workers.detection.artefacts import Labels
from workers.detection.joints import Joint
from workers.knee import Knee
from workers.laterality.vote import LateralityVote
from workers.preprocessing import Box


def knee(
    box: Box,
    laterality: Laterality = Laterality.RIGHT,
    *,
    agreement: Agreement = Agreement.SINGLE,
    artefacts: Labels | None = None,
    **joint: Any,
) -> Knee:
    """A knee in a box; `joint` are more fields of workers.detection.joints.Joint."""
    side = LateralityVote(laterality, LateralitySource.IMAGE_LATERALITY, agreement)
    return Knee(Joint(box, 1.0, **joint), side, artefacts)
