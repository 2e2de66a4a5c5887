"""How an image object refers to its film, and what it keeps of how the film came to be."""

from pydicom.dataset import Dataset
from pydicom.uid import JPEG2000, UID, JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless

from node.finding import Finding, Laterality
from workers.read.header import numbers
from workers.report import codes
from workers.report.identity import copy_attributes, text_of
from workers.report.provenance import code_item

ALWAYS_LOSSY = (JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless)
MAYBE_LOSSY = (JPEG2000,)
"""Lossy unless the header says that it is not."""


def reference(header: Dataset) -> Dataset:
    """The film, or an object of Genu's own, by its SOP class and instance (PS3.3 table 10-11)."""
    item = Dataset()
    item.ReferencedSOPClassUID = UID(text_of(header, "SOPClassUID"))
    item.ReferencedSOPInstanceUID = UID(text_of(header, "SOPInstanceUID"))
    return item


def source_image(header: Dataset, *, same_places: bool) -> Dataset:
    """The film as an item of Source Image Sequence; `same_places`: a pixel of one lies where that of the other does."""
    item = reference(header)
    item.PurposeOfReferenceCodeSequence = [code_item(codes.SOURCE_IMAGE)]
    item.SpatialLocationsPreserved = "YES" if same_places else "NO"
    return item


def in_study(header: Dataset) -> Dataset:
    """The film below its study and series, as evidence of a document (PS3.3 C.17.2)."""
    return below(text_of(header, "StudyInstanceUID"), text_of(header, "SeriesInstanceUID"), reference(header))


def below(study_uid: str, series_uid: str, referenced: Dataset) -> Dataset:
    """An item of the Hierarchical SOP Instance Reference Macro (PS3.3 C.17.2.1) for one instance."""
    study = Dataset()
    study.StudyInstanceUID = UID(study_uid)
    study.ReferencedSeriesSequence = [_in_series(series_uid, referenced)]
    return study


def series_of(made: Dataset) -> Dataset:
    """An object below its series, for a study's Referenced Series Sequence."""
    return _in_series(text_of(made, "SeriesInstanceUID"), reference(made))


def _in_series(series_uid: str, referenced: Dataset) -> Dataset:
    series = Dataset()
    series.SeriesInstanceUID = UID(series_uid)
    series.ReferencedSOPSequence = [referenced]
    return series


def spacing_shown(header: Dataset) -> list[float] | None:
    """Distance of the rows and of the columns as viewers take it, whatever it is worth; None if the film has none."""
    for keyword in ("PixelSpacing", "ImagerPixelSpacing"):
        told = numbers(header, keyword)
        if len(told) == 2 and min(told) > 0:
            return told
    return None


def anatomy(header: Dataset, knees: tuple[Finding, ...], made: Dataset) -> None:
    """Body part and orientation as the film has them; a side only where there is one knee and it is known.

    Of the two attributes for a side one has to be there, and Image Laterality may be empty (PS3.3 C.7.3.1, C.7.6.1).
    """
    copy_attributes(header, ("BodyPartExamined", "PatientOrientation"), made)
    if "PatientOrientation" not in made:
        made.PatientOrientation = None
    if len(knees) == 1 and knees[0].laterality is not Laterality.UNKNOWN:
        made.Laterality = knees[0].laterality.value
    else:
        made.ImageLaterality = None


def side_of_series(knees: tuple[Finding, ...], made: Dataset) -> None:
    """The side of the one knee that an object without Image Laterality speaks of; empty for two or an unknown one."""
    known = len(knees) == 1 and knees[0].laterality is not Laterality.UNKNOWN
    made.Laterality = knees[0].laterality.value if known else ""


def lossy_history(header: Dataset, made: Dataset) -> None:
    """A film that was once compressed with loss stays one (PS3.3 C.7.6.1.1.5)."""
    meta = getattr(header, "file_meta", None)
    syntax = meta.get("TransferSyntaxUID") if meta is not None else None
    declared = text_of(header, "LossyImageCompression")
    if declared == "01" or syntax in ALWAYS_LOSSY or (syntax in MAYBE_LOSSY and not declared):
        made.LossyImageCompression = "01"
        copy_attributes(header, ("LossyImageCompressionRatio", "LossyImageCompressionMethod"), made)
    else:
        made.LossyImageCompression = "00"
