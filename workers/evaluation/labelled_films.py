"""Labelled knees as the node would meet and grade them: a crop is a film of one joint, whose header tells its side."""

from collections.abc import Sequence

import numpy as np
from pydicom import Dataset

from node.finding import Laterality
from node.settings import Settings
from workers.detection.joints import Knee
from workers.detection.landmarks import look, pose_of
from workers.evaluation.labelled_knees import LabelledKnee
from workers.grading.grader import Graded, grade_crops
from workers.laterality.vote import tell_sides
from workers.models.active_model import RequestedModel, load_checked
from workers.models.registry import Model
from workers.preprocessing import Box, Grey, Pose, cut
from workers.read import Film
from workers.read.exposed_field import find_borders
from workers.read.spacing import UNKNOWN

BATCH = 16
"""Knees that are graded in one pass."""


def grader_of(name: str, settings: Settings, *, engine: str = "") -> Model:
    """The model of that card, taken as a worker takes it; raises SettingsError if it could not answer there."""
    work = settings.work.model_copy(update={"engine": engine or settings.work.engine})
    return load_checked(RequestedModel(name, "to be judged"), settings.model_copy(update={"work": work}))


def as_film(knee: LabelledKnee) -> Film:
    """A labelled crop as a film, as it hangs."""
    return film_of(knee.as_hung(), Laterality(knee.side))


def film_of(pixels: Grey, side: Laterality) -> Film:
    """A film whose header tells the side and nothing else; where it was exposed is what the picture shows."""
    header = Dataset()
    if side is not Laterality.UNKNOWN:
        header.ImageLaterality = side.value
    field = find_borders((pixels * 65535).astype(np.uint16), np.ones(pixels.shape, np.bool_), rising=True)
    return Film(pixels, field, UNKNOWN, header, ())


def whole(film: Film, looker: Model) -> Knee:
    """The joint on a film that is the crop of one, laid upright by its landmarks."""
    box = Box.whole(film.pixels)
    (side,) = tell_sides(film.header, [box])
    (seen,) = look(film.pixels, [box], looker)
    knee = Knee(box, side.laterality, side.source, 1.0, tilt=seen.tilt, points=seen.points)
    return knee.sided(side)


def pose_on(pixels: Grey, box: Box, looker: Model) -> Pose:
    """How the joint in a box lies on a film, by its landmarks."""
    return pose_of(look(pixels, [box], looker)[0].points, box)


def grade_films(films: Sequence[Film], grader: Model, looker: Model) -> list[Graded]:
    """The grades of films that are crops of one joint each, all in one pass."""
    return grade_joints([(film, whole(film, looker)) for film in films], grader)


def grade_joints(joints: Sequence[tuple[Film, Knee]], grader: Model) -> list[Graded]:
    """The grades of joints on films, all in one pass."""
    size = grader.card.input_size
    crops = [cut(film.pixels, knee.pose, size) for film, knee in joints]
    return grade_crops(crops, [knee for _, knee in joints], grader)
