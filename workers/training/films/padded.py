"""Films of real joints that are made differently from the training films: the detector finds only the joint there."""

from collections.abc import Sequence

import cv2
import numpy as np

from workers.models.labels import KNEE
from workers.preprocessing import Box, Grey
from workers.training.films.joint import Crop, LabelledFilm, LabelledJoint

BORDERS = (cv2.BORDER_CONSTANT, cv2.BORDER_REFLECT, cv2.BORDER_REPLICATE, cv2.BORDER_WRAP)


def padded_film(crops: Sequence[Crop], random: np.random.Generator) -> LabelledFilm:
    """The crops side by side, as they are, padded with grey, their own reflection, edge or repetition."""
    side = int(random.uniform(90, 170))
    border, grey = int(random.choice(BORDERS)), float(random.uniform(0, 0.5))
    tiles, joints, left = [], [], 0
    rows = side * random.uniform(1.1, 2.0)
    top = int((rows - side) * random.uniform(0.2, 0.8))
    bottom = int(rows) - side - top
    for crop in crops:
        knee = cv2.resize(crop.pixels, (side, side), interpolation=cv2.INTER_AREA)
        margins = [int(side * random.uniform(0.02, 0.3)) for _ in range(2)]
        tile = cv2.copyMakeBorder(knee, top, bottom, margins[0], margins[1], border, value=grey)
        joints.append(LabelledJoint(Box.about((left + margins[0] + side / 2, top + side / 2), side)))
        tiles.append(np.asarray(tile, np.float32))
        left += tile.shape[1]
    return LabelledFilm(_noisy(np.hstack(tiles), random), tuple(joints), KNEE)


def _noisy(film: Grey, random: np.random.Generator) -> Grey:
    return np.clip(film + random.normal(0, 0.01, film.shape), 0, 1).astype(np.float32)
