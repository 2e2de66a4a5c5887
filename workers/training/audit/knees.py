"""Labelled knees graded and explained as the node does it, each kept with all that the audit asks of it."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from node.evidence import Attention
from workers.analysis import attribute
from workers.detection.artefacts import segment_artefacts
from workers.detection.detection_models import DetectionModels
from workers.evaluation.labelled_films import as_film, whole
from workers.evaluation.labelled_knees import LabelledKnee
from workers.explanation.attribution import regions_of
from workers.explanation.grad_cam import HeatMap, explain
from workers.explanation.regions import JOINT, REGIONS, shares_of
from workers.grading.grader import Graded, grade_crops
from workers.knee import Knee
from workers.models.registry import Model
from workers.preprocessing import Grey, cut

BATCH = 8
Change = Callable[[Grey, int], Grey]
"""What is done to the film of the knee of that number before it is graded."""


@dataclass(frozen=True)
class AuditedKnee:
    """A labelled knee, cut out of the film as it is graded (side, side), and what was said of it."""

    labelled: LabelledKnee
    joint: Grey
    graded: Graded
    attention: Attention
    heat_map: HeatMap
    energy_inside: float | None
    """The part of the given grade's map that lies in the joint; None of an empty map."""

    @property
    def away(self) -> int:
        """How many grades the answer lies from the truth."""
        return abs(int(self.graded.grade) - self.labelled.kl)

    @property
    def outside(self) -> float:
        """The part of the evidence that lies outside the joint; 0 where there is none."""
        return 0.0 if self.attention.inside is None else 1 - self.attention.inside


def ask(
    knees: Sequence[LabelledKnee], model: Model, models: DetectionModels, change: Change | None = None
) -> Iterator[AuditedKnee]:
    """Each knee graded and explained; `change` first alters its film."""
    for at in range(0, len(knees), BATCH):
        yield from _ask(knees[at : at + BATCH], model, models, change, at)


def _ask(
    knees: Sequence[LabelledKnee], model: Model, models: DetectionModels, change: Change | None, first: int
) -> list[AuditedKnee]:
    size, joints, found = model.card.input_size, [], []
    for at, labelled in enumerate(knees):
        film = as_film(labelled)
        if change is not None:
            film = replace(film, pixels=change(film.pixels, first + at))
        knee = whole(film, models.refiner)
        knee = replace(knee, artefacts=segment_artefacts(film.pixels, knee.joint, models.artefacts))
        found.append(knee)
        joints.append(cut(film.pixels, knee.pose, size))
    graded = grade_crops(joints, found, model)
    told = attribute(graded, joints, model)
    maps = [explain(each, model.card.heat_scale) for each in graded]
    return [
        AuditedKnee(labelled, joint, answer, attention, heat, energy_inside(heat.values, joint, answer.knee))
        for labelled, joint, answer, attention, heat in zip(knees, joints, graded, told, maps, strict=True)
    ]


def watched(asked: Iterable[AuditedKnee], step: Callable[[], None]) -> Iterator[AuditedKnee]:
    """The same, with a `step` after each."""
    for each in asked:
        yield each
        step()


def energy_inside(heat: npt.NDArray[np.float32], joint: Grey, knee: Knee) -> float | None:
    """The part of a map, (rows, columns) of 0 or more, that lies in the joint."""
    total = float(heat.sum())
    if total <= 0:
        return None
    inside = shares_of(regions_of(joint, knee), heat.shape[-1])[[REGIONS.index(name) for name in JOINT]].sum(0)
    return float((inside * heat).sum()) / total
