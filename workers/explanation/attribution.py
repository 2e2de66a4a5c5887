"""
Where a grade came from, and whether that is a place to take one from.

For a linear head on a global average pool, logit_c = mean(map_c) + bias_c. So what separates the grade that is given
from the next one, the margin, is the mean of the two maps' difference plus the two biases' difference: what each region
of the film adds to it is exact, and no picture of it. Three independent signs raise a red flag:

- too large a part of the evidence comes from outside the joint;
- the grade changes when what is no joint is taken away: the marks that were found, or else all about the joint (one
  more forward, the gap filled from its rim, never black). What fills a gap is a guess, so where there are marks a grade
  has to lead by so much that as large a move again would not change it, and by a little more;
- a marker, text, metal or border lies under a peak of the map.

A map that is empty or spread over everything is said to be so (DIFFUSE).
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import cv2
import numpy as np
import numpy.typing as npt

from node.evidence import Attention, KLGrade
from workers.detection.artefacts import Labels
from workers.detection.joints import Knee
from workers.explanation.regions import JOINT, REGIONS, RegionMap, names_for, region_map, shares_of
from workers.grading.grader import Graded, contrast_map, grade_crops, runner_up
from workers.models.calibration import GRADES
from workers.models.labels import BORDER, HARDWARE, MARKER, NOTHING, TEXT
from workers.models.registry import Card, Model
from workers.preprocessing import Grey, cut

Array = npt.NDArray[np.float32]
Parts = npt.NDArray[np.float64]
"""How much of each cell lies in each region, (regions, rows, columns)."""

CONSTANT = "constant"
"""What no region adds to a margin: the difference of the biases."""

CODES = {MARKER: "MARKER", TEXT: "TEXT", HARDWARE: "HARDWARE", BORDER: "BORDER"}
"""Of each mark the flag that it raises."""
PEAK = 0.5
"""Of a map's highest value: what reaches it belongs to a peak."""
COVERED = 0.15
"""Of a peak, or of the mark if that is larger, by which a mark lies under it."""
AGAIN = 2
"""Of what taking a mark away moves, in grades: between two neighbours so much of the lead is gone if it moves again."""
BORDER_HIDES = 2.5
"""A border hides much of the box, and what fills it tells less of what was there: a grade has to lead by more."""
GRID = 128
"""Pixels of the side of a region map."""
GAP = 0.03
"""How far around a mark it is taken away with it, of the box's side."""


def attended(pixels: Grey, graded: Sequence[Graded], model: Model) -> list[Attention]:
    """Where the grades of knees on a film came from: one more forward for all of them, without what is no joint."""
    size = model.card.input_size
    joints = [cut(pixels, each.knee.pose, size) for each in graded]
    return attended_crops(joints, graded, model)


def attended_crops(joints: Sequence[Grey], graded: Sequence[Graded], model: Model) -> list[Attention]:
    """The same of knees that are cut out already."""
    regions = [regions_of(joint, each.knee) for joint, each in zip(joints, graded, strict=True)]
    bare = [
        taken_away(joint, told, marks_of(each.knee)) for joint, told, each in zip(joints, regions, graded, strict=True)
    ]
    without = grade_crops(bare, [each.knee for each in graded], model)
    return [
        attend(each, told, other.logits, model.card) for each, told, other in zip(graded, regions, without, strict=True)
    ]


def regions_of(joint: Grey, knee: Knee) -> RegionMap:
    """What is where on a knee as it is cut out."""
    points = None if knee.points is None else knee.pose.within(knee.points)
    return region_map(joint, points, knee.laterality, marks_of(knee), GRID)


def attend(graded: Graded, regions: RegionMap, without: Array, model: Card) -> Attention:
    """Where a knee's grade came from; `without` are its logits (5,) without what is no joint (`taken_away`)."""
    logits, first = graded.logits, int(graded.grade)
    second = runner_up(graded)
    contrast = contrast_map(graded)
    parts = shares_of(regions, contrast.shape[-1])
    added = (parts * contrast).sum((1, 2)) / contrast.size
    margin = float(logits[first]) - float(logits[second])
    told = dict(zip(names_for(graded.knee.laterality), map(float, added), strict=True))
    after = model.calibration.probabilities(without)
    attention = Attention(
        second=KLGrade(second),
        margin=margin,
        regions={**told, CONSTANT: margin - float(added.sum())},
        inside=_inside(parts, contrast),
        without=KLGrade(int(model.calibration.grades(after))),
        shift=float((after - graded.probabilities) @ GRADES),
    )
    return replace(attention, reasons=red_flags(attention, graded, parts, model))


def red_flags(attention: Attention, graded: Graded, parts: Parts, model: Card) -> tuple[str, ...]:
    """The codes of the red flags that a knee's attention raises by the limits of a card; `parts` are its regions'."""
    return tuple(dict.fromkeys(_signs(attention, graded, parts, contrast_map(graded), model)))


def _inside(parts: Parts, contrast: Array) -> float | None:
    speaks = np.maximum(contrast, 0)
    joint = [REGIONS.index(name) for name in JOINT]
    total = float(speaks.sum())
    return float((parts[joint].sum(0) * speaks).sum()) / total if total > 0 else None


def _signs(attention: Attention, graded: Graded, parts: Parts, contrast: Array, model: Card) -> Iterator[str]:
    limits, marks = model.limits, marks_of(graded.knee)
    if attention.inside is not None and 1 - attention.inside > limits.outside:
        yield _loudest(parts, contrast)
    named = [kind for kind in CODES if (marks == kind).any()]
    if named and (attention.without != graded.grade or _is_near(attention, graded, BORDER in named, model)):
        yield CODES[max(named, key=lambda kind: int((marks == kind).sum()))]
    elif not named and abs(attention.shift) > limits.shift:
        yield _loudest(parts, contrast)
    heat = np.maximum(graded.maps[int(graded.grade)], 0)
    yield from _under_peaks(heat, marks)
    peak = float(heat.max())
    if peak / model.heat_scale < limits.faint or (peak > 0 and (heat > PEAK * peak).mean() > limits.spread):
        yield "DIFFUSE"


def _is_near(attention: Attention, graded: Graded, border: bool, model: Card) -> bool:
    """Whether the next grade is so near that a mark beside the joint may have made the difference."""
    needed = model.limits.lead * (BORDER_HIDES if border else 1)
    left = model.calibration.lead(graded.probabilities) - AGAIN * abs(attention.shift)
    return needed > 0 and left < needed


def _loudest(parts: Parts, contrast: Array) -> str:
    """The code of the region outside the joint that says most for the grade."""
    speaks = (parts * np.maximum(contrast, 0)).sum((1, 2))
    outside = max((at for at, name in enumerate(REGIONS) if name not in JOINT), key=lambda at: float(speaks[at]))
    return CODES.get(outside - (len(REGIONS) - len(CODES)) + 1, "SOFT_TISSUE")


def _under_peaks(heat: Array, marks: Labels) -> list[str]:
    if not (marks > NOTHING).any() or heat.max() <= 0:
        return []
    fine = cv2.resize(heat, marks.shape[::-1], interpolation=cv2.INTER_LINEAR)
    peak = fine >= PEAK * fine.max()
    under = {kind: int((peak & (marks == kind)).sum()) for kind in CODES}
    return [
        CODES[kind]
        for kind, cells in under.items()
        if cells >= COVERED * max(peak.sum(), (marks == kind).sum()) and cells
    ]


def marks_of(knee: Knee) -> Labels:
    """The marks on a knee's box; none where nobody looked for them."""
    return knee.marks if knee.marks is not None else np.zeros((2, 2), np.uint8)


def taken_away(joint: Grey, regions: RegionMap, marks: Labels) -> Grey:
    """The joint (side, side) without the marks on it, or without all that lies about it if there are none."""
    side = joint.shape[0]
    if (marks > NOTHING).any():
        gone = cv2.resize((marks > NOTHING).astype(np.uint8), (side, side), interpolation=cv2.INTER_NEAREST)
        reach = max(1, round(GAP * side))
        gone = cv2.dilate(gone, np.ones((2 * reach + 1, 2 * reach + 1), np.uint8))
    else:
        away = (regions >= len(JOINT)).astype(np.uint8)
        gone = cv2.resize(away, (side, side), interpolation=cv2.INTER_NEAREST)
    return filled(joint, gone > 0)


def filled(joint: Grey, gone: npt.NDArray[np.bool_]) -> Grey:
    """The image with what is gone filled from its rim inward: the mean of what is left near it, then farther off."""
    left = (~gone).astype(np.float32)
    if gone.all() or not gone.any():
        return joint
    out, known = joint * left, left.copy()
    for sigma in (2, 5, 12, 30, 80):
        near = _blurred(np.dstack([left, joint * left]), sigma * joint.shape[0] / 256)
        weight, sum_near = near[..., 0], near[..., 1]
        sure = np.clip(weight * 4, 0, 1) * (1 - known)
        out += sum_near / np.maximum(weight, 1e-6) * sure
        known += sure
    return np.asarray(np.where(gone, out / np.maximum(known, 1e-6), joint), np.float32)


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
