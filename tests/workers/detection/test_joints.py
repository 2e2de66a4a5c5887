"""Joints are found where they are, sides are known or said to be unknown, and what is no knee is refused."""

from dataclasses import replace

import numpy as np
import pytest
from pydicom import Dataset

from node.errors import Ungradable
from node.finding import Laterality
from tests.samples.real_knees import needs_knees, pixels, some_knees
from workers.detection.detect import open_eyes, see
from workers.detection.joints import Knee, find_knees, width_mm
from workers.models.registry import Model, load
from workers.phantom import KneeShape, RenderedFilm, render, step_wedge
from workers.preprocessing import Box
from workers.read import Film, Spacing, SpacingKind

R, L, U = Laterality.RIGHT, Laterality.LEFT, Laterality.UNKNOWN


@pytest.fixture(scope="module")
def finder() -> Model:
    return load("finder")


def as_film(image: np.ndarray, **header: object) -> Film:
    dataset = Dataset()
    for keyword, value in header.items():
        setattr(dataset, keyword, value)
    shown = image.astype(np.float32)
    return Film(shown, np.ones(shown.shape, bool), Spacing(None, None, SpacingKind.NONE), dataset, ())


def rendered(film: RenderedFilm, **header: object) -> Film:
    return as_film(film.pixels / (2**film.bits - 1), **header)


def assert_found(knees: list[Knee], boxes: tuple[Box, ...], *, centre: float = 0.08, size: float = 0.2) -> None:
    assert len(knees) == len(boxes)
    for knee, box in zip(knees, sorted(boxes, key=lambda each: each.x0), strict=True):
        apart = np.hypot(knee.box.x0 + knee.box.x1 - box.x0 - box.x1, knee.box.y0 + knee.box.y1 - box.y0 - box.y1) / 2
        assert apart <= centre * box.width, (knee.box, box)
        assert abs(knee.box.width / box.width - 1) <= size, (knee.box, box)


@pytest.mark.parametrize("seed", range(4))
def test_both_joints_of_a_bilateral_film_are_found(finder: Model, seed: int) -> None:
    """Each where it is and with its side: the patient's right knee hangs on the image's left."""
    film = render([KneeShape(R), KneeShape(L, medial_mm=2.5, osteophytes=0.6)], rows=2000, columns=2400, seed=seed)
    knees = find_knees(rendered(film), finder)
    assert_found(knees, film.boxes)
    assert [(knee.laterality, knee.laterality_source) for knee in knees] == [(R, "position"), (L, "position")]


@pytest.mark.parametrize("side", [R, L])
def test_a_single_joint_is_found_and_its_side_is_the_header_s(finder: Model, side: Laterality) -> None:
    """The header says the side; without a header the side stays unknown."""
    film = render([KneeShape(side)], rows=2500, columns=1900, seed=3)
    told = find_knees(rendered(film, ImageLaterality=side.value), finder)
    assert_found(told, film.boxes)
    assert (told[0].laterality, told[0].laterality_source) == (side, "ImageLaterality")
    untold = find_knees(rendered(film), finder)
    assert (untold[0].laterality, untold[0].laterality_source) == (U, "none")


@needs_knees
def test_a_tight_crop_is_taken_whole() -> None:
    """Of 60 real crops nearly every one is found, and its box is the image: what the grader was trained on."""
    whole, eyes = 0, open_eyes()
    for row in some_knees("val", 60):
        image = pixels(row)
        try:
            _, knees = see(as_film(image / 255), eyes)
        except Ungradable:
            continue
        whole += len(knees) == 1 and knees[0].box == Box(0, 0, 299, 299)
    assert whole >= 58


@pytest.mark.parametrize(
    "image",
    [
        pytest.param(np.random.default_rng(0).random((600, 500)), id="noise"),
        pytest.param(np.tile(np.linspace(0, 1, 500), (600, 1)), id="ramp"),
        pytest.param(np.kron(np.indices((8, 8)).sum(0) % 2, np.ones((64, 64))), id="chequerboard"),
    ],
)
def test_what_is_no_knee_is_refused_with_its_reason(finder: Model, image: np.ndarray) -> None:
    """No joint is found where there is none."""
    with pytest.raises(Ungradable) as refusal:
        find_knees(as_film(image), finder)
    assert refusal.value.reason.code == "NOT_A_KNEE"


def test_a_step_wedge_is_no_knee(finder: Model) -> None:
    """A film of metal steps and balls, which hangs in every department, is refused."""
    with pytest.raises(Ungradable) as refusal:
        find_knees(rendered(step_wedge()), finder)
    assert refusal.value.reason.code == "NOT_A_KNEE"


def test_a_joint_that_is_cut_off_is_refused() -> None:
    """A film on which only a part of the joint lies has no joint to grade."""
    film = render([KneeShape(R)], rows=2000, columns=1600, seed=2, collimation=False)
    box = film.boxes[0]
    part = rendered(film).pixels[:, : int(box.x0 + 0.4 * box.width)]
    with pytest.raises(Ungradable) as refusal:
        see(as_film(part), open_eyes())
    assert refusal.value.reason.code in ("JOINT_CUT_OFF", "NOT_A_KNEE")


def test_a_joint_that_is_half_on_the_film_is_told_beside_a_whole_one(finder: Model) -> None:
    """It is a knee of that film, to be refused by name; less of it is none, and alone it is refused as a film."""
    whole, cut, bit = Box(300, 500, 700, 900), Box(840, 500, 1240, 900), Box(920, 500, 1320, 900)
    film = as_film(np.zeros((1500, 1100)))
    assert [knee.box for knee in find_knees(film, finder, [(cut, 0.9), (whole, 0.8)])] == [whole, cut]
    assert [knee.box for knee in find_knees(film, finder, [(bit, 0.9), (whole, 0.8)])] == [whole]
    for part in (cut, Box(750, -140, 1150, 260), Box(750, 1230, 1150, 1630)):
        told = find_knees(film, finder, [(part, 0.9), (whole, 0.8)])
        assert [knee.reason.code if knee.reason else "" for knee in told] == ["", "JOINT_CUT_OFF"]
    other = Box(-80, 500, 320, 900)
    assert [knee.box for knee in find_knees(film, finder, [(cut, 0.9), (other, 0.7), (whole, 0.5)])] == [other, whole]
    with pytest.raises(Ungradable) as refusal:
        find_knees(film, finder, [(cut, 0.9)])
    assert refusal.value.reason.code == "JOINT_CUT_OFF"


@pytest.mark.parametrize(
    ("spacing", "width", "source"),
    [
        (Spacing(0.2, 0.2, SpacingKind.CALIBRATED), True, "calibrated"),
        (Spacing(0.2, 0.2, SpacingKind.DETECTOR), True, "detector plane"),
        (Spacing(None, None, SpacingKind.NONE), False, "none"),
        (Spacing(0.01, 0.01, SpacingKind.DETECTOR), False, "none"),  # the film would be an inch wide
        (Spacing(2.0, 2.0, SpacingKind.DETECTOR), False, "none"),  # and here it would be higher than a man
    ],
)
def test_a_width_in_millimetres_says_what_it_is_worth(spacing: Spacing, width: bool, source: str) -> None:
    """A detector's spacing that makes no sense of the whole film has been left behind by somebody who resized it."""
    film = replace(as_film(np.zeros((2000, 1500))), spacing=spacing)
    assert width_mm(film, Box(100, 100, 600, 600)) == (pytest.approx(100.0) if width else None, source)


def test_candidates_that_are_as_large_as_a_knee_come_first(finder: Model) -> None:
    """The surest of what was found is 30 mm wide and no knee; without millimetres it would be taken."""
    found = [(Box(0, 0, 150, 150), 0.99), (Box(900, 600, 1400, 1100), 0.8), (Box(100, 600, 600, 1100), 0.7)]
    film = as_film(np.zeros((2000, 1500)))
    assert [knee.box.x0 for knee in find_knees(film, finder, found)] == [0, 900]
    measured = replace(film, spacing=Spacing(0.2, 0.2, SpacingKind.CALIBRATED))
    knees = find_knees(measured, finder, found)
    assert [knee.box.x0 for knee in knees] == [100, 900]
    assert [(knee.field_of_view_mm, knee.scale_source) for knee in knees] == [(pytest.approx(100), "calibrated")] * 2
    (alone,) = find_knees(measured, finder, found[:1])
    assert alone.field_of_view_mm == pytest.approx(30)
