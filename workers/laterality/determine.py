"""The laterality of the joints on a film, from everything that states it: header, lead markers, place and fibula."""

from collections.abc import Sequence

from workers.detection.detection_models import DetectionModels
from workers.detection.joints import Joint
from workers.detection.polarity import LEFT, orientation_logits
from workers.laterality.header_evidence import header_evidence
from workers.laterality.lead_markers import read_lead_markers
from workers.laterality.vote import LateralityVote, LeadMarker, vote
from workers.models.registry import Model
from workers.read import Film


def determine_laterality(film: Film, joints: Sequence[Joint], models: DetectionModels) -> list[LateralityVote]:
    """The laterality of each joint on a film; `joints` run from the image's left to its right."""
    markers = read_lead_markers(film.pixels, [joint.box for joint in joints], models.lead_markers)
    return laterality_of(film, joints, models.orientation, markers)


def laterality_of(
    film: Film, joints: Sequence[Joint], orientation: Model, markers: Sequence[LeadMarker] = ()
) -> list[LateralityVote]:
    """The same where the lead markers are known."""
    if not joints:
        return []
    boxes = [joint.box for joint in joints]
    return vote(
        film.header,
        header_evidence(film.header),
        boxes,
        fibulas=[float(logit) for logit in orientation_logits(film.pixels, boxes, orientation)[:, LEFT]],
        limit=orientation.card.thresholds["side"],
        markers=markers,
        partial={number for number, joint in enumerate(joints) if joint.cut_off},
    )
