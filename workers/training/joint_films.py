"""Training films of the joint detector and the joint refiner: composed films, the networks' inputs and targets."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from workers.detection.detector import STRIDE
from workers.detection.landmarks import WIDE, whole_film
from workers.evaluation.labelled_knees import LabelledKnee, both_knees
from workers.models.labels import KNEE, OTHER
from workers.phantom import random_film
from workers.preprocessing import Box, box_inputs, film_input
from workers.training.films import (
    Crop,
    LabelledFilm,
    LabelledJoint,
    compose,
    film_without_joint,
    left_to_right,
    mirrored,
    padded_film,
    tight_film,
    with_remote_metal,
)

Array = npt.NDArray[np.float32]
DETECTOR_SIZE, REFINER_SIZE = 320, 160
VIEWS_PER_FILM = 2
"""Refiner inputs that are taken from each film."""

WELL_FITTED = 1.5
"""Least fit score of landmarks that are trained on."""


@dataclass(frozen=True)
class TrainingSample:
    """The networks' inputs from one film, and their targets; weights are 0 where a target is unknown."""

    film: Array
    """(1, 320, 320)"""
    heat: Array
    """(5, 40, 40): see `targets`."""
    views: Array
    """(views, 1, 160, 160)"""
    kinds: npt.NDArray[np.int64]
    """(views,)"""
    boxes: Array
    """(views, 4): the shift right and down, the log of the size, and whether they count."""
    points: Array
    """(views, 16, 3): x and y on 0 to 1 of the view, and whether they count."""


Patients = Sequence[tuple[Crop, Crop]]
"""Each patient's right and left knee as displayed."""


def patients_of(knees: Sequence[LabelledKnee], landmarks: dict[str, Array]) -> Patients:
    """The right and the left knee of every patient who has both, bones bright, as displayed."""
    return [(_crop(right, landmarks), _crop(left, landmarks)) for right, left in both_knees(knees)]


def _crop(knee: LabelledKnee, landmarks: dict[str, Array]) -> Crop:
    return Crop(knee.as_displayed(), landmarks.get(knee.path.name))


def read_landmarks(path: Path) -> dict[str, Array]:
    """The well-fitted landmarks of landmarks.csv, (16, 2) by the name of the knee's file; none if it is absent."""
    if not path.is_file():
        return {}
    names = [f"T{at}" for at in range(9)] + [f"F{at}" for at in range(7)]
    with path.open(newline="", encoding="utf-8") as rows:
        good = [row for row in csv.DictReader(rows) if float(row["fit_score"]) >= WELL_FITTED]
    return {
        Path(row["kl299_path"]).name: left_to_right(
            np.array([[float(row[f"{name}_x"]), float(row[f"{name}_y"])] for name in names], np.float32)
        )
        for row in good
    }


def random_training_film(patients: Patients, random: np.random.Generator, annotated: Patients = ()) -> LabelledFilm:
    """One film of the mixture; `annotated` patients have landmarks and are oversampled."""
    chosen = annotated if annotated and random.random() < 0.35 else patients
    knees = chosen[int(random.integers(len(chosen)))]
    if random.random() < 0.5:  # either knee on either side: the laterality is determined elsewhere
        knees = (mirrored(knees[1]), mirrored(knees[0]))
    one = knees[int(random.integers(2))]
    if random.random() < 0.06:
        one = with_remote_metal(one, random)
    kind = random.random()
    if kind < 0.32:
        return compose(knees, random, metal=0.16)
    if kind < 0.55:
        return compose([one], random, metal=0.35)
    if kind < 0.65:
        return tight_film(one, random)
    if kind < 0.73:
        return rendered(random)
    rows, columns = (int(random.integers(160, 330)) for _ in range(2))
    return film_without_joint(one, random, size=(rows, rows) if random.random() < 0.4 else (rows, columns))


def rendered(random: np.random.Generator) -> LabelledFilm:
    """A film of rendered knees."""
    rows, columns = (int(random.integers(200, 330)) for _ in range(2))
    film = random_film(random, rows=rows, columns=columns)
    joints = tuple(LabelledJoint(box) for box in film.boxes)
    return LabelledFilm(film.pixels.astype(np.float32) / np.float32(4095), joints, KNEE if joints else OTHER)


def held_out_films(patients: Patients, seed: int) -> dict[str, list[LabelledFilm]]:
    """Evaluation films by how they were made: as in training, and padded as no training film is."""
    random = np.random.default_rng(seed)

    def drawn(number: int) -> list[tuple[Crop, Crop]]:
        return [patients[int(at)] for at in random.integers(len(patients), size=number)]

    return {
        "composed": [compose(both if at % 2 else both[:1], random) for at, both in enumerate(drawn(160))],
        "padded": [padded_film(both if at % 2 else both[:1], random) for at, both in enumerate(drawn(80))],
        "rendered": [rendered(random) for _ in range(60)],
        "none": [film_without_joint(both[0], random) for both in drawn(100)],
    }


def training_sample(labelled: LabelledFilm, random: np.random.Generator) -> TrainingSample:
    """The networks' inputs from a film, and the targets."""
    view, scale = film_input(labelled.pixels, DETECTOR_SIZE)
    examples = [_refiner_view(labelled, at, random) for at in range(VIEWS_PER_FILM)]
    views, kinds, boxes, points = zip(*examples, strict=True)
    heat = targets(labelled, scale)
    return TrainingSample(view[None], heat, np.stack(views), np.array(kinds), np.stack(boxes), np.stack(points))


def _refiner_view(labelled: LabelledFilm, at: int, random: np.random.Generator) -> tuple[Array, int, Array, Array]:
    """A refiner input: a joint with detection errors, a place beside all joints, or a whole film without one."""
    box, points = np.zeros(4, np.float32), np.zeros((16, 3), np.float32)
    if not labelled.joints:
        return _view(labelled, whole_film(labelled.pixels.shape)), labelled.kind, box, points
    joint = labelled.joints[at % len(labelled.joints)]
    if random.random() < 0.08 and (beside := _beside(labelled, random)) is not None:
        return _view(labelled, beside), OTHER, box, points
    side = joint.box.width
    shift = np.clip(random.normal(0, 0.06, 2), -0.2, 0.2) * side
    size = side * float(np.exp(np.clip(random.normal(0, 0.1), -0.3, 0.3)))
    x, y = joint.box.middle
    detected = Box.about((x + shift[0], y + shift[1]), size)
    box[:] = (-shift[0] / size, -shift[1] / size, np.log(side / size), 1)
    if joint.points is not None:
        view = detected.enlarged(WIDE)
        points[:, :2] = (joint.points - np.array([view.x0, view.y0], np.float32)) / np.float32(view.width)
        points[:, 2] = 1
    return _view(labelled, detected), joint.kind, box, points


def _view(labelled: LabelledFilm, box: Box) -> Array:
    (view,) = box_inputs(labelled.pixels, [box.enlarged(WIDE)], REFINER_SIZE)
    return np.asarray(view)


def _beside(labelled: LabelledFilm, random: np.random.Generator) -> Box | None:
    """A place on the film that is no joint; None if there is none."""
    rows, columns = labelled.pixels.shape
    side = labelled.joints[0].box.width * random.uniform(0.6, 1.2)
    for _ in range(5):
        x, y = random.uniform(0, columns), random.uniform(0, rows)
        if all(np.hypot(x - box.middle[0], y - box.middle[1]) > 0.8 * box.width for box in labelled.boxes):
            return Box.about((x, y), side)
    return None


def targets(labelled: LabelledFilm, scale: float) -> Array:
    """(5, cells, cells): heat with a soft bump at each centre, log side, shift right and down, where these count."""
    cells = DETECTOR_SIZE // STRIDE
    out = np.zeros((5, cells, cells), np.float32)
    rows, columns = np.mgrid[0:cells, 0:cells]
    for box in labelled.boxes:
        x, y = np.array(box.middle) * scale / STRIDE
        side = box.width * scale / STRIDE
        spread = max(0.7, side / 9)
        bump = np.exp(-((columns + 0.5 - x) ** 2 + (rows + 0.5 - y) ** 2) / (2 * spread**2))
        row, column = min(cells - 1, max(0, int(y))), min(cells - 1, max(0, int(x)))
        bump[row, column] = 1
        out[0] = np.maximum(out[0], bump)
        near = bump > 0.5
        out[1][near] = np.log(side)
        out[2][near] = (x - columns - 0.5)[near]
        out[3][near] = (y - rows - 0.5)[near]
        out[4][near] = 1
    return out
