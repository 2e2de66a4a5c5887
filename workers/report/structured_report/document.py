"""
The Structured Report document: TID 1500, with one TID 1501 group for each knee.

highdicom builds the content tree. The document around it is built here, because highdicom's refuses sources that break
a rule (a sex of 'U', no Study ID) and stamps the time of day. Every container is SEPARATE: with CONTINUOUS ones,
dsr2html (Horos) and Weasis leave out all labels.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime

import highdicom as hd
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code
from pydicom.uid import (
    UID,
    Comprehensive3DSRStorage,
    ComprehensiveSRStorage,
    MultiFrameTrueColorSecondaryCaptureImageStorage,
    ParametricMapStorage,
    SegmentationStorage,
)

from node.finding import ModelIdentity, Reading
from workers.report import codes
from workers.report.identity import text_of
from workers.report.provenance import MANUFACTURER, MODEL_NAME, device_uid, new_result, object_uid
from workers.report.source import instance_reference, series_reference, study_reference
from workers.report.structured_report.image_library import image_library
from workers.report.structured_report.measurement_group import GroupBuilder
from workers.report.structured_report.predecessor import Predecessor, predecessor_item

SR_CLASSES = {"comprehensive": ComprehensiveSRStorage, "comprehensive-3d": Comprehensive3DSRStorage}
SERIES_NUMBER = 9010
RELATED_OBJECTS: Mapping[str, Code] = {
    MultiFrameTrueColorSecondaryCaptureImageStorage: codes.PAGES,
    SegmentationStorage: codes.SEGMENTS,
    ParametricMapStorage: codes.PARAMETRIC_MAP,
}
"""SOP classes of the same result that the report refers to, with the concept name of each reference."""


def structured_report(
    header: Dataset,
    shape: tuple[int, int],
    reading: Reading,
    card: ModelIdentity,
    *,
    sr_class: str,
    made_at: datetime,
    replaces: Predecessor | None = None,
    related: Sequence[Dataset] = (),
) -> Dataset:
    """
    The report on a film of `shape` (rows, columns), graded or refused: not verified, preliminary.

    `related` are the other objects of the same result; each graded knee refers to those of RELATED_OBJECTS.
    """
    related = [ds for ds in related if ds.SOPClassUID in RELATED_OBJECTS]
    predecessor_uids = (replaces.sop_instance_uid,) if replaces else ()
    uid = object_uid("SR", reading, card, sr_class, *predecessor_uids, *(ds.SOPInstanceUID for ds in related))
    ds = new_result(header, card, sop_class=SR_CLASSES[sr_class], sop_instance_uid=uid, made_at=made_at, utf8=True)
    ds.Modality = "SR"
    ds.SeriesNumber = SERIES_NUMBER
    ds.SeriesDescription = "Genu KL report (AI, NOT FOR PRIMARY DIAGNOSIS)"
    ds.ReferencedPerformedProcedureStepSequence = []
    ds.PerformedProcedureCodeSequence = []
    ds.CompletionFlag, ds.VerificationFlag, ds.PreliminaryFlag = "COMPLETE", "UNVERIFIED", "PRELIMINARY"
    ds.CurrentRequestedProcedureEvidenceSequence = [study_reference(header)]
    ds.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence.extend(map(series_reference, related))
    if replaces:
        ds.PredecessorDocumentsSequence = [predecessor_item(replaces, text_of(header, "StudyInstanceUID"))]
    ds.CodingSchemeIdentificationSequence = [_coding_scheme()]
    for element in _content(header, shape, reading, card, related):
        ds.add(element)
    return ds


def _content(
    header: Dataset, shape: tuple[int, int], reading: Reading, card: ModelIdentity, related: Sequence[Dataset]
) -> Dataset:
    device = hd.sr.DeviceObserverIdentifyingAttributes(
        uid=device_uid(card), name=MODEL_NAME, manufacturer_name=MANUFACTURER, model_name=MODEL_NAME
    )
    observer = hd.sr.ObserverContext(hd.sr.CodedConcept("121007", "DCM", "Device"), device)
    builder = GroupBuilder(header, shape, card, reading.notes)
    groups = [builder.knee(number, knee) for number, knee in enumerate(reading.knees, start=1)]
    for group, knee in zip(groups, reading.knees, strict=True):
        group[0].ContentSequence.extend(_related_object_item(ds) for ds in related if knee.grade is not None)
    if not groups and reading.reason is not None:
        groups = [builder.refusal(reading.reason)]
    root: Dataset = hd.sr.MeasurementReport(
        observation_context=hd.sr.ObservationContext(observer_device_context=observer),
        procedure_reported=codes.IMAGING_PROCEDURE,
        imaging_measurements=groups,
    )[0]
    root.ContentSequence.insert(-1, image_library(header, shape))
    _set_separate(root)
    return root


def _related_object_item(ds: Dataset) -> hd.sr.ImageContentItem:
    """A reference to another object of the result as a whole; viewers find its frames or segments there."""
    reference = instance_reference(ds)
    return hd.sr.ImageContentItem(
        RELATED_OBJECTS[ds.SOPClassUID],
        reference.ReferencedSOPClassUID,
        reference.ReferencedSOPInstanceUID,
        relationship_type=hd.sr.RelationshipTypeValues.CONTAINS,
    )


def _set_separate(item: Dataset) -> None:
    if item.ValueType == "CONTAINER":
        item.ContinuityOfContent = "SEPARATE"
    for child in item.get("ContentSequence", ()):
        _set_separate(child)


def _coding_scheme() -> Dataset:
    item = Dataset()
    item.CodingSchemeDesignator, item.CodingSchemeUID = codes.SCHEME, UID(codes.SCHEME_UID)
    item.CodingSchemeName, item.CodingSchemeVersion = codes.SCHEME_NAME, codes.SCHEME_VERSION
    item.CodingSchemeResponsibleOrganization = codes.SCHEME_ORGANISATION
    return item
