"""Walking through the content tree of a report (PS3.3 C.17.3)."""

from collections.abc import Iterator

from pydicom.dataset import Dataset
from pydicom.sr.coding import Code

from workers.report import codes

NAMELESS = Code("", "", "")


def content_of(item: Dataset) -> Iterator[Dataset]:
    """All items of a content tree below this one, in order."""
    for inner in item.get("ContentSequence") or ():
        yield inner
        yield from content_of(inner)


def groups_of(report: Dataset) -> Iterator[Dataset]:
    """The measurement groups (TID 1501), one for each knee or for a film without one."""
    return (item for item in content_of(report) if name_of(item) == codes.MEASUREMENT_GROUP)


def name_of(item: Dataset) -> Code:
    """The concept name of an item; NAMELESS where it has none."""
    names = item.get("ConceptNameCodeSequence")
    return code_of(names[0]) if names else NAMELESS


def code_of(item: Dataset) -> Code:
    """An item of a code sequence (PS3.3 8.8) as a code."""
    return Code(str(item.CodeValue), str(item.CodingSchemeDesignator), str(item.CodeMeaning))


def source_of(report: Dataset) -> str:
    """The SOP Instance UID of the film that a report speaks of."""
    study = report.CurrentRequestedProcedureEvidenceSequence[0]
    return str(study.ReferencedSeriesSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID)
