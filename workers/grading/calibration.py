"""
What a grader's logits mean: probabilities, the grade, and the grades that could not be ruled out.

A model's card holds the numbers; `workers/evaluation/calibration_fit.py` finds them on labelled knees.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from node.evidence import KLGrade

GRADES = np.arange(5)
Array = npt.NDArray[np.float32]


def softmax(logits: Array) -> Array:
    """Probabilities over the last axis."""
    raised = np.exp(logits - logits.max(-1, keepdims=True))
    return np.asarray(raised / raised.sum(-1, keepdims=True), np.float32)


Meant = tuple[str, Callable[[float], bool]]
"""What a number of a card has to be, for people and for us."""

WITHIN: Meant = ("from 0 to 1", lambda value: 0 <= value <= 1)
MEANT: dict[str, Meant] = {
    "temperature": ("above 0", lambda value: value > 0),
    "cost": ("of 0 or more", lambda value: value >= 0),
    "level": ("between 0 and 1", lambda value: 0 < value < 1),
    "apart": ("from 0.5 to 1", lambda value: 0.5 <= value <= 1),
}
"""The numbers of a [calibration], and what each may be."""


def number(key: str, value: Any, meant: str, fits: Callable[[float], bool]) -> float:
    """The value of a card's key, which has to be a number that `fits`. Raises ValueError with what is `meant`."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or not fits(value):
        raise ValueError(f"{key} = {value!r} has to be a number {meant}")
    return value


@dataclass(frozen=True)
class Limits:
    """
    The [attention] of a grader's card, set on val: beyond them a red flag is raised (explanation/attribution.py).

    `outside` is the largest part of the evidence that may come from outside the joint; `shift` by how many grades the
    expected grade may move when all about the joint is taken away; `lead` is how far ahead of the next a grade has to
    be where a mark lies beside the joint (`Calibration.lead`); `spread` is the largest part of the box, and `faint`
    the least strength, that a map may have. A card without them raises no flag by them.
    """

    outside: float = 1.0
    shift: float = 4.0
    lead: float = 0.0
    spread: float = 1.0
    faint: float = 0.0

    @classmethod
    def told(cls, card: dict[str, Any]) -> "Limits":
        """The limits as TOML tells them. Raises ValueError for what is no number of 0 or more."""
        known = {key: number(key, card[key], *MEANT["cost"]) for key in vars(cls()) if key in card}
        return cls(**known)


@dataclass(frozen=True)
class Calibration:
    """
    The [calibration] of a card.

    `temperature` divides the logits (Guo et al. 2017). `cost` is the exponent of a mistake's cost: the grade
    is the one whose expected distance from the truth, to that power, is least; 0 gives the most probable
    grade, 1 the median. `thresholds` are those of the prediction sets, one for each grade: the largest
    1 - p that a knee of that grade has in `level` of the cases (split conformal, conditional on the grade:
    Vovk 2012, Sadinle et al. 2019). Two neighbours whose probabilities differ so little that the greater
    has less than `apart` of both could not be told apart.
    """

    temperature: float = 1.0
    cost: float = 0.0
    level: float = 0.9
    thresholds: tuple[float, ...] = (1.0, 1.0, 1.0, 1.0, 1.0)
    apart: float = 0.6

    @classmethod
    def told(cls, card: dict[str, Any]) -> "Calibration":
        """The calibration of a card as TOML tells it. Raises ValueError for what no knee can be graded with."""
        given = {key: number(key, card[key], *meant) for key, meant in MEANT.items() if key in card}
        limits = card.get("thresholds", cls.thresholds)
        if len(limits) != len(GRADES):
            raise ValueError(f"thresholds = {limits!r} has to be five numbers, one for each grade")
        return cls(**given, thresholds=tuple(number("thresholds", each, *WITHIN) for each in limits))

    def probabilities(self, logits: Array) -> Array:
        """(..., 5) logits to probabilities."""
        return softmax(logits / self.temperature)

    def grades(self, probabilities: Array) -> npt.NDArray[np.int64]:
        """(..., 5) probabilities to the grades that are given, (...)."""
        # Ties, as of a flat answer, go to the lower grade.
        return np.asarray(self._costs(probabilities).argmin(-1), np.int64)

    def lead(self, probabilities: Array) -> float:
        """By how much the grade that is given of (5,) probabilities costs less than the next best one."""
        least, next_best = np.sort(self._costs(probabilities))[:2]
        return float(next_best - least)

    def _costs(self, probabilities: Array) -> npt.NDArray[np.float64]:
        """What each grade (..., 5) is expected to cost, if it is given."""
        away = np.abs(GRADES[:, None] - GRADES).astype(np.float64)
        costs = away**self.cost if self.cost else (away > 0).astype(np.float64)
        return np.asarray((probabilities @ costs).round(9), np.float64)

    def sets(self, probabilities: Array) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """
        (n, 5) probabilities to the lowest and the highest grade (n,) that could not be ruled out.

        A set is contiguous: what lies between two of its grades belongs to it. The grade that is given does.
        """
        within = (1 - probabilities) <= np.array(self.thresholds)
        within[np.arange(len(within)), self.grades(probabilities)] = True
        return within.argmax(1), 4 - within[:, ::-1].argmax(1)

    def undecided(self, probabilities: Array) -> tuple[KLGrade, KLGrade] | None:
        """The two most probable grades (5,), if they are neighbours and one is hardly likelier than the other."""
        second, first = np.argsort(probabilities, kind="stable")[-2:]
        if abs(int(first) - int(second)) != 1:
            return None
        close = probabilities[first] < self.apart * (probabilities[first] + probabilities[second])
        return (KLGrade(int(min(first, second))), KLGrade(int(max(first, second)))) if close else None
