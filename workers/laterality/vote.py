"""
The laterality of each joint on a film: a weighted vote of independent sources, all of which are recorded as evidence.

Up to half of films lack a properly encoded side and some name the wrong one (Filice & Frantz 2019, J Digit Imaging
32:655), so no source decides alone. A source states R, L or B, with a weight of about the logarithm of its odds to be
right. Three groups of sources are independent of each other:

- the console: Image Laterality, Laterality, Frame Laterality, the modifier of the anatomic region, and descriptions in
  words. One press of a button sets them all, so together they weigh as much as the heaviest;
- the lead marker that was exposed with the knee;
- the image: the position of a knee on a film of two, and the fibula, which is lateral. A mirrored film misleads both
  alike (its two knees appear in their usual places), so they too weigh as the heavier one.

Within a group the heaviest source for each side counts, the groups are added up, and the heavier side is the result.
Hence, on a film of one knee:

- header and image agree, or only one states a side: that is the side;
- the header's attribute states one side and a clear fibula the other: the fibula wins. It gives 825 of 826 knees of val
  the right side and none the wrong one beyond its limit, so it is more reliable than headers; its weight is
  capped all the same, for a mirrored film would mislead it. A fibula that is less clear than that loses;
- a marker beside the knee (lead_markers.py) outweighs the header and a fibula that is not quite clear, and together
  with either nothing outweighs it; against a clear fibula alone it loses, for what resembles a letter is not rarer
  than a mirrored film. Two markers, an R beside one knee and an L beside the other, win against both;
- no source states a side, or both sides weigh the same: the side is unknown.

On a film of two, the patient's right knee is on the image's left, or on its right where Patient Orientation states that
rows run to the patient's right. "B" agrees with two knees, and with one: the other may be off the film. A header
that names one side cannot mean both knees of a film: it is recorded as evidence of weight 0.

Any source that contradicts the result makes it a conflict, whatever its weight, with one exception: an order for the
right knee also brings the left one for comparison, so the descriptions of study, request and procedure are no
conflict where a coded attribute and marker or image agree on the other side.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from node.evidence import Agreement, Evidence, LateralitySource
from node.finding import Laterality
from workers.laterality.header_evidence import (
    CODED,
    CONSOLE,
    ORDER_DESCRIPTIONS,
    SERIES_DESCRIPTIONS,
    HeaderStatement,
)
from workers.preprocessing import Box

PICTURE = frozenset((LateralitySource.POSITION, LateralitySource.IMAGE))

MARKER = 5.0
"""Weight of a marker that is certain; an uncertain one weighs as much less. On composed films, whose letters are set at
random, 6 made one side in twenty wrong."""
MARKERS = 6.0
"""Weight of each of two markers that agree: an R beside one knee, an L beside the other."""
POSITION, STATED_POSITION = 3.5, 4.5
"""Weight of the position on a film of two: by custom, and where Patient Orientation states where the rows run."""
CLEAREST = 5.5
"""The most that the fibula weighs, however certain the network is: 1 of 245 films may be mirrored."""
EVEN = 0.05
"""Two sides whose weights differ by less are even."""

RANK = (
    *CODED,
    LateralitySource.MARKER,
    LateralitySource.POSITION,
    LateralitySource.IMAGE,
    *SERIES_DESCRIPTIONS,
    *ORDER_DESCRIPTIONS,
)
"""Of the sources that state the resulting side, the first in this order is named as its source."""

OTHER = {"R": "L", "L": "R"}

LeadMarker = tuple[Box, str, float]
"""Where a marker lies on the film, "R" or "L", and its probability, 0 to 1."""


@dataclass(frozen=True)
class LateralityVote:
    """The laterality of a knee, its first source, how the sources agree, and all that they state."""

    laterality: Laterality = Laterality.UNKNOWN
    source: LateralitySource = LateralitySource.NONE
    agreement: Agreement = Agreement.NONE
    evidence: tuple[Evidence, ...] = ()


def vote(
    stated: HeaderStatement,
    boxes: Sequence[Box],
    *,
    fibulas: Sequence[float] = (),
    limit: float = 0.0,
    markers: Sequence[LeadMarker] = (),
    partial: Collection[int] = (),
) -> list[LateralityVote]:
    """
    The laterality of each joint on a film, in the order of `boxes`, which run from the image's left to its right.

    `stated` is what the header states. `fibulas` are the logits of a left knee as displayed, one
    for each box or none at all; one within `limit` of zero is no evidence. Joints numbered in `partial` lie partly
    beyond the film's edge: what the header states is about the other one.
    """
    of_markers = _marker_evidence(boxes, markers)
    complete = [number for number, _ in enumerate(boxes) if number not in partial]
    votes = []
    for number, _ in enumerate(boxes):
        of_film = stated.evidence
        if complete != [number]:
            of_film = tuple(replace(evidence, weight=0.0) for evidence in stated.evidence)
        evidence = [*of_film, *of_markers[number], *_position_evidence(stated, number, len(boxes))]
        if fibulas and abs(fibulas[number]) >= max(limit, 1e-6):
            evidence.append(_fibula_evidence(stated, float(fibulas[number])))
        votes.append(decide(evidence))
    return votes


def decide(evidence: Sequence[Evidence]) -> LateralityVote:
    """The laterality that the evidence gives."""
    right, left = (_weight(evidence, side) for side in ("R", "L"))
    stated = [item for item in evidence if item.value in OTHER and item.weight > 0]
    if not stated:
        return LateralityVote(evidence=tuple(evidence))
    if abs(right - left) < EVEN:
        return LateralityVote(agreement=Agreement.CONFLICT, evidence=tuple(evidence))
    side = Laterality.RIGHT if right > left else Laterality.LEFT
    supporting = [item for item in stated if item.value == side.value]
    opposing = [item for item in stated if item.value != side.value]
    if opposing and not _is_excused(supporting, opposing):
        agreement = Agreement.CONFLICT
    else:
        kinds = {"header" if item.source in CONSOLE else item.source.value for item in supporting}
        agreement = Agreement.AGREED if len(kinds) > 1 else Agreement.SINGLE
    source = min((item.source for item in supporting), key=RANK.index)
    return LateralityVote(side, source, agreement, tuple(evidence))


def _weight(evidence: Sequence[Evidence], side: str) -> float:
    """The sum of the groups' weights for a side."""
    heaviest: dict[str, float] = {}
    for item in evidence:
        if item.value == side:
            group = "console" if item.source in CONSOLE else "picture" if item.source in PICTURE else item.source.value
            heaviest[group] = max(heaviest.get(group, 0.0), item.weight)
    return sum(heaviest.values())


def _is_excused(supporting: Sequence[Evidence], opposing: Sequence[Evidence]) -> bool:
    """Whether only the descriptions of an order contradict what attribute and film agree on."""
    sources = {item.source for item in supporting}
    certain = sources & {*CODED} and sources & {LateralitySource.MARKER, LateralitySource.IMAGE}
    return bool(certain) and all(item.source in ORDER_DESCRIPTIONS for item in opposing)


def _position_evidence(stated: HeaderStatement, number: int, count: int) -> list[Evidence]:
    """The evidence of position for one of two knees; a single knee has none."""
    if count != 2:
        return []
    # A film is displayed as if the patient faced the reader: the patient's right knee on the image's left.
    side = "RL"[number] if not stated.is_mirrored else "LR"[number]
    weight = STATED_POSITION if stated.row_direction else POSITION
    return [Evidence(LateralitySource.POSITION, side, weight)]


def _fibula_evidence(stated: HeaderStatement, left: float) -> Evidence:
    """The evidence of the fibula: of a film that is displayed mirrored, the other way round."""
    is_left = (left > 0) != stated.is_mirrored
    return Evidence(LateralitySource.IMAGE, "L" if is_left else "R", min(abs(left), CLEAREST))


def _marker_evidence(boxes: Sequence[Box], markers: Sequence[LeadMarker]) -> list[list[Evidence]]:
    """
    The evidence of the markers for each knee: a marker counts for the knee whose half of the film it lies on.

    Where only one of two knees has a marker, the other one is the other side. Without that, a mirrored film with one
    marker would give the knee that has none the wrong side without a conflict.
    """
    of_knees: list[list[Evidence]] = [[] for _ in boxes]
    for box, letter, probability in markers:
        if boxes and letter in OTHER:
            middle = (box.x0 + box.x1) / 2
            nearest = min(range(len(boxes)), key=lambda number: abs((boxes[number].x0 + boxes[number].x1) / 2 - middle))
            weight = MARKER * min(max(probability, 0.0), 1.0)
            of_knees[nearest].append(Evidence(LateralitySource.MARKER, letter, weight))
    if len(boxes) != 2:
        return of_knees
    letters = [{item.value for item in of_knee} for of_knee in of_knees]
    if letters in ([{"R"}, {"L"}], [{"L"}, {"R"}]):
        return [[replace(item, weight=item.weight * MARKERS / MARKER) for item in of_knee] for of_knee in of_knees]
    for number, other in ((0, 1), (1, 0)):
        if not of_knees[number] and len(letters[other]) == 1:
            of_knees[number] = [replace(item, value=OTHER[item.value]) for item in of_knees[other]]
            break
    return of_knees
