"""Labelled knees graded and explained as the node does it, with all that the audit measures of them."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from node.evidence import Attention
from workers.analysis import attribute
from workers.detection.artefacts import segment_artefacts
from workers.detection.detection_models import DetectionModels
from workers.evaluation.labelled_films import as_film, knee_of_crop
from workers.evaluation.labelled_knees import LabelledKnee
from workers.explanation.attribution import regions_of
from workers.explanation.grad_cam import HeatMap, explain
from workers.explanation.regions import JOINT, REGIONS, shares_of
from workers.grading.grader import Graded, grade_crops
from workers.knee import Knee
from workers.models.registry import Model
from workers.preprocessing import Grey, cut

BATCH = 8
FilmTransform = Callable[[Grey, int], Grey]
"""Changes the film of the knee of that number before it is graded."""


@dataclass(frozen=True)
class AuditedKnee:
    """A labelled knee, its crop as it is graded (side, side), the grade and its explanation."""

    labelled: LabelledKnee
    joint: Grey
    graded: Graded
    attention: Attention
    heat_map: HeatMap
    energy_inside: float | None
    """The part of the predicted grade's map that lies in the joint; None for an empty map."""

    @property
    def grades_off(self) -> int:
        """How many grades the prediction is off."""
        return abs(int(self.graded.grade) - self.labelled.kl)

    @property
    def outside(self) -> float:
        """The part of the evidence that lies outside the joint; 0 where there is none."""
        return 0.0 if self.attention.inside is None else 1 - self.attention.inside


def audit_knees(
    knees: Sequence[LabelledKnee], model: Model, models: DetectionModels, transform: FilmTransform | None = None
) -> Iterator[AuditedKnee]:
    """Each knee graded and explained; `transform` first changes its film."""
    for at in range(0, len(knees), BATCH):
        yield from _audit_batch(knees[at : at + BATCH], model, models, transform, at)


def _audit_batch(
    knees: Sequence[LabelledKnee], model: Model, models: DetectionModels, transform: FilmTransform | None, first: int
) -> list[AuditedKnee]:
    size, joints, found = model.card.input_size, [], []
    for at, labelled in enumerate(knees):
        film = as_film(labelled)
        if transform is not None:
            film = replace(film, pixels=transform(film.pixels, first + at))
        knee = knee_of_crop(film, models.refiner)
        knee = replace(knee, artefacts=segment_artefacts(film.pixels, knee.joint, models.artefacts))
        found.append(knee)
        joints.append(cut(film.pixels, knee.pose, size))
    graded = grade_crops(joints, found, model)
    attentions = attribute(graded, joints, model)
    maps = [explain(one, model.card.heat_scale) for one in graded]
    return [
        AuditedKnee(labelled, joint, one, attention, heat, energy_inside(heat.values, joint, one.knee))
        for labelled, joint, one, attention, heat in zip(knees, joints, graded, attentions, maps, strict=True)
    ]


def with_progress(audited: Iterable[AuditedKnee], step: Callable[[], None]) -> Iterator[AuditedKnee]:
    """The same knees; `step` is called after each."""
    for knee in audited:
        yield knee
        step()


def energy_inside(heat: npt.NDArray[np.float32], joint: Grey, knee: Knee) -> float | None:
    """The part of a map, (rows, columns) of 0 or more, that lies in the joint."""
    total = float(heat.sum())
    if total <= 0:
        return None
    inside = shares_of(regions_of(joint, knee), heat.shape[-1])[[REGIONS.index(name) for name in JOINT]].sum(0)
    return float((inside * heat).sum()) / total
