"""Negatives are inverted and noted, the image gives the side of a knee, and nothing else is changed."""

from pathlib import Path

import numpy as np
import pytest

from node.errors import Ungradable
from node.evidence import Agreement
from node.finding import Laterality
from node.settings import Work
from tests.samples.real_knees import DATA, needs_knees, pixels, some_knees
from tests.workers.detection.test_joints import as_film, rendered
from workers.detection.detection_models import DetectionModels, load_detection_models
from workers.detection.joints import Joint
from workers.detection.polarity import DARK, INVERTED, correct_polarity, orientation_logits
from workers.evaluation.labelled_knees import LabelledKnee
from workers.laterality.determine import determine_laterality
from workers.laterality.vote import LateralityVote
from workers.models.networks import OrientationClassifier
from workers.phantom import KneeShape, render
from workers.preprocessing import Box
from workers.read import Reader
from workers.training.fit_orientation import OrientationRecipe, fit_orientation_classifier, orientation_accuracy

R, L, U = Laterality.RIGHT, Laterality.LEFT, Laterality.UNKNOWN
WHOLE = Box(0, 0, 299, 299)


@pytest.fixture(scope="module")
def models() -> DetectionModels:
    return load_detection_models()


@pytest.mark.parametrize("seed", range(3))
def test_a_negative_is_inverted_and_noted(models: DetectionModels, seed: int) -> None:
    """What comes out of a negative is the positive, to the bit of a float, and a note; a positive stays."""
    film = rendered(render([KneeShape(R), KneeShape(L)], rows=1500, columns=1800, seed=seed))
    same, detections = correct_polarity(film, models)
    assert same is film
    assert len(detections) == 2
    positive, detections = correct_polarity(as_film(1 - film.pixels), models)
    np.testing.assert_allclose(positive.pixels, film.pixels, atol=1e-6)
    assert positive.notes == (INVERTED,)
    assert len(detections) == 2


def test_without_a_joint_a_film_is_left_as_it_is(models: DetectionModels) -> None:
    """No joint in either polarity: nothing is inverted."""
    film = as_film(np.tile(np.linspace(0, 1, 500, dtype=np.float32), (600, 1)))
    same, detections = correct_polarity(film, models)
    assert same is film
    assert detections == []


@needs_knees
def test_every_negative_among_real_knees_is_noticed_and_no_other(models: DetectionModels) -> None:
    """Of 300 knees of val patients, as they are and inverted, none is taken for the other."""
    limit = models.orientation.card.thresholds["dark"]
    for row in some_knees("val", 300):
        image = pixels(row).astype(np.float32) / 255
        assert orientation_logits(image, [WHOLE], models.orientation)[0, DARK] < limit, row["path"]
        assert orientation_logits(1 - image, [WHOLE], models.orientation)[0, DARK] > limit, row["path"]


def laterality(image: np.ndarray, models: DetectionModels, **header: object) -> LateralityVote:
    (vote,) = determine_laterality(as_film(image, **header), [Joint(WHOLE, 1.0)], (), models.orientation)
    return vote


@needs_knees
def test_the_image_gives_the_side_of_a_knee_that_nothing_else_states(models: DetectionModels) -> None:
    """Of 200 real crops without a header none gets the wrong side and at most four none; a wrong header conflicts."""
    unknown = 0
    for row in some_knees("val", 200):
        image = pixels(row).astype(np.float32) / 255
        by_image = laterality(image, models)
        assert by_image.laterality in (U, row["side"]), row["path"]
        unknown += by_image.laterality is U
        stated = laterality(image, models, ImageLaterality="R")
        conflict = row["side"] == "L" and by_image.laterality is not U
        assert (stated.agreement is Agreement.CONFLICT) == conflict, row["path"]
        assert stated.laterality.value == row["side"] or conflict or by_image.laterality is U
    assert unknown <= 4


@needs_knees
def test_a_film_that_is_displayed_mirrored_is_read_mirrored(models: DetectionModels) -> None:
    """Patient Orientation states that the rows run to the patient's right: the image's left knee is a right one."""
    row = some_knees("val", 1)[0]
    image = np.ascontiguousarray(pixels(row).astype(np.float32)[:, ::-1] / 255)
    assert laterality(image, models, PatientOrientation=["R", "F"]).laterality.value == row["side"]


@needs_knees
def test_on_other_body_parts_no_joint_is_detected_in_either_polarity(models: DetectionModels) -> None:
    """Trying a film as a negative gives no second chance to what is no knee."""
    reader = Reader.from_settings(Work())
    try:
        for path in sorted((DATA / "not_knees").glob("*.dcm")):
            try:
                film = reader.film(Path(path))
            except Ungradable:
                continue
            assert correct_polarity(film, models)[1] == [], path.name
    finally:
        reader.close()


def test_the_orientation_network_learns_from_crops(tmp_path: Path) -> None:
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
    recipe = OrientationRecipe(steps=90, batch=16)
    network = fit_orientation_classifier(recipe, knees, 48, on_step=lambda step, loss: losses.append(loss))
    assert isinstance(network, OrientationClassifier)
    assert np.mean(losses[-5:]) < 0.5 * losses[0]
    assert orientation_accuracy(network, knees, 48)[0] == 1.0
