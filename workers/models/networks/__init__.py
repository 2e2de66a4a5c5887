"""The networks that a card can name."""

from collections.abc import Callable, Mapping

from torch import nn

from workers.models.networks.artefacts import ArtefactSegmenter
from workers.models.networks.graders import GRADERS, Ensemble, Grader, refine, start_from_imagenet
from workers.models.networks.joints import JointDetector, JointRefiner, OrientationClassifier
from workers.models.networks.lead_markers import LeadMarkerClassifier

__all__ = [
    "FINE",
    "GRADERS",
    "ArtefactSegmenter",
    "Ensemble",
    "Grader",
    "JointDetector",
    "JointRefiner",
    "LeadMarkerClassifier",
    "OrientationClassifier",
    "build",
    "refine",
    "start_from_imagenet",
    "trunk_of",
]

OTHERS: Mapping[str, Callable[[], nn.Module]] = {
    "joint_finder": JointDetector,
    "joint_look": JointRefiner,
    "letter_reader": LeadMarkerClassifier,
    "mark_finder": ArtefactSegmenter,
    "upright_teller": OrientationClassifier,
}

FINE, BOTH, FAMILIAR = " fine", " from both sides", " and how familiar"
"""
Behind a grader's name: its map has cells of 16 pixels, not 32. Behind all: each sees every knee mirrored too; and
behind that: it tells how far a knee lies from those that it was trained on.
"""


def build(architecture: str) -> nn.Module:
    """
    The network that a card's `architecture` names.

    "efficientnet_lite2" is a grader alone; "efficientnet_lite1 fine + efficientnet_lite2 fine from both sides" are
    two that answer as one. Raises KeyError for a name that there is not.
    """
    if architecture in OTHERS:
        return OTHERS[architecture]()
    sided = architecture.removesuffix(FAMILIAR)
    if not sided.endswith(BOTH):
        return _member(architecture)
    members = [_member(name) for name in sided.removesuffix(BOTH).split(" + ")]
    return Ensemble(members, familiar=sided != architecture)


def trunk_of(architecture: str) -> str:
    """The grader that is trained for an architecture of one member: how it is asked does not change its weights."""
    return architecture.removesuffix(FAMILIAR).removesuffix(BOTH).removesuffix(FINE)


def _member(name: str) -> Grader:
    return refine(GRADERS[name.removesuffix(FINE)]()) if name.endswith(FINE) else GRADERS[name]()
