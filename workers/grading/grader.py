"""From crops of knees to grades and maps: one forward pass for all of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from node.evidence import Certainty, KLGrade
from node.finding import Laterality
from workers.knee import Knee
from workers.models.calibration import GRADES
from workers.models.registry import Card, Model
from workers.preprocessing import Grey, grader_input

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Graded:
    """
    The grade of one knee.

    `maps` (5, rows, columns) lie over knee.pose, not mirrored. They are signed, and the mean of a grade's map plus its
    bias is its logit: Grad-CAM is their positive part over the number of cells.
    """

    knee: Knee
    logits: Array
    probabilities: Array
    grade: KLGrade
    certainty: Certainty
    maps: Array
    lead: float
    """By how much the grade costs less than the next best one (`Calibration.lead`)."""
    out_of_distribution: bool = False
    """Whether the knee is unlike all that the model was trained on: its grade means nothing."""

    @property
    def second(self) -> KLGrade:
        """The most probable grade besides the one that was given."""
        order = [int(grade) for grade in np.argsort(-self.logits, kind="stable")]
        return KLGrade(next(grade for grade in order if grade != int(self.grade)))

    @property
    def contrast(self) -> Array:
        """What separates the grade from the second one: the difference of their maps, signed, (rows, columns)."""
        return np.asarray(self.maps[int(self.grade)] - self.maps[int(self.second)], np.float32)


VIEWS = {Laterality.RIGHT: (False,), Laterality.LEFT: (True,), Laterality.UNKNOWN: (False, True)}
"""Whether each view of a knee that a network grades is mirrored: it was trained on right knees; of an unknown side it
grades both."""


def grade_crops(crops: Sequence[Grey], knees: Sequence[Knee], model: Model) -> list[Graded]:
    """
    Grade knees from their crops, in one pass; they may be of several films.

    Some models grade each knee and its mirror image by themselves. Of the others the result for a knee of unknown side
    is the mean of both mirrorings, maps and logits alike, so that the maps still add up to the logits.
    """
    if not knees:
        return []
    size, both = model.card.input_size, (False,) if model.card.sees_both_sides else None
    views = [(number, mirrored) for number, knee in enumerate(knees) for mirrored in both or VIEWS[knee.laterality]]
    inputs = [grader_input(_mirrored(crops[number], mirrored), size) for number, mirrored in views]
    logits, maps, *extra = model.run(np.stack(inputs))
    graded = []
    for number, knee in enumerate(knees):
        own = [at for at, (owner, _) in enumerate(views) if owner == number]
        unmirrored = np.stack([_mirrored(maps[at], views[at][1]) for at in own])
        by_view = extra[0][own].reshape(-1, 5) if extra else logits[own]
        distance = float(extra[1][own].mean()) if len(extra) > 1 else 0.0
        mean_maps = unmirrored.mean(0, np.float32)
        graded.append(_graded(knee, logits[own].mean(0), mean_maps, by_view, distance, model.card))
    return graded


def expected_map(graded: Graded) -> Array:
    """The gradient of the expected grade with respect to the logits, spread over the maps, signed, (rows, columns)."""
    gradient = graded.probabilities * (GRADES - graded.probabilities @ GRADES)
    return np.asarray(np.tensordot(gradient, graded.maps, 1), np.float32)


def _graded(knee: Knee, logits: Array, maps: Array, by_view: Array, distance: float, card: Card) -> Graded:
    """The grade from the logits (5,) and maps of a knee; the logits are the mean of `by_view` (n, 5)."""
    calibration = card.calibration
    probabilities = calibration.probabilities(logits)
    lowest, highest = (int(ends[0]) for ends in calibration.sets(probabilities[None]))
    certainty = Certainty(
        KLGrade(lowest),
        KLGrade(highest),
        calibration.level,
        undecided=calibration.undecided(probabilities),
        spread=float((calibration.probabilities(by_view) @ GRADES).std()) if len(by_view) > 1 else None,
    )
    grade = KLGrade(int(calibration.grades(probabilities)))
    lead = calibration.lead(probabilities)
    return Graded(knee, logits, probabilities, grade, certainty, maps, lead, distance > card.unlike)


def _mirrored(image: Array, mirrored: bool) -> Array:
    """The image, or its mirror image: the last axis runs across the film."""
    return np.ascontiguousarray(image[..., ::-1]) if mirrored else image
