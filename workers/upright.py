"""
How the joints on a film hang, told from the image whatever the header says: bones bright or dark, right or left.

A MONOCHROME1 film that somebody saved without honouring it hangs as a negative: 84 of the 6,604 knees that the
graders were trained and judged on did. A grader takes such a knee for another, so it is turned before it is graded.
And up to half of films do not say their side; the fibula, which is lateral, does.
"""

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np
import numpy.typing as npt

from node.finding import Laterality
from workers.knees import Found, Knee, is_mirrored, locate
from workers.prepare import Box, Grey, crop, stretch
from workers.read import Film
from workers.registry import Model

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


def with_sides(knees: Sequence[Knee], film: Film, teller: Model) -> list[Knee]:
    """
    The knees with what was stated and what the image says of their sides.

    The image speaks where it tells a side clearly; of an unknown side it decides. Against a header it does not: a
    mirrored film looks just like the other knee. Then both stand in the evidence, and that is a conflict.
    """
    mirrored = -1 if is_mirrored(film.header) else 1
    told = mirrored * hang(film.pixels, [knee.box for knee in knees], teller)[:, LEFT]
    return [_sided(knee, float(left), teller.card.thresholds["side"]) for knee, left in zip(knees, told, strict=True)]


def _sided(knee: Knee, left: float, limit: float) -> Knee:
    stated = knee.laterality is not Laterality.UNKNOWN
    evidence = [(knee.laterality_source, knee.laterality.value)] if stated else []
    if abs(left) < limit:
        return replace(knee, evidence=tuple(evidence))
    seen = Laterality.LEFT if left > 0 else Laterality.RIGHT
    evidence.append(("image", seen.value))
    if stated:
        return replace(knee, evidence=tuple(evidence))
    return replace(knee, laterality=seen, laterality_source="image", evidence=tuple(evidence))


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
