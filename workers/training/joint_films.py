"""What the joint finder and the closer look are trained on: composed films cut into views, and what is true of them."""

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
    Joint,
    LabelledFilm,
    compose,
    left_to_right,
    mirrored,
    padded_otherwise,
    tight,
    with_remote_metal,
    without_joint,
)

Array = npt.NDArray[np.float32]
FINDER_SIZE, LOOK_SIZE = 320, 160
LOOKS = 2
"""Closer looks that are taken at each film."""

WELL_FITTED = 1.5
"""Least fit score of landmarks that are trained on."""


@dataclass(frozen=True)
class Sample:
    """One film as the networks see it, and what is true; the weights are 0 where nothing is known."""

    film: Array
    """(1, 320, 320)"""
    heat: Array
    """(5, 40, 40): see `targets`."""
    views: Array
    """(looks, 1, 160, 160)"""
    kinds: npt.NDArray[np.int64]
    """(looks,)"""
    boxes: Array
    """(looks, 4): the shift right and down, the log of the size, and whether they count."""
    points: Array
    """(looks, 16, 3): x and y on 0 to 1 of the view, and whether they count."""


Patients = Sequence[tuple[Crop, Crop]]
"""Each patient's right and left knee as hung."""


def patients_of(knees: Sequence[LabelledKnee], landmarks: dict[str, Array]) -> Patients:
    """The right and the left knee of every patient who has both, bones bright, as hung."""
    return [(_crop(right, landmarks), _crop(left, landmarks)) for right, left in both_knees(knees)]


def _crop(knee: LabelledKnee, landmarks: dict[str, Array]) -> Crop:
    return Crop(knee.as_hung(), landmarks.get(knee.path.name))


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


def film_of(patients: Patients, random: np.random.Generator, annotated: Patients = ()) -> LabelledFilm:
    """One film of the mixture; `annotated` patients have landmarks and are met more often than their number."""
    chosen = annotated if annotated and random.random() < 0.35 else patients
    both = chosen[int(random.integers(len(chosen)))]
    if random.random() < 0.5:  # either knee may hang on either side: the side is told elsewhere
        both = (mirrored(both[1]), mirrored(both[0]))
    one = both[int(random.integers(2))]
    if random.random() < 0.06:
        one = with_remote_metal(one, random)
    kind = random.random()
    if kind < 0.32:
        return compose(both, random, metal=0.16)
    if kind < 0.55:
        return compose([one], random, metal=0.35)
    if kind < 0.65:
        return tight(one, random)
    if kind < 0.73:
        return rendered(random)
    rows, columns = (int(random.integers(160, 330)) for _ in range(2))
    return without_joint(one, random, size=(rows, rows) if random.random() < 0.4 else (rows, columns))


def rendered(random: np.random.Generator) -> LabelledFilm:
    """A film of rendered knees."""
    rows, columns = (int(random.integers(200, 330)) for _ in range(2))
    film = random_film(random, rows=rows, columns=columns)
    joints = tuple(Joint(box) for box in film.boxes)
    return LabelledFilm(film.pixels.astype(np.float32) / np.float32(4095), joints, KNEE if joints else OTHER)


def held_back(patients: Patients, seed: int) -> dict[str, list[LabelledFilm]]:
    """Films to judge on, by how they were made: as in training, and padded as training never showed."""
    random = np.random.default_rng(seed)

    def some(number: int) -> list[tuple[Crop, Crop]]:
        return [patients[int(at)] for at in random.integers(len(patients), size=number)]

    return {
        "composed": [compose(both if at % 2 else both[:1], random) for at, both in enumerate(some(160))],
        "padded": [padded_otherwise(both if at % 2 else both[:1], random) for at, both in enumerate(some(80))],
        "rendered": [rendered(random) for _ in range(60)],
        "none": [without_joint(both[0], random) for both in some(100)],
    }


def sample(labelled: LabelledFilm, random: np.random.Generator) -> Sample:
    """A film as the networks see it."""
    view, scale = film_input(labelled.pixels, FINDER_SIZE)
    looks = [_look_at(labelled, at, random) for at in range(LOOKS)]
    views, kinds, boxes, points = zip(*looks, strict=True)
    heat = targets(labelled, scale)
    return Sample(view[None], heat, np.stack(views), np.array(kinds), np.stack(boxes), np.stack(points))


def _look_at(labelled: LabelledFilm, at: int, random: np.random.Generator) -> tuple[Array, int, Array, Array]:
    """A look at a joint as the finder may find it, beside all joints, or at a whole film without one."""
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
    asked = Box.about((x + shift[0], y + shift[1]), size)
    box[:] = (-shift[0] / size, -shift[1] / size, np.log(side / size), 1)
    if joint.points is not None:
        seen = asked.enlarged(WIDE)
        points[:, :2] = (joint.points - np.array([seen.x0, seen.y0], np.float32)) / np.float32(seen.width)
        points[:, 2] = 1
    return _view(labelled, asked), joint.kind, box, points


def _view(labelled: LabelledFilm, box: Box) -> Array:
    (view,) = box_inputs(labelled.pixels, [box.enlarged(WIDE)], LOOK_SIZE)
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
    cells = FINDER_SIZE // STRIDE
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
