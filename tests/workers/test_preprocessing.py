"""What a network sees of a knee: the same in training and service, whatever the exposure."""

import cv2
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from workers.preprocessing import Box, Pose, crop, cut, grader_input, resized, stretch


def ramp(rows: int = 64, columns: int = 64) -> np.ndarray:
    """Brightness rises to the right and a little downwards."""
    y, x = np.mgrid[0:rows, 0:columns]
    return ((x + 0.3 * y) / (columns + 0.3 * rows)).astype(np.float32)


def test_a_crop_of_the_whole_image_is_the_image() -> None:
    """The box of all pixels changes nothing."""
    np.testing.assert_allclose(crop(ramp(), Box(0, 0, 64, 64), 64), ramp(), atol=1e-6)


@pytest.mark.parametrize("size", [16, 20, 32, 128])
def test_a_resized_crop_lies_over_the_same_place(size: int) -> None:
    """A pixel of the crop shows the grey of the place on the film that it stands for."""
    image, box = ramp(200, 200), Box(40, 60, 120, 140)
    cut = crop(image, box, size)
    middle = (np.arange(size) + 0.5) * 80 / size - 0.5
    wanted = ((40 + middle)[None, :] + 0.3 * (60 + middle)[:, None]) / 260
    inner = slice(2, -2)
    np.testing.assert_allclose(cut[inner, inner], wanted[inner, inner], atol=2e-3)


def test_beyond_the_film_its_last_pixels_continue() -> None:
    """A box that reaches beyond the film holds no black bar, which a network could take for a sign."""
    cut = crop(np.full((50, 50), 0.7, np.float32), Box(-20, -20, 70, 70), 32)
    np.testing.assert_allclose(cut, 0.7, atol=1e-6)


@example(rows=40, columns=41, middle=(0.0, 0.0), side=328.0, high=1.0)  # a cell that would be larger than the film
@settings(max_examples=200, deadline=None)
@given(
    rows=st.integers(40, 400),
    columns=st.integers(40, 400),
    middle=st.tuples(st.floats(-0.4, 1.4), st.floats(-0.4, 1.4)),
    side=st.floats(20, 500),
    high=st.floats(0.6, 1),
)
def test_a_part_is_averaged_as_the_whole_film_is(
    rows: int, columns: int, middle: tuple[float, float], side: float, high: float
) -> None:
    """Only what a box needs is averaged before it is shrunk; the crop is that of the whole film wherever it lies."""
    image = np.random.default_rng(rows * columns).random((rows, columns), np.float32)
    x, y = middle[0] * columns, middle[1] * rows
    box, size = Box(x - side / 2, y - side * high / 2, x + side / 2, y + side * high / 2), 8
    cell = min(int(1 / min(size / box.width, size / box.height)), rows, columns)
    small = cv2.resize(image, None, fx=1 / cell, fy=1 / cell, interpolation=cv2.INTER_AREA) if cell > 1 else image
    np.testing.assert_allclose(crop(image, box, size), crop(small, box.scaled(1 / cell), size), atol=1e-4)


@settings(max_examples=100, deadline=None)
@given(
    middle=st.tuples(st.floats(0.4, 0.6), st.floats(0.4, 0.6)),
    side=st.floats(60, 250),
    turn=st.floats(-30, 30),
    size=st.sampled_from([24, 64, 300]),
)
def test_a_turned_joint_is_cut_out_upright(middle: tuple[float, float], side: float, turn: float, size: int) -> None:
    """A pixel of the cut shows the grey of the place that it stands for, at any size and turn; corners are corners."""
    image = ramp(500, 400)
    pose = Pose((middle[0] * 400, middle[1] * 500), side, turn)
    steps = (np.arange(size) + 0.5) / size - 0.5
    across, down = np.meshgrid(steps, steps)
    places = np.stack([across, down], -1) * side @ pose.axes + np.array(pose.middle)
    wanted = ((places[..., 0] - 0.5) + 0.3 * (places[..., 1] - 0.5)) / (400 + 0.3 * 500)
    # Beyond the outermost pixels' middles the last pixels continue; the ramp does not.
    x, y = places[..., 0], places[..., 1]
    inside = (x > 1) & (x < 399) & (y > 1) & (y < 499)
    np.testing.assert_allclose(cut(image, pose, size)[inside], wanted[inside], atol=4e-3)
    np.testing.assert_allclose(pose.within(places.reshape(-1, 2)), np.stack([across, down], -1).reshape(-1, 2) + 0.5)


@settings(max_examples=50, deadline=None)
@given(middle=st.tuples(st.floats(-0.2, 1.2), st.floats(-0.2, 1.2)), side=st.floats(20, 500))
def test_an_upright_joint_is_cut_out_as_its_box(middle: tuple[float, float], side: float) -> None:
    """Nothing turned is nothing changed."""
    image = np.random.default_rng(7).random((210, 190), np.float32)
    box = Box.about((middle[0] * 190, middle[1] * 210), side)
    np.testing.assert_allclose(cut(image, Pose.of(box), 48), crop(image, box, 48), atol=1e-5)


@pytest.mark.parametrize("shape", [(1, 900), (4, 4000), (700, 2)])
def test_a_strip_is_seen_too(shape: tuple[int, int]) -> None:
    """A film thinner than what is averaged to one pixel is no fault: it is seen, and can be refused."""
    strip = np.full(shape, 0.4, np.float32)
    np.testing.assert_allclose(crop(strip, Box(0, 0, max(shape), max(shape)), 8), 0.4, atol=1e-6)
    np.testing.assert_allclose(cut(strip, Pose((0, 0), max(shape), 20), 8), 0.4, atol=1e-6)
    np.testing.assert_allclose(resized(strip, 8 / max(shape)), 0.4, atol=1e-6)


@pytest.mark.parametrize("by", [0.07, 0.128, 0.33, 0.5, 0.74, 1.0, 1.6])
def test_a_resized_film_keeps_its_places_and_its_greys(by: float) -> None:
    """Halving first moves nothing: each pixel has the mean grey of what it stands for."""
    image = ramp(250, 205)
    small = resized(image, by)
    assert small.shape == (max(1, round(250 * by)), max(1, round(205 * by)))
    rows, columns = ((np.arange(length) + 0.5) / by - 0.5 for length in small.shape)
    wanted = (columns[None, :] + 0.3 * rows[:, None]) / (205 + 0.3 * 250)
    np.testing.assert_allclose(small[1:-1, 1:-1], wanted[1:-1, 1:-1], atol=0.02)


@pytest.mark.parametrize(("gain", "offset"), [(0.25, 0.0), (0.5, 0.4), (0.9, 0.05)])
def test_exposure_does_not_change_what_is_seen(gain: float, offset: float) -> None:
    """A film that is flatter or brighter throughout is prepared to the same input."""
    random = np.random.default_rng(3)
    film = np.clip(ramp() + random.normal(0, 0.05, (64, 64)), 0, 1).astype(np.float32)
    difference = np.abs(grader_input(film, 64) - grader_input((film * gain + offset).astype(np.float32), 64))
    assert np.median(difference) < 0.02


@settings(max_examples=40, deadline=None)
@given(arrays.arrays(np.float32, (40, 33), elements=st.floats(0, 1, width=32)))
def test_any_image_gives_a_finite_input(image: np.ndarray) -> None:
    """Whatever the pixels are, one grey included, the input has its shape and no NaN or infinity."""
    prepared = grader_input(image, 32)
    assert prepared.shape == (3, 32, 32)
    assert prepared.dtype == np.float32
    assert np.isfinite(prepared).all()
    assert np.abs(prepared).max() <= 2.0001


def test_stretch_is_not_fooled_by_a_marker() -> None:
    """A few white pixels of lead do not press the rest of the film together."""
    film = ramp() * 0.5
    film[:3, :3] = 1
    assert stretch(film)[32, 60] > 0.85
