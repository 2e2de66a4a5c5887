"""
Which side a knee is: a vote whose evidence is kept.

Up to half of films lack a properly encoded side and some name the wrong one (Filice & Frantz 2019, J Digit Imaging
32:655), so no witness is believed alone and none in silence. A witness says R, L or B and weighs about as much as
the logarithm of its odds to be right. Three sources are independent of each other:

- what was told to the console: Image Laterality, Laterality, Frame Laterality, the modifier of the anatomic region,
  and descriptions in words. One press of a button sets them all, so together they weigh as much as the heaviest;
- the lead marker that was exposed with the knee;
- the picture: the place of a knee on a film of two, and the fibula, which is lateral. A film that hangs mirrored
  deceives both alike (its two knees look as if nothing were wrong), so they too weigh as the heavier one.

Within a source the heaviest witness for each side counts, the sources are added up, and the heavier side stands.
Hence, on a film of one knee:

- header and image agree, or only one speaks: that is the side;
- the header's attribute says one side and a clear fibula the other: the fibula stands. It tells 825 of 826 knees of
  val rightly and none wrongly beyond its limit, which is more than can be said of headers; its weight is capped all
  the same, for a mirrored film would deceive it. A fibula that is less clear than the attribute weighs loses;
- a marker beside the knee (lead_markers.py) outweighs the header and a fibula that is not quite clear, and together
  with either nothing outweighs it; against a clear fibula alone it loses, for what looks like a letter is not rarer
  than a film that hangs mirrored. Two markers, an R beside one knee and an L beside the other, win against both;
- nobody speaks, or both sides weigh the same: the side is unknown.

On a film of two, the patient's right knee hangs on the image's left, or on its right where Patient Orientation says
that rows run to the patient's right. "B" agrees with two knees, and with one: the other may be off the film. A header
that names one side cannot mean both knees of a film: it is kept as evidence of weight 0.

Whoever contradicts the side that stands makes it a conflict, whatever he weighs, with one exception: an order for the
right knee also brings the left one for comparison, so what study, request and procedure say in words is kept
without making a conflict where a coded attribute and marker or image agree on the other side.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from pydicom import Dataset

from node.evidence import Agreement, Evidence
from node.finding import Laterality
from workers.laterality.descriptions import side_in
from workers.preprocessing import Box
from workers.read.header import items, text

CODED = ("ImageLaterality", "Laterality", "FrameLaterality")
"""Attributes of the header that hold nothing but a side, the one nearest to the image first."""
REGION = "AnatomicRegionSequence"
SERIES_WORDS = ("SeriesDescription", "ProtocolName")
ORDER_WORDS = ("PerformedProcedureStepDescription", "RequestedProcedureDescription", "StudyDescription")
"""Descriptions in words: of the series, and of what was ordered and done, which may be more than this film."""

CONSOLE = frozenset((*CODED, REGION, *SERIES_WORDS, *ORDER_WORDS))
PICTURE = frozenset(("position", "image"))

WEIGHTS = {
    "ImageLaterality": 4.6,  # wrong in one of a hundred
    "Laterality": 4.2,  # of the series, which may hold both knees
    "FrameLaterality": 4.2,
    REGION: 4.2,
    "SeriesDescription": 2.5,
    "ProtocolName": 2.5,
    "PerformedProcedureStepDescription": 1.5,
    "RequestedProcedureDescription": 1.5,
    "StudyDescription": 1.5,
}
MARKER = 5.0
"""Of a marker that is read for sure; an unsure one weighs as much less. On composed films, whose letters are set at
random, 6 made one side in twenty wrong."""
MARKERS = 6.0
"""Of each of two markers that agree: an R beside one knee, an L beside the other."""
POSITION, STATED_POSITION = 3.5, 4.5
"""Of the place on a film of two: by custom, and where Patient Orientation says how the film hangs."""
CLEAREST = 5.5
"""The most that the fibula weighs, however sure the network is: 1 of 245 films may hang mirrored."""
EVEN = 0.05
"""Two sides whose weights differ by less are even."""

ORDER = (*CODED, REGION, "marker", "position", "image", *SERIES_WORDS, *ORDER_WORDS)
"""Of those that say the side that stands, the first in this order is named as its source."""

SIDE_CODES = {"24028007": "R", "7771000": "L", "51440002": "B", "G-A100": "R", "G-A101": "L", "G-A102": "B"}
"""SNOMED CT (and retired SRT) codes of CID 244 Laterality."""

OTHER = {"R": "L", "L": "R"}

Marker = tuple[Box, str, float]
"""Where a marker lies on the film, "R" or "L", and how sure that is, 0 to 1."""


@dataclass(frozen=True)
class Side:
    """The side of a knee, what told it, how the witnesses stand to each other, and all that they say."""

    laterality: Laterality
    source: str
    agreement: Agreement
    evidence: tuple[Evidence, ...]


def tell_sides(
    header: Dataset,
    boxes: Sequence[Box],
    *,
    fibulas: Sequence[float] = (),
    limit: float = 0.0,
    markers: Sequence[Marker] = (),
    parts: Collection[int] = (),
) -> list[Side]:
    """
    The side of each joint on a film, in the order of `boxes`, which run from the image's left to its right.

    `fibulas` are the teller's logits of a left knee as it hangs, one for each box or none at all; what lies within
    `limit` of nothing says nothing. Those numbered in `parts` are on the film in part: what the header says is said of
    the other one.
    """
    told = [*_coded(header), *_worded(header)]
    shown = _on_markers(boxes, markers)
    meant = [number for number, _ in enumerate(boxes) if number not in parts]
    sides = []
    for number, _ in enumerate(boxes):
        of_film = told if meant == [number] else [Evidence(each.witness, each.says, 0.0) for each in told]
        evidence = [*of_film, *shown[number], *_placed(header, number, len(boxes))]
        if fibulas and abs(fibulas[number]) >= max(limit, 1e-6):
            evidence.append(_fibula(header, float(fibulas[number])))
        sides.append(decide(evidence))
    return sides


def decide(evidence: Sequence[Evidence]) -> Side:
    """The side that the evidence gives."""
    right, left = (_weight(evidence, side) for side in ("R", "L"))
    speaking = [each for each in evidence if each.says in OTHER and each.weight > 0]
    if not speaking:
        return Side(Laterality.UNKNOWN, "none", Agreement.NONE, tuple(evidence))
    if abs(right - left) < EVEN:
        return Side(Laterality.UNKNOWN, "none", Agreement.CONFLICT, tuple(evidence))
    side = Laterality.RIGHT if right > left else Laterality.LEFT
    mine = [each for each in speaking if each.says == side.value]
    against = [each for each in speaking if each.says != side.value]
    if against and not _excused(mine, against):
        agreement = Agreement.CONFLICT
    else:
        kinds = {"header" if each.witness in CONSOLE else each.witness for each in mine}
        agreement = Agreement.AGREED if len(kinds) > 1 else Agreement.SINGLE
    source = min((each.witness for each in mine), key=_rank)
    return Side(side, source, agreement, tuple(evidence))


def stated_side(header: Dataset) -> tuple[str, str]:
    """The side that an attribute says which holds nothing else, "R", "L", "B" or "", and which attribute that is."""
    told = _coded(header)
    return (told[0].says, told[0].witness) if told else ("", "")


def is_mirrored(header: Dataset) -> bool:
    """Whether Patient Orientation (0020,0020) says that the image's rows run to the patient's right."""
    return text(header, "PatientOrientation").upper().startswith("R")


def _weight(evidence: Sequence[Evidence], side: str) -> float:
    """What the sources together weigh for a side."""
    heaviest: dict[str, float] = {}
    for each in evidence:
        if each.says == side:
            source = "console" if each.witness in CONSOLE else "picture" if each.witness in PICTURE else each.witness
            heaviest[source] = max(heaviest.get(source, 0.0), each.weight)
    return sum(heaviest.values())


def _excused(mine: Sequence[Evidence], against: Sequence[Evidence]) -> bool:
    """Whether only the words of an order speak against what attribute and film agree on."""
    names = {each.witness for each in mine}
    sure = names & {*CODED, REGION} and names & {"marker", "image"}
    return bool(sure) and all(each.witness in ORDER_WORDS for each in against)


def _rank(witness: str) -> int:
    return ORDER.index(witness) if witness in ORDER else len(ORDER)


def _coded(header: Dataset) -> list[Evidence]:
    """What the attributes say that hold nothing but a side."""
    said = [(keyword, text(header, keyword).upper()) for keyword in CODED]
    modifiers = [
        modifier
        for region in items(header, REGION)
        for modifier in items(region, "AnatomicRegionModifierSequence")
        if text(modifier, "CodeValue") in SIDE_CODES
    ]
    said += [(REGION, SIDE_CODES[text(each, "CodeValue")]) for each in modifiers]
    return [Evidence(witness, side, WEIGHTS[witness]) for witness, side in said if side in ("R", "L", "B")]


def _worded(header: Dataset) -> list[Evidence]:
    """What the descriptions say; of one that is there twice, the first that says something."""
    told = []
    for keyword in (*SERIES_WORDS, *ORDER_WORDS):
        values = [text(each, keyword) for each in (header, *items(header, "RequestAttributesSequence"))]
        sides = [side for side in map(side_in, values) if side]
        told += [Evidence(keyword, side, WEIGHTS[keyword]) for side in sides[:1]]
    return told


def _placed(header: Dataset, number: int, count: int) -> list[Evidence]:
    """What its place says of one of two knees; a single knee's place says nothing."""
    if count != 2:
        return []
    # A film is hung as if the patient faced the reader: the patient's right knee on the image's left.
    side = "RL"[number] if not is_mirrored(header) else "LR"[number]
    stated = text(header, "PatientOrientation").upper()[:1] in ("R", "L")
    return [Evidence("position", side, STATED_POSITION if stated else POSITION)]


def _fibula(header: Dataset, left: float) -> Evidence:
    """What the fibula says: of a film that hangs mirrored, the other way round."""
    is_left = (left > 0) != is_mirrored(header)
    return Evidence("image", "L" if is_left else "R", min(abs(left), CLEAREST))


def _on_markers(boxes: Sequence[Box], markers: Sequence[Marker]) -> list[list[Evidence]]:
    """
    What the markers say of each knee: each speaks for the knee whose half it lies on.

    Where only one of two knees has a marker, the other one is the other side. Without that, a mirrored film with one
    marker would give the knee that has none the wrong side in silence.
    """
    told: list[list[Evidence]] = [[] for _ in boxes]
    for where, letter, sure in markers:
        if boxes and letter in OTHER:
            middle = (where.x0 + where.x1) / 2
            nearest = min(range(len(boxes)), key=lambda at: abs((boxes[at].x0 + boxes[at].x1) / 2 - middle))
            told[nearest].append(Evidence("marker", letter, MARKER * min(max(sure, 0.0), 1.0)))
    if len(boxes) != 2:
        return told
    said = [{each.says for each in of_one} for of_one in told]
    if said in ([{"R"}, {"L"}], [{"L"}, {"R"}]):
        return [[replace(each, weight=each.weight * MARKERS / MARKER) for each in of_one] for of_one in told]
    for mine, others in ((0, 1), (1, 0)):
        if not told[mine] and len(said[others]) == 1:
            told[mine] = [Evidence("marker", OTHER[each.says], each.weight) for each in told[others]]
            break
    return told
