"""Two models beside each other: on the films that both have graded, and on labelled knees."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from node.finding import ModelIdentity
from node.ledger import PairedReadings
from workers.evaluation.metrics import (
    accuracy,
    confusion,
    draws,
    interval,
    mean_absolute_error,
    quadratic_weighted_kappa,
)

Grades = npt.NDArray[np.int64]

MOST = 10
"""So many films on which the two differ most are named."""

FIGURES = {
    "accuracy": accuracy,
    "qwk": quadratic_weighted_kappa,
    "mae": mean_absolute_error,
}
NAMES = {"accuracy": "accuracy", "qwk": "quadratic weighted kappa", "mae": "mean absolute error"}


def on_films(pairs: Sequence[PairedReadings]) -> dict[str, Any]:
    """How far two models agree on the same knees; nobody says which of them is right."""
    knees = [
        (pair.source_uid, int(one["grade"]), int(other["grade"]))
        for pair in pairs
        for one, other in zip(pair.first, pair.second, strict=False)
        if one.get("grade") is not None and other.get("grade") is not None
    ]
    first, second = (np.array([knee[place] for knee in knees], np.int64) for place in (1, 2))
    told: dict[str, Any] = {"films": len({uid for uid, _, _ in knees}), "knees": len(knees)}
    if not knees:
        return told
    apart = second - first
    furthest = sorted((knee for knee in knees if knee[1] != knee[2]), key=lambda knee: -abs(knee[2] - knee[1]))
    return told | {
        "same": int((apart == 0).sum()),
        "within_one": int((np.abs(apart) <= 1).sum()),
        "kappa": round(quadratic_weighted_kappa(first, second), 4),
        "mean_change": round(float(apart.mean()), 4),
        "table": confusion(first, second).tolist(),
        "differ_most": [{"uid": uid, "grades": [one, other]} for uid, one, other in furthest[:MOST]],
    }


def on_knees(
    truth: Grades, first: Grades, second: Grades, patients: Sequence[str], *, rounds: int = 1000, seed: int = 0
) -> dict[str, Any]:
    """
    Both models' figures on labelled knees, and by how much the second's differ.

    The interval is over `rounds` draws of whole patients, the same for both models: what one patient's
    knees have in common, and what is hard for both, does not blur the difference.
    """
    chosen = list(draws(patients, rounds, seed))
    told: dict[str, Any] = {
        "n": len(truth),
        "patients": len(set(patients)),
        "changed": int((first != second).sum()),
        "table": confusion(first, second).tolist(),
    }
    for name, figure in FIGURES.items():
        one, other = figure(truth, first), figure(truth, second)
        apart = [figure(truth[drawn], second[drawn]) - figure(truth[drawn], first[drawn]) for drawn in chosen]
        told[name] = {
            "first": round(one, 4),
            "second": round(other, 4),
            "difference": interval(other - one, np.array(apart)),
        }
    return told


def say(first: ModelIdentity, second: ModelIdentity, films: dict[str, Any], knees: dict[str, Any] | None) -> str:
    """Both comparisons for a person."""
    one, other = f"{first.name} {first.version}", f"{second.name} {second.version}"
    lines = [f"{one} (first) and {other} (second)", "", *_films(films)]
    return "\n".join([*lines, "", *_knees(knees)] if knees else lines)


def _films(told: dict[str, Any]) -> list[str]:
    if not told["knees"]:
        return ["No radiograph was answered by one of them while the other graded it in shadow.", _HOW]
    share = 100 / told["knees"]
    lines = [f"On {told['films']} radiographs that both graded, {told['knees']} knees:"]
    lines += [
        f"{'same grade':26}{told['same']:6}  {share * told['same']:5.1f} %",
        f"{'at most one grade apart':26}{told['within_one']:6}  {share * told['within_one']:5.1f} %",
        f"{'quadratic weighted kappa':26}{told['kappa']:6.3f}",
        f"{'mean change':26}{told['mean_change']:+6.3f}  grades from the first to the second",
        *_table(told["table"]),
    ]
    if told["differ_most"]:
        lines.append("They differ most on")
        lines += [f"  KL {each['grades'][0]} and KL {each['grades'][1]}  {each['uid']}" for each in told["differ_most"]]
    return lines


_HOW = 'Set [work] shadow = "CARD" and let it run for some weeks, or compare on labelled knees with --data.'


def _table(rows: Sequence[Sequence[int]]) -> list[str]:
    head = f"{'first, second':14}" + "".join(f"  KL {grade}" for grade in range(5))
    return [head, *(f"{f'KL {grade}':14}" + "".join(f"{n:6}" for n in row) for grade, row in enumerate(rows))]


def _knees(told: dict[str, Any]) -> list[str]:
    lines = [f"On {told['n']} labelled knees of {told['patients']} patients; {told['changed']} change their grade:"]
    lines.append(f"{'':26}{'first':>7}{'second':>8}  difference")
    for key, name in NAMES.items():
        figure = told[key]
        apart = figure["difference"]
        between = f"{apart['value']:+.3f} ({apart['low']:+.3f} to {apart['high']:+.3f})"
        lines.append(f"{name:26}{figure['first']:7.3f}{figure['second']:8.3f}  {between}")
    return [*lines, *_table(told["table"]), "In brackets: 95 % interval over patients."]
