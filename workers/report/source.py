"""References from a result to its film, and the attributes of the film's image that a result repeats."""

from pydicom.dataset import Dataset
from pydicom.uid import JPEG2000, UID, JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless

from node.finding import Finding, Laterality
from workers.read.header import numbers
from workers.report import codes
from workers.report.identity import copy_attributes, text_of
from workers.report.provenance import code_item

ALWAYS_LOSSY = (JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless)
LOSSY_UNLESS_DECLARED = (JPEG2000,)
"""Lossy unless the header has Lossy Image Compression "00"."""


def instance_reference(header: Dataset) -> Dataset:
    """A reference to the film, or to a result, by SOP class and instance (PS3.3 table 10-11)."""
    item = Dataset()
    item.ReferencedSOPClassUID = UID(text_of(header, "SOPClassUID"))
    item.ReferencedSOPInstanceUID = UID(text_of(header, "SOPInstanceUID"))
    return item


def source_image_item(header: Dataset, *, same_grid: bool) -> Dataset:
    """The film as an item of Source Image Sequence; `same_grid`: both have the same pixel grid."""
    item = instance_reference(header)
    item.PurposeOfReferenceCodeSequence = [code_item(codes.SOURCE_IMAGE)]
    item.SpatialLocationsPreserved = "YES" if same_grid else "NO"
    return item


def study_reference(header: Dataset) -> Dataset:
    """The film within its study and series, as evidence of a document (PS3.3 C.17.2)."""
    return hierarchical_reference(
        text_of(header, "StudyInstanceUID"), text_of(header, "SeriesInstanceUID"), instance_reference(header)
    )


def hierarchical_reference(study_uid: str, series_uid: str, referenced: Dataset) -> Dataset:
    """An item of the Hierarchical SOP Instance Reference Macro (PS3.3 C.17.2.1) for one instance."""
    study = Dataset()
    study.StudyInstanceUID = UID(study_uid)
    study.ReferencedSeriesSequence = [_series_item(series_uid, referenced)]
    return study


def series_reference(ds: Dataset) -> Dataset:
    """An object within its series, as an item of a study's Referenced Series Sequence."""
    return _series_item(text_of(ds, "SeriesInstanceUID"), instance_reference(ds))


def _series_item(series_uid: str, referenced: Dataset) -> Dataset:
    series = Dataset()
    series.SeriesInstanceUID = UID(series_uid)
    series.ReferencedSOPSequence = [referenced]
    return series


def viewer_spacing(header: Dataset) -> list[float] | None:
    """Row and column spacing in mm as viewers use it, calibrated or not; None if the film has none."""
    return positive_pair(header, "PixelSpacing") or positive_pair(header, "ImagerPixelSpacing")


def positive_pair(header: Dataset, keyword: str) -> list[float] | None:
    """The attribute's values (spacings of rows and of columns, or a ratio); None unless they are two above zero."""
    values = numbers(header, keyword)
    return values if len(values) == 2 and min(values) > 0 else None


def set_anatomy(header: Dataset, knees: tuple[Finding, ...], ds: Dataset) -> None:
    """Set body part and orientation as on the film, and the laterality only for one knee of known laterality.

    One of the two attributes for the laterality is required; Image Laterality may be empty (PS3.3 C.7.3.1, C.7.6.1).
    """
    copy_attributes(header, ("BodyPartExamined", "PatientOrientation"), ds)
    if "PatientOrientation" not in ds:
        ds.PatientOrientation = None
    laterality = _laterality_of(knees)
    if laterality:
        ds.Laterality = laterality
    else:
        ds.ImageLaterality = None


def set_series_laterality(knees: tuple[Finding, ...], ds: Dataset) -> None:
    """Set Laterality, for IODs without Image Laterality: that of a single knee; empty for two or if unknown."""
    ds.Laterality = _laterality_of(knees)


def _laterality_of(knees: tuple[Finding, ...]) -> str:
    """R or L for a single knee of known laterality; otherwise empty."""
    known = len(knees) == 1 and knees[0].laterality is not Laterality.UNKNOWN
    return knees[0].laterality.value if known else ""


def set_lossy_compression(header: Dataset, ds: Dataset) -> None:
    """Mark the result as lossy if the film was ever compressed with loss (PS3.3 C.7.6.1.1.5)."""
    meta = getattr(header, "file_meta", None)
    syntax = meta.get("TransferSyntaxUID") if meta is not None else None
    declared = text_of(header, "LossyImageCompression")
    if declared == "01" or syntax in ALWAYS_LOSSY or (syntax in LOSSY_UNLESS_DECLARED and not declared):
        ds.LossyImageCompression = "01"
        copy_attributes(header, ("LossyImageCompressionRatio", "LossyImageCompressionMethod"), ds)
    else:
        ds.LossyImageCompression = "00"
