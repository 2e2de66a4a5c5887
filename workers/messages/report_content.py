"""
The content of a Structured Report, parsed from its content tree: each knee with its coded items.

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
from workers.report.provenance import to_source_time_zone
from workers.report.structured_report.content_tree import (
    code_of,
    concept_name,
    descendants,
    measurement_groups,
    source_instance_uid,
)

_NOT_ABOUT_THE_KNEE = (
    codes.FINDING,
    codes.FINDING_SITE,
    codes.TRACKING,
    codes.TRACKING_UID,
    codes.ALGORITHM_FAMILY,
    codes.ALGORITHM_MANUFACTURER,
    *codes.ALGORITHM,
)
"""Items of a group that do not describe the knee."""
NOTICE = f"{WARNING}. Not verified by a physician."


class Quantity(NamedTuple):
    """A number as the report shows it, and its unit."""

    text: str
    unit: Code


class Item(NamedTuple):
    """A content item: its concept name and its value."""

    name: Code
    value: Code | Quantity | str


@dataclass(frozen=True)
class GroupContent:
    """The measurement group of one knee, or of a film without one."""

    tracking_uid: str
    site: Code | None
    laterality: Code | None
    items: tuple[Item, ...]

    @property
    def grade(self) -> Code | None:
        """The grade; None if none was given."""
        grade = self.value(codes.GRADE)
        return grade if isinstance(grade, Code) and grade != codes.NOT_GRADABLE else None

    @property
    def comment(self) -> str:
        """The comment: the result as one line."""
        return str(self.value(codes.COMMENT) or "")

    @property
    def letter(self) -> str:
        """R, L or U for a knee; empty for a film without one."""
        if self.site is None:
            return ""
        value = self.laterality.value if self.laterality else ""
        return next((side.value for side, code in codes.LATERALITIES.items() if code.value == value), "U")

    def value(self, name: Code) -> Code | Quantity | str | None:
        """The value of the first item of that name; None if there is none."""
        return next((item.value for item in self.items if item.name == name), None)


@dataclass(frozen=True)
class ReportContent:
    """A parsed report: patient, source film, model, and the groups of its knees."""

    report: Dataset
    uid: str
    source_uid: str
    device_uid: str
    algorithm: tuple[Item, ...]
    """Those of codes.ALGORITHM."""
    groups: tuple[GroupContent, ...]
    patient: dict[str, str]
    """Name, ID, date of birth and sex in readable characters."""
    made_at: datetime
    """In the film's time zone, if it names one."""

    def text(self, keyword: str) -> str:
        """An attribute of the patient or study as text; empty if absent."""
        return text_of(self.report, keyword)

    @property
    def utc_offset(self) -> str:
        """The time zone of the film's dates and times; empty if it names none."""
        return timezone_of(self.report)

    @property
    def patient_id_issuer(self) -> tuple[str, str, str]:
        """Namespace, universal ID and its type of who issued the Patient ID."""
        qualifiers = "IssuerOfPatientIDQualifiersSequence"
        return self.text("IssuerOfPatientID"), *self._universal_id(qualifiers)

    @property
    def accession_issuer(self) -> tuple[str, str, str]:
        """Namespace, universal ID and its type of who issued the Accession Number."""
        issuer = "IssuerOfAccessionNumberSequence"
        return self.sequence_text(issuer, "LocalNamespaceEntityID"), *self._universal_id(issuer)

    def _universal_id(self, sequence: str) -> tuple[str, str]:
        return self.sequence_text(sequence, "UniversalEntityID"), self.sequence_text(sequence, "UniversalEntityIDType")

    def sequence_text(self, sequence: str, keyword: str) -> str:
        """An attribute of the first item of a sequence; empty if there is no such item."""
        items = self.report.get(sequence) or []
        return text_of(items[0], keyword) if len(items) else ""


def parse_report(report: Dataset, made_at: datetime) -> ReportContent:
    """Parse a report."""
    groups = list(measurement_groups(report))
    return ReportContent(
        report=report,
        uid=str(report.SOPInstanceUID),
        source_uid=source_instance_uid(report),
        device_uid=next(str(item.UID) for item in descendants(report) if concept_name(item) == codes.DEVICE_UID),
        algorithm=tuple(_items(groups[0], codes.ALGORITHM)) if groups else (),
        groups=tuple(_group(item) for item in groups),
        patient=patient_facts(report),
        made_at=to_source_time_zone(made_at, report),
    )


def _group(group: Dataset) -> GroupContent:
    by_name = {concept_name(item): item for item in group.ContentSequence}
    site = by_name.get(codes.FINDING_SITE)
    sides = [item for item in descendants(site) if concept_name(item) == codes.LATERALITY] if site else []
    return GroupContent(
        tracking_uid=str(by_name[codes.TRACKING_UID].UID),
        site=code_of(site.ConceptCodeSequence[0]) if site else None,
        laterality=code_of(sides[0].ConceptCodeSequence[0]) if sides else None,
        items=tuple(sorted(_items(group), key=_sort_key)),
    )


def _items(group: Dataset, names: tuple[Code, ...] = ()) -> Iterator[Item]:
    """The items of a group that describe the knee, or those in `names` if it is not empty."""
    for item in group.ContentSequence:
        name = concept_name(item)
        if name not in names if names else name in _NOT_ABOUT_THE_KNEE:
            continue
        if item.ValueType == "CODE":
            yield Item(code_of(item.ConceptNameCodeSequence[0]), code_of(item.ConceptCodeSequence[0]))
        elif item.ValueType == "TEXT":
            yield Item(code_of(item.ConceptNameCodeSequence[0]), str(item.TextValue))
        elif item.ValueType == "NUM":
            measured = item.MeasuredValueSequence[0]
            unit = code_of(measured.MeasurementUnitsCodeSequence[0])
            yield Item(code_of(item.ConceptNameCodeSequence[0]), Quantity(str(measured.NumericValue), unit))


def _sort_key(item: Item) -> int:
    """Sort key: the grade first, then other coded values, numbers, texts, as a form is filled."""
    if item.name == codes.GRADE:
        return 0
    return 1 if isinstance(item.value, Code) else 2 if isinstance(item.value, Quantity) else 3
