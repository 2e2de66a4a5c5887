"""The exposed field is what the detector saw: shutters, collimators, frames and padding are not in it, air is."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from pydicom.dataset import Dataset

from tests.paths import DATA
from tests.samples.radiograph_files import Encoding, full_window, radiograph, truth, write
from workers.phantom import random_film
from workers.read import Film, Reader
from workers.read.exposed_field import exclude_borders, header_field
from workers.read.stored_values import Layout, StoredFrame

ROWS, COLUMNS = truth().shape
Mask = npt.NDArray[np.bool_]


@pytest.fixture(scope="module")
def reader() -> Iterator[Reader]:
    """One warm reader for all tests."""
    made = Reader(seconds=20, memory_mb=512, max_megapixels=40)
    yield made
    made.close()


def rectangle(upper: int, lower: int, left: int, right: int) -> Mask:
    seen = np.zeros((ROWS, COLUMNS), np.bool_)
    seen[upper - 1 : lower, left - 1 : right] = True
    return seen


def disc(row: float, column: float, radius: float) -> Mask:
    y, x = np.mgrid[1 : ROWS + 1, 1 : COLUMNS + 1]
    return np.asarray((y - row) ** 2 + (x - column) ** 2 <= radius**2)


def edges(kind: str, upper: int, lower: int, left: int, right: int) -> dict[str, Any]:
    return {
        f"{kind}Shape": "RECTANGULAR",
        f"{kind}UpperHorizontalEdge": upper,
        f"{kind}LowerHorizontalEdge": lower,
        f"{kind}LeftVerticalEdge": left,
        f"{kind}RightVerticalEdge": right,
    }


CIRCLE = {"ShutterShape": "CIRCULAR", "CenterOfCircularShutter": [100, 120], "RadiusOfCircularShutter": 80}
DIAMOND = {"ShutterShape": "POLYGONAL", "VerticesOfThePolygonalShutter": [10, 120, 100, 230, 190, 120, 100, 10]}

SHUTTERS: list[tuple[str, dict[str, Any], Mask]] = [
    ("rectangle", edges("Shutter", 21, 180, 31, 200), rectangle(21, 180, 31, 200)),
    ("rectangle as large as the image", edges("Shutter", 1, ROWS, 1, COLUMNS), rectangle(1, ROWS, 1, COLUMNS)),
    ("circle", CIRCLE, disc(100, 120, 80)),
    (
        "rectangle and circle",
        {**edges("Shutter", 60, 180, 31, 200), **CIRCLE, "ShutterShape": ["RECTANGULAR", "CIRCULAR"]},
        rectangle(60, 180, 31, 200) & disc(100, 120, 80),
    ),
]


@pytest.mark.parametrize(("attributes", "seen"), [each[1:] for each in SHUTTERS], ids=[each[0] for each in SHUTTERS])
def test_a_shutter_bounds_the_field(attributes: dict[str, Any], seen: Mask, reader: Reader, tmp_path: Path) -> None:
    """PS3.3 C.7.6.11: edges count from 1 and belong to the opening; what is shut off is black, the rest untouched."""
    (film,) = reader.read(radiograph(tmp_path / "film.dcm", **attributes))
    assert np.array_equal(film.field, seen)
    assert np.abs(film.pixels[seen] - truth()[seen]).max() < 0.01
    assert not film.pixels[~seen].any()


def test_a_polygonal_shutter_bounds_the_field(reader: Reader, tmp_path: Path) -> None:
    """Its corners are rows and columns, in turn."""
    (film,) = reader.read(radiograph(tmp_path / "film.dcm", **DIAMOND))
    assert film.field[99, 119]
    assert film.field.mean() == pytest.approx(180 * 220 / 2 / (ROWS * COLUMNS), rel=0.02)
    assert not film.field[[15, 15, 185, 185], [15, 225, 15, 225]].any()


def test_what_is_shut_off_has_the_grey_level_that_the_header_asks_for(reader: Reader, tmp_path: Path) -> None:
    """Shutter Presentation Value is a P-value: the polarity of the image does not turn it."""
    for photometric in ("MONOCHROME1", "MONOCHROME2"):
        attributes = {**edges("Shutter", 21, 180, 31, 200), "ShutterPresentationValue": 16384}
        way = Encoding("x", photometric=photometric, inverted=photometric == "MONOCHROME1", attributes=attributes)
        (film,) = reader.read(write(full_window(way), tmp_path / "film.dcm"))
        assert film.pixels[0, 0] == pytest.approx(0.25, abs=1e-3)


def test_a_collimator_bounds_the_field_and_hides_nothing(reader: Reader, tmp_path: Path) -> None:
    """Its edges may lie outside the image; the film behind its blades stays as it is."""
    (film,) = reader.read(radiograph(tmp_path / "film.dcm", **edges("Collimator", -5, 150, 41, 900)))
    assert np.array_equal(film.field, rectangle(1, 150, 41, COLUMNS))
    assert np.abs(film.pixels - truth()).max() < 0.01


@pytest.mark.parametrize(
    "attributes",
    [
        edges("Shutter", 0, 0, 0, 0),
        edges("Shutter", 180, 20, 200, 30),
        edges("Collimator", 500, 900, 500, 900),
        {**CIRCLE, "CenterOfCircularShutter": [10**6, 10**6]},
        {"ShutterShape": "POLYGONAL", "VerticesOfThePolygonalShutter": [1, 1, 1, 1, 1, 1]},
        {"PixelPaddingValue": 0, "PixelPaddingRangeLimit": 4095},
    ],
    ids=str,
)
def test_a_header_that_hides_the_whole_film_is_not_believed(
    attributes: dict[str, Any], reader: Reader, tmp_path: Path
) -> None:
    """The field is the whole film then, and the reader is told."""
    (film,) = reader.read(radiograph(tmp_path / "film.dcm", **attributes))
    assert film.field.all()
    assert np.abs(film.pixels - truth()).max() < 0.01
    assert any("hides the whole film" in note for note in film.notes)


@pytest.mark.parametrize(
    "attributes",
    [
        {"ShutterShape": "BITMAP"},
        {"ShutterShape": "RECTANGULAR"},
        {"ShutterShape": "CIRCULAR", "CenterOfCircularShutter": [5]},
        {"ShutterShape": "POLYGONAL", "VerticesOfThePolygonalShutter": [1, 1, 9]},
    ],
    ids=str,
)
def test_half_a_shutter_is_none(attributes: dict[str, Any], reader: Reader, tmp_path: Path) -> None:
    """A shutter that is not told completely bounds nothing."""
    assert reader.read(radiograph(tmp_path / "film.dcm", **attributes))[0].field.all()


def leg(rows: int = 800, columns: int = 640) -> npt.NDArray[np.float64]:
    """A bone-bright leg in air, bulging at the knee, with a little noise."""
    y, x = np.mgrid[0:rows, 0:columns]
    half = columns * (0.27 + 0.06 * np.sin(y / rows * 5))
    thickness = np.clip(1 - ((x - columns / 2) / half) ** 2, 0, None) ** 0.5
    bone = 0.3 * (np.abs(x - columns / 2) < columns * 0.12)
    return np.asarray(0.04 + 0.5 * thickness + bone + np.random.default_rng(1).normal(0, 0.01, (rows, columns)))


def behind(image: npt.NDArray[np.float64], border: float, degrees: float = 0, scatter: float = 0) -> tuple[Any, Mask]:
    """The image behind a collimator or a painted mask, and where it is open."""
    rows, columns = image.shape
    corners = cv2.boxPoints(((columns * 0.5, rows * 0.48), (columns * 0.78, rows * 0.72), degrees))
    seen = cv2.fillConvexPoly(np.zeros(image.shape, np.uint8), corners.astype(np.int32), 1) > 0
    away = cv2.distanceTransform((~seen).astype(np.uint8), cv2.DIST_L2, 5)
    return np.where(seen, image, border - scatter * np.exp(-away / 25)), seen


@pytest.mark.parametrize("degrees", [0, 3, -4])
@pytest.mark.parametrize(("border", "scatter"), [(1.0, 0.0), (1.0, 0.25), (0.0, 0.0), (0.5, 0.0)])
@pytest.mark.parametrize("rising", [True, False])
def test_a_border_on_the_picture_bounds_the_field(border: float, scatter: float, degrees: float, rising: bool) -> None:
    """White behind the blades with or without scatter, painted black or grey, straight or tilted, in any polarity."""
    image, seen = behind(leg(), border, degrees, scatter)
    words = np.rint(np.clip(image if rising else 1 - image, 0, 1) * 4000).astype(np.uint16)
    found = exclude_borders(words, np.ones(words.shape, np.bool_), rising=rising)
    assert (found & ~seen).sum() < 0.03 * seen.sum()
    assert (found & seen).sum() > 0.95 * seen.sum()


def test_a_white_frame_around_a_black_border_is_outside() -> None:
    """Printed and scanned films have both."""
    image, seen = behind(leg(), 0.0)
    image[:12], image[-12:], image[:, :12], image[:, -12:] = 1, 1, 1, 1
    found = exclude_borders(
        np.rint(np.clip(image, 0, 1) * 255).astype(np.uint16), np.ones(seen.shape, np.bool_), rising=True
    )
    assert (found & ~seen).sum() < 0.03 * seen.sum()
    assert (found & seen).sum() > 0.95 * seen.sum()


@pytest.mark.parametrize("air", [0.0, 0.04, 0.2])
def test_air_beside_a_leg_is_exposed(air: float) -> None:
    """Black air, saturated or not, is no border: a knee beside it is not cut off."""
    words = np.rint(np.clip(leg() - 0.04 + air, 0, 1) * 4000).astype(np.uint16)
    assert exclude_borders(words, np.ones(words.shape, np.bool_), rising=True).all()


def test_rendered_knees_are_never_cut_by_a_border() -> None:
    """On films as varied as can be, the part of each joint that was exposed stays within the field."""
    random = np.random.default_rng(11)
    for _ in range(40):
        film = random_film(random, rows=400, columns=340, fine=1)
        found = exclude_borders(film.pixels, np.ones(film.pixels.shape, np.bool_), rising=True)
        for box in film.boxes:
            centre = slice(int(box.y0 + box.height * 0.3), int(box.y0 + box.height * 0.7))
            across = slice(max(int(box.x0 + box.width * 0.2), 0), int(box.x0 + box.width * 0.8))
            part, bright = found[centre, across], film.pixels[centre, across] > film.pixels.max() * 0.3
            assert (part | ~bright).mean() > 0.9


@pytest.mark.skipif(not (DATA / "knees").is_dir(), reason="not there: ../shared/data/knees")
def test_real_knees_are_not_taken_for_borders() -> None:
    """A bright femur above a dark joint space is no collimator."""
    paths = sorted((DATA / "knees" / "val").glob("*/*.jpg"))[::5]
    whole = 0
    for path in paths:
        grey = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        assert grey is not None
        found = exclude_borders(grey.astype(np.uint16), np.ones(grey.shape, np.bool_), rising=True)
        assert found[60:240, 60:240].all(), path.name
        whole += bool(found.all())
    assert whole > 0.95 * len(paths)


def test_a_film_of_one_value_has_no_border() -> None:
    """Nothing to see is no reason to see a border."""
    words = np.full((300, 300), 7, np.uint16)
    assert exclude_borders(words, np.ones(words.shape, np.bool_), rising=True).all()


def test_the_field_is_part_of_every_film(reader: Reader, tmp_path: Path) -> None:
    """A collimated film read from a file has the field, and its window is that of the field alone."""
    image, seen = behind(leg(), 1.0)
    way = Encoding("x", curve=lambda grey: np.clip(grey, 0, 1) * 1000 + 3000 * (grey >= 1))
    film: Film = reader.read(write(way, tmp_path / "film.dcm", image))[0]
    assert (film.field & ~seen).sum() < 0.03 * seen.sum()
    assert film.pixels[film.field].std() > 0.15


def test_padding_in_a_header_without_bits_is_still_a_range() -> None:
    """Padding ends given in the wrong order are put in order."""
    words = np.arange(4096, dtype=np.uint16).reshape(64, 64)
    stored = StoredFrame(words, Layout(64, 64, 16, 12, 11, False, 1, 0, "MONOCHROME2"), colour=False)
    header = Dataset()
    header.add_new("PixelPaddingValue", "US", 100)
    header.add_new("PixelPaddingRangeLimit", "US", 50)
    assert np.array_equal(header_field(stored, header).exposed, (words < 50) | (words > 100))
