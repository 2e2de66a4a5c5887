"""
A clean stand-in for the film, from which highdicom builds what it is good at; the rest is put around it.

highdicom refuses films that break a rule (a sex of 'U', no Study ID, a Korean character set) and stamps the time
of day. So it sees this, and what it made is adopted by an object that has the film's own identity.
"""

from typing import Any

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

from node.finding import ModelIdentity
from workers.report.identity import text_of
from workers.report.modules import TYPE_2
from workers.report.provenance import MANUFACTURER, MODEL_NAME, software_versions


def stand_in(header: Dataset, rows: int, columns: int) -> Dataset:
    """A grey image of that size with the film's UIDs, and nothing that could be wrong."""
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    for keyword in ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"):
        setattr(made, keyword, UID(text_of(header, keyword)))
    for keyword in TYPE_2:
        setattr(made, keyword, "")
    made.Modality, made.PatientOrientation = "DX", ["L", "F"]
    made.Rows, made.Columns, made.SamplesPerPixel, made.PhotometricInterpretation = rows, columns, 1, "MONOCHROME2"
    made.BitsAllocated, made.BitsStored, made.HighBit, made.PixelRepresentation = 16, 16, 15, 0
    return made


def equipment(card: ModelIdentity) -> dict[str, Any]:
    """What highdicom asks for of the maker. There is no serial number of a device; the weights' hash is one."""
    return {
        "manufacturer": MANUFACTURER,
        "manufacturer_model_name": MODEL_NAME,
        "software_versions": tuple(software_versions(card)),
        "device_serial_number": serial_number(card),
    }


def serial_number(card: ModelIdentity) -> str:
    """The start of the weights' hash, where an IOD wants a Device Serial Number."""
    return card.sha256[:16]


def adopt(built: Dataset, made: Dataset) -> None:
    """`made` has whatever of `built` it does not have itself; its own identity, times and makers stay."""
    for element in built:
        if element.tag not in made:
            made.add(element)
