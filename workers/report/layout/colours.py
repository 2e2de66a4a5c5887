"""
Strength of evidence to colour: perceptually even, and transparent where there is little of it.

The colours are matplotlib's "inferno" (Smith & van der Walt 2015, CC0), whose lightness rises evenly: it
reads the same to colour-blind eyes and on a grey-level monitor. Its darkest third is left out, since on a
radiograph it would darken bone that the map says nothing about.
"""

import cv2
import numpy as np
import numpy.typing as npt

Strength = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]

DARKEST = 0.3
STRONGEST_ALPHA = 0.62
"""Even under the strongest evidence two fifths of what is seen are bone."""
VISIBLE = 0.04
"""Below this strength nothing is drawn: interpolation alone must not tint the film."""


def _table() -> Bytes:
    inferno = cv2.applyColorMap(np.arange(256, dtype=np.uint8)[:, None], cv2.COLORMAP_INFERNO)[:, 0, ::-1]
    steps = np.linspace(DARKEST * 255, 255, 256).round().astype(int)
    return np.ascontiguousarray(inferno[steps])


TABLE = _table()


def heat_colour(strength: Strength) -> Bytes:
    """The colours (..., 3) of strengths between 0 and 1."""
    return np.asarray(TABLE[(np.clip(strength, 0, 1) * 255).round().astype(np.uint8)])


def heat_alpha(strength: Strength) -> Strength:
    """How opaque (0 to 1) the colour of a strength is drawn: rising with it, soon enough for the faint to be seen."""
    strength = np.clip(strength, 0, 1)
    risen = np.clip((strength - VISIBLE) / (1 - VISIBLE), 0, 1)
    return np.asarray(STRONGEST_ALPHA * np.sqrt(risen), dtype=np.float32)


FOR, AGAINST = (255, 170, 40), (60, 150, 255)
"""What speaks for and what against, told apart by colour-blind eyes too (orange and blue)."""


def signed_colour(grey: Bytes, strength: Strength, opacity: float) -> Bytes:
    """`grey` (rows, columns) under a signed map on a scale of -1 to 1, as RGB: orange above, blue below, bone at 0."""
    alpha = (heat_alpha(np.abs(strength)) / STRONGEST_ALPHA * opacity)[..., None]
    colour = np.where((strength > 0)[..., None], np.array(FOR), np.array(AGAINST))
    return np.asarray((grey[..., None] * (1 - alpha) + colour * alpha).round(), np.uint8)
