"""Calibration of a trained grader: one temperature, thresholds of its prediction sets, one scale for its maps."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from workers.evaluation.metrics import Predictions
from workers.models.calibration import Calibration, softmax

FOLDS = 5
SEED = 5

Logits = npt.NDArray[np.float32]
Grades = npt.NDArray[np.int64]


def fit_temperature(logits: Logits, truth: Grades) -> float:
    """The divisor of the logits (n, 5) under which the true grades are most probable (Guo et al. 2017)."""
    candidates = np.exp(np.linspace(np.log(0.3), np.log(3), 400))
    rows = np.arange(len(truth))
    losses = [-np.log(np.clip(softmax(logits / candidate)[rows, truth], 1e-9, 1)).mean() for candidate in candidates]
    return float(candidates[int(np.argmin(losses))])


def fit_set_thresholds(probabilities: Logits, truth: Grades, level: float) -> list[float]:
    """
    For each grade the least threshold of 1 - p that at least `level` of its knees would pass, each taken in turn as
    a new one (split conformal, conditional on the grade: Vovk 2012).

    A grade with too few knees for that, fewer than level / (1 - level), is never ruled out: its threshold is 1.
    """
    thresholds = []
    for grade in range(5):
        scores = np.sort(1 - probabilities[truth == grade, grade])
        rank = int(np.ceil((len(scores) + 1) * level))
        thresholds.append(float(scores[rank - 1]) if rank <= len(scores) else 1.0)
    return thresholds


def fit_calibration(logits: Logits, truth: Grades, before: Calibration) -> dict[str, Any]:
    """The [calibration] of a card, fitted to labelled knees; what is chosen and not fitted is taken from `before`."""
    temperature = round(fit_temperature(logits, truth), 4)
    thresholds = fit_set_thresholds(softmax(logits / temperature), truth, before.level)
    return {
        "temperature": temperature,
        "cost": before.cost,
        "level": before.level,
        "thresholds": [
            float(np.ceil(threshold * 1e4) / 1e4) for threshold in thresholds
        ],  # rounded up: the knee that sets it passes
        "apart": before.apart,
        "knees": np.bincount(truth, minlength=5).tolist(),
    }


def patient_folds(patients: Sequence[str], count: int, seed: int) -> npt.NDArray[np.int64]:
    """The fold of each knee, (n,), of `count` of about equal size, at random; both knees of a patient share one."""
    names, patient_of = np.unique(patients, return_inverse=True)
    return np.asarray((np.random.default_rng(seed).permutation(len(names)) % count)[patient_of], np.int64)


def cross_fitted_predictions(
    logits: Logits, truth: Grades, patients: Sequence[str], before: Calibration
) -> Predictions:
    """The prediction for each knee by a calibration fitted to the four folds of patients that it is not in."""
    fold_of = patient_folds(patients, FOLDS, SEED)
    probabilities, grades, lowest, highest = np.zeros_like(logits), *(np.zeros_like(truth) for _ in range(3))
    for fold in range(FOLDS):
        held_out = fold_of == fold
        calibration = Calibration.from_card(fit_calibration(logits[~held_out], truth[~held_out], before))
        part = Predictions.calibrated(calibration, calibration.probabilities(logits[held_out]))
        probabilities[held_out], grades[held_out] = part.probabilities, part.grades
        lowest[held_out], highest[held_out] = part.lowest, part.highest
    return Predictions(probabilities, grades, lowest, highest)


def sample_size_warnings(truth: Grades, level: float) -> list[str]:
    """A line for each grade of which there are too few knees to rely on its threshold."""
    counts: Sequence[int] = np.bincount(truth, minlength=5).tolist()
    least, wanted = int(np.ceil(round(level / (1 - level), 6))), 50  # rounded: .9 / (1 - .9) is a little more than 9
    warnings = []
    for grade, count in enumerate(counts):
        if count < least:
            few = f"KL {grade}: {count} knees are too few for a threshold (at least {least})"
            warnings.append(f"{few}: never ruled out, so every set reaches to it")
        elif count < wanted:
            warnings.append(
                f"KL {grade}: {count} knees are few: its sets may miss {100 * level:.0f} % by several points"
            )
    return warnings


def fit_heat_scale(peaks: npt.NDArray[np.float32]) -> float:
    """The map value drawn at full strength: that which the peaks (n,) of one knee in ten reach."""
    return float(np.percentile(peaks, 90))
