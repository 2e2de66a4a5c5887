"""The SOP classes and transfer syntaxes that the node accepts, and the record of a received instance."""

import re
from dataclasses import dataclass
from datetime import datetime

from pydicom import uid as dicom

RADIOGRAPH_CLASSES = (
    dicom.ComputedRadiographyImageStorage,
    dicom.DigitalXRayImageStorageForPresentation,
    dicom.DigitalXRayImageStorageForProcessing,
    dicom.SecondaryCaptureImageStorage,
    dicom.MultiFrameSingleBitSecondaryCaptureImageStorage,
    dicom.MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
    dicom.MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
    dicom.MultiFrameTrueColorSecondaryCaptureImageStorage,
)
"""Storage SOP classes that may hold a knee radiograph (PS3.4 B.5)."""

RESULT_CLASSES = (
    dicom.ComprehensiveSRStorage,
    dicom.Comprehensive3DSRStorage,
    dicom.SegmentationStorage,
    dicom.GrayscaleSoftcopyPresentationStateStorage,
    dicom.KeyObjectSelectionDocumentStorage,
    dicom.ParametricMapStorage,
    dicom.EncapsulatedPDFStorage,
)
"""Accepted only because a PACS may route Genu's own results back: they are not analysed (no loops)."""

SOP_CLASS_OF_KIND = {
    "SC": str(dicom.MultiFrameTrueColorSecondaryCaptureImageStorage),
    "SC1": str(dicom.SecondaryCaptureImageStorage),
    "SR": str(dicom.ComprehensiveSRStorage),
    "SR3D": str(dicom.Comprehensive3DSRStorage),
    "SEG": str(dicom.SegmentationStorage),
    "PR": str(dicom.GrayscaleSoftcopyPresentationStateStorage),
    "KO": str(dicom.KeyObjectSelectionDocumentStorage),
    "PM": str(dicom.ParametricMapStorage),
    "PDF": str(dicom.EncapsulatedPDFStorage),
}
"""Kind of object that Genu makes -> its SOP class; the report has two, SR and SR3D."""

STORAGE_CLASSES = (*RADIOGRAPH_CLASSES, *RESULT_CLASSES)

TRANSFER_SYNTAXES = (
    dicom.ExplicitVRLittleEndian,
    dicom.ImplicitVRLittleEndian,
    dicom.ExplicitVRBigEndian,
    dicom.DeflatedExplicitVRLittleEndian,
    dicom.RLELossless,
    dicom.JPEGBaseline8Bit,
    dicom.JPEGExtended12Bit,
    dicom.JPEGLossless,
    dicom.JPEGLosslessSV1,
    dicom.JPEGLSLossless,
    dicom.JPEGLSNearLossless,
    dicom.JPEG2000Lossless,
    dicom.JPEG2000,
)
"""Accepted and stored as received; the workers decode (PS3.5 section 10, PS3.6 table A-1)."""

_UID = re.compile(r"[0-9]+(\.[0-9]+)+")


def is_uid(text: str) -> bool:
    """
    Whether `text` may serve as a UID: digits and dots, at most 64 characters (PS3.5 section 9.1).

    Components with leading zeros are accepted: real modalities write them.
    """
    return len(text) <= 64 and _UID.fullmatch(text) is not None


@dataclass(frozen=True)
class Radiograph:
    """A received instance: what the association and its data set's bytes show, never its pixels."""

    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    sha256: str
    """Of the data set as received, without file meta information: the file's name in the storage."""
    size: int
    """Size of the stored file in bytes."""
    calling_ae_title: str
    calling_host: str
    received_at: datetime
    """With time zone UTC."""
