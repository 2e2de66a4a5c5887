"""The networks, by the `architecture` of a card."""

from collections.abc import Callable, Mapping

from torch import nn

from workers.models.networks.artefacts import ArtefactSegmenter
from workers.models.networks.graders import (
    GRADERS,
    Grader,
    MirroredGrader,
    load_imagenet_weights,
    refine_map,
)
from workers.models.networks.joints import JointDetector, JointRefiner, OrientationClassifier
from workers.models.networks.lead_markers import LeadMarkerClassifier

__all__ = [
    "FINE",
    "GRADERS",
    "ArtefactSegmenter",
    "Grader",
    "JointDetector",
    "JointRefiner",
    "LeadMarkerClassifier",
    "MirroredGrader",
    "OrientationClassifier",
    "build",
    "load_imagenet_weights",
    "refine_map",
    "trunk_of",
]

DETECTION_NETWORKS: Mapping[str, Callable[[], nn.Module]] = {
    "joint_finder": JointDetector,
    "joint_look": JointRefiner,
    "letter_reader": LeadMarkerClassifier,
    "mark_finder": ArtefactSegmenter,
    "upright_teller": OrientationClassifier,
}

FINE = " fine"
"""Suffix of a grader's name: the cells of its map are 16 pixels wide, not 32."""
MIRRORED = " from both sides"
"""Suffix after that: a MirroredGrader."""
WITH_DISTANCE = " and how familiar"
"""Suffix after that: the MirroredGrader also returns the feature distance to the training knees."""


def build(architecture: str) -> nn.Module:
    """
    The network, untrained, that a card's `architecture` names: "NAME[ fine][ from both sides[ and how familiar]]".

    Raises KeyError for an unknown name.
    """
    if architecture in DETECTION_NETWORKS:
        return DETECTION_NETWORKS[architecture]()
    mirrored = architecture.removesuffix(WITH_DISTANCE)
    name = mirrored.removesuffix(MIRRORED)
    grader = refine_map(GRADERS[name.removesuffix(FINE)]()) if name.endswith(FINE) else GRADERS[name]()
    if name == mirrored:
        return grader
    return MirroredGrader(grader, with_distance=mirrored != architecture)


def trunk_of(architecture: str) -> str:
    """The name in GRADERS of a grader's `architecture`: the suffixes do not change what is trained."""
    return architecture.removesuffix(WITH_DISTANCE).removesuffix(MIRRORED).removesuffix(FINE)
