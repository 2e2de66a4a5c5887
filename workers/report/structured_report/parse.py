"""
The answer as a report's codes and numbers tell it: for a report whose private attributes were taken away on its way.

What no code tells is left empty: weights of what speaks of a side, landmarks, tilt, attention. Boxes are cut at the
film's edges.
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
from workers.report.structured_report.content_tree import content_of, groups_of, name_of, source_of

WEIGHTS = re.compile(r"weights sha256: (\S+)")


class Group:
    """A measurement group, to be asked for what it says."""

    def __init__(self, group: Dataset) -> None:
        self.items = list(content_of(group))

    def _all(self, name: Code) -> Iterator[Dataset]:
        return (item for item in self.items if name_of(item) == name)

    def coded(self, name: Code) -> list[str]:
        """The values of the coded answers under that name."""
        return [str(item.ConceptCodeSequence[0].CodeValue) for item in self._all(name)]

    def texts(self, name: Code) -> list[str]:
        """The texts under that name."""
        return [str(item.TextValue) for item in self._all(name)]

    def number(self, name: Code) -> float | None:
        """The number under that name, with all its digits."""
        item = next(self._all(name), None)
        if item is None:
            return None
        value = item.MeasuredValueSequence[0]
        return float(value.get("FloatingPointValue", value.NumericValue))

    def outline(self) -> tuple[float, float, float, float]:
        """The box of the first closed polyline."""
        data = next(item.GraphicData for item in self.items if item.ValueType == "SCOORD")
        return min(data[::2]), min(data[1::2]), max(data[::2]), max(data[1::2])


def coded(report: Dataset) -> Reading:
    """What a report of ours says. Raises ValueError if it is none, or lacks what every report has."""
    groups = [Group(item) for item in groups_of(report)]
    try:
        knees = tuple(_knee(group) for group in groups if group.coded(codes.FINDING_SITE))
        graded = any(knee.grade is not None for knee in knees)
        given = next((code for group in groups for code in group.coded(codes.WHY_NOT)), None)
        return Reading(
            source_of(report),
            Outcome.GRADED if graded else Outcome.NOT_ANALYSED,
            _model(groups[0]),
            knees=knees,
            reason=None if graded or given is None else REASONS[given],
            notes=tuple(dict.fromkeys(text for group in groups for text in group.texts(codes.READING_NOTE))),
        )
    except (AttributeError, IndexError, KeyError, StopIteration) as error:
        raise ValueError(f"no report of Genu's, or not a whole one: {error!r}") from error


def _model(group: Group) -> ModelIdentity:
    told = codes.ALGORITHM_NAME, codes.ALGORITHM_VERSION, codes.ALGORITHM_PARAMETERS
    name, version, parameters = (group.texts(each)[0] for each in told)
    found = WEIGHTS.match(parameters)
    return ModelIdentity(name, version, found.group(1) if found else "")


def _knee(group: Group) -> Finding:
    sides = {code.value: side for side, code in codes.SIDES.items()}
    (given,) = group.coded(codes.GRADE)
    grade = _GRADES.get(given)
    why, width = group.coded(codes.WHY_NOT), group.number(codes.FIELD_OF_VIEW)
    scales = {code.value: name for name, code in codes.SCALES.items()}
    more: dict[str, Any] = {}
    if grade is not None:
        more["probabilities"] = tuple((group.number(code) or 0.0) / 100 for code in codes.PROBABILITIES.values())
        more["empty_map"] = group.coded(codes.HEAT_MAP) == [codes.MAP_EMPTY.value]
        more["certainty"] = _certainty(group)
    return Finding(
        laterality=next((sides[each] for each in group.coded(codes.LATERALITY)), Laterality.UNKNOWN),
        laterality_source=LateralitySource.parse(group.texts(codes.SIDE_SOURCE)[0]),
        box=group.outline(),
        grade=grade,
        reason=REASONS[why[0]] if why else None,
        flags=tuple(FLAGS[each] for each in group.coded(codes.FLAG) if each in FLAGS),
        agreement=_AGREEMENTS.get(next(iter(group.coded(codes.SIDE_AGREEMENT)), ""), Agreement.NONE),
        field_of_view_mm=width,
        scale_source=ScaleSource(scales.get(next(iter(group.coded(codes.SCALE)), ""), "none")),
        **more,
    )


def _certainty(group: Group) -> Certainty | None:
    lowest, highest, level = group.coded(codes.LOWEST), group.coded(codes.HIGHEST), group.number(codes.LEVEL)
    if not lowest or not highest or level is None:
        return None
    apart = [_GRADES[each] for each in group.coded(codes.UNDECIDED)]
    return Certainty(
        _GRADES[lowest[0]],
        _GRADES[highest[0]],
        level=level / 100,
        undecided=(apart[0], apart[1]) if len(apart) == 2 else None,
        spread=group.number(codes.SPREAD),
    )


_GRADES: Mapping[str, KLGrade] = {code.value: grade for grade, code in codes.GRADES.items()}
_AGREEMENTS: Mapping[str, Agreement] = {code.value: each for each, code in codes.AGREEMENTS.items()}
