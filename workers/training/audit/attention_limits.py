"""The limits of a card's [attention], beyond which a grade is flagged, from labelled knees without artefacts."""

from collections.abc import Sequence

import numpy as np

from workers.explanation.attribution import PEAK
from workers.training.audit.knees import AuditedKnee

FLAGGED = {"outside": 0.012, "shift": 0.012, "spread": 0.004, "faint": 0.004}
"""The part of the knees of val that may pass each limit: together below the 5 % that may be flagged without a plant."""


LEAD = 0.2
"""Where a mark lies beside the joint, which hardly any knee of val has. Chosen on four times 826 plants, so that 97 %
of the grades that hang on one are flagged, and as few as may be of those that do not (docs/grader.md)."""


def attention_limits(knees: Sequence[AuditedKnee], scale: float) -> dict[str, float]:
    """The [attention] of a card: what hardly any knee without a plant passes; `scale` is the card's heat_scale."""
    heats = [np.maximum(knee.graded.maps[int(knee.graded.grade)], 0) for knee in knees]
    measured = {
        "outside": [knee.outside for knee in knees],
        "shift": [abs(knee.attention.shift) for knee in knees],
        "spread": [float((heat > PEAK * heat.max()).mean()) if heat.max() > 0 else 0.0 for heat in heats],
    }
    limits = {key: round(float(np.quantile(values, 1 - FLAGGED[key])), 4) for key, values in measured.items()}
    faint = float(np.quantile([heat.max() / scale for heat in heats], FLAGGED["faint"]))
    return {**limits, "lead": LEAD, "faint": round(faint, 4)}
