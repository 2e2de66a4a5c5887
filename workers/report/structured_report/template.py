"""What a report and a segmentation need so that viewers neither crash on them nor hide their content."""

from collections.abc import Iterator

from pydicom.dataset import Dataset
from pydicom.uid import Comprehensive3DSRStorage, ComprehensiveSRStorage, SegmentationStorage

from workers.report import codes
from workers.report.structured_report.content_tree import concept_name, descendants, measurement_groups

REPORTS = (ComprehensiveSRStorage, Comprehensive3DSRStorage)


def template_faults(ds: Dataset) -> Iterator[str]:
    """Every fault that would break a viewer, each as a sentence."""
    if ds.SOPClassUID in REPORTS:
        yield from _report_faults(ds)
    if ds.SOPClassUID == SegmentationStorage:
        yield from _segmentation_faults(ds)


def _report_faults(ds: Dataset) -> Iterator[str]:
    """TID 1500 with groups of TID 1501 (PS3.16), each with coordinates: OHIF crashes on one without."""
    if concept_name(ds) != codes.REPORT_TITLE:
        yield "the report has another title than Imaging Measurement Report"
    items = list(descendants(ds))
    if any(item.ValueType == "CONTAINER" and item.ContinuityOfContent != "SEPARATE" for item in (ds, *items)):
        yield "a container is not SEPARATE"
    evidence = {reference.get("ReferencedSOPInstanceUID") for reference in _evidence(ds)}
    if any(reference not in evidence for item in items if _is_reference(item) for reference in _referenced_uids(item)):
        yield "an object that the report refers to is not listed as its evidence"
    groups = list(measurement_groups(ds))
    if not groups:
        yield "the report has no measurement group"
    for number, group in enumerate(groups, start=1):
        yield from (f"measurement group {number} {fault}" for fault in _group_faults(group))


def _evidence(report: Dataset) -> Iterator[Dataset]:
    """Items of Current Requested Procedure Evidence Sequence (PS3.3 C.17.2: it lists all references of the tree)."""
    for study in report.get("CurrentRequestedProcedureEvidenceSequence") or ():
        for series in study.get("ReferencedSeriesSequence") or ():
            yield from series.get("ReferencedSOPSequence") or ()


def _is_reference(item: Dataset) -> bool:
    return bool(item.ValueType in ("IMAGE", "COMPOSITE"))


def _referenced_uids(item: Dataset) -> list[str]:
    """The SOP Instance UIDs that an item refers to; an empty one if it has none."""
    return [sop.get("ReferencedSOPInstanceUID", "") for sop in item.get("ReferencedSOPSequence") or (Dataset(),)]


def _group_faults(group: Dataset) -> Iterator[str]:
    items = list(descendants(group))
    names = {concept_name(item) for item in items}
    required = {
        "tracking identifier": codes.TRACKING,
        "tracking UID": codes.TRACKING_UID,
        "grade": codes.GRADE,
        "comment": codes.COMMENT,
    }
    yield from (f"has no {label}" for label, name in required.items() if name not in names)
    outlines = [item for item in items if item.ValueType == "SCOORD"]
    if not outlines:
        yield "has no coordinates"
    if any(item.GraphicType != "POLYLINE" or item.GraphicData[:2] != item.GraphicData[-2:] for item in outlines):
        yield "has an outline that is no closed polyline"


def _segmentation_faults(ds: Dataset) -> Iterator[str]:
    """Without an orientation OHIF shows an error and Orthanc's preview fails; without measures OHIF shows nothing."""
    shared = ds.get("SharedFunctionalGroupsSequence") or [Dataset()]
    if not shared[0].get("PlaneOrientationSequence"):
        yield "the segments have no plane orientation"
    if not shared[0].get("PixelMeasuresSequence"):
        yield "the segments have no pixel measures"
    if int(ds.NumberOfFrames) != len(ds.SegmentSequence):
        yield "there are not as many frames as segments"
