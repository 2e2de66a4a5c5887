"""
What lies beside the bones around a joint: lead markers, burned-in text, metal, the film's border.

A small network classifies every pixel of the joint's box. What it segments is no evidence of arthrosis, so a heat map
whose peak lies there, or a grade that changes when it is removed, is flagged (workers/explanation/attribution.py).
"""

import cv2
import numpy as np
import numpy.typing as npt

from workers.detection.joints import Joint
from workers.models.labels import NOTHING
from workers.models.registry import Model
from workers.preprocessing import Grey, crop_input, cut

Labels = npt.NDArray[np.uint8]
"""(rows, columns) of MARKER, TEXT, HARDWARE, BORDER or NOTHING."""


LEAST = 3 / 64**2
"""Least part of the output that an artefact covers, as a letter of 3 % of the box's height does."""


def segment_artefacts(pixels: Grey, joint: Joint, model: Model) -> Labels | None:
    """
    What lies on a joint of a film, on a grid of half the network's input over the joint's straightened crop.

    A joint without artefacts is NOTHING throughout; None for a joint that is not to be graded.
    """
    if not joint.is_whole_knee:
        return None
    size = model.card.input_size
    (logits,) = model.run(crop_input(cut(pixels, joint.pose, size), size)[None])
    return labels(logits[0], model.card.thresholds["mark"], model.card.thresholds["sure"])


def labels(logits: npt.NDArray[np.float32], limit: float, certain: float) -> Labels:
    """
    The most probable artefact of each pixel, of logits (5, rows, columns), where one has a probability of `limit`.

    A connected part is left out if it is a speck, or if its probability reaches `certain` nowhere: a narrow joint
    space and its dense rims look a little like lead.
    """
    probabilities = np.exp(logits - logits.max(0))
    probabilities /= probabilities.sum(0)
    artefact = probabilities[1:].sum(0)
    named = np.where(artefact >= limit, probabilities[1:].argmax(0) + 1, NOTHING).astype(np.uint8)
    count, parts, stats, _ = cv2.connectedComponentsWithStats((named > NOTHING).astype(np.uint8), connectivity=8)
    least = LEAST * named.size
    valid = [
        part
        for part in range(1, count)
        if stats[part, cv2.CC_STAT_AREA] >= least and artefact[parts == part].max() >= certain
    ]
    return np.where(np.isin(parts, valid), named, NOTHING).astype(np.uint8)
