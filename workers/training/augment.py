"""Augmentation of a knee: position, exposure, noise, an erased rectangle."""

import cv2
import numpy as np

from workers.preprocessing import Grey


def augment(knee: Grey, random: np.random.Generator, *, erase: bool = True) -> Grey:
    """
    An augmented copy of a crop of a knee for a grader, same shape, 0 to 1; with `erase` a rectangle of some is erased.

    Half are mirrored: up to half of films do not state their side, and a grade must not depend on it.
    """
    if random.random() < 0.5:
        knee = np.ascontiguousarray(knee[:, ::-1])
    return vary(knee, random, erase=erase)


def vary(knee: Grey, random: np.random.Generator, *, erase: bool = True) -> Grey:
    """The knee augmented but not mirrored. The shifts go somewhat beyond the errors of the joint detector."""
    knee = vary_exposure(_move(knee, random), random)
    if erase and random.random() < 0.3:
        knee = _erase(knee, random)
    return knee


def _move(knee: Grey, random: np.random.Generator) -> Grey:
    rows, columns = knee.shape
    turn = float(np.clip(random.normal(0, 5), -14, 14))
    zoom = float(np.exp(np.clip(random.normal(0, 0.08), -0.2, 0.2)))
    matrix = np.asarray(cv2.getRotationMatrix2D(((columns - 1) / 2, (rows - 1) / 2), turn, zoom), np.float64)
    matrix[:, 2] += np.clip(random.normal(0, 0.04, 2), -0.11, 0.11) * (columns, rows)
    matrix[0, :2] *= float(np.exp(random.normal(0, 0.03)))
    moved = cv2.warpAffine(knee, matrix, (columns, rows), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(moved, np.float32)


def vary_exposure(knee: Grey, random: np.random.Generator) -> Grey:
    """The knee at a random exposure, some blurred, some noisy."""
    knee = knee ** float(np.exp(np.clip(random.normal(0, 0.3), -0.65, 0.65)))
    if random.random() < 0.2:
        knee = np.asarray(cv2.GaussianBlur(knee, (0, 0), float(random.uniform(0.4, 1.2))), np.float32)
    if random.random() < 0.3:
        noisy = knee + random.normal(0, random.uniform(0.005, 0.03), knee.shape)
        return np.clip(noisy, 0, 1).astype(np.float32)
    return np.clip(knee, 0, 1).astype(np.float32)


def _erase(knee: Grey, random: np.random.Generator) -> Grey:
    """Erase a rectangle (Zhong et al. 2020): the grade must not depend on a single spot."""
    rows, columns = knee.shape
    height, width = random.uniform(0.08, 0.3, 2)
    top, left = random.uniform(0, 1 - height), random.uniform(0, 1 - width)
    knee = knee.copy()
    knee[int(top * rows) : int((top + height) * rows), int(left * columns) : int((left + width) * columns)] = (
        random.uniform(0, 1)
    )
    return knee
