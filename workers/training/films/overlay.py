"""Laying what was drawn on a mask over a film."""

import cv2
import numpy as np
import numpy.typing as npt

from workers.preprocessing import Grey


def overlay(film: Grey, cover: npt.ArrayLike, grey: npt.ArrayLike) -> None:
    """Blend `grey` into the film, in place, by how far `cover` covers each pixel (0 to 1)."""
    part = np.asarray(cover, np.float32)
    film *= 1 - part
    film += part * np.asarray(grey, np.float32)


def rotated(mask: npt.NDArray[np.uint8], about: tuple[float, float], degrees: float) -> npt.NDArray[np.uint8]:
    """The mask turned about a point (x, y) of it, counter-clockwise."""
    matrix = cv2.getRotationMatrix2D(about, degrees, 1.0)
    return np.asarray(cv2.warpAffine(mask, matrix, mask.shape[::-1]), np.uint8)
