"""Traversal of the content tree of a report (PS3.3 C.17.3)."""

from collections.abc import Iterator

from pydicom.dataset import Dataset
from pydicom.sr.coding import Code

from workers.report import codes

NO_NAME = Code("", "", "")


def descendants(item: Dataset) -> Iterator[Dataset]:
    """All items below this one in the content tree, depth first."""
    for child in item.get("ContentSequence") or ():
        yield child
        yield from descendants(child)


def measurement_groups(report: Dataset) -> Iterator[Dataset]:
    """The measurement groups (TID 1501), one for each knee or for a film without one."""
    return (item for item in descendants(report) if concept_name(item) == codes.MEASUREMENT_GROUP)


def concept_name(item: Dataset) -> Code:
    """The concept name of an item; NO_NAME where it has none."""
    names = item.get("ConceptNameCodeSequence")
    return code_of(names[0]) if names else NO_NAME


def code_of(item: Dataset) -> Code:
    """An item of a code sequence (PS3.3 8.8) as a code."""
    return Code(str(item.CodeValue), str(item.CodingSchemeDesignator), str(item.CodeMeaning))


def source_instance_uid(report: Dataset) -> str:
    """The SOP Instance UID of the film that a report describes."""
    study = report.CurrentRequestedProcedureEvidenceSequence[0]
    return str(study.ReferencedSeriesSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID)
