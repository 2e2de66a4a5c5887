"""
Polarity of a film and the side of its joints, classified on the image whatever the header states.

A MONOCHROME1 film that was saved as if it were MONOCHROME2 is a negative: 84 of the 6,604 knees that the graders were
trained and evaluated on were. A grader grades such a knee as another, so it is inverted before it is graded.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from workers.detection.detection_models import DetectionModels
from workers.detection.detector import Detection, detect_joints
from workers.models.registry import Model
from workers.preprocessing import Box, Grey, box_inputs
from workers.read import Film

DARK, LEFT = 0, 1
"""The orientation network's two outputs: the bones are dark, the knee is a left one."""

INVERTED = "Bones were dark, whatever the header says: the film was turned to a positive before grading."
"""The note of a film that was a negative."""


def correct_polarity(film: Film, models: DetectionModels) -> tuple[Film, list[Detection]]:
    """
    The film as a positive, and the joints detected on it.

    A film on which no joint is detected is tried as a negative too.
    """
    detections = detect_joints(film.pixels, models.detector)
    tried = detections or detect_joints(_negative(film), models.detector)
    positive = as_positive(film, [detection.box for detection in tried], models.orientation)
    if positive is film:
        return film, detections
    return positive, detect_joints(positive.pixels, models.detector) or tried


def as_positive(film: Film, boxes: Sequence[Box], orientation: Model) -> Film:
    """The film as it is, or inverted and noted if the joints in `boxes`, taken together, have dark bones."""
    if not boxes:
        return film
    dark = float(orientation_logits(film.pixels, boxes, orientation)[:, DARK].mean())
    if dark <= orientation.card.thresholds["dark"]:
        return film
    return replace(film, pixels=_negative(film), notes=(*film.notes, INVERTED))


def _negative(film: Film) -> Grey:
    """Inverted where the film was exposed; shutters and padding stay as dark as they are."""
    return np.where(film.field, 1 - film.pixels, film.pixels).astype(np.float32)


def orientation_logits(pixels: Grey, boxes: Sequence[Box], orientation: Model) -> npt.NDArray[np.float32]:
    """Logits (n, 2) for each box on a film: that its bones are dark, and that it is a left knee."""
    return orientation.run(box_inputs(pixels, boxes, orientation.card.input_size))[0]
