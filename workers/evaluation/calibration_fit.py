"""Calibration of a trained grader: one temperature, thresholds of its prediction sets, one scale for its maps."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from workers.evaluation.metrics import Said
from workers.models.calibration import Calibration, softmax

FOLDS = 5
SEED = 5

Logits = npt.NDArray[np.float32]
Grades = npt.NDArray[np.int64]


def temperature(logits: Logits, truth: Grades) -> float:
    """The divisor of the logits (n, 5) under which the true grades are most probable (Guo et al. 2017)."""
    tried = np.exp(np.linspace(np.log(0.3), np.log(3), 400))
    rows = np.arange(len(truth))
    losses = [-np.log(np.clip(softmax(logits / each)[rows, truth], 1e-9, 1)).mean() for each in tried]
    return float(tried[int(np.argmin(losses))])


def set_thresholds(probabilities: Logits, truth: Grades, level: float) -> list[float]:
    """
    For each grade the least threshold of 1 - p that at least `level` of its knees would have passed, had each
    in turn been a new one (split conformal, conditional on the grade: Vovk 2012).

    A grade with too few knees to say so, fewer than level / (1 - level), is never ruled out: 1.
    """
    found = []
    for grade in range(5):
        away = np.sort(1 - probabilities[truth == grade, grade])
        rank = int(np.ceil((len(away) + 1) * level))
        found.append(float(away[rank - 1]) if rank <= len(away) else 1.0)
    return found


def calibrated(logits: Logits, truth: Grades, before: Calibration) -> dict[str, Any]:
    """The [calibration] of a card on labelled knees; what is chosen and not measured stays as it was `before`."""
    warmth = round(temperature(logits, truth), 4)
    thresholds = set_thresholds(softmax(logits / warmth), truth, before.level)
    return {
        "temperature": warmth,
        "cost": before.cost,
        "level": before.level,
        "thresholds": [float(np.ceil(each * 1e4) / 1e4) for each in thresholds],  # up: the knee that sets it passes
        "apart": before.apart,
        "knees": np.bincount(truth, minlength=5).tolist(),
    }


def folds(patients: Sequence[str], count: int, seed: int) -> npt.NDArray[np.int64]:
    """Which of `count` parts each knee belongs to, (n,); both knees of a patient to one, by chance, all parts alike."""
    owners, owner = np.unique(patients, return_inverse=True)
    return np.asarray((np.random.default_rng(seed).permutation(len(owners)) % count)[owner], np.int64)


def cross_fitted(logits: Logits, truth: Grades, patients: Sequence[str], before: Calibration) -> Said:
    """What is said of each knee by a calibration that was fitted to four fifths of the other patients."""
    fold_of = folds(patients, FOLDS, SEED)
    probabilities, grades, lowest, highest = np.zeros_like(logits), *(np.zeros_like(truth) for _ in range(3))
    for fold in range(FOLDS):
        held = fold_of == fold
        calibration = Calibration.from_card(calibrated(logits[~held], truth[~held], before))
        said = Said.by(calibration, calibration.probabilities(logits[held]))
        probabilities[held], grades[held] = said.probabilities, said.grades
        lowest[held], highest[held] = said.lowest, said.highest
    return Said(probabilities, grades, lowest, highest)


def too_few(truth: Grades, level: float) -> list[str]:
    """A line for each grade of which there are too few knees to rely on its threshold."""
    counts: Sequence[int] = np.bincount(truth, minlength=5).tolist()
    least, wanted = int(np.ceil(round(level / (1 - level), 6))), 50  # rounded: .9 / (1 - .9) is a little more than 9
    told = []
    for grade, count in enumerate(counts):
        if count < least:
            few = f"KL {grade}: {count} knees are too few for a threshold (at least {least})"
            told.append(f"{few}: never ruled out, so every set reaches to it")
        elif count < wanted:
            told.append(f"KL {grade}: {count} knees are few: its sets may miss {100 * level:.0f} % by several points")
    return told


def heat_scale(heights: npt.NDArray[np.float32]) -> float:
    """The map value drawn at full strength: that which the peak of one knee in ten reaches on val."""
    return float(np.percentile(heights, 90))
