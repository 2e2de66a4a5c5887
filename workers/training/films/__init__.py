"""
Whole films to train and judge the joint finder and the gate on, composed from labelled crops of one joint.

A crop is continued as a leg, one or two legs are laid on a film with everything else that lies on films, and
where each joint is, is known. What is no knee comes from `workers.training.other_anatomy`.
"""

from workers.training.films.compose import compose, tight, with_remote_metal, without_joint
from workers.training.films.joint import Crop, Joint, LabelledFilm, left_to_right, mirrored
from workers.training.films.leg import OUTSIDE
from workers.training.films.padded import padded_otherwise

__all__ = [
    "OUTSIDE",
    "Crop",
    "Joint",
    "LabelledFilm",
    "compose",
    "left_to_right",
    "mirrored",
    "padded_otherwise",
    "tight",
    "with_remote_metal",
    "without_joint",
]
