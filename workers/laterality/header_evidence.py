"""What the header of a film states about the side of its knees: coded attributes and descriptions in words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydicom import Dataset

from node.evidence import Evidence, LateralitySource
from workers.laterality.descriptions import side_in
from workers.read.header import texts

ATTRIBUTES = (
    LateralitySource.IMAGE_LATERALITY,
    LateralitySource.LATERALITY,
    LateralitySource.FRAME_LATERALITY,
)
"""Attributes that hold nothing but a side, the one nearest to the image first."""
CODED = (*ATTRIBUTES, LateralitySource.ANATOMIC_REGION)
SERIES_DESCRIPTIONS = (LateralitySource.SERIES_DESCRIPTION, LateralitySource.PROTOCOL_NAME)
ORDER_DESCRIPTIONS = (
    LateralitySource.PROCEDURE_STEP,
    LateralitySource.REQUESTED_PROCEDURE,
    LateralitySource.STUDY_DESCRIPTION,
)
"""Descriptions in words: of the series, and of what was ordered and done, which may be more than this film."""

REQUESTS, ORIENTATION = "RequestAttributesSequence", "PatientOrientation"
REGION_MODIFIER = (LateralitySource.ANATOMIC_REGION.value, "AnatomicRegionModifierSequence", "CodeValue")
DESCRIPTIONS = (*SERIES_DESCRIPTIONS, *ORDER_DESCRIPTIONS)
STATED: tuple[tuple[str, ...], ...] = (
    *((source.value,) for source in (*ATTRIBUTES, *DESCRIPTIONS)),
    *((REQUESTS, source.value) for source in DESCRIPTIONS),
    REGION_MODIFIER,
    (ORIENTATION,),
)
"""Paths of the attributes that are read, each through the sequences that it lies in."""

CONSOLE = frozenset((*CODED, *SERIES_DESCRIPTIONS, *ORDER_DESCRIPTIONS))

WEIGHTS = {
    LateralitySource.IMAGE_LATERALITY: 4.6,  # wrong in one of a hundred
    LateralitySource.LATERALITY: 4.2,  # of the series, which may hold both knees
    LateralitySource.FRAME_LATERALITY: 4.2,
    LateralitySource.ANATOMIC_REGION: 4.2,
    LateralitySource.SERIES_DESCRIPTION: 2.5,
    LateralitySource.PROTOCOL_NAME: 2.5,
    LateralitySource.PROCEDURE_STEP: 1.5,
    LateralitySource.REQUESTED_PROCEDURE: 1.5,
    LateralitySource.STUDY_DESCRIPTION: 1.5,
}

UNKNOWN_VALUE = "?"
"""Evidence of a coded attribute whose value cannot be understood: it weighs nothing and leaves a trace."""

SIDE_CODES = {"24028007": "R", "7771000": "L", "51440002": "B", "G-A100": "R", "G-A101": "L", "G-A102": "B"}
"""SNOMED CT (and retired SRT) codes of CID 244 Laterality."""


@dataclass(frozen=True)
class HeaderStatement:
    """
    All that a header states about the side of its knees, coded attributes first.

    `row_direction` is where the image's rows run to by Patient Orientation (0020,0020): "R", "L", or "" for neither.
    """

    evidence: tuple[Evidence, ...] = ()
    row_direction: str = ""

    @property
    def is_mirrored(self) -> bool:
        """Whether the image's rows run to the patient's right."""
        return self.row_direction == "R"


def header_statement(header: Dataset) -> HeaderStatement:
    """What the header states; of a description that occurs twice, the first that names a side."""
    stated = texts(header, STATED)
    evidence = [
        Evidence(source, side, 0.0 if side == UNKNOWN_VALUE else WEIGHTS[source]) for source, side in _coded(stated)
    ]
    for source in DESCRIPTIONS:
        sides = [side for side in map(side_in, (*stated[(source,)], *stated[(REQUESTS, source)])) if side]
        evidence += [Evidence(source, side, WEIGHTS[source]) for side in sides[:1]]
    direction = stated[(ORIENTATION,)][0].upper()[:1]
    return HeaderStatement(tuple(evidence), direction if direction in ("R", "L") else "")


def stated_side(header: Dataset) -> tuple[str, str]:
    """The side that a coded attribute states, "R", "L", "B" or "", and the keyword of that attribute."""
    coded = _coded(texts(header, STATED))
    return next(((side, source.value) for source, side in coded if side != UNKNOWN_VALUE), ("", ""))


def _coded(stated: Mapping[tuple[str, ...], Sequence[str]]) -> list[tuple[LateralitySource, str]]:
    """
    The sides of the attributes that hold nothing else, the one nearest to the image first.

    Senders write words where the standard has a code ("LEFT", "rechts", "RIGHT KNEE"): what can be understood counts as
    coded. A value that cannot be is UNKNOWN_VALUE, never the value itself, which could be anything. "U" (PS3.3
    C.7.6.1.1.1, an unpaired part) states no side.
    """
    sides = [(source, _side(value)) for source in ATTRIBUTES for value in stated[(source,)]]
    sides += [(LateralitySource.ANATOMIC_REGION, SIDE_CODES.get(code, "")) for code in stated[REGION_MODIFIER]]
    return [(source, side) for source, side in sides if side]


def _side(value: str) -> str:
    """Of a value of a coded attribute "R", "L", "B", UNKNOWN_VALUE, or "" where it states no side."""
    code = value.strip().upper()
    if code in ("", "U"):
        return ""
    return code if code in ("R", "L", "B") else side_in(value) or UNKNOWN_VALUE
