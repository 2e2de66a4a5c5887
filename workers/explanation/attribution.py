"""
Which regions of the film decided a grade, and whether they may decide it.

For a linear head on a global average pool, logit_c = mean(map_c) + bias_c. So what separates the grade that is given
from the next one, the margin, is the mean of the two maps' difference plus the two biases' difference: the part that
each region of the film adds to it is exact. Three independent signs raise a red flag:

- too large a part of the evidence comes from outside the joint;
- the grade changes when all but the joint is removed: the artefacts that were segmented, or else all around the joint
  (one more forward pass, the gap filled from its rim, never black). What fills a gap is a guess, so where there are
  artefacts a grade has to lead by so much that as large a change again would not change it, and by a little more;
- a marker, text, metal or border lies under a peak of the map.

A map that is empty or spread over everything is flagged as such (DIFFUSE).
"""

from collections.abc import Iterator
from dataclasses import replace

import cv2
import numpy as np
import numpy.typing as npt

from node.evidence import Attention, KLGrade
from workers.detection.artefacts import Labels
from workers.explanation.regions import JOINT, REGIONS, RegionMap, region_map, region_names, shares_of
from workers.grading.grader import Graded
from workers.knee import Knee
from workers.models.calibration import GRADES
from workers.models.labels import BORDER, HARDWARE, MARKER, NOTHING, TEXT
from workers.models.registry import Card
from workers.preprocessing import Grey

Array = npt.NDArray[np.float32]
Parts = npt.NDArray[np.float64]
"""How much of each cell of a map lies in each region, (regions, rows, columns)."""

CONSTANT = "constant"
"""The part of a margin that no region adds: the difference of the biases."""

CODES = {MARKER: "MARKER", TEXT: "TEXT", HARDWARE: "HARDWARE", BORDER: "BORDER"}
"""The flag that each artefact raises."""
PEAK = 0.5
"""Part of a map's highest value from which a cell belongs to a peak."""
COVERED = 0.15
"""Part of a peak, or of the artefact if that is larger, that has to overlap for the artefact to lie under the peak."""
AGAIN = 2
"""Times the change of the expected grade by removing an artefact: between two neighbouring grades so much of the lead
is lost if it changes as much again."""
BORDER_HIDES = 2.5
"""A border hides much of the box, and its filling is a poorer guess: a grade has to lead by so many times more."""
GRID = 128
"""Pixels of the side of a region map."""
GAP = 0.03
"""How far around an artefact the crop is removed with it, of the box's side."""


def joint_only(crop: Grey, regions: RegionMap, labels: Labels) -> Grey:
    """The crop (side, side) without the artefacts on it, or without all around the joint if there are none."""
    side = crop.shape[0]
    if (labels > NOTHING).any():
        gone = cv2.resize((labels > NOTHING).astype(np.uint8), (side, side), interpolation=cv2.INTER_NEAREST)
        reach = max(1, round(GAP * side))
        gone = cv2.dilate(gone, np.ones((2 * reach + 1, 2 * reach + 1), np.uint8))
    else:
        outside = (regions >= len(JOINT)).astype(np.uint8)
        gone = cv2.resize(outside, (side, side), interpolation=cv2.INTER_NEAREST)
    return filled(crop, gone > 0)


def regions_of(crop: Grey, knee: Knee) -> RegionMap:
    """The regions of the crop of a knee."""
    landmarks = knee.joint.landmarks
    points = None if landmarks is None else knee.pose.within(landmarks)
    return region_map(crop, points, knee.laterality, knee.labels, GRID)


def attention_of(graded: Graded, regions: RegionMap, without: Array, card: Card) -> Attention:
    """Where a knee's grade came from; `without` are its logits (5,) on the joint alone (`joint_only`)."""
    logits, second, contrast = graded.logits, graded.second, graded.contrast
    parts = shares_of(regions, contrast.shape[-1])
    added = (parts * contrast).sum((1, 2)) / contrast.size
    margin = float(logits[int(graded.grade)]) - float(logits[int(second)])
    by_region = dict(zip(region_names(graded.knee.laterality), map(float, added), strict=True))
    after = card.calibration.probabilities(without)
    attention = Attention(
        second=second,
        margin=margin,
        regions={**by_region, CONSTANT: margin - float(added.sum())},
        inside=_inside(parts, contrast),
        without=KLGrade(int(card.calibration.grades(after))),
        shift=float((after - graded.probabilities) @ GRADES),
    )
    return replace(attention, reasons=red_flags(attention, graded, parts, card))


def red_flags(attention: Attention, graded: Graded, parts: Parts, card: Card) -> tuple[str, ...]:
    """The codes of the red flags that a knee's attention raises by the limits of a card."""
    return tuple(dict.fromkeys(_signs(attention, graded, parts, graded.contrast, card)))


def _inside(parts: Parts, contrast: Array) -> float | None:
    positive = np.maximum(contrast, 0)
    joint = [REGIONS.index(name) for name in JOINT]
    total = float(positive.sum())
    return float((parts[joint].sum(0) * positive).sum()) / total if total > 0 else None


def _signs(attention: Attention, graded: Graded, parts: Parts, contrast: Array, card: Card) -> Iterator[str]:
    limits, labels = card.limits, graded.knee.labels
    if attention.inside is not None and 1 - attention.inside > limits.outside:
        yield _strongest_outside(parts, contrast)
    present = [kind for kind in CODES if (labels == kind).any()]
    if present and (attention.without != graded.grade or _is_near(attention, graded, BORDER in present, card)):
        yield CODES[max(present, key=lambda kind: int((labels == kind).sum()))]
    elif not present and abs(attention.shift) > limits.shift:
        yield _strongest_outside(parts, contrast)
    heat = np.maximum(graded.maps[int(graded.grade)], 0)
    yield from _under_peaks(heat, labels)
    peak = float(heat.max())
    if peak / card.heat_scale < limits.faint or (peak > 0 and (heat > PEAK * peak).mean() > limits.spread):
        yield "DIFFUSE"


def _is_near(attention: Attention, graded: Graded, border: bool, card: Card) -> bool:
    """Whether the next grade is so near that an artefact beside the joint may have made the difference."""
    needed = card.limits.lead * (BORDER_HIDES if border else 1)
    left = graded.lead - AGAIN * abs(attention.shift)
    return needed > 0 and left < needed


def _strongest_outside(parts: Parts, contrast: Array) -> str:
    """The code of the region outside the joint with the most evidence for the grade."""
    evidence = (parts * np.maximum(contrast, 0)).sum((1, 2))
    outside = [number for number, name in enumerate(REGIONS) if name not in JOINT]
    strongest = max(outside, key=lambda number: float(evidence[number]))
    return CODES.get(strongest - (len(REGIONS) - len(CODES)) + 1, "SOFT_TISSUE")


def _under_peaks(heat: Array, labels: Labels) -> list[str]:
    if not (labels > NOTHING).any() or heat.max() <= 0:
        return []
    fine = cv2.resize(heat, labels.shape[::-1], interpolation=cv2.INTER_LINEAR)
    peak = fine >= PEAK * fine.max()
    under = {kind: int((peak & (labels == kind)).sum()) for kind in CODES}
    return [
        CODES[kind]
        for kind, cells in under.items()
        if cells >= COVERED * max(peak.sum(), (labels == kind).sum()) and cells
    ]


def filled(image: Grey, gone: npt.NDArray[np.bool_]) -> Grey:
    """The image with the gap `gone` filled from its rim inward: the mean of what is left near it, then farther off."""
    left = (~gone).astype(np.float32)
    if gone.all() or not gone.any():
        return image
    out, known = image * left, left.copy()
    for sigma in (2, 5, 12, 30, 80):
        near = _blurred(np.dstack([left, image * left]), sigma * image.shape[0] / 256)
        weight, sum_near = near[..., 0], near[..., 1]
        sure = np.clip(weight * 4, 0, 1) * (1 - known)
        out += sum_near / np.maximum(weight, 1e-6) * sure
        known += sure
    return np.asarray(np.where(gone, out / np.maximum(known, 1e-6), image), np.float32)


def _blurred(image: npt.NDArray[np.float32], sigma: float) -> npt.NDArray[np.float32]:
    """A Gaussian blur; a wide one on a coarser grid, where it looks the same and costs a tenth."""
    step = max(1, int(sigma / 4))
    rows, columns = image.shape[:2]
    coarse = image
    if step > 1:
        size = max(1, columns // step), max(1, rows // step)
        coarse = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.float32)
    blurred = cv2.GaussianBlur(coarse, (0, 0), sigma / step)
    return np.asarray(cv2.resize(blurred, (columns, rows), interpolation=cv2.INTER_LINEAR), np.float32)
