"""Labelled knees graded as the node grades films: a crop is a film of one joint, whose header states its side."""

from collections.abc import Sequence

import numpy as np
from pydicom import Dataset

from node.finding import Laterality
from node.settings import Settings
from workers.detection.joints import Joint
from workers.detection.landmarks import pose_of, refine
from workers.evaluation.labelled_knees import LabelledKnee
from workers.grading.grader import Graded, grade_crops
from workers.knee import Knee
from workers.laterality.header_evidence import header_statement
from workers.laterality.vote import vote
from workers.models.active_model import RequestedModel, load_checked
from workers.models.registry import Model
from workers.preprocessing import Box, Grey, Pose, cut
from workers.read import Film
from workers.read.exposed_field import exclude_borders
from workers.read.spacing import UNKNOWN

BATCH = 16
"""Knees that are graded in one pass."""


def grader_of(name: str, settings: Settings, *, engine: str = "") -> Model:
    """The grader of that card, loaded as a worker loads it; raises SettingsError if a worker could not use it."""
    work = settings.work.model_copy(update={"engine": engine or settings.work.engine})
    return load_checked(RequestedModel(name, "to be evaluated"), settings.model_copy(update={"work": work}))


def as_film(knee: LabelledKnee) -> Film:
    """A labelled crop as a film, as displayed."""
    return film_from_pixels(knee.as_displayed(), Laterality(knee.side))


def film_from_pixels(pixels: Grey, side: Laterality) -> Film:
    """A film whose header states the side and nothing else; its exposed field is detected from the pixels."""
    header = Dataset()
    if side is not Laterality.UNKNOWN:
        header.ImageLaterality = side.value
    field = exclude_borders((pixels * 65535).astype(np.uint16), np.ones(pixels.shape, np.bool_), rising=True)
    return Film(pixels, field, UNKNOWN, header, ())


def joint_of_crop(film: Film, refiner: Model) -> Joint:
    """The joint on a film that is the crop of one, with the landmarks that straighten it."""
    box = Box.whole(film.pixels)
    (refined,) = refine(film.pixels, [box], refiner)
    return Joint(box, 1.0, landmarks=refined.landmarks, tilt=refined.tilt)


def knee_of_crop(film: Film, refiner: Model) -> Knee:
    """The knee on a film that is the crop of one; its laterality is what the header states."""
    joint = joint_of_crop(film, refiner)
    (side,) = vote(header_statement(film.header), [joint.box])
    return Knee(joint, side)


def joint_pose(pixels: Grey, box: Box, refiner: Model) -> Pose:
    """The pose on a film of the joint in a box, by its landmarks."""
    return pose_of(refine(pixels, [box], refiner)[0].landmarks, box)


def grade_films(films: Sequence[Film], grader: Model, refiner: Model) -> list[Graded]:
    """The grades of films that are crops of one joint each, all in one pass."""
    return grade_joints([(film, knee_of_crop(film, refiner)) for film in films], grader)


def grade_joints(joints: Sequence[tuple[Film, Knee]], grader: Model) -> list[Graded]:
    """The grades of joints on films, all in one pass."""
    size = grader.card.input_size
    crops = [cut(film.pixels, knee.pose, size) for film, knee in joints]
    return grade_crops(crops, [knee for _, knee in joints], grader)
