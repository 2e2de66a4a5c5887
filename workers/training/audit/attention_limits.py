"""The limits of a card's [attention], beyond which a grade is flagged, from labelled knees without artefacts."""

from collections.abc import Sequence

import numpy as np

from workers.explanation.attribution import PEAK
from workers.training.audit.knees import AuditedKnee

FLAGGED = {"outside": 0.012, "shift": 0.012, "spread": 0.004, "faint": 0.004}
"""The part of the knees of val that may exceed each limit: together below the 5 % that may be flagged without
an artefact."""


LEAD = 0.2
"""The limit beside an artefact; few knees of val have one. Chosen on four times 826 inserted artefacts, so that
97 % of the grades that depend on one are flagged, and as few as possible of the others (docs/grader.md)."""


def attention_limits(knees: Sequence[AuditedKnee], scale: float) -> dict[str, float]:
    """The [attention] of a card: limits that few knees without inserted artefacts exceed; `scale`: its heat_scale."""
    heats = [np.maximum(knee.graded.maps[int(knee.graded.grade)], 0) for knee in knees]
    measured = {
        "outside": [knee.outside for knee in knees],
        "shift": [abs(knee.attention.shift) for knee in knees],
        "spread": [float((heat > PEAK * heat.max()).mean()) if heat.max() > 0 else 0.0 for heat in heats],
    }
    limits = {key: round(float(np.quantile(values, 1 - FLAGGED[key])), 4) for key, values in measured.items()}
    faint = float(np.quantile([heat.max() / scale for heat in heats], FLAGGED["faint"]))
    return {**limits, "lead": LEAD, "faint": round(faint, 4)}
