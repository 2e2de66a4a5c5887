"""Contours of a heat map: lines of equal strength, as closed polygons on the film."""

import cv2
import numpy as np
import numpy.typing as npt

from workers.preprocessing import Pose
from workers.report.layout.colours import Strength

LEVELS = (0.25, 0.5, 0.75)
"""Strengths on the fixed scale that all maps share."""
UPSAMPLING = 24
"""Subdivisions of a cell of the map: on a film the contour is accurate to a few pixels."""
SMOOTHING, POINT_STEP = 13, 4
"""Contour points that are averaged, so that the line has no steps, and the distance between retained points."""
MIN_POINTS = 3 * SMOOTHING
"""A contour of fewer points is noise and omitted."""

Polygon = npt.NDArray[np.float64]
"""(points, 2), x and y; the last point is the first."""


def contour_polygons(strength: Strength, pose: Pose, level: float) -> list[Polygon]:
    """
    Closed contours, in pixels of the film, where the map, interpolated over the joint at `pose`, crosses `level`.

    The map is padded with zeros, so that contours are closed along its edge too.
    """
    rows, columns = strength.shape
    fine = cv2.resize(strength, (columns * UPSAMPLING, rows * UPSAMPLING), interpolation=cv2.INTER_CUBIC)
    mask = cv2.copyMakeBorder((fine >= level).astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    contours, _ = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    size = np.array([columns * UPSAMPLING, rows * UPSAMPLING])
    polygons = []
    for contour in contours:
        if len(contour) < MIN_POINTS:
            continue
        points = contour[:, 0].astype(np.float64) - 0.5
        closed = np.vstack([points[-(SMOOTHING // 2) :], points, points[: SMOOTHING // 2]])
        smooth = np.stack([np.convolve(axis, np.full(SMOOTHING, 1 / SMOOTHING), "valid") for axis in closed.T], axis=1)
        film_points = (smooth[::POINT_STEP] / size - 0.5) * pose.side @ pose.axes + np.array(pose.middle)
        polygons.append(np.vstack([film_points, film_points[:1]]))
    return polygons
