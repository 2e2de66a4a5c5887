"""Questions before a knee is graded that need no network: age, exposure, size."""

import re
from datetime import date

import numpy as np
from pydicom import Dataset

from node.errors import Ungradable
from node.reasons import Reason, reason
from workers.prepare import Box
from workers.read import Film
from workers.read.spacing import SpacingKind

ADULT_MM = (55.0, 200.0)
"""Sides of a joint's box that an adult's knee can have, magnification included; those of training have 72 to 123."""

FEWEST_PIXELS = 56
"""Side of a joint's box below which a joint space of 4 mm is two pixels wide."""

FLATTEST = 0.02
"""Least spread of a joint's grey levels, of the film's full scale, that still holds a picture."""

SATURATED = 0.6
"""Part of a joint's pixels at the very end of the scale beyond which its bones cannot be seen."""


def must_be_grown_up(header: Dataset, youngest: int) -> None:
    """Raise Ungradable for a patient who is younger than that; an unknown age passes."""
    years = age_of(header)
    if years is not None and years < youngest:
        raise Ungradable(reason("CHILD"), f"younger than {youngest} years")


def age_of(header: Dataset) -> float | None:
    """Years by Patient's Age (0010,1010), else from birth to study; None where neither can be read."""
    told = re.fullmatch(r"\s*(\d{1,3})([DWMY])\s*", str(header.get("PatientAge") or ""))
    if told:
        return int(told[1]) / {"D": 365.25, "W": 52.18, "M": 12, "Y": 1}[told[2]]
    born, seen = _day(header, "PatientBirthDate"), _day(header, "StudyDate") or _day(header, "AcquisitionDate")
    if born is None or seen is None or seen < born:
        return None
    return (seen - born).days / 365.25


def _day(header: Dataset, keyword: str) -> date | None:
    try:
        told = str(header.get(keyword) or "").strip()
        return date(int(told[:4]), int(told[4:6]), int(told[6:8])) if len(told) == 8 else None
    except ValueError:
        return None


def side_mm(film: Film, box: Box) -> float | None:
    """How many millimetres wide the box is; None where nobody knows."""
    spacing = film.spacing
    if spacing.kind is SpacingKind.NONE or spacing.column_mm is None:
        return None
    return box.width * spacing.column_mm


def trouble_of(film: Film, box: Box) -> Reason | None:
    """Why the joint in that box cannot be graded: its size, or its exposure; None if it can."""
    if box.width < FEWEST_PIXELS:
        return reason("TOO_SMALL")
    wide = side_mm(film, box)
    if wide is not None and not ADULT_MM[0] <= wide <= ADULT_MM[1]:
        return reason("WRONG_SIZE")
    rows, columns = film.pixels.shape
    y0, y1 = int(max(0, box.y0)), int(min(rows, box.y1))
    x0, x1 = int(max(0, box.x0)), int(min(columns, box.x1))
    joint = film.pixels[y0:y1, x0:x1]
    low, high = np.percentile(joint, (2, 98))
    if (joint >= 0.995).mean() > SATURATED or (high - low < FLATTEST and low > 0.5):
        return reason("TOO_BRIGHT")
    if (joint <= 0.005).mean() > SATURATED or high - low < FLATTEST:
        return reason("TOO_DARK")
    return None
