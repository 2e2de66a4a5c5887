"""
Metal and casts drawn into real crops of a knee, as radiographs show them: dense silhouettes with sharp edges.

There is no radiograph of a prosthesis to train on, so what must be refused is drawn: by the landmarks of the knee, in
the shapes of the common families of implants, each different.
"""

from collections.abc import Callable, Mapping

import numpy as np

from workers.detection.landmarks import Landmarks
from workers.preprocessing import Box, Grey
from workers.training.implants import fixation, replacements
from workers.training.implants.implant_canvas import ImplantCanvas

DRAWN: Mapping[str, Callable[[ImplantCanvas, np.random.Generator], None]] = {
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


def add_implant(knee: Grey, points: Landmarks, kind: str, random: np.random.Generator) -> tuple[Grey, Box | None]:
    """
    The knee (rows, columns; 0 to 1, bones bright) with metal or a cast on its joint, and the box of what was added.

    Raises KeyError for a kind that is not in KINDS.
    """
    if kind == "cast":
        return fixation.cast(knee, random), Box.whole(knee)
    canvas = ImplantCanvas(knee.shape, points)
    DRAWN[kind](canvas, random)
    return canvas.onto(knee, random)


def add_remote_metal(knee: Grey, points: Landmarks, random: np.random.Generator) -> tuple[Grey, Box | None]:
    """The knee with a screw or a staple that does not lie over the joint."""
    canvas = ImplantCanvas(knee.shape, points)
    fixation.remote(canvas, random)
    return canvas.onto(knee, random)
