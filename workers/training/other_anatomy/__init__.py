"""
Drawn radiographs of everything that is no frontal view of a knee, which must be refused: there are no real ones.

A bone is a tube with a bright cortex, a less bright marrow and flared ends; a body part is an arrangement of bones
in soft tissue. A hand need not be recognisable to a person, but the refiner must be trained on every other
arrangement of joints, shafts, rings and rows that films show, at every size, turn and exposure.
"""

from collections.abc import Callable, Mapping

import numpy as np

from workers.preprocessing import Grey
from workers.training.other_anatomy import knee_views, limbs, trunk
from workers.training.other_anatomy.canvas import Canvas
from workers.training.other_anatomy.textured import real_textured

__all__ = ["BODY_PARTS", "draw", "real_textured"]

DRAWN: Mapping[str, Callable[[Canvas, np.random.Generator], None]] = {
    "hand": limbs.hand, "foot": limbs.foot, "finger": limbs.finger, "wrist": limbs.wrist, "elbow_ap": limbs.elbow,
    "elbow_lateral": limbs.elbow_lateral, "shoulder": limbs.shoulder, "ankle_ap": limbs.ankle,
    "ankle_lateral": limbs.ankle_lateral, "shafts": limbs.shafts, "hip": trunk.hip, "pelvis": trunk.pelvis,
    "chest": trunk.chest, "spine": trunk.spine, "skull": trunk.skull, "breast": trunk.breast,
    "vessels": trunk.vessels, "plain": trunk.plain,
    "knee_lateral": knee_views.lateral, "knee_skyline": knee_views.skyline,
}  # fmt: skip

BODY_PARTS = tuple(DRAWN)


def draw(part: str, random: np.random.Generator, size: tuple[int, int]) -> Grey:
    """
    A radiograph of a part, (rows, columns), 0 to 1 with bright bones: whole, close up, cut off, turned, mirrored.

    Raises KeyError for a part that is not in BODY_PARTS.
    """
    side = int(np.clip(max(size), 96, 360))
    canvas = Canvas(side, random, near_vertical=part in ("hip", "pelvis", "ankle_ap") and random.random() < 0.6)
    DRAWN[part](canvas, random)
    return canvas.film(size, random)
