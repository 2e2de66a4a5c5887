"""
Whether a film and a knee on it may be graded: one table of refusals, each a function that returns a reason or None.

Whether a file may be read at all is decided by its header in workers/read/admission.py. Each knee is checked by
itself, so that one that must not be graded does not prevent the other from being graded.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt

from node.evidence import Agreement, Attention
from node.reasons import Reason, reason
from node.settings import Work
from workers.detection.joints import Localisation, is_knee_sized
from workers.knee import Knee
from workers.preprocessing import Grey, cut
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
"""Left, top, right and bottom of what must be visible of a straightened joint: the bones' ends with their rims."""
MOST_LOST = 0.02
"""Part of it that may lie beyond the film or a shutter: the width of a rim at one side is 0.05. Of 826 knees of val
four have more."""
LOST_GRID = 128
"""Pixels of the side of the square in which that is counted."""
BEYOND = 2
"""In the film's field, of 0 and 1, what lies beyond the film."""
PLAIN = 0.3
"""Part of the joint's grain: what has less is a shutter or a border, also if text is written on it."""

KINDS_REFUSED = {
    "total replacement": "TOTAL_REPLACED", "part replacement": "PART_REPLACED", "metal": "METAL", "cast": "CAST",
    "lateral": "NOT_AP", "skyline": "SKYLINE", "other": "NOT_A_KNEE",
}  # fmt: skip
"""The reason for each of the refiner's JOINT_KINDS that is not to be graded."""


@dataclass(frozen=True)
class Rules:
    """The settings that decide which knees are graded and shown."""

    youngest: int = 18
    side_conflict: Literal["flag", "refuse"] = "flag"
    red_flag: Literal["show", "withhold"] = "show"

    @classmethod
    def of(cls, work: Work) -> "Rules":
        return cls(work.youngest, work.side_conflict, work.red_flag)


def film_refusal(film: Film, found: Localisation) -> Reason | None:
    """Why no knee on a film may be graded; None if there are joints on it."""
    if found.joints:
        return None
    if found.all_cut_off:
        return reason("JOINT_CUT_OFF")
    code = KINDS_REFUSED.get(found.film_kind, "NOT_A_KNEE")
    # The header alone is wrong in one of seven films; where the image agrees, both are right.
    return reason("OTHER_PART" if code == "NOT_A_KNEE" and film.other_body_part else code)


def knee_refusal(film: Film, knee: Knee, rules: Rules) -> Reason | None:
    """Why a knee must not be graded, the first reason of KNEE_REFUSALS; None if it may."""
    return next((found for refusal in KNEE_REFUSALS if (found := refusal(film, knee, rules))), None)


def grade_refusal(*, out_of_distribution: bool, attention: Attention | None, rules: Rules) -> Reason | None:
    """Why a grade that was computed must not be reported; None if it may."""
    if out_of_distribution:
        return reason("NOT_LIKE_TRAINED")
    return reason("WITHHELD") if rules.red_flag == "withhold" and attention and attention.reasons else None


def beyond_the_film(_film: Film, knee: Knee, _rules: Rules) -> Reason | None:
    """JOINT_CUT_OFF if a part of the joint's box lies beyond the film's edge."""
    return reason("JOINT_CUT_OFF") if knee.joint.cut_off else None


def no_knee(_film: Film, knee: Knee, _rules: Rules) -> Reason | None:
    """The reason for the joint's kind, if that is no knee from in front."""
    code = KINDS_REFUSED.get(knee.joint.kind)
    return reason(code) if code else None


def child(film: Film, _knee: Knee, rules: Rules) -> Reason | None:
    """CHILD if the header states an age below `rules.youngest`; an unknown age refuses nothing."""
    return reason("CHILD") if film.age is not None and film.age < rules.youngest else None


def conflicting_side(_film: Film, knee: Knee, rules: Rules) -> Reason | None:
    """CONFLICTING_SIDE if the sources of the laterality contradict each other and the settings refuse such a knee."""
    conflict = knee.side.agreement is Agreement.CONFLICT and rules.side_conflict == "refuse"
    return reason("CONFLICTING_SIDE") if conflict else None


def wrong_size(_film: Film, knee: Knee, _rules: Rules) -> Reason | None:
    """WRONG_SIZE if by the header's reliable spacing no adult's knee fills the box."""
    return None if is_knee_sized(knee.joint.width_mm) else reason("WRONG_SIZE")


def too_small(_film: Film, knee: Knee, _rules: Rules) -> Reason | None:
    """JOINT_TOO_SMALL if the box has too few pixels to show a joint space."""
    return reason("JOINT_TOO_SMALL") if min(knee.joint.box.width, knee.joint.box.height) < LEAST_PIXELS else None


def cut_off(film: Film, knee: Knee, _rules: Rules) -> Reason | None:
    """
    JOINT_CUT_OFF if a rim of the joint lies beyond the film's edge or behind a shutter.

    An osteophyte may be hidden there, and a grader would take what is hidden for healthy.
    """
    left, top, right, bottom = (round(edge * LOST_GRID) for edge in RIMS)
    field, size = film.field.view(np.uint8), (LOST_GRID, LOST_GRID)
    straight = cv2.warpAffine(field, knee.pose.onto(LOST_GRID), size, flags=cv2.INTER_NEAREST, borderValue=BEYOND)
    lost, hidden = straight == BEYOND, (straight != BEYOND) & ~_filled(straight == 1)
    # Edges of a collimator in the header are wrong where the image was cropped: what is visible is not hidden.
    if hidden.any() and not _is_visible(cut(film.pixels, knee.pose, LOST_GRID), hidden):
        lost |= hidden
    return reason("JOINT_CUT_OFF") if lost[top:bottom, left:right].mean() > MOST_LOST else None


def _is_visible(picture: Grey, hidden: npt.NDArray[np.bool_]) -> bool:
    """Whether the picture has structure where the header hides it; at the edge of that both are mixed."""
    within = cv2.erode(hidden.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    if hidden.all() or not within.any():
        return False
    grain = np.abs(cv2.Laplacian(picture, cv2.CV_32F))
    return bool(np.median(grain[within]) > PLAIN * np.median(grain[~hidden]))


def _filled(field: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """The least convex mask around an exposed field: air that was stored as padding is no shutter."""
    exposed = cv2.findNonZero(field.astype(np.uint8))
    if exposed is None:
        return field
    return cv2.fillConvexPoly(np.zeros(field.shape, np.uint8), cv2.convexHull(exposed), 1) > 0


def exposure(film: Film, knee: Knee, _rules: Rules) -> Reason | None:
    """
    TOO_DARK, TOO_BRIGHT or TOO_FLAT if the joint is not readable as the film shows it.

    The film's pixels have its window applied: a joint that a window has clipped is as lost to the grader as one that
    the detector has.
    """
    box = knee.joint.box
    left, top, right, bottom = JOINT
    rows = slice(*(max(0, round(box.y0 + edge * box.height)) for edge in (top, bottom)))
    columns = slice(*(max(0, round(box.x0 + edge * box.width)) for edge in (left, right)))
    joint = film.pixels[rows, columns]
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


KNEE_REFUSALS: tuple[Callable[[Film, Knee, Rules], Reason | None], ...] = (
    beyond_the_film,
    no_knee,
    child,
    conflicting_side,
    wrong_size,
    too_small,
    cut_off,
    exposure,
)
"""What refuses a knee, in this order: the first reason is the one that is reported."""
