"""What a report and a segmentation must have so that viewers neither crash on them nor hide what they say."""

from collections.abc import Iterator

from pydicom.dataset import Dataset
from pydicom.uid import Comprehensive3DSRStorage, ComprehensiveSRStorage, SegmentationStorage

from workers.report import codes
from workers.report.structured_report.content_tree import content_of, groups_of, name_of

REPORTS = (ComprehensiveSRStorage, Comprehensive3DSRStorage)


def template_faults(made: Dataset, header: Dataset) -> Iterator[str]:
    """What a viewer would suffer from, each in a sentence."""
    if made.SOPClassUID in REPORTS:
        yield from _report_faults(made)
    if made.SOPClassUID == SegmentationStorage:
        yield from _segmentation_faults(made)


def _report_faults(made: Dataset) -> Iterator[str]:
    """TID 1500 with groups of TID 1501 (PS3.16), each with coordinates: OHIF crashes on one without."""
    if name_of(made) != codes.REPORT_TITLE:
        yield "the report has another title than Imaging Measurement Report"
    items = list(content_of(made))
    if any(item.ValueType == "CONTAINER" and item.ContinuityOfContent != "SEPARATE" for item in (made, *items)):
        yield "a container is not SEPARATE"
    evidence = {named.get("ReferencedSOPInstanceUID") for named in _evidence(made)}
    if any(named not in evidence for item in items if _refers(item) for named in _named(item)):
        yield "an object that the report refers to is not listed as its evidence"
    groups = list(groups_of(made))
    if not groups:
        yield "the report has no measurement group"
    for number, group in enumerate(groups, start=1):
        yield from (f"measurement group {number} {fault}" for fault in _group_faults(group))


def _evidence(report: Dataset) -> Iterator[Dataset]:
    """All that is named in Current Requested Procedure Evidence Sequence (PS3.3 C.17.2: all references of the tree)."""
    for study in report.get("CurrentRequestedProcedureEvidenceSequence") or ():
        for series in study.get("ReferencedSeriesSequence") or ():
            yield from series.get("ReferencedSOPSequence") or ()


def _refers(item: Dataset) -> bool:
    return bool(item.ValueType in ("IMAGE", "COMPOSITE"))


def _named(item: Dataset) -> list[str]:
    """The SOP Instance UIDs that an item refers to; one that is nowhere where it names none."""
    return [each.get("ReferencedSOPInstanceUID", "") for each in item.get("ReferencedSOPSequence") or (Dataset(),)]


def _group_faults(group: Dataset) -> Iterator[str]:
    inside = list(content_of(group))
    names = {name_of(item) for item in inside}
    wanted = {
        "tracking identifier": codes.TRACKING,
        "tracking UID": codes.TRACKING_UID,
        "grade": codes.GRADE,
        "comment": codes.COMMENT,
    }
    yield from (f"has no {what}" for what, name in wanted.items() if name not in names)
    outlines = [item for item in inside if item.ValueType == "SCOORD"]
    if not outlines:
        yield "has no coordinates"
    if any(item.GraphicType != "POLYLINE" or item.GraphicData[:2] != item.GraphicData[-2:] for item in outlines):
        yield "has an outline that is no closed polyline"


def _segmentation_faults(made: Dataset) -> Iterator[str]:
    """Without an orientation OHIF shows an error and Orthanc's preview breaks off; without measures OHIF blanks."""
    shared = made.get("SharedFunctionalGroupsSequence") or [Dataset()]
    if not shared[0].get("PlaneOrientationSequence"):
        yield "the segments have no plane orientation"
    if not shared[0].get("PixelMeasuresSequence"):
        yield "the segments have no pixel measures"
    if int(made.NumberOfFrames) != len(made.SegmentSequence):
        yield "there are not as many frames as segments"
