"""
Metal and casts drawn into real crops of a knee, as radiographs show them: dense silhouettes with sharp edges.

No radiograph of a prosthesis is at hand to train on, so what a gate has to refuse is drawn: by the landmarks of
the knee that it is laid on, in the shapes of the common families of implants, and never twice alike.
"""

from collections.abc import Callable, Mapping

import numpy as np

from workers.detection.landmarks import Landmarks
from workers.preprocessing import Box, Grey
from workers.training.implants import fixation, replacements
from workers.training.implants.sheet import Sheet

DRAWN: Mapping[str, Callable[[Sheet, np.random.Generator], None]] = {
    "total_replacement": replacements.total_replacement,
    "partial_replacement": replacements.partial_replacement,
    "nail": fixation.nail,
    "plate": fixation.plate,
    "screws": fixation.screws,
    "staples": fixation.staples,
    "wires": fixation.wires,
    "fixator": fixation.fixator,
}

KINDS = (*DRAWN, "cast")


def lay_metal(knee: Grey, points: Landmarks, kind: str, random: np.random.Generator) -> tuple[Grey, Box | None]:
    """
    The knee (rows, columns; 0 to 1, bones bright) with metal or a cast on its joint, and the box of what was laid.

    Raises KeyError for a kind that is not in KINDS.
    """
    if kind == "cast":
        return fixation.cast(knee, random), Box.whole(knee)
    sheet = Sheet(knee.shape, points)
    DRAWN[kind](sheet, random)
    return sheet.onto(knee, random)


def place_remote(knee: Grey, points: Landmarks, random: np.random.Generator) -> tuple[Grey, Box | None]:
    """The knee with a screw or a staple that does not lie over the joint."""
    sheet = Sheet(knee.shape, points)
    fixation.remote(sheet, random)
    return sheet.onto(knee, random)
