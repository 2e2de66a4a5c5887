"""Radiographs whose true upright image is known, written to disk in every way that a modality may."""

import subprocess
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

Image = npt.NDArray[np.float64]

STUDY_UID, SOP_UID = "2.25.311111111111111111111111111111111111111", "2.25.322222222222222222222222222222222222222"
DCMTK = {JPEGBaseline8Bit: "+eb", JPEGExtended12Bit: "+ee", JPEGLossless: "+el", JPEGLosslessSV1: "+e1"}
PYDICOM: dict[UID, dict[str, Any]] = {
    RLELossless: {},
    JPEGLSLossless: {},
    JPEGLSNearLossless: {"jls_error": 2},
    JPEG2000Lossless: {},
    JPEG2000: {"j2k_psnr": [60]},
}
NATIVE = (ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian)
COMPRESSED = (*DCMTK, *PYDICOM)


def truth(rows: int = 200, columns: int = 240) -> Image:
    """The upright image: soft tissue that thickens to one side, and a bright disc of bone. 0 black, 1 white."""
    y, x = np.mgrid[0:rows, 0:columns]
    tissue = 0.12 + 0.4 * x / columns + 0.08 * np.sin(y / 17)
    bone = 0.35 * (((x - columns * 0.45) ** 2 + (y - rows * 0.55) ** 2) < (0.28 * rows) ** 2)
    return np.asarray(tissue + bone)


@dataclass(frozen=True)
class Encoding:
    """
    One encoding of the true grey levels. `attributes` go into the data set as they are.

    `curve` turns a grey level for display (0 to 1) into the value before the VOI transformation, `rescale` that
    into the stored value: the inverse of what a reader has to do.
    """

    name: str
    stored: int = 12
    allocated: int = 16
    high_bit: int | None = None
    signed: bool = False
    photometric: str = "MONOCHROME2"
    inverted: bool = False
    syntax: UID = ExplicitVRLittleEndian
    curve: Any = None
    rescale: Any = None
    junk: bool = False
    attributes: dict[str, Any] = field(default_factory=dict)
    tolerance: float = 0.0

    @property
    def lowest(self) -> int:
        return -(1 << self.stored - 1) if self.signed else 0

    @property
    def levels(self) -> int:
        return 1 << self.stored

    def within(self) -> float:
        """How far the film may be from the truth: two stored values, and what a lossy codec loses."""
        return self.tolerance or 2 / self.levels + 1e-3


def full_window(way: Encoding) -> Encoding:
    """The same with a window over all stored values."""
    centre, width = way.lowest + way.levels / 2, way.levels
    return replace(
        way,
        curve=lambda grey: (grey - 0.5) * (width - 1) + centre - 0.5,
        attributes={"WindowCenter": str(centre), "WindowWidth": str(width), **way.attributes},
    )


def write(way: Encoding, path: Path, image: Image | None = None) -> Path:
    """The image, stored in that way, as a Part 10 file."""
    grey = truth() if image is None else image
    values = way.curve(1 - grey if way.inverted else grey)
    values = np.rint(way.rescale(values) if way.rescale else values).astype(np.int64)
    assert values.min() >= way.lowest and values.max() < way.lowest + way.levels, "the test's own image overflows"
    made = dataset(rows=grey.shape[0], columns=grey.shape[1])
    made.BitsAllocated, made.BitsStored, made.PixelRepresentation = way.allocated, way.stored, int(way.signed)
    made.HighBit = way.stored - 1 if way.high_bit is None else way.high_bit
    made.PhotometricInterpretation, made.SamplesPerPixel = way.photometric, 1
    words = (values & (way.levels - 1)) << (made.HighBit + 1 - way.stored)
    if way.junk:  # an overlay in the bits that are not stored
        unused = ((1 << way.allocated) - 1) & ~((way.levels - 1) << (made.HighBit + 1 - way.stored))
        words = words | (unused * (np.indices(words.shape).sum(0) // 7 % 2))
    else:
        sign = (values < 0) * (((1 << way.allocated) - 1) & ~((1 << made.HighBit + 1) - 1))
        words = words | sign
    made.PixelData = words.astype(f"<u{way.allocated // 8}").tobytes()
    made["PixelData"].VR = "OW"
    for keyword, value in way.attributes.items():
        setattr(made, keyword, value)
    return save(made, path, way.syntax)


def dataset(*, rows: int, columns: int, **attributes: Any) -> Dataset:
    """A DX header without pixels."""
    made = Dataset()
    made.SOPClassUID, made.SOPInstanceUID = DigitalXRayImageStorageForPresentation, SOP_UID
    made.StudyInstanceUID, made.SeriesInstanceUID = STUDY_UID, STUDY_UID + "1"
    made.PatientName, made.PatientID, made.Modality = "Test^Knee", "P1", "DX"
    made.Manufacturer, made.BodyPartExamined = "ACME", "KNEE"
    made.Rows, made.Columns = rows, columns
    for keyword, value in attributes.items():
        setattr(made, keyword, value)
    return made


def save(made: Dataset, path: Path, syntax: UID = ExplicitVRLittleEndian) -> Path:
    """The data set, whose pixel data is native little endian, in that transfer syntax."""
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    if syntax in PYDICOM:
        made.compress(syntax, **PYDICOM[syntax], generate_instance_uid=False)
    elif syntax == ExplicitVRBigEndian:
        made.file_meta.TransferSyntaxUID = syntax
        made.PixelData = np.frombuffer(made.PixelData, "<u2").astype(">u2").tobytes()  # OW swaps 8 bits too
    elif syntax not in DCMTK:
        made.file_meta.TransferSyntaxUID = syntax
    made.save_as(path, enforce_file_format=True)
    if syntax in DCMTK:
        plain = path.with_suffix(".plain")
        path.rename(plain)
        subprocess.run(["dcmcjpeg", "--uid-never", DCMTK[syntax], plain, path], check=True, capture_output=True)
        assert pydicom.dcmread(path, stop_before_pixels=True).file_meta.TransferSyntaxUID == syntax
    return path


def radiograph(path: Path, **attributes: Any) -> Path:
    """A 12-bit DX film of the truth with those attributes."""
    return write(full_window(Encoding("plain", attributes=attributes)), path)
