"""Pixel spacing in millimetres, and how reliable it is (PS3.3 10.7)."""

from dataclasses import dataclass
from enum import StrEnum

from pydicom import Dataset

from workers.read.header import numbers, text

MIN_MM, MAX_MM = 0.01, 2.0
"""Range of the spacings of detectors and digitised films; a value outside is a default or an error."""

RELATIVE_TOLERANCE = 1e-3
"""Two spacings that differ by less than this part are equal: they are written with few digits."""


class SpacingKind(StrEnum):
    """The plane in which a length on the image is measured."""

    CALIBRATED = "calibrated"
    """In the patient: corrected for magnification, or measured against an object of known size."""
    DETECTOR = "detector"
    """At the detector or on the film; the patient is smaller by an unknown magnification."""
    NONE = "none"
    """Unknown; no millimetres may be reported."""


@dataclass(frozen=True)
class Spacing:
    """Distance between rows and between columns; None where `kind` is NONE."""

    row_mm: float | None
    column_mm: float | None
    kind: SpacingKind


UNKNOWN = Spacing(None, None, SpacingKind.NONE)

Pair = tuple[float, float]


def spacing_of(header: Dataset) -> Spacing:
    """
    The spacing that the header supports, and its kind.

    Pixel Spacing alone is of unknown origin (PS3.3 10.7.1.3), so it counts only with a Pixel Spacing Calibration Type.
    Beside the detector's (or the scanned film's) spacing it is calibrated if it is smaller: magnification only
    enlarges. Equal ones mean that nothing was corrected.
    """
    at_detector = _pair(header, "ImagerPixelSpacing") or _pair(header, "NominalScannedPixelSpacing")
    pixel_spacing = _pair(header, "PixelSpacing")
    if pixel_spacing and text(header, "PixelSpacingCalibrationType").upper() in ("GEOMETRY", "FIDUCIAL"):
        return Spacing(*pixel_spacing, SpacingKind.CALIBRATED)
    if at_detector is None:
        return UNKNOWN
    if pixel_spacing is None or _equal(pixel_spacing, at_detector):
        return _demagnified(header, at_detector)
    if all(calibrated < detector for calibrated, detector in zip(pixel_spacing, at_detector, strict=True)):
        return Spacing(*pixel_spacing, SpacingKind.CALIBRATED)
    return UNKNOWN


def _demagnified(header: Dataset, at_detector: Pair) -> Spacing:
    """Divided by the magnification if the header states one (0018,1114); one is never assumed."""
    magnification = numbers(header, "EstimatedRadiographicMagnificationFactor")
    if magnification and 1.0 < magnification[0] <= 2.0:
        return Spacing(at_detector[0] / magnification[0], at_detector[1] / magnification[0], SpacingKind.CALIBRATED)
    return Spacing(*at_detector, SpacingKind.DETECTOR)


def _pair(header: Dataset, keyword: str) -> Pair | None:
    values = numbers(header, keyword)
    if len(values) != 2 or not all(MIN_MM <= value <= MAX_MM for value in values):
        return None
    return values[0], values[1]


def _equal(one: Pair, other: Pair) -> bool:
    return all(abs(a - b) <= RELATIVE_TOLERANCE * max(a, b) for a, b in zip(one, other, strict=True))
