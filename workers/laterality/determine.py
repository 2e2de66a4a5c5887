"""The laterality of the joints on a film, from everything that states it: header, lead markers, position and fibula."""

from collections.abc import Sequence

from workers.detection.joints import Joint
from workers.detection.polarity import LEFT, orientation_logits
from workers.laterality.header_evidence import header_statement
from workers.laterality.vote import LateralityVote, LeadMarker, vote
from workers.models.registry import Model
from workers.read import Film


def determine_laterality(
    film: Film, joints: Sequence[Joint], markers: Sequence[LeadMarker], orientation: Model
) -> list[LateralityVote]:
    """The laterality of each joint on a film; `joints` run from the image's left to its right."""
    if not joints:
        return []
    boxes = [joint.box for joint in joints]
    fibulas = orientation_logits(film.pixels, boxes, orientation)[:, LEFT]
    return vote(
        header_statement(film.header),
        boxes,
        fibulas=[float(logit) for logit in fibulas],
        limit=orientation.card.thresholds["side"],
        markers=markers,
        partial={number for number, joint in enumerate(joints) if joint.cut_off},
    )
