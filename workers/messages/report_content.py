"""
What a Structured Report says, taken out of its content tree: each knee, each answer with its code.

The tree is TID 1500 with a TID 1501 group for each knee (PS3.16), as workers/report/structured_report writes it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from pydicom.dataset import Dataset
from pydicom.sr.coding import Code

from workers.read import patient_facts
from workers.report import codes
from workers.report.identity import text_of, timezone_of
from workers.report.layout.wording import WARNING
from workers.report.provenance import local
from workers.report.structured_report.content_tree import code_of, content_of, groups_of, name_of, source_of

ALGORITHM = (codes.ALGORITHM_NAME, codes.ALGORITHM_VERSION, codes.ALGORITHM_PARAMETERS)
"""Of TID 4019 (PS3.16), in the order in which it is asked for."""
_ABOUT = (
    codes.FINDING,
    codes.FINDING_SITE,
    codes.TRACKING,
    codes.TRACKING_UID,
    codes.ALGORITHM_FAMILY,
    codes.ALGORITHM_MANUFACTURER,
    *ALGORITHM,
)
"""What a group says of itself and not of the knee."""
NOTICE = f"{WARNING}. Not verified by a physician."


class Quantity(NamedTuple):
    """A number as the report shows it, and its unit."""

    text: str
    unit: Code


class Item(NamedTuple):
    """One answer."""

    name: Code
    value: Code | Quantity | str


@dataclass(frozen=True)
class Group:
    """What is said of one knee, or of a film without one."""

    tracking_uid: str
    site: Code | None
    side: Code | None
    items: tuple[Item, ...]

    @property
    def grade(self) -> Code | None:
        """The grade; None if none was given."""
        told = self.value(codes.GRADE)
        return told if isinstance(told, Code) and told != codes.NOT_GRADABLE else None

    @property
    def comment(self) -> str:
        """The answer in a line."""
        return str(self.value(codes.COMMENT) or "")

    @property
    def letter(self) -> str:
        """R, L or U for a knee; empty for a film without one."""
        if self.site is None:
            return ""
        value = self.side.value if self.side else ""
        return next((side.value for side, code in codes.SIDES.items() if code.value == value), "U")

    def value(self, name: Code) -> Code | Quantity | str | None:
        """What the first answer of that name says."""
        return next((item.value for item in self.items if item.name == name), None)


@dataclass(frozen=True)
class Said:
    """A report: whose it is, which film it speaks of, and what it says."""

    report: Dataset
    uid: str
    source_uid: str
    device_uid: str
    algorithm: tuple[Item, ...]
    groups: tuple[Group, ...]
    patient: dict[str, str]
    """Name, ID, date of birth and sex in readable characters."""
    made_at: datetime
    """In the film's time zone, if it names one."""

    def text(self, keyword: str) -> str:
        """An attribute of the patient's or study's."""
        return text_of(self.report, keyword)

    @property
    def zone(self) -> str:
        """The time zone of the film's dates and times; empty if it names none."""
        return timezone_of(self.report)

    def inner(self, sequence: str, keyword: str) -> str:
        """An attribute of the first item of a sequence; empty if there is no such item."""
        items = self.report.get(sequence) or []
        return text_of(items[0], keyword) if len(items) else ""


def said_of(report: Dataset, made_at: datetime) -> Said:
    """Take a report apart."""
    groups = list(groups_of(report))
    return Said(
        report=report,
        uid=str(report.SOPInstanceUID),
        source_uid=source_of(report),
        device_uid=next(str(item.UID) for item in content_of(report) if name_of(item) == codes.DEVICE_UID),
        algorithm=tuple(each for each in _answers(groups[0], ALGORITHM)) if groups else (),
        groups=tuple(_group(item) for item in groups),
        patient=patient_facts(report),
        made_at=local(made_at, report),
    )


def _group(group: Dataset) -> Group:
    inner = {name_of(item): item for item in group.ContentSequence}
    site = inner.get(codes.FINDING_SITE)
    sides = [item for item in content_of(site) if name_of(item) == codes.LATERALITY] if site else []
    return Group(
        tracking_uid=str(inner[codes.TRACKING_UID].UID),
        site=code_of(site.ConceptCodeSequence[0]) if site else None,
        side=code_of(sides[0].ConceptCodeSequence[0]) if sides else None,
        items=tuple(sorted(_answers(group), key=_order)),
    )


def _answers(group: Dataset, wanted: tuple[Code, ...] = ()) -> Iterator[Item]:
    """The answers of a group; of those in `wanted` alone if any are named."""
    for item in group.ContentSequence:
        name = name_of(item)
        if name not in wanted if wanted else name in _ABOUT:
            continue
        if item.ValueType == "CODE":
            yield Item(code_of(item.ConceptNameCodeSequence[0]), code_of(item.ConceptCodeSequence[0]))
        elif item.ValueType == "TEXT":
            yield Item(code_of(item.ConceptNameCodeSequence[0]), str(item.TextValue))
        elif item.ValueType == "NUM":
            measured = item.MeasuredValueSequence[0]
            unit = code_of(measured.MeasurementUnitsCodeSequence[0])
            yield Item(code_of(item.ConceptNameCodeSequence[0]), Quantity(str(measured.NumericValue), unit))


def _order(item: Item) -> int:
    """The grade first, then what else is coded, then numbers, then words: a form is filled from the top."""
    if item.name == codes.GRADE:
        return 0
    return 1 if isinstance(item.value, Code) else 2 if isinstance(item.value, Quantity) else 3
