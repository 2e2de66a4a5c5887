"""Millimetres are said only where the header vouches for them, and with what they are worth."""

from typing import Any

import pytest
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from workers.read.spacing import Spacing, SpacingKind, spacing_of

NOTHING = (None, None, "none")

CASES: list[tuple[str, dict[str, Any], tuple[float | None, float | None, str]]] = [
    ("nothing", {}, NOTHING),
    ("detector alone", {"ImagerPixelSpacing": [0.2, 0.2]}, (0.2, 0.2, "detector")),
    ("scanned film", {"NominalScannedPixelSpacing": [0.17, 0.17]}, (0.17, 0.17, "detector")),
    ("pixel spacing alone", {"PixelSpacing": [0.2, 0.2]}, NOTHING),
    ("both equal", {"PixelSpacing": [0.2, 0.2], "ImagerPixelSpacing": [0.2, 0.2]}, (0.2, 0.2, "detector")),
    (
        "equal but for digits",
        {"PixelSpacing": [0.14, 0.14], "ImagerPixelSpacing": [0.14001, 0.14]},
        (0.14001, 0.14, "detector"),
    ),
    ("corrected", {"PixelSpacing": [0.18, 0.18], "ImagerPixelSpacing": [0.2, 0.2]}, (0.18, 0.18, "calibrated")),
    ("larger than at the detector", {"PixelSpacing": [0.3, 0.3], "ImagerPixelSpacing": [0.2, 0.2]}, NOTHING),
    (
        "said to be calibrated",
        {"PixelSpacing": [0.3, 0.3], "PixelSpacingCalibrationType": "FIDUCIAL"},
        (0.3, 0.3, "calibrated"),
    ),
    (
        "said to be calibrated, and equal",
        {"PixelSpacing": [0.2, 0.2], "ImagerPixelSpacing": [0.2, 0.2], "PixelSpacingCalibrationType": "GEOMETRY"},
        (0.2, 0.2, "calibrated"),
    ),
    ("calibrated by nobody knows what", {"PixelSpacing": [0.2, 0.2], "PixelSpacingCalibrationType": "X"}, NOTHING),
    (
        "magnification told",
        {"ImagerPixelSpacing": [0.22, 0.22], "EstimatedRadiographicMagnificationFactor": 1.1},
        (0.2, 0.2, "calibrated"),
    ),
    (
        "impossible magnification",
        {"ImagerPixelSpacing": [0.2, 0.2], "EstimatedRadiographicMagnificationFactor": 0.5},
        (0.2, 0.2, "detector"),
    ),
    ("anisotropic", {"ImagerPixelSpacing": [0.2, 0.1]}, (0.2, 0.1, "detector")),
    ("zero", {"ImagerPixelSpacing": [0, 0]}, NOTHING),
    ("negative", {"ImagerPixelSpacing": [-0.2, -0.2]}, NOTHING),
    ("microscopic", {"ImagerPixelSpacing": [0.009, 0.009]}, NOTHING),
    ("huge", {"ImagerPixelSpacing": [2.1, 2.1]}, NOTHING),
    ("a single value", {"ImagerPixelSpacing": [0.2]}, NOTHING),
    ("three values", {"ImagerPixelSpacing": [0.2, 0.2, 0.2]}, NOTHING),
    ("no numbers", {"ImagerPixelSpacing": b"a\\b "}, NOTHING),
    ("infinite", {"ImagerPixelSpacing": b"inf\\inf "}, NOTHING),
    ("a comma", {"ImagerPixelSpacing": b"0,2\\0,2 "}, NOTHING),
    (
        "absurd claim beside a sane detector",
        {"PixelSpacing": [50, 50], "ImagerPixelSpacing": [0.2, 0.2]},
        (0.2, 0.2, "detector"),
    ),
]


@pytest.mark.parametrize(("attributes", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_spacing_has_the_kind_that_the_header_vouches_for(
    attributes: dict[str, Any], expected: tuple[float | None, float | None, str]
) -> None:
    """PS3.3 10.7: equal is at the detector, different is corrected, alone is unknown, absurd is nothing."""
    header = Dataset()
    for keyword, value in attributes.items():
        if isinstance(value, bytes):
            header[keyword] = RawDataElement(Tag(keyword), "DS", len(value), value, 0, False, True)
        else:
            setattr(header, keyword, value)
    row, column, kind = expected
    got = spacing_of(header)
    assert got.kind is SpacingKind(kind)
    assert (
        (got.row_mm, got.column_mm) == (pytest.approx(row), pytest.approx(column))
        if row
        else got == Spacing(None, None, got.kind)
    )
