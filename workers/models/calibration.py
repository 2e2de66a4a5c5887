"""
From a grader's logits to probabilities, the grade, and the set of grades that could not be ruled out.

A model's card holds the parameters; `workers/evaluation/calibration_fit.py` fits them on labelled knees.
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
    exponentials = np.exp(logits - logits.max(-1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(-1, keepdims=True), np.float32)


Range = tuple[str, Callable[[float], bool]]
"""The allowed range of a number in a card: in words, and as a test."""

UNIT_INTERVAL: Range = ("from 0 to 1", lambda value: 0 <= value <= 1)
RANGES: dict[str, Range] = {
    "temperature": ("above 0", lambda value: value > 0),
    "cost": ("of 0 or more", lambda value: value >= 0),
    "level": ("between 0 and 1", lambda value: 0 < value < 1),
    "apart": ("from 0.5 to 1", lambda value: 0.5 <= value <= 1),
}
"""The allowed ranges of the numbers of a [calibration]."""


def number(key: str, value: Any, allowed: str, accepts: Callable[[float], bool]) -> float:
    """The value of a card's key. Raises ValueError, with the range in words (`allowed`), if the range excludes it."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or not accepts(value):
        raise ValueError(f"{key} = {value!r} has to be a number {allowed}")
    return value


@dataclass(frozen=True)
class AttentionLimits:
    """
    The [attention] of a grader's card, set on val; beyond a limit a red flag is raised (explanation/attribution.py).

    `outside` is the largest part of the evidence that may come from outside the joint. `shift` is by how many grades
    the expected grade may change when all around the joint is removed. `lead` is by how much a grade has to lead the
    next one where an artefact lies beside the joint (`Calibration.lead`). `spread` is the largest part of the box
    that a map may cover, `faint` the least strength that it may have. The defaults raise no flag.
    """

    outside: float = 1.0
    shift: float = 4.0
    lead: float = 0.0
    spread: float = 1.0
    faint: float = 0.0

    @classmethod
    def from_card(cls, attention: dict[str, Any]) -> "AttentionLimits":
        """The limits of a card's [attention]. Raises ValueError for a value that is no number of 0 or more."""
        given = {key: number(key, attention[key], *RANGES["cost"]) for key in vars(cls()) if key in attention}
        return cls(**given)


@dataclass(frozen=True)
class Calibration:
    """
    The [calibration] of a card.

    `temperature` divides the logits (Guo et al. 2017). `cost` is the exponent of an error's cost: the grade is the
    one whose expected distance from the truth, to that power, is least; 0 gives the most probable grade, 1 the
    median. `thresholds` are those of the prediction sets, one for each grade: the largest 1 - p that a knee of that
    grade has in `level` of the cases (split conformal, conditional on the grade: Vovk 2012, Sadinle et al. 2019).
    Two neighbouring grades are undecided if the more probable one has less than `apart` of the sum of both.
    """

    temperature: float = 1.0
    cost: float = 0.0
    level: float = 0.9
    thresholds: tuple[float, ...] = (1.0, 1.0, 1.0, 1.0, 1.0)
    apart: float = 0.6

    @classmethod
    def from_card(cls, calibration: dict[str, Any]) -> "Calibration":
        """The calibration of a card's [calibration]. Raises ValueError for a value outside its range."""
        given = {key: number(key, calibration[key], *allowed) for key, allowed in RANGES.items() if key in calibration}
        thresholds = calibration.get("thresholds", cls.thresholds)
        if len(thresholds) != len(GRADES):
            raise ValueError(f"thresholds = {thresholds!r} has to be five numbers, one for each grade")
        return cls(**given, thresholds=tuple(number("thresholds", value, *UNIT_INTERVAL) for value in thresholds))

    def probabilities(self, logits: Array) -> Array:
        """(..., 5) logits to probabilities."""
        return softmax(logits / self.temperature)

    def grades(self, probabilities: Array) -> npt.NDArray[np.int64]:
        """(..., 5) probabilities to the predicted grades (...)."""
        # A tie, as of equal probabilities, goes to the lower grade.
        return np.asarray(self._costs(probabilities).argmin(-1), np.int64)

    def lead(self, probabilities: Array) -> float:
        """By how much the expected cost of the predicted grade is below the next lowest, of probabilities (5,)."""
        least, next_best = np.sort(self._costs(probabilities))[:2]
        return float(next_best - least)

    def _costs(self, probabilities: Array) -> npt.NDArray[np.float64]:
        """The expected cost of predicting each grade, (..., 5)."""
        distances = np.abs(GRADES[:, None] - GRADES).astype(np.float64)
        costs = distances**self.cost if self.cost else (distances > 0).astype(np.float64)
        return np.asarray((probabilities @ costs).round(9), np.float64)

    def sets(self, probabilities: Array) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """
        (n, 5) probabilities to the lowest and the highest grade (n,) that could not be ruled out.

        A set is contiguous and contains the predicted grade.
        """
        within = (1 - probabilities) <= np.array(self.thresholds)
        within[np.arange(len(within)), self.grades(probabilities)] = True
        return within.argmax(1), 4 - within[:, ::-1].argmax(1)

    def undecided(self, probabilities: Array) -> tuple[KLGrade, KLGrade] | None:
        """The two most probable grades (5,), if they are neighbours and about equally probable; otherwise None."""
        second, first = np.argsort(probabilities, kind="stable")[-2:]
        if abs(int(first) - int(second)) != 1:
            return None
        close = probabilities[first] < self.apart * (probabilities[first] + probabilities[second])
        return (KLGrade(int(min(first, second))), KLGrade(int(max(first, second)))) if close else None
