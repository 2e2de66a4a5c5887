"""Joints are localised where they are, at most two of them, and on what is no knee there are none."""

from dataclasses import replace

import numpy as np
import pytest
from pydicom import Dataset

from node.finding import Laterality, ScaleSource
from tests.samples.real_knees import needs_knees, pixels, some_knees
from workers.detection.detection_models import DetectionModels, load_detection_models
from workers.detection.joints import Joint, Localisation, localise_joints, select_joints, width_mm
from workers.detection.landmarks import TYPICAL, Refinement
from workers.detection.polarity import correct_polarity
from workers.models.labels import JOINT_KINDS
from workers.phantom import KneeShape, RenderedFilm, render, step_wedge
from workers.preprocessing import Box
from workers.read import Film, Spacing, SpacingKind

R, L = Laterality.RIGHT, Laterality.LEFT


@pytest.fixture(scope="module")
def models() -> DetectionModels:
    return load_detection_models()


def localised(film: Film, models: DetectionModels) -> Localisation:
    return localise_joints(*correct_polarity(film, models), models)


def as_film(image: np.ndarray, **header: object) -> Film:
    dataset = Dataset()
    for keyword, value in header.items():
        setattr(dataset, keyword, value)
    pixels = image.astype(np.float32)
    return Film(pixels, np.ones(pixels.shape, bool), Spacing(None, None, SpacingKind.NONE), dataset, ())


def rendered(film: RenderedFilm, **header: object) -> Film:
    return as_film(film.pixels / (2**film.bits - 1), **header)


@pytest.mark.parametrize("seed", range(4))
def test_both_joints_of_a_bilateral_film_are_localised(models: DetectionModels, seed: int) -> None:
    """Each where it is, from the image's left to its right."""
    film = render([KneeShape(R), KneeShape(L, medial_mm=2.5, osteophytes=0.6)], rows=2000, columns=2400, seed=seed)
    assert_localised(localised(rendered(film), models).joints, film.boxes)


@pytest.mark.parametrize("side", [R, L])
def test_a_single_joint_is_localised(models: DetectionModels, side: Laterality) -> None:
    film = render([KneeShape(side)], rows=2500, columns=1900, seed=3)
    assert_localised(localised(rendered(film), models).joints, film.boxes)


def assert_localised(
    joints: tuple[Joint, ...], boxes: tuple[Box, ...], centre: float = 0.08, size: float = 0.2
) -> None:
    assert len(joints) == len(boxes)
    for joint, box in zip(joints, sorted(boxes, key=lambda box: box.x0), strict=True):
        apart = np.hypot(joint.box.middle[0] - box.middle[0], joint.box.middle[1] - box.middle[1])
        assert apart <= centre * box.width, (joint.box, box)
        assert abs(joint.box.width / box.width - 1) <= size, (joint.box, box)
        assert joint.is_whole_knee


@needs_knees
def test_a_tight_crop_is_taken_whole(models: DetectionModels) -> None:
    """Of 60 real crops nearly every one is localised, and its box is the image: what the grader was trained on."""
    whole = 0
    for row in some_knees("val", 60):
        joints = localised(as_film(pixels(row) / 255), models).joints
        whole += [joint.box for joint in joints] == [Box(0, 0, 299, 299)]
    assert whole >= 58


@pytest.mark.parametrize(
    "image",
    [
        pytest.param(np.random.default_rng(0).random((600, 500)), id="noise"),
        pytest.param(np.tile(np.linspace(0, 1, 500), (600, 1)), id="ramp"),
        pytest.param(np.kron(np.indices((8, 8)).sum(0) % 2, np.ones((64, 64))), id="chequerboard"),
    ],
)
def test_on_what_is_no_knee_no_joint_is_localised(models: DetectionModels, image: np.ndarray) -> None:
    """And the whole film is classified as something else."""
    found = localised(as_film(image), models)
    assert (found.joints, found.film_kind, found.all_cut_off) == ((), "other", False)


def test_a_step_wedge_is_no_knee(models: DetectionModels) -> None:
    """A film of metal steps and balls, which every department has."""
    assert localised(rendered(step_wedge()), models) == Localisation(film_kind="other")


def test_a_joint_that_is_cut_off_is_not_reported_alone(models: DetectionModels) -> None:
    """A film on which only a part of the joint lies has no joint to grade."""
    film = render([KneeShape(R)], rows=2000, columns=1600, seed=2, collimation=False)
    box = film.boxes[0]
    part = rendered(film).pixels[:, : int(box.x0 + 0.4 * box.width)]
    assert not localised(as_film(part), models).joints


def select(film: Film, *boxes: tuple[Box, float]) -> Localisation:
    """The joints of `film` among knees in boxes, the most confident first."""
    kinds = np.eye(len(JOINT_KINDS), dtype=np.float32)[0]
    candidates = [(Refinement(box, kinds, TYPICAL * box.width), confidence) for box, confidence in boxes]
    return select_joints(film, candidates, limit=0.5, visible=0.75)


def test_a_joint_that_is_half_on_the_film_is_reported_beside_a_whole_one() -> None:
    """It is a knee of that film, to be refused by name; less of it is none, and alone it is refused as a film."""
    whole, cut, bit = Box(300, 500, 700, 900), Box(840, 500, 1240, 900), Box(920, 500, 1320, 900)
    film = as_film(np.zeros((1500, 1100)))
    assert [joint.box for joint in select(film, (cut, 0.9), (whole, 0.8)).joints] == [whole, cut]
    assert [joint.box for joint in select(film, (bit, 0.9), (whole, 0.8)).joints] == [whole]
    for part in (cut, Box(750, -140, 1150, 260), Box(750, 1230, 1150, 1630)):
        joints = select(film, (part, 0.9), (whole, 0.8)).joints
        assert [(joint.cut_off, joint.is_whole_knee) for joint in joints] == [(False, True), (True, False)]
    other = Box(-80, 500, 320, 900)
    joints = select(film, (cut, 0.9), (other, 0.7), (whole, 0.5)).joints
    assert [joint.box for joint in joints] == [other, whole]
    assert select(film, (cut, 0.9)) == Localisation(all_cut_off=True)


@pytest.mark.parametrize(
    ("spacing", "width", "source"),
    [
        (Spacing(0.2, 0.2, SpacingKind.CALIBRATED), True, ScaleSource.CALIBRATED),
        (Spacing(0.2, 0.2, SpacingKind.DETECTOR), True, ScaleSource.DETECTOR_PLANE),
        (Spacing(None, None, SpacingKind.NONE), False, ScaleSource.NONE),
        (Spacing(0.01, 0.01, SpacingKind.DETECTOR), False, ScaleSource.NONE),  # the film would be an inch wide
        (Spacing(2.0, 2.0, SpacingKind.DETECTOR), False, ScaleSource.NONE),  # and here it would be higher than a man
    ],
)
def test_a_width_in_millimetres_has_its_source(spacing: Spacing, width: bool, source: ScaleSource) -> None:
    """A detector's spacing that makes no sense of the whole film has been left behind by somebody who resized it."""
    film = replace(as_film(np.zeros((2000, 1500))), spacing=spacing)
    assert width_mm(film, Box(100, 100, 600, 600)) == (pytest.approx(100.0) if width else None, source)


def test_candidates_that_are_as_large_as_a_knee_come_first() -> None:
    """The most confident of them is 30 mm wide and no knee; without millimetres it would be taken."""
    found = [(Box(0, 0, 150, 150), 0.99), (Box(900, 600, 1400, 1100), 0.8), (Box(100, 600, 600, 1100), 0.7)]
    film = as_film(np.zeros((2000, 1500)))
    assert [joint.box.x0 for joint in select(film, *found).joints] == [0, 900]
    measured = replace(film, spacing=Spacing(0.2, 0.2, SpacingKind.CALIBRATED))
    joints = select(measured, *found).joints
    assert [joint.box.x0 for joint in joints] == [100, 900]
    assert [(joint.width_mm, joint.scale_source) for joint in joints] == [(pytest.approx(100), "calibrated")] * 2
    (alone,) = select(measured, found[0]).joints
    assert alone.width_mm == pytest.approx(30)
