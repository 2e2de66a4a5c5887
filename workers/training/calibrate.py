"""What a trained grader's numbers mean: one temperature for its logits, one scale for its maps."""

import numpy as np
import numpy.typing as npt

from workers.grade import softmax


def temperature(logits: npt.NDArray[np.float32], truth: npt.NDArray[np.int64]) -> float:
    """The divisor of the logits (n, 5) under which the true grades are most probable (Guo et al. 2017)."""
    tried = np.exp(np.linspace(np.log(0.3), np.log(3), 400))
    rows = np.arange(len(truth))
    losses = [-np.log(np.clip(softmax(logits / each)[rows, truth], 1e-9, 1)).mean() for each in tried]
    return float(tried[int(np.argmin(losses))])


def heat_scale(heights: npt.NDArray[np.float32]) -> float:
    """The map value drawn at full strength: that which the peak of one knee in ten reaches on val."""
    return float(np.percentile(heights, 90))
