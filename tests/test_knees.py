"""Joints are found where they are, sides are known or said to be unknown, and what is no knee is refused."""

import numpy as np
import pytest
from pydicom import Dataset
from pydicom.sequence import Sequence

from node.errors import Ungradable
from node.finding import Laterality
from tests.real_knees import needs_knees, pixels, some_knees
from workers.knees import Knee, find_knees, tell_sides
from workers.phantom import KneeShape, RenderedFilm, render, step_wedge
from workers.prepare import Box
from workers.read import Film, Spacing, SpacingKind
from workers.registry import Model, load

R, L, U = Laterality.RIGHT, Laterality.LEFT, Laterality.UNKNOWN
LEFT_BOX, RIGHT_BOX = Box(0, 0, 10, 10), Box(20, 0, 30, 10)


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
def test_a_tight_crop_is_taken_whole(finder: Model) -> None:
    """Of 60 real crops nearly every one is found, and its box is the image: what the grader was trained on."""
    whole = 0
    for row in some_knees("val", 60):
        image = pixels(row)
        try:
            knees = find_knees(as_film(image / 255), finder)
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


def test_a_joint_that_is_cut_off_is_refused(finder: Model) -> None:
    """A film on which only a part of the joint lies has no joint to grade."""
    film = render([KneeShape(R)], rows=2000, columns=1600, seed=2, collimation=False)
    box = film.boxes[0]
    part = rendered(film).pixels[:, : int(box.x0 + 0.4 * box.width)]
    with pytest.raises(Ungradable) as refusal:
        find_knees(as_film(part), finder)
    assert refusal.value.reason.code in ("JOINT_CUT_OFF", "NOT_A_KNEE")


def region(code: str) -> Sequence:
    modifier, item = Dataset(), Dataset()
    modifier.CodeValue = code
    item.AnatomicRegionModifierSequence = Sequence([modifier])
    return Sequence([item])


@pytest.mark.parametrize(
    ("header", "wanted"),
    [
        ({"ImageLaterality": "R"}, (R, "ImageLaterality")),
        ({"ImageLaterality": " l "}, (L, "ImageLaterality")),
        ({"Laterality": "L"}, (L, "Laterality")),
        ({"ImageLaterality": "U", "Laterality": "R"}, (R, "Laterality")),
        ({"ImageLaterality": "", "Laterality": "R"}, (R, "Laterality")),
        ({"AnatomicRegionSequence": region("7771000")}, (L, "AnatomicRegionSequence")),
        ({"AnatomicRegionSequence": region("G-A100")}, (R, "AnatomicRegionSequence")),
        ({"ImageLaterality": "B"}, (U, "none")),
        ({"AnatomicRegionSequence": region("51440002")}, (U, "none")),
        ({"ImageLaterality": "X"}, (U, "none")),
        ({}, (U, "none")),
    ],
)
def test_one_knee_has_the_side_that_the_header_says(header: dict[str, object], wanted: tuple[Laterality, str]) -> None:
    """And which attribute said it; "both" tells nothing about a single knee."""
    assert tell_sides(as_film(np.zeros((2, 2)), **header).header, [LEFT_BOX]) == [wanted]


@pytest.mark.parametrize(
    ("orientation", "sides"), [(["L", "F"], [R, L]), (["R", "F"], [L, R]), (None, [R, L]), (["", ""], [R, L])]
)
def test_two_knees_have_their_sides_by_position(orientation: list[str] | None, sides: list[Laterality]) -> None:
    """As hung, unless Patient Orientation says that the rows run to the patient's right."""
    header = Dataset()
    if orientation is not None:
        header.PatientOrientation = orientation
    assert [side for side, _ in tell_sides(header, [LEFT_BOX, RIGHT_BOX])] == sides
