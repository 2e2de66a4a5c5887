"""
Whether a knee that was found may be graded: a function for each question, which answers with a reason or None.

What the header and the light decide is asked here. Everything is asked of each knee for itself, so that one that
must not be graded does not silence the other.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Literal

import cv2
import numpy as np
import numpy.typing as npt
from pydicom import Dataset

from node.errors import Ungradable
from node.evidence import Agreement
from node.reasons import Flag, Reason, flag, reason
from node.settings import Work
from workers.detection.joints import Knee, knee_sized
from workers.preprocessing import Box, Grey, cut
from workers.read.header import text

if TYPE_CHECKING:
    from workers.read import Film

LEAST_PIXELS = 64
"""Least width of a joint's box; a joint space of 4 mm is 2.5 pixels then."""

MOST_CLIPPED = 0.6
"""Part of the joint that may be black, or white. Of 826 knees of val none has more than 0.05."""
LEAST_SPREAD = 0.03
"""Between the 2nd and the 98th percentile of the joint: 8 of 256 grey levels. The flattest knee of val has 0.067."""
END = 0.004
"""A grey level of 8 bits: closer to black or white than this is clipped."""
JOINT = (0.1, 0.25, 0.9, 0.75)
"""Left, top, right and bottom of the joint in its box: the bones' ends and the space between, without air."""

RIMS = (0.06, 0.36, 0.94, 0.72)
"""Left, top, right and bottom of what must be seen of a joint laid upright: the bones' ends with their rims."""
MOST_LOST = 0.02
"""Part of it that may lie beyond the film or a shutter: the width of a rim at one side is 0.05. Of 826 knees of val
four have more."""
LOST_GRID = 128
"""Pixels of the side of the square in which that is counted."""
BEYOND = 2
"""In the film's field, of 0 and 1, what is no part of the film."""
PLAIN = 0.3
"""Of the grain of the joint: what has less is a shutter or a border, also if something is written on it."""

OLDEST = 120
"""Years; who is said to be older has no age."""

KNEE_PARTS = frozenset(
    ("", "KNEE", "KNEES", "LEG", "LOWLEG", "LOWER LEG", "UPRLEG", "THIGH", "EXTREMITY", "LOWER LIMB")
)
KNEE_PARTS |= frozenset(
    ("JOINT", "LEXTREMITY", "LOWEREXTREMITY", "LOWER EXTREMITY", "PATELLA", "FEMUR", "TIBIA", "KNIE")
)
"""Values of Body Part Examined (PS3.16 annex L, and what is written instead) that a knee may have."""


@dataclass(frozen=True)
class Rules:
    """What the settings say of who is graded."""

    youngest: int = 18
    side_conflict: Literal["flag", "refuse"] = "flag"
    red_flag: Literal["show", "withhold"] = "show"

    @classmethod
    def of(cls, work: Work) -> "Rules":
        return cls(work.youngest, work.side_conflict, work.red_flag)


def judge(film: "Film", knee: Knee, rules: Rules) -> Reason | None:
    """Why the knee must not be graded, the first reason that is found; None if it may."""
    return (
        knee.reason
        or child(film.header, rules.youngest)
        or conflicting_side(knee, rules)
        or wrong_size(knee)
        or too_small(knee.box)
        or cut_off(film, knee)
        or exposure(film.pixels, knee.box)
    )


def child(header: Dataset, youngest: int) -> Reason | None:
    """CHILD if the header tells an age below `youngest`; an unknown age refuses nothing."""
    age = age_of(header)
    return reason("CHILD") if age is not None and age < youngest else None


def age_of(header: Dataset) -> float | None:
    """
    The patient's age in years: Patient's Age, else what lies between birth and acquisition or study.

    None where neither tells one that a person can have.
    """
    stated = re.fullmatch(r"(\d{1,3})([DWMY])", text(header, "PatientAge").upper())
    if stated:
        age = int(stated[1]) / {"D": 365.25, "W": 52.18, "M": 12, "Y": 1}[stated[2]]
        # "000Y" is what consoles write that know no age (a newborn is "001D").
        if age <= OLDEST and int(stated[1]) > 0:
            return age
    born = _date(text(header, "PatientBirthDate"))
    when = _date(text(header, "AcquisitionDate")) or _date(text(header, "StudyDate"))
    if born is None or when is None or not 0 <= when.year - born.year <= OLDEST or born > when:
        return None
    return when.year - born.year - ((when.month, when.day) < (born.month, born.day))


def conflicting_side(knee: Knee, rules: Rules) -> Reason | None:
    """CONFLICTING_SIDE if what tells the side contradicts itself and the settings refuse such a knee."""
    conflict = knee.agreement is Agreement.CONFLICT and rules.side_conflict == "refuse"
    return reason("CONFLICTING_SIDE") if conflict else None


def wrong_size(knee: Knee) -> Reason | None:
    """WRONG_SIZE if the header vouches for millimetres by which no adult's knee fills the box."""
    return None if knee_sized(knee.field_of_view_mm) else reason("WRONG_SIZE")


def too_small(box: Box) -> Reason | None:
    """JOINT_TOO_SMALL if the box has too few pixels to see a joint space in."""
    return reason("JOINT_TOO_SMALL") if min(box.width, box.height) < LEAST_PIXELS else None


def cut_off(film: "Film", knee: Knee) -> Reason | None:
    """
    JOINT_CUT_OFF if a rim of the joint lies beyond the film's edge or behind a shutter.

    An osteophyte may grow there that nobody can see, and a grader would take what it cannot see for healthy.
    """
    left, top, right, bottom = (round(edge * LOST_GRID) for edge in RIMS)
    field, size = film.field.view(np.uint8), (LOST_GRID, LOST_GRID)
    laid = cv2.warpAffine(field, knee.pose.onto(LOST_GRID), size, flags=cv2.INTER_NEAREST, borderValue=BEYOND)
    lost, hidden = laid == BEYOND, (laid != BEYOND) & ~_filled(laid == 1)
    # Edges of a collimator in the header are wrong where somebody cropped the image: what is seen is not hidden.
    if hidden.any() and not _shows(cut(film.pixels, knee.pose, LOST_GRID), hidden):
        lost |= hidden
    return reason("JOINT_CUT_OFF") if lost[top:bottom, left:right].mean() > MOST_LOST else None


def _shows(picture: Grey, hidden: npt.NDArray[np.bool_]) -> bool:
    """Whether there is a picture, and nothing plain, where it should be hidden; at its edge both are mixed."""
    within = cv2.erode(hidden.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    if hidden.all() or not within.any():
        return False
    grain = np.abs(cv2.Laplacian(picture, cv2.CV_32F))
    return bool(np.median(grain[within]) > PLAIN * np.median(grain[~hidden]))


def _filled(field: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """The least convex mask around an exposed field: air that was stored as padding is no shutter."""
    places = cv2.findNonZero(field.astype(np.uint8))
    if places is None:
        return field
    return cv2.fillConvexPoly(np.zeros(field.shape, np.uint8), cv2.convexHull(places), 1) > 0


def exposure(pixels: Grey, box: Box) -> Reason | None:
    """
    TOO_DARK, TOO_BRIGHT or TOO_FLAT if nobody could read the joint as the film shows it.

    `pixels` (rows, columns) are the film with its window, 0 to 1: what the grader sees is what counts. A joint that
    a window has clipped is as lost to it as one that the detector has.
    """
    left, top, right, bottom = JOINT
    rows = slice(*(max(0, round(box.y0 + edge * box.height)) for edge in (top, bottom)))
    columns = slice(*(max(0, round(box.x0 + edge * box.width)) for edge in (left, right)))
    joint = pixels[rows, columns]
    if not joint.size:
        return None
    if (joint > 1 - END).mean() > MOST_CLIPPED:
        return reason("TOO_BRIGHT")
    if (joint < END).mean() > MOST_CLIPPED:
        return reason("TOO_DARK")
    # Noise is no contrast: a joint's features are wider than a few pixels.
    smooth = cv2.blur(joint, (1 + joint.shape[1] // 60, 1 + joint.shape[0] // 60))
    low, high = np.percentile(smooth, (2, 98))
    return reason("TOO_FLAT") if high - low < LEAST_SPREAD else None


def flags_of(film: "Film", *, turned: bool) -> tuple[Flag, ...]:
    """What a reader should know of every knee on a film."""
    unknown = (flag("AGE_UNKNOWN"),) if age_of(film.header) is None else ()
    return (*unknown, flag("POLARITY")) if turned else unknown


def hints(header: Dataset) -> Sequence[str]:
    """Notes on what the header says otherwise: it is wrong in one of seven films, so it refuses nothing."""
    part = _part_beside_knees(header)
    return (f"The header calls the body part {part}; what the image shows was believed.",) if part else ()


def other_part(refusal: Ungradable, header: Dataset) -> Ungradable:
    """OTHER_PART in place of NOT_A_KNEE where header and image agree; any other refusal as it is."""
    agreed = refusal.reason.code == "NOT_A_KNEE" and _part_beside_knees(header)
    return Ungradable(reason("OTHER_PART"), refusal.detail) if agreed else refusal


def _part_beside_knees(header: Dataset) -> str:
    """What the header calls the body part if it is none that a knee may have; "" if it is, or is no word."""
    part = text(header, "BodyPartExamined").upper()
    return "" if part in KNEE_PARTS or not re.fullmatch(r"[A-Z ]{1,16}", part) else part


def _date(written: str) -> date | None:
    try:
        return date(int(written[:4]), int(written[4:6]), int(written[6:])) if re.fullmatch(r"\d{8}", written) else None
    except ValueError:
        return None
