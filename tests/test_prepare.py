"""What a network sees of a knee: the same in training and service, whatever the exposure."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from workers.prepare import Box, crop, prepare, stretch


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


@pytest.mark.parametrize(("gain", "offset"), [(0.25, 0.0), (0.5, 0.4), (0.9, 0.05)])
def test_exposure_does_not_change_what_is_seen(gain: float, offset: float) -> None:
    """A film that is flatter or brighter throughout is prepared to the same input."""
    random = np.random.default_rng(3)
    film = np.clip(ramp() + random.normal(0, 0.05, (64, 64)), 0, 1).astype(np.float32)
    difference = np.abs(prepare(film, 64) - prepare((film * gain + offset).astype(np.float32), 64))
    assert np.median(difference) < 0.02


@settings(max_examples=40, deadline=None)
@given(arrays.arrays(np.float32, (40, 33), elements=st.floats(0, 1, width=32)))
def test_any_image_gives_a_finite_input(image: np.ndarray) -> None:
    """Whatever the pixels are, one grey included, the input has its shape and no NaN or infinity."""
    prepared = prepare(image, 32)
    assert prepared.shape == (3, 32, 32)
    assert prepared.dtype == np.float32
    assert np.isfinite(prepared).all()
    assert np.abs(prepared).max() <= 2.0001


def test_stretch_is_not_fooled_by_a_marker() -> None:
    """A few white pixels of lead do not press the rest of the film together."""
    film = ramp() * 0.5
    film[:3, :3] = 1
    assert stretch(film)[32, 60] > 0.85
