"""
Rendered films as DICOM objects: Digital X-Ray for presentation (PS3.3 A.26) and Computed Radiography (PS3.3 A.2).

Every attribute is invented and reproducible: the UIDs are derived from the pixels and the header (2.25., PS3.5 B.2), so
that two runs make the same objects. The names of the fields of Header are part of that.
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

CREATED_AT = datetime(2026, 1, 15, 9, 30)
"""When the invented examinations took place by default."""

SIDE_FROM_KNEES = "from knees"
"""The header names the side of the knees that are on the film."""

VIEWS = {
    "AP": ("399348003", "SCT", "antero-posterior"),
    "PA": ("272479007", "SCT", "postero-anterior"),
}
"""Codes of CID 4010 (PS3.16)."""


@dataclass(frozen=True)
class Header:
    """The attributes of an object besides its pixels."""

    patient_name: str = "PHANTOM^KNEE"
    patient_id: str = "PHANTOM-1"
    side: str | None = SIDE_FROM_KNEES
    """R, L or B; None leaves the side out."""
    view_position: str = "AP"
    bits: int = 12
    photometric: str = "MONOCHROME2"
    body_part: str = "KNEE"
    description: str = "Knee AP standing"
    made_at: datetime = CREATED_AT
    study_uid: str | None = None
    """Set to put several films into one study; otherwise each has its own."""
    sop_instance_uid: str | None = None


def as_dx(film: RenderedFilm, header: Header | None = None) -> Dataset:
    """The film is a Digital X-Ray Image for presentation, file meta information included."""
    header = header or Header()
    ds = _image(film, header, DigitalXRayImageStorageForPresentation, "DX")
    ds.PresentationIntentType = "FOR PRESENTATION"
    ds.ImageLaterality = _side(film, header) or "U"
    ds.AnatomicRegionSequence = Sequence([_code("72696002", "SCT", "Knee")])
    # The console's grey scale is a logarithm of the exposure: LOG, bone (few X-rays) towards the high values.
    ds.PixelIntensityRelationship = "LOG"
    ds.PixelIntensityRelationshipSign = -1 if header.photometric == "MONOCHROME2" else 1
    ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = "0", "1", "US"
    ds.PresentationLUTShape = "IDENTITY" if header.photometric == "MONOCHROME2" else "INVERSE"
    ds.LossyImageCompression = "00"
    ds.DetectorType = "SCINTILLATOR"
    ds.ImagerPixelSpacing = _spacing(film)
    ds.PositionerType = "NONE"
    ds.AcquisitionContextSequence = Sequence([])
    if header.view_position in VIEWS:
        ds.ViewCodeSequence = Sequence([_code(*VIEWS[header.view_position])])
        ds.ViewCodeSequence[0].ViewModifierCodeSequence = Sequence([])
    if film.opening is not None:
        ds.CollimatorShape = "RECTANGULAR"
        ds.CollimatorLeftVerticalEdge = round(film.opening.x0)
        ds.CollimatorRightVerticalEdge = round(film.opening.x1)
        ds.CollimatorUpperHorizontalEdge = round(film.opening.y0)
        ds.CollimatorLowerHorizontalEdge = round(film.opening.y1)
    return ds


def as_cr(film: RenderedFilm, header: Header | None = None) -> Dataset:
    """The film is a Computed Radiography Image, file meta information included."""
    header = header or Header()
    ds = _image(film, header, ComputedRadiographyImageStorage, "CR")
    side = _side(film, header)
    # Laterality (0020,0060) has no value B: it is empty for both knees and where the side is to be left out.
    ds.Laterality = side if side in ("R", "L") else ""
    ds.BodyPartExamined = header.body_part
    ds.ViewPosition = header.view_position
    ds.ImagerPixelSpacing = _spacing(film)
    return ds


def _image(film: RenderedFilm, header: Header, sop_class: UID, modality: str) -> Dataset:
    """What both kinds have in common: patient, study, series, equipment, image and pixels."""
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 100"
    ds.SOPClassUID = sop_class
    _identify(ds, film, header, modality)
    date, time = header.made_at.strftime("%Y%m%d"), header.made_at.strftime("%H%M%S")
    ds.StudyDate = ds.SeriesDate = ds.AcquisitionDate = ds.ContentDate = date
    ds.StudyTime = ds.SeriesTime = ds.AcquisitionTime = ds.ContentTime = time
    ds.Modality = modality
    ds.Manufacturer = "Rendered"
    ds.ManufacturerModelName = "Knee phantom"
    ds.DeviceSerialNumber = "0"
    ds.SoftwareVersions = "1"
    ds.StudyDescription = header.description
    ds.SeriesDescription = header.description
    ds.BodyPartExamined = header.body_part
    ds.ViewPosition = header.view_position
    ds.ImageType = ["ORIGINAL", "PRIMARY", ""] if modality == "DX" else ["ORIGINAL", "PRIMARY"]
    ds.KVP = "65"
    ds.BurnedInAnnotation = "NO"
    # As displayed: as if the patient faced the reader, whether AP or PA.
    ds.PatientOrientation = ["L", "F"]
    ds.InstanceNumber = ds.SeriesNumber = 1
    ds.AcquisitionNumber = 1
    _set_pixels(ds, film, header)
    return ds


def _identify(ds: Dataset, film: RenderedFilm, header: Header, modality: str) -> None:
    """Set patient and UIDs, which are derived from the pixels and the header."""
    ds.PatientName = header.patient_name
    ds.PatientID = header.patient_id
    ds.PatientBirthDate = "19600101"
    ds.PatientSex = "O"
    ds.ReferringPhysicianName = ""
    ds.StudyID = "1"
    ds.AccessionNumber = ""
    seed = hashlib.sha256(film.pixels.tobytes() + repr((modality, header, film.spacing_mm)).encode())
    ds.StudyInstanceUID = header.study_uid or _uid(seed.digest(), "study")
    ds.SeriesInstanceUID = _uid(seed.digest(), "series")
    ds.SOPInstanceUID = header.sop_instance_uid or _uid(seed.digest(), "instance")
    ds.file_meta = FileMetaDataset()
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian


def _set_pixels(ds: Dataset, film: RenderedFilm, header: Header) -> None:
    """Set pixel data and its description with the header's bits and photometric interpretation."""
    top = (1 << header.bits) - 1
    pixels = stored(film, bits=header.bits, photometric=header.photometric)
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = header.photometric
    ds.Rows, ds.Columns = pixels.shape
    ds.BitsAllocated = 8 if header.bits == 8 else 16
    ds.BitsStored = header.bits
    ds.HighBit = header.bits - 1
    ds.PixelRepresentation = 0
    ds.WindowCenter, ds.WindowWidth = str((top + 1) // 2), str(top + 1)
    ds.PixelData = pixels.astype(pixels.dtype.newbyteorder("<")).tobytes() + (b"\0" if pixels.nbytes % 2 else b"")
    ds["PixelData"].VR = "OB" if header.bits == 8 else "OW"


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
    """R, L or B for the header; None leaves the side out."""
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
