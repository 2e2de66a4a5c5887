"""
The earlier report that a new one replaces (Predecessor Documents Sequence, PS3.3 C.17.2).

A report with the same content by the same model is no successor: it names the same predecessor as before, so that it
is the same byte for byte when it is created again.
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
from workers.report.private_json import embedded_json
from workers.report.provenance import code_item, object_uid
from workers.report.source import hierarchical_reference


@dataclass(frozen=True)
class Predecessor:
    """The replaced report, by its series and SOP instance."""

    sop_class_uid: str
    sop_instance_uid: str
    series_uid: str


def predecessor(
    current: Sequence[ResultObject], read_file: Callable[[str], bytes], reading: Reading, card: ModelIdentity
) -> Predecessor | None:
    """
    The report that the one on `reading` by the model `card` replaces; None if there is none.

    `current` are the stored result objects of the film, `read_file` returns the content of one of their files.
    """
    previous = next((result for result in current if result.kind == "SR"), None)
    if previous is None:
        return None
    try:
        report_before = dcmread(io.BytesIO(read_file(previous.file)))
        reading_before = embedded_json(report_before)
    except (OSError, InvalidDicomError, ValueError):  # a lost or damaged report cannot be referred to
        return None
    if reading_before is not None and reading_before.model is not None and _is_of_this_version(report_before):
        is_same = object_uid("SR", reading_before, reading_before.model) == object_uid("SR", reading, card)
        if is_same:
            return _predecessor_of(report_before)
    return Predecessor(
        str(report_before.SOPClassUID), str(report_before.SOPInstanceUID), str(report_before.SeriesInstanceUID)
    )


def _is_of_this_version(report_before: Dataset) -> bool:
    """Whether this version of Genu wrote it; the texts of another version may differ."""
    return text_of(report_before, "SoftwareVersions") == __version__


def _predecessor_of(report: Dataset) -> Predecessor | None:
    if not report.get("PredecessorDocumentsSequence"):
        return None
    series = report.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0]
    sop = series.ReferencedSOPSequence[0]
    return Predecessor(str(sop.ReferencedSOPClassUID), str(sop.ReferencedSOPInstanceUID), str(series.SeriesInstanceUID))


def predecessor_item(report_before: Predecessor, study_uid: str) -> Dataset:
    """An item of Predecessor Documents Sequence, purpose 121360 DCM, Replaced report (CID 7009)."""
    document = Dataset()
    document.ReferencedSOPClassUID = UID(report_before.sop_class_uid)
    document.ReferencedSOPInstanceUID = UID(report_before.sop_instance_uid)
    document.PurposeOfReferenceCodeSequence = [code_item(codes.REPLACED_REPORT)]
    return hierarchical_reference(study_uid, report_before.series_uid, document)
