"""
How the joints on a film hang, told from the image whatever the header says: bones bright or dark, right or left.

A MONOCHROME1 film that somebody saved without honouring it hangs as a negative: 84 of the 6,604 knees that the
graders were trained and judged on did. A grader takes such a knee for another, so it is turned before it is graded.
And up to half of films do not say their side; the fibula, which is lateral, does: it is one voice in sides.py.
"""

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np
import numpy.typing as npt

from workers.detection.joints import Found, Knee, in_part, locate
from workers.laterality.vote import Marker, tell_sides
from workers.models.registry import Model
from workers.preprocessing import Box, Grey, crop, stretch
from workers.read import Film

DARK, LEFT = 0, 1
"""The teller's two answers."""

TURNED = "Bones were dark, whatever the header says: the film was turned to a positive before grading."


def with_bright_bones(film: Film, finder: Model, teller: Model) -> tuple[Film, Found]:
    """
    The film as a positive, and the joints on it.

    Where the finder sees no joint, the film is tried as a negative too.
    """
    found = locate(film.pixels, finder)
    tried = found or locate(_negative(film), finder)
    mended = positive(film, [box for box, _ in tried], teller)
    return (film, found) if mended is film else (mended, locate(mended.pixels, finder) or tried)


def positive(film: Film, joints: Sequence[Box], teller: Model) -> Film:
    """The film as it is, or turned and noted if the joints on it, taken together, have dark bones."""
    if not joints or float(hang(film.pixels, joints, teller)[:, DARK].mean()) <= teller.card.thresholds["dark"]:
        return film
    return replace(film, pixels=_negative(film), notes=(*film.notes, TURNED))


def with_sides(knees: Sequence[Knee], film: Film, teller: Model, markers: Sequence[Marker] = ()) -> list[Knee]:
    """The knees with the side that header, place, markers and fibula tell together (sides.py)."""
    if not knees:
        return []
    boxes = [knee.box for knee in knees]
    fibulas = [float(left) for left in hang(film.pixels, boxes, teller)[:, LEFT]]
    limit = teller.card.thresholds["side"]
    sides = tell_sides(film.header, boxes, fibulas=fibulas, limit=limit, markers=markers, parts=in_part(knees))
    return [knee.sided(side) for knee, side in zip(knees, sides, strict=True)]


def _negative(film: Film) -> Grey:
    """Inverted where the film was exposed; shutters and padding stay as dark as they are."""
    return np.where(film.field, 1 - film.pixels, film.pixels).astype(np.float32)


def hang(pixels: Grey, boxes: Sequence[Box], teller: Model) -> npt.NDArray[np.float32]:
    """The teller's logits (n, 2) for each box on a film: that its bones are dark, that it is a left knee."""
    size = teller.card.input_size
    return teller.run(np.stack([small(crop(pixels, box, size), size) for box in boxes]))[0]


def small(knee: Grey, size: int) -> npt.NDArray[np.float32]:
    """What the teller sees of a crop of a joint, (1, size, size)."""
    if knee.shape != (size, size):
        knee = np.asarray(cv2.resize(knee, (size, size), interpolation=cv2.INTER_AREA), np.float32)
    return ((stretch(knee) - 0.5) / 0.25)[None]
