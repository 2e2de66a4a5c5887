"""The figures a grader is judged by, each with a 95 % interval from resampling whole patients."""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

Grades = npt.NDArray[np.int64]


def accuracy(truth: Grades, found: Grades) -> float:
    return float((truth == found).mean())


def mean_absolute_error(truth: Grades, found: Grades) -> float:
    """Mean distance in grades."""
    return float(np.abs(truth - found).mean())


def confusion(truth: Grades, found: Grades) -> npt.NDArray[np.int64]:
    """(5, 5): row is the true grade, column the found one."""
    return np.bincount(truth * 5 + found, minlength=25).reshape(5, 5)


def recall(truth: Grades, found: Grades) -> npt.NDArray[np.float64]:
    """(5,): the part of each grade's knees that was found; NaN where there is no such knee."""
    table = confusion(truth, found)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.diag(table) / table.sum(1), np.float64)


def balanced_accuracy(truth: Grades, found: Grades) -> float:
    return float(np.nanmean(recall(truth, found)))


def macro_f1(truth: Grades, found: Grades) -> float:
    """Mean F1 over the grades that occur in truth or answer."""
    table = confusion(truth, found)
    both = table.sum(0) + table.sum(1)
    return float(np.mean(2 * np.diag(table)[both > 0] / both[both > 0]))


def quadratic_weighted_kappa(truth: Grades, found: Grades) -> float:
    """Cohen's kappa with the squared distance as weight (Cohen 1968); 1 where both are one same grade."""
    table = confusion(truth, found).astype(float)
    grades = np.arange(5)
    weight = (grades[:, None] - grades) ** 2
    by_chance = np.outer(table.sum(1), table.sum(0)) / table.sum()
    expected = float((weight * by_chance).sum())
    return 1.0 if expected == 0 else 1 - float((weight * table).sum()) / expected


FIGURES: dict[str, Callable[[Grades, Grades], float]] = {
    "accuracy": accuracy,
    "balanced_accuracy": balanced_accuracy,
    "macro_f1": macro_f1,
    "qwk": quadratic_weighted_kappa,
    "mae": mean_absolute_error,
}


def with_intervals(
    truth: Grades, found: Grades, patients: Sequence[str], *, rounds: int = 1000, seed: int = 0
) -> dict[str, object]:
    """
    Every figure as {"value", "low", "high"}, and "recall" as a list of five of them.

    The interval is the 2.5th to 97.5th percentile over `rounds` draws of patients with replacement: a
    patient's two knees resemble each other, so drawing single knees would flatter.
    """
    names, owner = np.unique(patients, return_inverse=True)
    knees_of = [np.flatnonzero(owner == number) for number in range(len(names))]
    random = np.random.default_rng(seed)
    drawn: dict[str, list[float]] = {name: [] for name in FIGURES}
    recalls: list[npt.NDArray[np.float64]] = []
    for _ in range(rounds):
        chosen = np.concatenate([knees_of[number] for number in random.integers(0, len(names), len(names))])
        for name, figure in FIGURES.items():
            drawn[name].append(figure(truth[chosen], found[chosen]))
        recalls.append(recall(truth[chosen], found[chosen]))
    result: dict[str, object] = {"n": len(truth)}
    for name, figure in FIGURES.items():
        result[name] = _interval(figure(truth, found), np.array(drawn[name]))
    grades = zip(recall(truth, found), np.array(recalls).T, strict=True)
    result["recall"] = [_interval(float(value), draws) for value, draws in grades]
    return result


def _interval(value: float, draws: npt.NDArray[np.float64]) -> dict[str, float | None]:
    draws = draws[~np.isnan(draws)]
    if np.isnan(value) or not len(draws):
        return {"value": None, "low": None, "high": None}
    low, high = np.percentile(draws, (2.5, 97.5))
    return {"value": round(value, 4), "low": round(float(low), 4), "high": round(float(high), 4)}
