"""
The reading as a report's codes and numbers have it: for a report that has lost its private attributes.

What no code contains is left empty: weights of the laterality's sources, landmarks, tilt, attention. Boxes are clipped
to the film.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from pydicom.dataset import Dataset
from pydicom.sr.coding import Code

from node.evidence import Agreement, Certainty, KLGrade, LateralitySource
from node.finding import Finding, Laterality, ModelIdentity, Outcome, Reading, ScaleSource
from node.reasons import FLAGS, REASONS
from workers.report import codes
from workers.report.structured_report.content_tree import (
    concept_name,
    descendants,
    measurement_groups,
    source_instance_uid,
)

WEIGHTS = re.compile(r"weights sha256: (\S+)")


class ParsedGroup:
    """A measurement group whose content items are found by their concept name."""

    def __init__(self, group: Dataset) -> None:
        self.items = list(descendants(group))

    def _all(self, name: Code) -> Iterator[Dataset]:
        return (item for item in self.items if concept_name(item) == name)

    def codes_of(self, name: Code) -> list[str]:
        """The code values of the coded items with that name."""
        return [str(item.ConceptCodeSequence[0].CodeValue) for item in self._all(name)]

    def texts(self, name: Code) -> list[str]:
        """The texts of the items with that name."""
        return [str(item.TextValue) for item in self._all(name)]

    def number(self, name: Code) -> float | None:
        """The number with that name, with all its digits; None if there is none."""
        item = next(self._all(name), None)
        if item is None:
            return None
        value = item.MeasuredValueSequence[0]
        return float(value.get("FloatingPointValue", value.NumericValue))

    def outline(self) -> tuple[float, float, float, float]:
        """The box of the first closed polyline."""
        data = next(item.GraphicData for item in self.items if item.ValueType == "SCOORD")
        return min(data[::2]), min(data[1::2]), max(data[::2]), max(data[1::2])


def parse_reading(report: Dataset) -> Reading:
    """The reading in a report of Genu. Raises ValueError if it is none, or lacks what every report has."""
    groups = [ParsedGroup(item) for item in measurement_groups(report)]
    try:
        knees = tuple(_knee(group) for group in groups if group.codes_of(codes.FINDING_SITE))
        graded = any(knee.grade is not None for knee in knees)
        code = next((code for group in groups for code in group.codes_of(codes.NOT_GRADABLE_REASON)), None)
        return Reading(
            source_instance_uid(report),
            Outcome.GRADED if graded else Outcome.NOT_ANALYSED,
            _model(groups[0]),
            knees=knees,
            reason=None if graded or code is None else REASONS[code],
            notes=tuple(dict.fromkeys(text for group in groups for text in group.texts(codes.READING_NOTE))),
        )
    except (AttributeError, IndexError, KeyError, StopIteration) as error:
        raise ValueError(f"no report of Genu, or an incomplete one: {error!r}") from error


def _model(group: ParsedGroup) -> ModelIdentity:
    name, version, parameters = (group.texts(concept)[0] for concept in codes.ALGORITHM)
    match = WEIGHTS.match(parameters)
    return ModelIdentity(name, version, match.group(1) if match else "")


def _knee(group: ParsedGroup) -> Finding:
    lateralities = {code.value: laterality for laterality, code in codes.LATERALITIES.items()}
    (code,) = group.codes_of(codes.GRADE)
    grade = _GRADES.get(code)
    reasons, width = group.codes_of(codes.NOT_GRADABLE_REASON), group.number(codes.FIELD_OF_VIEW)
    scales = {code.value: name for name, code in codes.SCALES.items()}
    graded_fields: dict[str, Any] = {}
    if grade is not None:
        graded_fields["probabilities"] = tuple(
            (group.number(code) or 0.0) / 100 for code in codes.PROBABILITIES.values()
        )
        graded_fields["empty_map"] = group.codes_of(codes.HEAT_MAP) == [codes.MAP_EMPTY.value]
        graded_fields["certainty"] = _certainty(group)
    return Finding(
        laterality=next((lateralities[code] for code in group.codes_of(codes.LATERALITY)), Laterality.UNKNOWN),
        laterality_source=LateralitySource.parse(group.texts(codes.LATERALITY_SOURCE)[0]),
        box=group.outline(),
        grade=grade,
        reason=REASONS[reasons[0]] if reasons else None,
        flags=tuple(FLAGS[code] for code in group.codes_of(codes.FLAG) if code in FLAGS),
        agreement=_AGREEMENTS.get(next(iter(group.codes_of(codes.LATERALITY_AGREEMENT)), ""), Agreement.NONE),
        field_of_view_mm=width,
        scale_source=ScaleSource(scales.get(next(iter(group.codes_of(codes.SCALE)), ""), "none")),
        **graded_fields,
    )


def _certainty(group: ParsedGroup) -> Certainty | None:
    lowest, highest = group.codes_of(codes.LOWEST_GRADE), group.codes_of(codes.HIGHEST_GRADE)
    level = group.number(codes.SET_LEVEL)
    if not lowest or not highest or level is None:
        return None
    undecided = [_GRADES[code] for code in group.codes_of(codes.UNDECIDED)]
    return Certainty(
        _GRADES[lowest[0]],
        _GRADES[highest[0]],
        level=level / 100,
        undecided=(undecided[0], undecided[1]) if len(undecided) == 2 else None,
        spread=group.number(codes.GRADE_SPREAD),
    )


_GRADES: Mapping[str, KLGrade] = {code.value: grade for grade, code in codes.GRADES.items()}
_AGREEMENTS: Mapping[str, Agreement] = {code.value: agreement for agreement, code in codes.AGREEMENTS.items()}
