"""Lines of equal strength around the evidence of a heat map, as closed polygons on the film."""

import cv2
import numpy as np
import numpy.typing as npt

from workers.preprocessing import Pose
from workers.report.layout.colours import Strength

LEVELS = (0.25, 0.5, 0.75)
"""Of the fixed scale that all maps share."""
FINE = 24
"""Steps that a cell of the map is divided into: on a film that is a line of a few pixels' accuracy."""
SMOOTH, EVERY = 13, 4
"""Steps that a line's point is averaged over, so that it has no stairs, and from one point that is kept to the next."""
LEAST = 3 * SMOOTH
"""Steps below which a line is a speck and left out."""

Polygon = npt.NDArray[np.float64]
"""(points, 2), x and y; the last point is the first."""


def outlines(strength: Strength, pose: Pose, level: float) -> list[Polygon]:
    """
    Closed lines where the map, spread smoothly over the joint that lies so on the film, crosses `level`; on the film.

    A border of nothing is laid around the map, so that lines are closed along its edge too.
    """
    rows, columns = strength.shape
    fine = cv2.resize(strength, (columns * FINE, rows * FINE), interpolation=cv2.INTER_CUBIC)
    inside = cv2.copyMakeBorder((fine >= level).astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    found, _ = cv2.findContours(inside, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    size = np.array([columns * FINE, rows * FINE])
    lines = []
    for each in found:
        if len(each) < LEAST:
            continue
        steps = each[:, 0].astype(np.float64) - 0.5
        around = np.vstack([steps[-(SMOOTH // 2) :], steps, steps[: SMOOTH // 2]])
        even = np.stack([np.convolve(axis, np.full(SMOOTH, 1 / SMOOTH), "valid") for axis in around.T], axis=1)
        points = (even[::EVERY] / size - 0.5) * pose.side @ pose.axes + np.array(pose.middle)
        lines.append(np.vstack([points, points[:1]]))
    return lines
