"""How many honest knees are flagged by limits that were set on other patients: what a hospital has to expect."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from workers.attention import red_flags, regions_of
from workers.certainty import Limits
from workers.regions import shares_of
from workers.registry import Card
from workers.training.audit.knees import Asked
from workers.training.calibrate import folds, limits

SEED = 40
HALVES = 2


def flag_rate(asked: Sequence[Asked], card: Card) -> float | None:
    """
    The part of knees that are flagged, those of either half of the patients by limits set on the other half.

    None of a single patient, who has no other half.
    """
    half = folds([each.labelled.patient for each in asked], HALVES, SEED)
    if len(np.unique(half)) < HALVES:
        return None
    flagged = 0
    for at in range(HALVES):
        others = [each for each, its in zip(asked, half, strict=True) if its != at]
        judge = replace(card, limits=Limits.told(limits(others, card.heat_scale)))
        flagged += sum(_flagged(each, judge) for each, its in zip(asked, half, strict=True) if its == at)
    return round(flagged / len(asked), 4)


def _flagged(asked: Asked, card: Card) -> bool:
    parts = shares_of(regions_of(asked.joint, asked.graded.knee), asked.graded.maps.shape[-1])
    return bool(red_flags(asked.attention, asked.graded, parts, card))
