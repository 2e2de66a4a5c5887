"""How many honest knees are flagged by limits that were set on other patients: what a hospital has to expect."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from workers.evaluation.calibration_fit import FOLDS, folds
from workers.explanation.attribution import red_flags, regions_of
from workers.explanation.regions import shares_of
from workers.models.calibration import AttentionLimits
from workers.models.registry import Card
from workers.training.audit.attention_limits import attention_limits
from workers.training.audit.knees import AuditedKnee

SEED = 40


def flag_rate(asked: Sequence[AuditedKnee], card: Card) -> float | None:
    """
    The part of knees that are flagged by limits set on four fifths of the other patients, as its calibration is judged.

    None of fewer patients than five.
    """
    fold_of = folds([each.labelled.patient for each in asked], FOLDS, SEED)
    if len(np.unique(fold_of)) < FOLDS:
        return None
    flagged = 0
    for fold in range(FOLDS):
        others = [each for each, its in zip(asked, fold_of, strict=True) if its != fold]
        judge = replace(card, limits=AttentionLimits.from_card(attention_limits(others, card.heat_scale)))
        flagged += sum(_flagged(each, judge) for each, its in zip(asked, fold_of, strict=True) if its == fold)
    return round(flagged / len(asked), 4)


def _flagged(asked: AuditedKnee, card: Card) -> bool:
    parts = shares_of(regions_of(asked.joint, asked.graded.knee), asked.graded.maps.shape[-1])
    return bool(red_flags(asked.attention, asked.graded, parts, card))
