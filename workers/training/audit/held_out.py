"""The part of knees flagged by limits that were set on other patients: what a hospital has to expect."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from workers.evaluation.calibration_fit import FOLDS, patient_folds
from workers.explanation.attribution import red_flags, regions_of
from workers.explanation.regions import shares_of
from workers.models.calibration import AttentionLimits
from workers.models.registry import Card
from workers.training.audit.attention_limits import attention_limits
from workers.training.audit.knees import AuditedKnee

SEED = 40


def flag_rate(audited: Sequence[AuditedKnee], card: Card) -> float | None:
    """
    The part of knees that are flagged by limits set on the four folds of patients that they are not in.

    None for fewer than FOLDS patients.
    """
    fold_of = patient_folds([knee.labelled.patient for knee in audited], FOLDS, SEED)
    if len(np.unique(fold_of)) < FOLDS:
        return None
    flagged = 0
    for fold in range(FOLDS):
        others = [knee for knee, its in zip(audited, fold_of, strict=True) if its != fold]
        limited = replace(card, limits=AttentionLimits.from_card(attention_limits(others, card.heat_scale)))
        flagged += sum(_flagged(knee, limited) for knee, its in zip(audited, fold_of, strict=True) if its == fold)
    return round(flagged / len(audited), 4)


def _flagged(audited: AuditedKnee, card: Card) -> bool:
    parts = shares_of(regions_of(audited.joint, audited.graded.knee), audited.graded.maps.shape[-1])
    return bool(red_flags(audited.attention, audited.graded, parts, card))
