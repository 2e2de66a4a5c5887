"""What the header of a film states about the side of its knees: coded attributes and descriptions in words."""

from pydicom import Dataset

from node.evidence import Evidence, LateralitySource
from workers.laterality.descriptions import side_in
from workers.read.header import items, text

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

SIDE_CODES = {"24028007": "R", "7771000": "L", "51440002": "B", "G-A100": "R", "G-A101": "L", "G-A102": "B"}
"""SNOMED CT (and retired SRT) codes of CID 244 Laterality."""


def header_evidence(header: Dataset) -> list[Evidence]:
    """All that the header states about the side, coded attributes first."""
    return [*_coded(header), *_descriptions(header)]


def stated_side(header: Dataset) -> tuple[str, str]:
    """The side that a coded attribute states, "R", "L", "B" or "", and the keyword of that attribute."""
    coded = _coded(header)
    return (coded[0].value, coded[0].source.value) if coded else ("", "")


def row_direction(header: Dataset) -> str:
    """Where the image's rows run to by Patient Orientation (0020,0020): "R", "L", or "" where it states neither."""
    direction = text(header, "PatientOrientation").upper()[:1]
    return direction if direction in ("R", "L") else ""


def is_mirrored(header: Dataset) -> bool:
    """Whether Patient Orientation states that the image's rows run to the patient's right."""
    return row_direction(header) == "R"


def _coded(header: Dataset) -> list[Evidence]:
    """What the attributes state that hold nothing but a side."""
    stated = [(source, text(header, source.value).upper()) for source in ATTRIBUTES]
    modifiers = [
        modifier
        for region in items(header, LateralitySource.ANATOMIC_REGION.value)
        for modifier in items(region, "AnatomicRegionModifierSequence")
        if text(modifier, "CodeValue") in SIDE_CODES
    ]
    stated += [(LateralitySource.ANATOMIC_REGION, SIDE_CODES[text(item, "CodeValue")]) for item in modifiers]
    return [Evidence(source, side, WEIGHTS[source]) for source, side in stated if side in ("R", "L", "B")]


def _descriptions(header: Dataset) -> list[Evidence]:
    """What the descriptions state; of one that occurs twice, the first that names a side."""
    evidence = []
    for source in (*SERIES_DESCRIPTIONS, *ORDER_DESCRIPTIONS):
        values = [text(item, source.value) for item in (header, *items(header, "RequestAttributesSequence"))]
        sides = [side for side in map(side_in, values) if side]
        evidence += [Evidence(source, side, WEIGHTS[source]) for side in sides[:1]]
    return evidence
