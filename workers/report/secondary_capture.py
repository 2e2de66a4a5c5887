"""
The picture of the answer as a Secondary Capture: what every viewer and every PACS can show.

It is written with plain pydicom, since highdicom's class has neither source image nor lossy history, and
as a single frame (1.2.840.10008.5.1.4.1.1.7), which no PACS refuses.
"""

from collections.abc import Sequence
from datetime import datetime

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import (
    JPEG2000,
    UID,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLSNearLossless,
    SecondaryCaptureImageStorage,
)

from node.finding import Laterality, ModelIdentity, Reading
from workers.read import Film
from workers.report import codes
from workers.report.colours import Bytes
from workers.report.draw import Row, picture
from workers.report.identity import copy_attributes, text_of
from workers.report.signature import MANUFACTURER, MODEL_NAME, code_item, local, object_uid, result, software_versions

SERIES_NUMBER = 9001
ALWAYS_LOSSY = (JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless)
MAYBE_LOSSY = (JPEG2000,)
"""Lossy unless the header says that it is not."""


def secondary_capture(
    film: Film, reading: Reading, rows: Sequence[Row], card: ModelIdentity, *, made_at: datetime
) -> Dataset:
    """One RGB image of all knees on the film. No Pixel Spacing: it is not on the film's grid."""
    header = film.header
    made = result(
        header,
        card,
        sop_class=SecondaryCaptureImageStorage,
        sop_instance_uid=object_uid("SC", reading, card),
        made_at=made_at,
        utf8=False,
    )
    made.Modality = "OT"
    made.SeriesNumber = SERIES_NUMBER
    made.SeriesDescription = "Genu KL heat map (AI, NOT FOR PRIMARY DIAGNOSIS)"
    made.ImageType = ["DERIVED", "SECONDARY", "OTHER"]
    made.ConversionType = "WSD"
    made.SecondaryCaptureDeviceManufacturer = MANUFACTURER
    made.SecondaryCaptureDeviceManufacturerModelName = MODEL_NAME
    made.SecondaryCaptureDeviceSoftwareVersions = software_versions(card)
    made.DateOfSecondaryCapture, made.TimeOfSecondaryCapture = made.ContentDate, made.ContentTime
    made.DerivationDescription = "Knees beside their Grad-CAM heat maps, with Kellgren-Lawrence grades"
    made.ImageComments = "AI second opinion, not for primary diagnosis"
    made.BurnedInAnnotation, made.RecognizableVisualFeatures = "YES", "NO"
    made.SourceImageSequence = [_source(header)]
    _anatomy(header, reading, made)
    _lossy_history(header, made)
    _pixels(picture(film, rows, card=card, made_at=local(made_at, header)), made)
    return made


def _source(header: Dataset) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = UID(text_of(header, "SOPClassUID"))
    item.ReferencedSOPInstanceUID = UID(text_of(header, "SOPInstanceUID"))
    item.PurposeOfReferenceCodeSequence = [code_item(codes.SOURCE_IMAGE)]
    item.SpatialLocationsPreserved = "NO"
    return item


def _anatomy(header: Dataset, reading: Reading, made: Dataset) -> None:
    """Body part and orientation as the film has them; a side only where there is one knee and it is known.

    Of the two attributes for a side one has to be there, and Image Laterality may be empty (PS3.3 C.7.3.1, C.7.6.1).
    """
    copy_attributes(header, ("BodyPartExamined", "PatientOrientation"), made)
    if "PatientOrientation" not in made:
        made.PatientOrientation = None
    if len(reading.knees) == 1 and reading.knees[0].laterality is not Laterality.UNKNOWN:
        made.Laterality = reading.knees[0].laterality.value
    else:
        made.ImageLaterality = None


def _lossy_history(header: Dataset, made: Dataset) -> None:
    """A film that was once compressed with loss stays one (PS3.3 C.7.6.1.1.5)."""
    meta = getattr(header, "file_meta", None)
    syntax = meta.get("TransferSyntaxUID") if meta is not None else None
    declared = text_of(header, "LossyImageCompression")
    if declared == "01" or syntax in ALWAYS_LOSSY or (syntax in MAYBE_LOSSY and not declared):
        made.LossyImageCompression = "01"
        copy_attributes(header, ("LossyImageCompressionRatio", "LossyImageCompressionMethod"), made)
    else:
        made.LossyImageCompression = "00"


def _pixels(rgb: Bytes, made: Dataset) -> None:
    made.Rows, made.Columns = rgb.shape[:2]
    made.SamplesPerPixel, made.PhotometricInterpretation, made.PlanarConfiguration = 3, "RGB", 0
    made.BitsAllocated, made.BitsStored, made.HighBit, made.PixelRepresentation = 8, 8, 7, 0
    content = np.ascontiguousarray(rgb).tobytes()
    made.PixelData = content + b"\0" * (len(content) % 2)
    made["PixelData"].VR = "OB"
