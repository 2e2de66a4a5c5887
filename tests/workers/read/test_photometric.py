"""Each step of the grey level chain does what PS3.3 C.11 says, to the grey level."""

from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset

from workers.read.photometric import _window, apply_table, grey_scale_of, is_inverted, is_visible, percentile_window
from workers.read.stored_values import Layout, StoredFrame


def stored(bits: int, *, signed: bool = False, photometric: str = "MONOCHROME2") -> StoredFrame:
    """A frame that has each possible value once."""
    words = np.arange(1 << bits, dtype=np.uint16).reshape(1, -1)
    layout = Layout(1, 1 << bits, 8 if bits == 8 else 16, bits, bits - 1, signed, 1, 0, photometric)
    return StoredFrame(words, layout, colour=False)


@pytest.mark.parametrize(
    ("function", "centre", "width", "points"),
    [
        # The examples of PS3.3 C.11.2.1.2.1 and C.11.2.1.3.2.
        ("LINEAR", 2048, 4096, {0: 0, 4095: 1, 2047.5: 0.5}),
        ("LINEAR", 2048, 1, {2047: 0, 2048: 1}),
        ("LINEAR", 0, 100, {-50: 0, 49: 1, -0.5: 0.5}),
        ("LINEAR", 0, 1, {-1: 0, 0: 1}),
        ("", 10, 5, {8: 0.125, 7.5: 0, 9.5: 0.5, 11.5: 1}),
        ("LINEAR_EXACT", 2048, 4096, {0: 0, 4096: 1, 2048: 0.5}),
        ("LINEAR_EXACT", 0, 100, {-50: 0, 50: 1}),
        ("LINEAR_EXACT", 0, 0.5, {-0.25: 0, 0.125: 0.75, 0.25: 1}),
        ("SIGMOID", 100, 40, {100: 0.5, 120: 1 / (1 + np.exp(-2)), 1e9: 1, -1e9: 0}),
    ],
)
def test_a_window_is_that_of_the_standard(
    function: str, centre: float, width: float, points: dict[float, float]
) -> None:
    """Its ends and its middle lie where the standard's examples have them."""
    table = _window(np.array(list(points), np.float32), centre, width, function)
    assert table is not None
    assert table == pytest.approx(np.array(list(points.values())), abs=1e-5)


@pytest.mark.parametrize(("function", "width"), [("LINEAR", 0.5), ("", 0), ("LINEAR_EXACT", 0), ("SIGMOID", -1)])
def test_a_window_without_width_is_none(function: str, width: float) -> None:
    """LINEAR needs a width of at least 1, the others one above 0 (PS3.3 C.11.2.1.2)."""
    assert _window(np.zeros(3, np.float32), 0, width, function) is None


@pytest.mark.parametrize(
    ("photometric", "shape", "inverted", "contradicts"),
    [
        ("MONOCHROME1", "", True, False),
        ("MONOCHROME2", "", False, False),
        ("MONOCHROME1", "INVERSE", True, False),
        ("MONOCHROME2", "IDENTITY", False, False),
        ("MONOCHROME2", "INVERSE", True, True),
        ("MONOCHROME1", "IDENTITY", False, True),
        ("MONOCHROME1", "LIN OD", True, False),
    ],
)
def test_polarity_is_turned_once(photometric: str, shape: str, inverted: bool, contradicts: bool) -> None:
    """MONOCHROME1 and INVERSE together turn it once, not twice; where the two disagree, that is said."""
    header, notes = Dataset(), list[str]()
    header.PhotometricInterpretation, header.PresentationLUTShape = photometric, shape
    assert is_inverted(header, notes) is inverted
    assert any("contradicts" in note for note in notes) == contradicts


@pytest.mark.parametrize(
    ("field", "visible"),
    [
        (np.linspace(0, 1, 1000), True),
        (np.linspace(0.4, 0.6, 1000), True),
        (np.linspace(0.48, 0.52, 1000), False),
        (np.r_[np.zeros(750), np.linspace(0, 1, 250)], True),
        (np.r_[np.zeros(900), np.linspace(0, 1, 100)], False),
        (np.r_[np.ones(400), np.linspace(0, 1, 600)], True),
        (np.r_[np.ones(600), np.linspace(0, 1, 400)], False),
        (np.array([]), False),
    ],
)
def test_a_film_is_visible_or_not(field: Any, visible: bool) -> None:
    """Much air may be black; bone must not be white, nor everything one grey."""
    assert is_visible(field.astype(np.float32)) is visible


def test_a_window_is_chosen_from_the_field_alone() -> None:
    """Values that lie outside the exposed field do not move the window."""
    values = np.arange(4096, dtype=np.float32)
    table = percentile_window(values, np.arange(1000, 2001))
    assert (table[1000], table[2000]) == (0, 1)
    assert table[1500] == pytest.approx(0.5, abs=0.01)


def test_a_table_is_applied_to_each_pixel() -> None:
    """Each stored value, of 8 bits or more, signed or not, gets its own grey level."""
    for bits in (8, 10, 16):
        frame = stored(bits, signed=True)
        table = np.linspace(0, 1, 1 << bits, dtype=np.float32)
        assert np.array_equal(apply_table(frame, table), table.reshape(1, -1))


@pytest.mark.parametrize(
    ("attributes", "note"),
    [
        ({}, "no window in the header"),
        ({"WindowCenter": "9999999", "WindowWidth": "1"}, "was replaced"),
        ({"WindowCenter": "5", "WindowWidth": "0"}, "was replaced"),
        ({"WindowCenter": ["9999999", "2048"], "WindowWidth": ["1", "4096"]}, "another window"),
        ({"RescaleSlope": "0", "WindowCenter": "2048", "WindowWidth": "4096"}, "impossible"),
    ],
)
def test_a_change_of_the_grey_scale_is_noted(attributes: dict[str, str], note: str) -> None:
    """A reader can tell how the film came to look as it does."""
    header = Dataset()
    header.PhotometricInterpretation = "MONOCHROME2"
    for keyword, value in attributes.items():
        setattr(header, keyword, value)
    assert any(note in each for each in grey_scale_of(stored(12), header, np.arange(4096)).notes)


def test_a_film_that_needs_no_change_has_no_notes() -> None:
    """Nothing is said where nothing was done."""
    header = Dataset()
    header.PhotometricInterpretation, header.WindowCenter, header.WindowWidth = "MONOCHROME2", "2048", "4096"
    assert grey_scale_of(stored(12), header, np.arange(4096)).notes == ()
