"""
The heat map of a grade, from the same forward pass that gave the grade.

For a linear head on a global average pool the gradient of logit c with respect to channel k of the map
is w_ck / cells everywhere, so Grad-CAM (Selvaraju et al. 2017) is exactly relu(map_c) / cells, where
map_c = sum over k of w_ck times channel k. No hooks, no backward pass.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from workers.grading.grader import Graded
from workers.preprocessing import Pose

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class HeatMap:
    """
    Grad-CAM of one grade over the straightened crop of a knee, and the pose of the crop on the film.

    `values` (rows, columns) are Grad-CAM's own; `strength` is the same on the model's fixed scale, 0 to 1, so that the
    maps of two films can be compared and a faint one looks faint. `empty`: no cell is positive for the grade, which
    was what the others left over, and there is nothing to show.
    """

    values: Array
    strength: Array
    empty: bool
    pose: Pose
    contrast: Array | None = None
    """What separates the grade from the next one, signed, on the same scale, -1 to 1; None where not computed."""


def explain(graded: Graded, heat_scale: float) -> HeatMap:
    """The heat map of the grade that was given; `heat_scale` is the card's map value drawn at full strength."""
    values = grad_cam(graded.maps)[int(graded.grade)]
    cells = values.size
    strength = np.clip(values * cells / heat_scale, 0, 1).astype(np.float32)
    contrast = np.clip(graded.contrast / heat_scale, -1, 1).astype(np.float32)
    return HeatMap(values, strength, not bool(values.any()), graded.knee.pose, contrast)


def grad_cam(maps: Array) -> Array:
    """Grad-CAM of every grade at once, (5, rows, columns), from the signed maps."""
    return np.asarray(np.maximum(maps, 0) / (maps.shape[-1] * maps.shape[-2]), np.float32)
