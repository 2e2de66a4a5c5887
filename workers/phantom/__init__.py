"""
Sample radiographs rendered by code: standing knees with cortex, trabeculae, soft tissue, scatter and noise.

They show no patient. `make run`, the README, the tests and the training of the joint detector use them.
"""

from workers.phantom.dicom import Header, as_cr, as_dx
from workers.phantom.film import render
from workers.phantom.framing import JOINT_LINE_OF_BOX, PLATEAU_CENTRE_OF_BOX, PLATEAU_WIDTH_OF_BOX, joint_box
from workers.phantom.random_films import random_film
from workers.phantom.sample_films import samples, step_wedge
from workers.phantom.shape import JointSpace, KneeShape, RenderedFilm

__all__ = [
    "JOINT_LINE_OF_BOX",
    "PLATEAU_CENTRE_OF_BOX",
    "PLATEAU_WIDTH_OF_BOX",
    "Header",
    "JointSpace",
    "KneeShape",
    "RenderedFilm",
    "as_cr",
    "as_dx",
    "joint_box",
    "random_film",
    "render",
    "samples",
    "step_wedge",
]
