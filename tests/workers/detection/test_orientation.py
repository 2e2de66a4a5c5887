"""Negatives are turned and noted, sides that nothing tells are read off the image, and nothing else is touched."""

from pathlib import Path

import numpy as np
import pytest

from node.errors import Ungradable
from node.finding import Laterality
from node.settings import Work
from tests.samples.real_knees import DATA, needs_knees, pixels, some_knees
from tests.workers.detection.test_joints import as_film, rendered
from workers.detection.joints import find_knees
from workers.detection.orientation import TURNED, hang, with_bright_bones, with_sides
from workers.evaluation.labelled_knees import LabelledKnee
from workers.models.networks import OrientationClassifier
from workers.models.registry import Model, load
from workers.phantom import KneeShape, render
from workers.preprocessing import Box
from workers.read import Reader
from workers.training.fit_orientation import UprightRecipe, fit_upright, part_right

R, L, U = Laterality.RIGHT, Laterality.LEFT, Laterality.UNKNOWN


@pytest.fixture(scope="module")
def finder() -> Model:
    return load("finder")


@pytest.fixture(scope="module")
def teller() -> Model:
    return load("upright")


@pytest.mark.parametrize("seed", range(3))
def test_a_negative_is_turned_and_noted(finder: Model, teller: Model, seed: int) -> None:
    """What comes out of a negative is the positive, to the bit of a float, and a note says so; a positive stays."""
    film = rendered(render([KneeShape(R), KneeShape(L)], rows=1500, columns=1800, seed=seed))
    same, found = with_bright_bones(film, finder, teller)
    assert same is film
    assert len(found) == 2
    negative = as_film(1 - film.pixels)
    turned, found_again = with_bright_bones(negative, finder, teller)
    np.testing.assert_allclose(turned.pixels, film.pixels, atol=1e-6)
    assert turned.notes == (TURNED,)
    assert len(found_again) == 2


def test_without_a_joint_a_film_is_left_as_it_is(finder: Model, teller: Model) -> None:
    """No joint in either polarity: nothing is turned, and it is refused as before."""
    film = as_film(np.tile(np.linspace(0, 1, 500, dtype=np.float32), (600, 1)))
    same, found = with_bright_bones(film, finder, teller)
    assert (same, list(found)) == (film, [])
    with pytest.raises(Ungradable):
        find_knees(same, finder, found)


@needs_knees
def test_every_negative_among_real_knees_is_noticed_and_no_other(teller: Model) -> None:
    """Of 300 knees of val patients, hung as they are and inverted, none is taken for the other."""
    whole = [Box(0, 0, 299, 299)]
    for row in some_knees("val", 300):
        image = pixels(row).astype(np.float32) / 255
        limit = teller.card.thresholds["dark"]
        assert hang(image, whole, teller)[0, 0] < limit, row["path"]
        assert hang(1 - image, whole, teller)[0, 0] > limit, row["path"]


@needs_knees
def test_the_image_tells_the_side_of_a_knee_that_nothing_else_tells(finder: Model, teller: Model) -> None:
    """Of 200 real crops without a header none gets the wrong side and at most four none; a wrong header is noticed."""
    untold = 0
    for row in some_knees("val", 200):
        film = as_film(pixels(row).astype(np.float32) / 255)
        knees = find_knees(film, finder, [(Box(0, 0, 299, 299), 1.0)])
        assert knees[0].laterality is U
        told = with_sides(knees, film, teller)[0]
        assert told.laterality_source == "none" or told.laterality.value == row["side"], row["path"]
        untold += told.laterality_source == "none"
        stated = as_film(film.pixels, ImageLaterality="R")
        kept = with_sides(find_knees(stated, finder, [(Box(0, 0, 299, 299), 1.0)]), stated, teller)[0]
        flagged = [flag.code for flag in kept.flags]
        silent = told.laterality is U
        assert flagged == ([] if row["side"] == "R" or silent else ["SIDE_CONFLICT"]), row["path"]
        assert kept.laterality.value == row["side"] or flagged or silent
    assert untold <= 4


@needs_knees
def test_a_mirrored_film_is_read_from_behind(finder: Model, teller: Model) -> None:
    """Patient Orientation says that the rows run to the patient's right: the image's left knee is a right one."""
    row = some_knees("val", 1)[0]
    image = np.ascontiguousarray(pixels(row).astype(np.float32)[:, ::-1] / 255)
    film = as_film(image, PatientOrientation=["R", "F"])
    told = with_sides(find_knees(film, finder, [(Box(0, 0, 299, 299), 1.0)]), film, teller)[0]
    assert told.laterality.value == row["side"]


@needs_knees
def test_other_body_parts_are_not_turned_into_knees(finder: Model, teller: Model) -> None:
    """Trying a film as a negative gives no second chance to what is no knee."""
    reader = Reader.within(Work())
    try:
        for path in sorted((DATA / "not_knees").glob("*.dcm")):
            try:
                film = reader.film(Path(path))
            except Ungradable:
                continue
            assert list(with_bright_bones(film, finder, teller)[1]) == [], path.name
    finally:
        reader.close()


def test_the_teller_learns_from_crops(tmp_path: Path) -> None:
    """Bright bones and a fibula on one side are enough to learn from; the same seed gives the same network."""
    import cv2

    knees = []
    for number in range(12):
        image = np.full((96, 96), 40, np.uint8)
        image[:, 30:66] = 200
        image[60:, 14:22] = 160  # the fibula of a right knee, on the image's left
        image[44:48, 28:68] = 60 + 5 * number
        cv2.imwrite(str(tmp_path / f"{number}.png"), image)
        knees.append(LabelledKnee(tmp_path / f"{number}.png", f"p{number}", "R", 0, "train", inverted=False))
    losses: list[float] = []
    recipe = UprightRecipe(steps=90, batch=16)
    network = fit_upright(recipe, knees, 48, watch=lambda step, loss: losses.append(loss))
    assert isinstance(network, OrientationClassifier)
    assert np.mean(losses[-5:]) < 0.5 * losses[0]
    assert part_right(network, knees, 48)[0] == 1.0
