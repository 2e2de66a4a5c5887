"""
Rendered films as DICOM objects: Digital X-Ray for presentation (PS3.3 A.26) and Computed Radiography (PS3.3 A.2).

Every attribute is invented and the same each time: the UIDs are derived from the pixels and the header (2.25., PS3.5
B.2), so that two runs make the same objects.
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    UID,
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
)

from node.finding import Laterality
from workers.phantom.shape import RenderedFilm

MADE_AT = datetime(2026, 1, 15, 9, 30)
"""When the invented examinations took place, unless told otherwise."""

SIDE_FROM_KNEES = "from knees"
"""The header names the side of the knees that are on the film."""

VIEWS = {
    "AP": ("399348003", "SCT", "antero-posterior"),
    "PA": ("272479007", "SCT", "postero-anterior"),
}
"""Codes of CID 4010 (PS3.16)."""


@dataclass(frozen=True)
class Header:
    """What an object's header says beside the picture."""

    patient_name: str = "PHANTOM^KNEE"
    patient_id: str = "PHANTOM-1"
    side: str | None = SIDE_FROM_KNEES
    """R, L or B; None leaves the side out."""
    view_position: str = "AP"
    bits: int = 12
    photometric: str = "MONOCHROME2"
    body_part: str = "KNEE"
    description: str = "Knee AP standing"
    made_at: datetime = MADE_AT
    study_uid: str | None = None
    """Given to put several films into one study; otherwise each has its own."""
    sop_instance_uid: str | None = None


def as_dx(film: RenderedFilm, header: Header | None = None) -> Dataset:
    """The film is a Digital X-Ray Image for presentation, file meta information included."""
    header = header or Header()
    made = _image(film, header, DigitalXRayImageStorageForPresentation, "DX")
    made.PresentationIntentType = "FOR PRESENTATION"
    made.ImageLaterality = _side(film, header) or "U"
    made.AnatomicRegionSequence = Sequence([_code("72696002", "SCT", "Knee")])
    # The console's grey scale is a logarithm of the exposure: LOG, bone (few X-rays) towards the high values.
    made.PixelIntensityRelationship = "LOG"
    made.PixelIntensityRelationshipSign = -1 if header.photometric == "MONOCHROME2" else 1
    made.RescaleIntercept, made.RescaleSlope, made.RescaleType = "0", "1", "US"
    made.PresentationLUTShape = "IDENTITY" if header.photometric == "MONOCHROME2" else "INVERSE"
    made.LossyImageCompression = "00"
    made.DetectorType = "SCINTILLATOR"
    made.ImagerPixelSpacing = _spacing(film)
    made.PositionerType = "NONE"
    made.AcquisitionContextSequence = Sequence([])
    if header.view_position in VIEWS:
        made.ViewCodeSequence = Sequence([_code(*VIEWS[header.view_position])])
        made.ViewCodeSequence[0].ViewModifierCodeSequence = Sequence([])
    if film.opening is not None:
        made.CollimatorShape = "RECTANGULAR"
        made.CollimatorLeftVerticalEdge = round(film.opening.x0)
        made.CollimatorRightVerticalEdge = round(film.opening.x1)
        made.CollimatorUpperHorizontalEdge = round(film.opening.y0)
        made.CollimatorLowerHorizontalEdge = round(film.opening.y1)
    return made


def as_cr(film: RenderedFilm, header: Header | None = None) -> Dataset:
    """The film is a Computed Radiography Image, file meta information included."""
    header = header or Header()
    made = _image(film, header, ComputedRadiographyImageStorage, "CR")
    side = _side(film, header)
    # Laterality (0020,0060) knows no B: it is empty for both knees, and where the side is not to be said.
    made.Laterality = side if side in ("R", "L") else ""
    made.BodyPartExamined = header.body_part
    made.ViewPosition = header.view_position
    made.ImagerPixelSpacing = _spacing(film)
    return made


def _image(film: RenderedFilm, header: Header, sop_class: UID, modality: str) -> Dataset:
    """What both kinds have in common: patient, study, series, equipment, image and pixels."""
    made = Dataset()
    made.SpecificCharacterSet = "ISO_IR 100"
    made.SOPClassUID = sop_class
    _identify(made, film, header, modality)
    date, time = header.made_at.strftime("%Y%m%d"), header.made_at.strftime("%H%M%S")
    made.StudyDate = made.SeriesDate = made.AcquisitionDate = made.ContentDate = date
    made.StudyTime = made.SeriesTime = made.AcquisitionTime = made.ContentTime = time
    made.Modality = modality
    made.Manufacturer = "Rendered"
    made.ManufacturerModelName = "Knee phantom"
    made.DeviceSerialNumber = "0"
    made.SoftwareVersions = "1"
    made.StudyDescription = header.description
    made.SeriesDescription = header.description
    made.BodyPartExamined = header.body_part
    made.ViewPosition = header.view_position
    made.ImageType = ["ORIGINAL", "PRIMARY", ""] if modality == "DX" else ["ORIGINAL", "PRIMARY"]
    made.KVP = "65"
    made.BurnedInAnnotation = "NO"
    # As it hangs, and that is as if the patient faced the reader, whichever way the rays went.
    made.PatientOrientation = ["L", "F"]
    made.InstanceNumber = made.SeriesNumber = 1
    made.AcquisitionNumber = 1
    _set_pixels(made, film, header)
    return made


def _identify(made: Dataset, film: RenderedFilm, header: Header, modality: str) -> None:
    """The object has its patient, and UIDs that follow from the picture and the header."""
    made.PatientName = header.patient_name
    made.PatientID = header.patient_id
    made.PatientBirthDate = "19600101"
    made.PatientSex = "O"
    made.ReferringPhysicianName = ""
    made.StudyID = "1"
    made.AccessionNumber = ""
    seed = hashlib.sha256(film.pixels.tobytes() + repr((modality, header, film.spacing_mm)).encode())
    made.StudyInstanceUID = header.study_uid or _uid(seed.digest(), "study")
    made.SeriesInstanceUID = _uid(seed.digest(), "series")
    made.SOPInstanceUID = header.sop_instance_uid or _uid(seed.digest(), "instance")
    made.file_meta = FileMetaDataset()
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian


def _set_pixels(made: Dataset, film: RenderedFilm, header: Header) -> None:
    """The object holds the picture with that many bits, inverted where the header's photometric asks for it."""
    top = (1 << header.bits) - 1
    pixels = stored(film, bits=header.bits, photometric=header.photometric)
    made.SamplesPerPixel = 1
    made.PhotometricInterpretation = header.photometric
    made.Rows, made.Columns = pixels.shape
    made.BitsAllocated = 8 if header.bits == 8 else 16
    made.BitsStored = header.bits
    made.HighBit = header.bits - 1
    made.PixelRepresentation = 0
    made.WindowCenter, made.WindowWidth = str((top + 1) // 2), str(top + 1)
    made.PixelData = pixels.astype(pixels.dtype.newbyteorder("<")).tobytes() + (b"\0" if pixels.nbytes % 2 else b"")
    made["PixelData"].VR = "OB" if header.bits == 8 else "OW"


def stored(film: RenderedFilm, *, bits: int, photometric: str) -> npt.NDArray[np.uint8] | npt.NDArray[np.uint16]:
    """The film's pixels as stored with that many bits; MONOCHROME1 shows high values dark, so bone is stored low."""
    if bits not in (8, 10, 12, 14, 16):
        raise ValueError(f"{bits} bits: 8, 10, 12, 14 or 16")
    top = (1 << bits) - 1
    grey: npt.NDArray[np.float32] = np.rint(film.pixels * np.float32(top / ((1 << film.bits) - 1)))
    if photometric == "MONOCHROME1":
        grey = top - grey
    return grey.astype(np.uint16) if bits > 8 else grey.astype(np.uint8)


def _side(film: RenderedFilm, header: Header) -> str | None:
    """R, L or B as the header is to say it."""
    if header.side != SIDE_FROM_KNEES:
        return header.side
    sides = {knee.laterality for knee in film.knees} - {Laterality.UNKNOWN}
    return None if not sides else "B" if len(sides) == 2 else str(sides.pop().value)


def _spacing(film: RenderedFilm) -> list[str]:
    return [f"{film.spacing_mm:g}"] * 2


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    coded = Dataset()
    coded.CodeValue, coded.CodingSchemeDesignator, coded.CodeMeaning = value, scheme, meaning
    return coded


def _uid(seed: bytes, kind: str) -> UID:
    """A UID under 2.25 from 128 bits of a hash, marked as a version 8 UUID (RFC 9562)."""
    bits = int.from_bytes(hashlib.sha256(seed + kind.encode()).digest()[:16])
    bits = bits & ~(0xF << 76) & ~(0x3 << 62) | (0x8 << 76) | (0x2 << 62)
    return UID(f"2.25.{bits}")
