"""Content items of a knee beside its grade: sources of its laterality, flags, width of the joint."""

import highdicom as hd
from pydicom.sr.coding import Code

from node.evidence import Agreement
from node.finding import Finding
from workers.report import codes

Evaluations = list[tuple[Code, Code]]


def measurement(
    name: Code,
    value: float,
    unit: Code,
    number_format: str,
    outlines: list[hd.sr.CoordinatesForMeasurement] | None = None,
) -> hd.sr.Measurement:
    """A number rounded for display; Floating Point Value has all its digits (PS3.3 C.18.1)."""
    measurement = hd.sr.Measurement(name, value, unit, referenced_coordinates=outlines)
    measurement[0].MeasuredValueSequence[0].NumericValue = number_format.format(value)
    return measurement


def field_of_view(knee: Finding) -> list[hd.sr.Measurement]:
    """The width of the joint's outline, where the header defines millimetres."""
    if knee.field_of_view_mm is None:
        return []
    return [measurement(codes.FIELD_OF_VIEW, knee.field_of_view_mm, codes.MILLIMETRE, "{:.1f}")]


def evaluations(knee: Finding) -> Evaluations:
    """Coded values: each flag, the agreement of the laterality's sources, and the scale of a millimetre."""
    evaluations: Evaluations = [(codes.FLAG, codes.flag_code(flag)) for flag in knee.flags]
    if knee.evidence or knee.agreement is not Agreement.NONE:
        evaluations.append((codes.LATERALITY_AGREEMENT, codes.AGREEMENTS[knee.agreement]))
    if knee.field_of_view_mm is not None and knee.scale_source in codes.SCALES:
        evaluations.append((codes.SCALE, codes.SCALES[knee.scale_source]))
    return evaluations


def texts(knee: Finding) -> list[tuple[Code, str]]:
    """Texts: the sources of the laterality with the value of each, and the advice of each flag."""
    sources = ", ".join(f"{evidence.source}: {evidence.value}" for evidence in knee.evidence)
    texts = [(codes.LATERALITY_EVIDENCE, sources)] if sources else []
    return texts + [(codes.ADVICE, f"{flag.meaning}. {flag.advice}") for flag in knee.flags]


def red_flag_text(knee: Finding) -> str:
    """The red flags, as they follow the grade in the comment that viewers show."""
    return "".join(f" - {flag.code.replace('_', ' ')}" for flag in knee.flags if flag.red)
