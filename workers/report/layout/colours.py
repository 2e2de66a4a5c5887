"""
Colours for the strength of evidence: perceptually uniform, and transparent where it is weak.

The colours are matplotlib's "inferno" (Smith & van der Walt 2015, CC0), whose lightness rises evenly: it
reads the same for colour-blind readers and on a grey-level monitor. Its darkest third is omitted, since on a
radiograph it would darken bone without evidence.
"""

import cv2
import numpy as np
import numpy.typing as npt

Strength = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]

DARKEST_STEP = 0.3
STRONGEST_ALPHA = 0.62
"""Even under the strongest evidence two fifths of the pixel's value are bone."""
MIN_VISIBLE = 0.04
"""Below this strength nothing is drawn: interpolation alone must not tint the film."""


def _table() -> Bytes:
    inferno = cv2.applyColorMap(np.arange(256, dtype=np.uint8)[:, None], cv2.COLORMAP_INFERNO)[:, 0, ::-1]
    steps = np.linspace(DARKEST_STEP * 255, 255, 256).round().astype(int)
    return np.ascontiguousarray(inferno[steps])


TABLE = _table()


def heat_colour(strength: Strength) -> Bytes:
    """The colours (..., 3) of strengths between 0 and 1."""
    return np.asarray(TABLE[(np.clip(strength, 0, 1) * 255).round().astype(np.uint8)])


def heat_alpha(strength: Strength) -> Strength:
    """The opacity (0 to 1) of a strength: it rises with the square root, so that weak evidence is visible."""
    strength = np.clip(strength, 0, 1)
    relative = np.clip((strength - MIN_VISIBLE) / (1 - MIN_VISIBLE), 0, 1)
    return np.asarray(STRONGEST_ALPHA * np.sqrt(relative), dtype=np.float32)


FOR, AGAINST = (255, 170, 40), (60, 150, 255)
"""Evidence for and against a grade: orange and blue, which colour-blind readers distinguish too."""


def signed_colour(grey: Bytes, strength: Strength, opacity: float) -> Bytes:
    """`grey` (rows, columns) under a signed map on a scale of -1 to 1, as RGB: orange above, blue below, bone at 0."""
    alpha = (heat_alpha(np.abs(strength)) / STRONGEST_ALPHA * opacity)[..., None]
    colour = np.where((strength > 0)[..., None], np.array(FOR), np.array(AGAINST))
    return np.asarray((grey[..., None] * (1 - alpha) + colour * alpha).round(), np.uint8)
