"""
Whole films to train and evaluate joint detector and refiner on, composed from labelled crops of one joint.

A crop is continued as a leg; one or two legs are put on a film with everything else that films show; the place of each
joint is known. What is no knee comes from `workers.training.other_anatomy`.
"""

from workers.training.films.compose import compose, film_without_joint, tight_film, with_remote_metal
from workers.training.films.joint import Crop, LabelledFilm, LabelledJoint, left_to_right, mirrored
from workers.training.films.leg import OUTSIDE
from workers.training.films.padded import padded_film

__all__ = [
    "OUTSIDE",
    "Crop",
    "LabelledFilm",
    "LabelledJoint",
    "compose",
    "film_without_joint",
    "left_to_right",
    "mirrored",
    "padded_film",
    "tight_film",
    "with_remote_metal",
]
