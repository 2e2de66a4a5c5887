"""How many millimetres a pixel is, and what that figure is worth (PS3.3 10.7)."""

from dataclasses import dataclass
from enum import StrEnum

from pydicom import Dataset

from workers.read.header import numbers, text

LEAST_MM, MOST_MM = 0.01, 2.0
"""No detector and no digitised film lies outside; such a value is a default or a mistake."""

SAME = 1e-3
"""Two spacings that differ by less than this part of them are equal: they are written with few digits."""


class SpacingKind(StrEnum):
    """What a length on the image means."""

    CALIBRATED = "calibrated"
    """In the patient: corrected for magnification, or measured against an object of known size."""
    DETECTOR = "detector"
    """At the detector or on the film; the patient is smaller by an unknown magnification."""
    NONE = "none"
    """Nobody knows; no millimetres may be said."""


@dataclass(frozen=True)
class Spacing:
    """Distance between rows and between columns. Without a kind there are no millimetres either."""

    row_mm: float | None
    column_mm: float | None
    kind: SpacingKind


UNKNOWN = Spacing(None, None, SpacingKind.NONE)

Pair = tuple[float, float]


def spacing_of(header: Dataset) -> Spacing:
    """
    The spacing that the header vouches for, and its kind.

    Pixel Spacing alone is of unknown origin (PS3.3 10.7.1.3), so it counts only where Pixel Spacing
    Calibration Type says how it was calibrated. Beside the detector's (or the scanned film's) spacing it is
    calibrated if it is smaller: magnification only enlarges. Equal ones say that nothing was corrected.
    """
    at_detector = _pair(header, "ImagerPixelSpacing") or _pair(header, "NominalScannedPixelSpacing")
    claimed = _pair(header, "PixelSpacing")
    if claimed and text(header, "PixelSpacingCalibrationType").upper() in ("GEOMETRY", "FIDUCIAL"):
        return Spacing(*claimed, SpacingKind.CALIBRATED)
    if at_detector is None:
        return UNKNOWN
    if claimed is None or _equal(claimed, at_detector):
        return _demagnified(header, at_detector)
    if all(ours < detectors for ours, detectors in zip(claimed, at_detector, strict=True)):
        return Spacing(*claimed, SpacingKind.CALIBRATED)
    return UNKNOWN


def _demagnified(header: Dataset, at_detector: Pair) -> Spacing:
    """Divided by the magnification if the header states one (0018,1114); one is never assumed."""
    stated = numbers(header, "EstimatedRadiographicMagnificationFactor")
    if stated and 1.0 < stated[0] <= 2.0:
        return Spacing(at_detector[0] / stated[0], at_detector[1] / stated[0], SpacingKind.CALIBRATED)
    return Spacing(*at_detector, SpacingKind.DETECTOR)


def _pair(header: Dataset, keyword: str) -> Pair | None:
    read = numbers(header, keyword)
    if len(read) != 2 or not all(LEAST_MM <= each <= MOST_MM for each in read):
        return None
    return read[0], read[1]


def _equal(one: Pair, other: Pair) -> bool:
    return all(abs(a - b) <= SAME * max(a, b) for a, b in zip(one, other, strict=True))
