"""Comparison of two models: on the films that both have graded, and on labelled knees."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from node.finding import ModelIdentity
from node.ledger import PairedReadings
from workers.evaluation.metrics import (
    accuracy,
    confusion,
    interval,
    mean_absolute_error,
    patient_resamples,
    quadratic_weighted_kappa,
)

Grades = npt.NDArray[np.int64]

MAX_LISTED = 10
"""So many of the films on which the two differ most are listed."""

FIGURES = {
    "accuracy": accuracy,
    "qwk": quadratic_weighted_kappa,
    "mae": mean_absolute_error,
}
NAMES = {"accuracy": "accuracy", "qwk": "quadratic weighted kappa", "mae": "mean absolute error"}


def compare_on_films(pairs: Sequence[PairedReadings]) -> dict[str, Any]:
    """How far two models agree on the same knees, whose true grades are unknown."""
    knees = [
        (pair.source_uid, int(one["grade"]), int(other["grade"]))
        for pair in pairs
        for one, other in zip(pair.first, pair.second, strict=False)
        if one.get("grade") is not None and other.get("grade") is not None
    ]
    first, second = (np.array([knee[index] for knee in knees], np.int64) for index in (1, 2))
    figures: dict[str, Any] = {"films": len({uid for uid, _, _ in knees}), "knees": len(knees)}
    if not knees:
        return figures
    differences = second - first
    furthest = sorted((knee for knee in knees if knee[1] != knee[2]), key=lambda knee: -abs(knee[2] - knee[1]))
    return figures | {
        "same": int((differences == 0).sum()),
        "within_one": int((np.abs(differences) <= 1).sum()),
        "kappa": round(quadratic_weighted_kappa(first, second), 4),
        "mean_change": round(float(differences.mean()), 4),
        "table": confusion(first, second).tolist(),
        "differ_most": [{"uid": uid, "grades": [one, other]} for uid, one, other in furthest[:MAX_LISTED]],
    }


def compare_on_knees(
    truth: Grades, first: Grades, second: Grades, patients: Sequence[str], *, rounds: int = 1000, seed: int = 0
) -> dict[str, Any]:
    """
    Both models' figures on labelled knees, and by how much the second's differ.

    The interval is over `rounds` resamples of whole patients, the same for both models: what one patient's knees have
    in common, and what is hard for both models, does not widen the interval of the difference.
    """
    resamples = list(patient_resamples(patients, rounds, seed))
    figures: dict[str, Any] = {
        "n": len(truth),
        "patients": len(set(patients)),
        "changed": int((first != second).sum()),
        "table": confusion(first, second).tolist(),
    }
    for name, figure in FIGURES.items():
        one, other = figure(truth, first), figure(truth, second)
        differences = [figure(truth[at], second[at]) - figure(truth[at], first[at]) for at in resamples]
        figures[name] = {
            "first": round(one, 4),
            "second": round(other, 4),
            "difference": interval(other - one, np.array(differences)),
        }
    return figures


def format_comparison(
    first: ModelIdentity, second: ModelIdentity, films: dict[str, Any], knees: dict[str, Any] | None
) -> str:
    """Both comparisons as text."""
    one, other = f"{first.name} {first.version}", f"{second.name} {second.version}"
    lines = [f"{one} (first) and {other} (second)", "", *_films(films)]
    return "\n".join([*lines, "", *_knees(knees)] if knees else lines)


def _films(figures: dict[str, Any]) -> list[str]:
    if not figures["knees"]:
        return ["No radiograph was graded by one of them while the other graded it in shadow.", _HOW]
    share = 100 / figures["knees"]
    lines = [f"On {figures['films']} radiographs that both graded, {figures['knees']} knees:"]
    lines += [
        f"{'same grade':26}{figures['same']:6}  {share * figures['same']:5.1f} %",
        f"{'at most one grade apart':26}{figures['within_one']:6}  {share * figures['within_one']:5.1f} %",
        f"{'quadratic weighted kappa':26}{figures['kappa']:6.3f}",
        f"{'mean change':26}{figures['mean_change']:+6.3f}  grades from the first to the second",
        *_table(figures["table"]),
    ]
    if figures["differ_most"]:
        lines.append("They differ most on")
        lines += [
            f"  KL {film['grades'][0]} and KL {film['grades'][1]}  {film['uid']}" for film in figures["differ_most"]
        ]
    return lines


_HOW = 'Set [work] shadow = "CARD" and let it run for some weeks, or compare on labelled knees with --data.'


def _table(rows: Sequence[Sequence[int]]) -> list[str]:
    head = f"{'first, second':14}" + "".join(f"  KL {grade}" for grade in range(5))
    return [head, *(f"{f'KL {grade}':14}" + "".join(f"{n:6}" for n in row) for grade, row in enumerate(rows))]


def _knees(figures: dict[str, Any]) -> list[str]:
    lines = [
        f"On {figures['n']} labelled knees of {figures['patients']} patients; {figures['changed']} get another grade:"
    ]
    lines.append(f"{'':26}{'first':>7}{'second':>8}  difference")
    for key, name in NAMES.items():
        figure = figures[key]
        change = figure["difference"]
        text = f"{change['value']:+.3f} ({change['low']:+.3f} to {change['high']:+.3f})"
        lines.append(f"{name:26}{figure['first']:7.3f}{figure['second']:8.3f}  {text}")
    return [*lines, *_table(figures["table"]), "In brackets: 95 % interval over patients."]
