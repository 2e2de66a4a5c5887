"""From the joints on a film to their grades and maps: one forward pass for all of them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from node.evidence import Certainty, KLGrade
from node.finding import Laterality
from workers.detection.joints import Knee
from workers.models.calibration import GRADES, Calibration
from workers.models.registry import Model
from workers.preprocessing import Grey, cut, prepare

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Graded:
    """
    One knee's answer.

    `maps` (5, rows, columns) lie over knee.pose, not mirrored; they are signed, and the
    mean of a grade's map plus its bias is its logit. Grad-CAM is their positive part over the cells.
    """

    knee: Knee
    logits: Array
    probabilities: Array
    grade: KLGrade
    certainty: Certainty
    maps: Array
    strange: bool = False
    """Whether the model knows nothing like it: its answer would mean nothing."""


VIEWS = {Laterality.RIGHT: (False,), Laterality.LEFT: (True,), Laterality.UNKNOWN: (False, True)}
"""Which mirrorings of a knee one network is shown: it knows right knees best; of an unknown side it sees both."""


def grade(pixels: Grey, knees: Sequence[Knee], model: Model) -> list[Graded]:
    """
    Grade the knees found on `pixels` (rows, columns; 0 to 1, bone bright).

    Some models look at each knee from both sides by themselves. Of the others the answer for a knee of unknown
    side is the mean of both mirrorings', maps and logits alike, so that the maps still add up to the logits.
    """
    return grade_crops([cut(pixels, knee.pose, model.card.input_size) for knee in knees], knees, model)


def grade_crops(crops: Sequence[Grey], knees: Sequence[Knee], model: Model) -> list[Graded]:
    """Grade knees that are cut out already, in one pass; they may be of several films."""
    if not knees:
        return []
    size, sides = model.card.input_size, (False,) if model.card.sees_both_sides else None
    shown = [(at, mirrored) for at, knee in enumerate(knees) for mirrored in sides or VIEWS[knee.laterality]]
    logits, maps, *more = model.run(np.stack([prepare(_turned(crops[at], mirrored), size) for at, mirrored in shown]))
    answers = []
    for at, knee in enumerate(knees):
        mine = [number for number, (owner, _) in enumerate(shown) if owner == at]
        upright = np.stack([_turned(maps[number], shown[number][1]) for number in mine])
        seen = more[0][mine].reshape(-1, 5) if more else logits[mine]
        answer = _answer(knee, logits[mine].mean(0), upright.mean(0, np.float32), seen, model.card.calibration)
        far = float(more[1][mine].mean()) if len(more) > 1 else 0.0
        answers.append(replace(answer, strange=far > model.card.unlike))
    return answers


def contrast_map(graded: Graded) -> Array:
    """What separates the grade from the next one: the difference of their maps, signed, (rows, columns)."""
    return np.asarray(graded.maps[int(graded.grade)] - graded.maps[runner_up(graded)], np.float32)


def expected_map(graded: Graded) -> Array:
    """What raises the expected grade and what lowers it, (rows, columns): the gradient of its mean in the logits."""
    pull = graded.probabilities * (GRADES - graded.probabilities @ GRADES)
    return np.asarray(np.tensordot(pull, graded.maps, 1), np.float32)


def runner_up(graded: Graded) -> int:
    """The most probable grade beside the one that was given."""
    order = [int(at) for at in np.argsort(-graded.logits, kind="stable")]
    return next(at for at in order if at != int(graded.grade))


def _answer(knee: Knee, logits: Array, maps: Array, views: Array, calibration: Calibration) -> Graded:
    """What the logits (5,) and maps of a knee mean; `views` (n, 5) are the logits that they are the mean of."""
    probabilities = calibration.probabilities(logits)
    lowest, highest = (int(ends[0]) for ends in calibration.sets(probabilities[None]))
    certainty = Certainty(
        KLGrade(lowest),
        KLGrade(highest),
        calibration.level,
        undecided=calibration.undecided(probabilities),
        spread=float((calibration.probabilities(views) @ GRADES).std()) if len(views) > 1 else None,
    )
    return Graded(knee, logits, probabilities, KLGrade(int(calibration.grades(probabilities))), certainty, maps)


def _turned(image: Array, mirrored: bool) -> Array:
    """The image, or its mirror image: the last axis runs across the film."""
    return np.ascontiguousarray(image[..., ::-1]) if mirrored else image
