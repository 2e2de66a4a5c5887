"""Grades and maps of the shipped model: sides, mirror images, and maps that add up to the grade."""

import numpy as np
import pytest
from safetensors.numpy import load_file

from node.finding import Laterality
from tests.samples.knees import knee
from tests.samples.site_models import load_plain_grader
from workers.grading.grader import Graded, grade_crops
from workers.knee import Knee
from workers.models.calibration import softmax
from workers.models.registry import DEFAULT, WEIGHTS, Model, load
from workers.phantom import KneeShape, render
from workers.preprocessing import Box, Grey, cut

R, L, U = Laterality.RIGHT, Laterality.LEFT, Laterality.UNKNOWN


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return load_plain_grader(tmp_path_factory.mktemp("models"))


OnFilm = tuple[Grey, Box]


@pytest.fixture(scope="module")
def film() -> OnFilm:
    """A right knee on a film, and its box."""
    rendered = render(
        [KneeShape(R, medial_mm=2.0, osteophytes=0.7)], rows=600, columns=500, spacing_mm=0.4, marker=False
    )
    return rendered.pixels.astype(np.float32) / np.float32(4095), rendered.boxes[0]


def answer(pixels: Grey, box: Box, side: Laterality, model: Model) -> Graded:
    return grade(pixels, [knee(box, side)], model)[0]


def grade(pixels: Grey, knees: list[Knee], model: Model) -> list[Graded]:
    return grade_crops([cut(pixels, knee.pose, model.card.input_size) for knee in knees], knees, model)


def mirrored(pixels: Grey, box: Box) -> OnFilm:
    width = pixels.shape[1]
    return np.ascontiguousarray(pixels[:, ::-1]), Box(width - box.x1, box.y0, width - box.x0, box.y1)


def test_a_left_knee_is_graded_as_the_right_knee_that_it_mirrors(film: OnFilm, model: Model) -> None:
    """The same knee on the other side gets the same probabilities, and the mirror image of the map."""
    right = answer(*film, R, model)
    left = answer(*mirrored(*film), L, model)
    np.testing.assert_allclose(left.probabilities, right.probabilities, atol=2e-3)
    np.testing.assert_allclose(left.maps, right.maps[:, :, ::-1], atol=0.05 * np.abs(right.maps).max())


def test_a_knee_of_unknown_side_is_seen_from_both(film: OnFilm, model: Model) -> None:
    """Its logits and maps are the mean of a right and a left knee's: no side is guessed in silence."""
    both = answer(*film, U, model)
    right, left = answer(*film, R, model), answer(*film, L, model)
    np.testing.assert_allclose(both.logits, (right.logits + left.logits) / 2, atol=1e-4)
    np.testing.assert_allclose(both.maps, (right.maps + left.maps) / 2, atol=1e-3)


@pytest.fixture(scope="module")
def answering() -> Model:
    return load(DEFAULT)


def test_the_grade_does_not_depend_on_the_side_that_is_stated(film: OnFilm, answering: Model) -> None:
    """The shipped model sees each knee from both sides: stated right, left or not at all, it is the same answer."""
    right = answer(*film, R, answering)
    for side in (L, U):
        np.testing.assert_allclose(answer(*film, side, answering).logits, right.logits, atol=1e-4)
    behind = answer(*mirrored(*film), R, answering)
    np.testing.assert_allclose(behind.probabilities, right.probabilities, atol=2e-3)
    np.testing.assert_allclose(behind.maps, right.maps[:, :, ::-1], atol=0.05 * np.abs(right.maps).max())
    assert right.certainty.spread is not None


@pytest.mark.parametrize("side", [R, L, U])
def test_the_maps_add_up_to_the_logits(film: OnFilm, model: Model, side: Laterality) -> None:
    """The mean of a grade's map and its bias is its logit, so shares of the map are shares of the decision."""
    bias = load_file(WEIGHTS / model.card.weights[0].name)["head.bias"]
    given = answer(*film, side, model)
    np.testing.assert_allclose(given.maps.mean((1, 2)) + bias, given.logits, atol=1e-4)


def test_probabilities_sum_to_one_and_name_the_grade(film: OnFilm, model: Model) -> None:
    """The grade is the most probable one."""
    given = answer(*film, R, model)
    assert given.probabilities.sum() == pytest.approx(1, abs=1e-5)
    assert given.grade == given.probabilities.argmax()


def test_two_knees_are_graded_as_each_alone(film: OnFilm, model: Model) -> None:
    """One forward pass for all knees of a film changes none of them."""
    pixels, box = film
    shifted = Box(box.x0 + 9, box.y0 + 5, box.x1 + 9, box.y1 + 5)
    together = grade(pixels, [knee(box, R), knee(shifted, U)], model)
    np.testing.assert_allclose(together[0].logits, answer(pixels, box, R, model).logits, atol=1e-4)
    np.testing.assert_allclose(together[1].logits, answer(pixels, shifted, U, model).logits, atol=1e-4)
    assert grade(pixels, [], model) == []


def test_softmax_bears_large_logits() -> None:
    """It overflows for nothing that a network can say."""
    np.testing.assert_allclose(softmax(np.array([[1000.0, 0, -1000, 0, 0]], np.float32)), [[1, 0, 0, 0, 0]])
