"""
Which earlier report a new one takes the place of (Predecessor Documents Sequence, PS3.3 C.17.2).

A report that says the same by the same model is no successor: it names the predecessor that it named before, so that
made again it is the same, byte for byte.
"""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import UID

from node import __version__
from node.finding import ModelIdentity, Reading
from node.ledger import ResultObject
from workers.report import codes
from workers.report.identity import text_of
from workers.report.private_json import carried
from workers.report.provenance import code_item, object_uid
from workers.report.source import below


@dataclass(frozen=True)
class Predecessor:
    """The report of before, by its series and SOP instance."""

    sop_class_uid: str
    sop_instance_uid: str
    series_uid: str


def predecessor(
    standing: Sequence[ResultObject], read: Callable[[str], bytes], reading: Reading, card: ModelIdentity
) -> Predecessor | None:
    """
    The report that the answer of `card` replaces; None if there is none.

    `standing` are the objects of the answer that stands, `read` gives the content of a file of theirs.
    """
    kept = next((each for each in standing if each.kind == "SR"), None)
    if kept is None:
        return None
    try:
        before = dcmread(io.BytesIO(read(kept.file)))
        said = carried(before)
    except (OSError, InvalidDicomError, ValueError):  # lost or damaged: it cannot be referred to
        return None
    if said is not None and said.model is not None and _said_by_us(before):
        same = object_uid("SR", said, said.model) == object_uid("SR", reading, card)
        if same:
            return _named_in(before)
    return Predecessor(str(before.SOPClassUID), str(before.SOPInstanceUID), str(before.SeriesInstanceUID))


def _said_by_us(before: Dataset) -> bool:
    """Whether this version of Genu wrote it; another one's words may differ."""
    return text_of(before, "SoftwareVersions") == __version__


def _named_in(report: Dataset) -> Predecessor | None:
    if not report.get("PredecessorDocumentsSequence"):
        return None
    series = report.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0]
    named = series.ReferencedSOPSequence[0]
    return Predecessor(
        str(named.ReferencedSOPClassUID), str(named.ReferencedSOPInstanceUID), str(series.SeriesInstanceUID)
    )


def named_as_replaced(before: Predecessor, study_uid: str) -> Dataset:
    """An item of Predecessor Documents Sequence, purpose 121360 DCM, Replaced report (CID 7009)."""
    document = Dataset()
    document.ReferencedSOPClassUID = UID(before.sop_class_uid)
    document.ReferencedSOPInstanceUID = UID(before.sop_instance_uid)
    document.PurposeOfReferenceCodeSequence = [code_item(codes.REPLACED_REPORT)]
    return below(study_uid, before.series_uid, document)
