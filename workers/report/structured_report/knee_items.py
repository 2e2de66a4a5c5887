"""What a report says of a knee beside its grade: what told its side, what it is flagged with, how wide it is."""

import highdicom as hd
from pydicom.sr.coding import Code

from node.evidence import Agreement
from node.finding import Finding
from workers.report import codes

Answers = list[tuple[Code, Code]]


def number(
    name: Code, value: float, unit: Code, shown: str, where: list[hd.sr.CoordinatesForMeasurement] | None = None
) -> hd.sr.Measurement:
    """A number as few digits show it; the floating point value beside it keeps the rest (PS3.3 C.18.1)."""
    number = hd.sr.Measurement(name, value, unit, referenced_coordinates=where)
    number[0].MeasuredValueSequence[0].NumericValue = shown.format(value)
    return number


def width(knee: Finding) -> list[hd.sr.Measurement]:
    """The width of the joint's outline, where the header vouches for millimetres."""
    if knee.field_of_view_mm is None:
        return []
    return [number(codes.FIELD_OF_VIEW, knee.field_of_view_mm, codes.MILLIMETRE, "{:.1f}")]


def evaluations(knee: Finding) -> Answers:
    """Each flag, how what tells the side agrees, and what a millimetre means."""
    told: Answers = [(codes.FLAG, codes.of_flag(flag)) for flag in knee.flags]
    if knee.evidence or knee.agreement is not Agreement.NONE:
        told.append((codes.SIDE_AGREEMENT, codes.AGREEMENTS[knee.agreement]))
    if knee.field_of_view_mm is not None and knee.scale_source in codes.SCALES:
        told.append((codes.SCALE, codes.SCALES[knee.scale_source]))
    return told


def texts(knee: Finding) -> list[tuple[Code, str]]:
    """What speaks of the side, and what to do about each flag."""
    said = ", ".join(f"{each.source}: {each.value}" for each in knee.evidence)
    evidence = [(codes.SIDE_EVIDENCE, said)] if said else []
    return evidence + [(codes.ADVICE, f"{flag.meaning}. {flag.advice}") for flag in knee.flags]


def warning(knee: Finding) -> str:
    """The grave flags, as they follow the answer in the comment that viewers show."""
    return "".join(f" - {flag.code.replace('_', ' ')}" for flag in knee.flags if flag.red)
