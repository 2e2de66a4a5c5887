"""The rendered radiographs are valid, repeatable, and true to what they say of themselves."""

import shutil
import subprocess
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from pydicom.dataset import Dataset

from node.finding import Laterality
from tests.paths import DATA
from workers.phantom import (
    JOINT_LINE_OF_BOX,
    PLATEAU_CENTRE_OF_BOX,
    PLATEAU_WIDTH_OF_BOX,
    Header,
    JointSpace,
    KneeShape,
    RenderedFilm,
    as_cr,
    as_dx,
    joint_box,
    random_film,
    render,
    samples,
    step_wedge,
)
from workers.phantom.framing import PLATEAU_WIDTH_MM
from workers.preprocessing import Box

LANDMARKS = DATA / "knees" / "landmarks.csv"
SMALL = {"rows": 900, "columns": 760, "spacing_mm": 0.25}
RIGHT, LEFT = Laterality.RIGHT, Laterality.LEFT


@pytest.fixture(scope="module")
def sent() -> list[Dataset]:
    """The six samples, rendered once."""
    return samples()


def validated(dataset: Dataset, path: Path) -> list[str]:
    """The lines of dciodvfy on the object, warnings included."""
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy (dicom3tools) is not installed")
    dataset.save_as(path, enforce_file_format=True)
    done = subprocess.run(["dciodvfy", path], capture_output=True, text=True, check=False)
    return [line for line in (done.stdout + done.stderr).splitlines() if line.startswith(("Error", "Warning"))]


def test_dciodvfy_finds_no_error_in_any_sample(sent: list[Dataset], tmp_path: Path) -> None:
    """Each sample is a valid object of its class; only a side left out on purpose is remarked upon."""
    for index, dataset in enumerate(sent):
        lines = validated(dataset, tmp_path / f"{index}.dcm")
        assert all("attribute <Laterality>" in line and line.startswith("Warning") for line in lines), lines


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_every_depth_and_polarity_is_valid_and_shows_the_same_film(bits: int, photometric: str, tmp_path: Path) -> None:
    """As DX and as CR, with each number of bits, the picture read back is the film that was rendered."""
    film = render([KneeShape(RIGHT)], rows=301, columns=255, spacing_mm=0.7)
    for build in (as_dx, as_cr):
        dataset = build(film, Header(bits=bits, photometric=photometric))
        assert validated(dataset, tmp_path / "film.dcm") == []
        shown = dataset.pixel_array / (2**bits - 1)
        shown = 1 - shown if photometric == "MONOCHROME1" else shown
        assert np.abs(shown - film.pixels / 4095).max() <= 0.51 / (2 ** min(bits, 12) - 1) + 1e-6


def test_a_depth_that_dicom_films_do_not_have_is_refused() -> None:
    """Eleven bits are no choice."""
    with pytest.raises(ValueError, match="11 bits"):
        as_dx(step_wedge(rows=64, columns=64), Header(bits=11))


def test_the_samples_are_diverse(sent: list[Dataset]) -> None:
    """DX and CR, right, left, both and no side, both polarities, and several depths are among them."""
    assert {dataset.Modality for dataset in sent} == {"DX", "CR"}
    assert [dataset.get("ImageLaterality") or dataset.get("Laterality") or None for dataset in sent] == [
        "R", "L", "B", None, "L", None,
    ]  # fmt: skip
    assert {dataset.PhotometricInterpretation for dataset in sent} == {"MONOCHROME1", "MONOCHROME2"}
    assert {dataset.BitsStored for dataset in sent} >= {8, 10, 12, 14}
    assert all(str(dataset.PatientName).startswith("PHANTOM^") for dataset in sent)
    assert len({dataset.SOPInstanceUID for dataset in sent}) == len(sent)


def test_objects_are_reproducible_and_change_with_their_content() -> None:
    """UIDs follow from the picture and the header, under 2.25 and within 64 characters; given ones are kept."""
    film = render([KneeShape(RIGHT)], rows=200, columns=160, spacing_mm=1.0)
    again = render([KneeShape(RIGHT)], rows=200, columns=160, spacing_mm=1.0)
    other = render([KneeShape(RIGHT)], rows=200, columns=160, spacing_mm=1.0, seed=1)
    first = as_dx(film).SOPInstanceUID
    assert first == as_dx(again).SOPInstanceUID
    assert len({first, as_dx(other).SOPInstanceUID, as_cr(film).SOPInstanceUID}) == 3
    assert first.startswith("2.25.") and first.is_valid
    assert as_dx(film, Header(sop_instance_uid="2.25.7")).file_meta.MediaStorageSOPInstanceUID == "2.25.7"


def test_a_film_is_the_same_for_the_same_seed() -> None:
    """The seed decides the film, noise and all."""
    films = [render([KneeShape(RIGHT), KneeShape(LEFT)], seed=seed, **SMALL).pixels for seed in (3, 3, 4)]
    assert np.array_equal(films[0], films[1])
    assert not np.array_equal(films[0], films[2])
    variety = [random_film(np.random.default_rng(seed), rows=160, columns=128) for seed in (5, 5, 6)]
    assert np.array_equal(variety[0].pixels, variety[1].pixels)
    assert variety[0].boxes == variety[1].boxes
    assert not np.array_equal(variety[0].pixels, variety[2].pixels)


def test_left_is_the_mirror_of_right() -> None:
    """A left knee's film, box and measured points are those of the right knee mirrored; only the letter is not."""
    right = render([KneeShape(RIGHT, 3.0, 6.0, 0.6, 3.0)], marker=False, **SMALL)
    left = render([KneeShape(LEFT, 3.0, 6.0, 0.6, 3.0)], marker=False, **SMALL)
    assert np.array_equal(left.pixels, right.pixels[:, ::-1])
    columns = SMALL["columns"]
    box, mirrored = right.boxes[0], left.boxes[0]
    assert (mirrored.x0, mirrored.x1, mirrored.y0) == pytest.approx((columns - box.x1, columns - box.x0, box.y0))
    for ours, theirs in zip(left.joint_spaces[0], right.joint_spaces[0], strict=True):
        assert ours.femur == pytest.approx((columns - theirs.femur[0], theirs.femur[1]))
    lettered = render([KneeShape(LEFT, 3.0, 6.0, 0.6, 3.0)], **SMALL).pixels
    assert not np.array_equal(lettered, render([KneeShape(RIGHT, 3.0, 6.0, 0.6, 3.0)], **SMALL).pixels[:, ::-1])


def test_a_bilateral_film_displays_the_right_knee_on_the_left() -> None:
    """Whatever the order given, the right knee is first and lies on the image's left, the fibulae outside."""
    film = render([KneeShape(LEFT), KneeShape(RIGHT)], rows=1200, columns=1300, spacing_mm=0.25)
    assert [knee.laterality for knee in film.knees] == [RIGHT, LEFT]
    right, left = film.boxes
    assert right.x1 < left.x0
    # Medial lies towards the other knee.
    assert film.joint_spaces[0][0].tibia[0] > film.joint_spaces[0][1].tibia[0]
    assert film.joint_spaces[1][0].tibia[0] < film.joint_spaces[1][1].tibia[0]


def test_two_knees_of_one_side_are_refused() -> None:
    """Nobody has two right knees."""
    with pytest.raises(ValueError, match="one knee"):
        render([KneeShape(RIGHT), KneeShape(RIGHT)])


def edge(profile: npt.NDArray[np.float64], middle: float, step: int, reach: int) -> float:
    """The place of the steepest rise from the joint space's middle into bone, to a part of a pixel."""
    rise = np.gradient(profile) * step
    at = np.arange(round(middle), round(middle) + step * reach, step)
    peak = int(at[np.argmax(rise[at])])
    before, here, after = rise[peak - 1 : peak + 2]
    return peak + (before - after) / (2 * (before - 2 * here + after))


def measured_mm(film: RenderedFilm, space: JointSpace) -> float:
    """The joint space between the steepest edges on the film, along the line of its two points."""
    x = round(space.femur[0] - 0.5)
    profile = film.pixels[:, x].astype(np.float64)
    middle = (space.femur[1] + space.tibia[1]) / 2 - 0.5
    reach = round(6 / film.spacing_mm)
    return (edge(profile, middle, 1, reach) - edge(profile, middle, -1, reach)) * film.spacing_mm


@pytest.mark.parametrize(
    ("medial", "lateral", "osteophytes", "tilt", "scale"),
    [(5.0, 5.5, 0.0, 0.0, 1.0), (2.0, 6.5, 0.8, 5.0, 1.0), (6.0, 1.5, 0.3, -4.0, 1.1), (3.5, 4.0, 1.0, 0.0, 0.9)],
)
def test_the_joint_space_on_the_film_is_the_one_asked_for(
    medial: float, lateral: float, osteophytes: float, tilt: float, scale: float
) -> None:
    """Measured between the edges on a film without noise, each joint space is within 0.2 mm of its parameter."""
    for side in (RIGHT, LEFT):
        knee = KneeShape(side, medial, lateral, osteophytes, tilt, scale)
        film = render([knee], rows=1200, columns=1000, seed=2, noise=0)
        spaces = {space.compartment: space for space in film.joint_spaces[0]}
        assert spaces["medial"].mm == medial
        assert spaces["lateral"].mm == lateral
        for space in spaces.values():
            assert measured_mm(film, space) == pytest.approx(space.mm, abs=0.2)


def test_the_knees_of_a_bilateral_film_have_joint_spaces_of_their_own() -> None:
    """Measured on the film, the narrow compartment is where each knee's points say, on the right and on the left."""
    knees = [KneeShape(RIGHT, 2.0, 6.0), KneeShape(LEFT, 3.0, 7.0)]
    film = render(knees, rows=1000, columns=2048, seed=4, noise=0)
    for knee, pair in zip(knees, film.joint_spaces, strict=True):
        assert [measured_mm(film, space) for space in pair] == pytest.approx(
            [knee.medial_mm, knee.lateral_mm], abs=0.25
        )


def inside(box: Box, rows: int, columns: int, slack: float = 0.0) -> bool:
    """Whether the box lies on the film, but for that part of its side."""
    slack *= box.width
    return box.x0 >= -slack and box.y0 >= -slack and box.x1 <= columns + slack and box.y1 <= rows + slack


def test_boxes_lie_on_the_film() -> None:
    """Every box of a rendered film and of fifty random ones lies on it; closely cut films may miss a tenth."""
    film = render([KneeShape(RIGHT), KneeShape(LEFT, scale=1.1)], rows=600, columns=640, spacing_mm=0.55)
    assert all(inside(box, 600, 640) for box in film.boxes)
    random = np.random.default_rng(11)
    for _ in range(50):
        film = random_film(random, rows=160, columns=128, tight=0.0, fine=1)
        assert film.boxes and all(inside(box, 160, 128, 0.01) for box in film.boxes)
    for _ in range(20):
        film = random_film(random, rows=160, columns=160, tight=1.0, fine=1)
        assert len(film.boxes) == 1 and inside(film.boxes[0], 160, 160, 0.1)


def test_a_film_without_a_joint_has_no_box() -> None:
    """Films of shafts and empty films are done from the others by having no box."""
    random = np.random.default_rng(12)
    assert all(not random_film(random, rows=160, columns=128, blank=1.0, fine=1).boxes for _ in range(10))


def test_random_films_vary() -> None:
    """One and two knees, both sides, large and small joints, and dark and bright films all occur."""
    random = np.random.default_rng(13)
    films = [random_film(random, rows=160, columns=128, fine=1) for _ in range(60)]
    assert {len(film.boxes) for film in films} == {1, 2}
    assert {knee.laterality for film in films if len(film.knees) == 1 for knee in film.knees} == {RIGHT, LEFT}
    widths = sorted(box.width / 128 for film in films for box in film.boxes)
    assert widths[0] < 0.3 and widths[-1] > 0.7
    assert np.std([film.pixels.mean() for film in films]) > 300


@pytest.mark.parametrize("tight", [0.0, 1.0])
def test_a_single_random_knee_is_drawn_on_the_side_that_it_has(tight: float) -> None:
    """Medial lies to the image's right of a right knee and to its left of a left one; the header states the side."""
    random, drawn = np.random.default_rng(14), set[Laterality]()
    for _ in range(12):
        film = random_film(random, rows=160, columns=128, one_knee=1.0, tight=tight, fine=1)
        (knee,), (spaces,), (box,) = film.knees, film.joint_spaces, film.boxes
        medial, lateral = (space.tibia[0] for space in spaces)
        assert knee.laterality is (RIGHT if medial > lateral else LEFT)
        middle = ((medial + lateral) / 2 - box.x0) / box.width
        centre = PLATEAU_CENTRE_OF_BOX if knee.laterality is RIGHT else 1 - PLATEAU_CENTRE_OF_BOX
        assert abs(middle - centre) < 0.012
        assert as_dx(film).ImageLaterality == knee.laterality.value
        drawn.add(knee.laterality)
    assert drawn == {RIGHT, LEFT}


def test_the_joint_line_lies_where_the_framing_places_it() -> None:
    """In each box the plateau is as wide, as central and as high as the published constants say, tilted or not."""
    for side in (RIGHT, LEFT):
        film = render([KneeShape(side, scale=0.9, tilt_degrees=4)], **SMALL)
        box, spaces = film.boxes[0], film.joint_spaces[0]
        assert box.width == pytest.approx(box.height)
        assert PLATEAU_WIDTH_MM * 0.9 / SMALL["spacing_mm"] / box.width == pytest.approx(PLATEAU_WIDTH_OF_BOX)
        line = np.mean([space.tibia[1] for space in spaces])
        assert (line - box.y0) / box.height == pytest.approx(JOINT_LINE_OF_BOX, abs=0.002)
        middle = (np.mean([space.tibia[0] for space in spaces]) - box.x0) / box.width
        expected = PLATEAU_CENTRE_OF_BOX if side is RIGHT else 1 - PLATEAU_CENTRE_OF_BOX
        assert middle == pytest.approx(expected, abs=0.002)


def test_the_framing_is_that_of_the_real_crops() -> None:
    """The constants are the medians of the landmarks on real crops whose fit can be trusted."""
    if not LANDMARKS.is_file():
        pytest.skip("../shared/data/knees is absent")
    columns = LANDMARKS.read_text().splitlines()
    names = columns[0].split(",")
    rows = [dict(zip(names, line.split(","), strict=True)) for line in columns[1:]]
    framed = [framing_of(row) for row in rows if float(row["fit_score"]) >= 1.5]
    assert len(framed) > 400
    widths, middles, lines = np.median(framed, axis=0)
    assert (widths, middles, lines) == pytest.approx(
        (PLATEAU_WIDTH_OF_BOX, PLATEAU_CENTRE_OF_BOX, JOINT_LINE_OF_BOX), abs=0.002
    )
    # A box made of a typical knee's own points is the whole crop.
    box = joint_box(RIGHT, middle_x=middles * 299, joint_line_y=lines * 299, plateau_width=widths * 299)
    assert (box.x0, box.y0, box.x1, box.y1) == pytest.approx((0, 0, 299, 299), abs=1.5)


def framing_of(row: dict[str, str]) -> tuple[float, float, float]:
    """Width, middle and height of the plateau on one crop, as parts of its side, seen as a right knee."""
    ends = (float(row["T0_x"]), float(row["T8_x"]))
    middle = (sum(ends) / 2 + 0.5) / 299
    heights = (float(row["T1_y"]), float(row["T7_y"]))
    across = middle if row["side"] == "R" else 1 - middle
    return abs(ends[1] - ends[0]) / 299, across, (sum(heights) / 2 + 0.5) / 299


def test_bone_is_brighter_than_the_joint_space_and_its_rim_brightest() -> None:
    """Down a compartment the film goes from bone over a bright rim into the dark joint space and back."""
    film = render([KneeShape(RIGHT)], noise=0)
    for space in film.joint_spaces[0]:
        column = film.pixels[:, round(space.femur[0] - 0.5)].astype(int)
        top, bottom = round(space.femur[1]), round(space.tibia[1])
        gap = column[(top + bottom) // 2]
        rim = column[bottom : bottom + round(2.5 / film.spacing_mm)].max()
        bone = np.median(column[bottom + round(8 / film.spacing_mm) : bottom + round(14 / film.spacing_mm)])
        assert gap < bone < rim


def test_the_step_wedge_has_steps_that_grow_brighter() -> None:
    """The film that is no knee shows eleven grey steps and has no box."""
    film = step_wedge()
    rows, columns = film.pixels.shape
    steps = [float(np.median(film.pixels[rows // 8 + int((i + 0.5) * (rows // 15)), columns // 3 : columns // 2 - 9]))
             for i in range(11)]  # fmt: skip
    assert all(darker + 50 < brighter for darker, brighter in pairwise(steps))
    assert film.boxes == ()
