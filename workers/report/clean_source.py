"""
A clean copy of the film's header, from which highdicom builds objects.

highdicom refuses films that break a rule (a sex of 'U', no Study ID, a Korean character set) and stamps the time
of day. So it gets this copy, and its attributes are added to a data set that has the film's own identity.
"""

from typing import Any

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

from node.finding import ModelIdentity
from node.uids import derived_uid
from workers.report.identity import text_of
from workers.report.modules import TYPE_2
from workers.report.provenance import MANUFACTURER, MODEL_NAME, software_versions


def clean_source(header: Dataset, rows: int, columns: int) -> Dataset:
    """The header of a grey image of that size: the film's UIDs, and no value that could be invalid."""
    source = Dataset()
    source.file_meta = FileMetaDataset()
    source.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    for keyword in ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"):
        setattr(source, keyword, UID(text_of(header, keyword)))
    for keyword in TYPE_2:
        setattr(source, keyword, "")
    source.Modality, source.PatientOrientation = "DX", ["L", "F"]
    source.Rows, source.Columns = rows, columns
    source.SamplesPerPixel, source.PhotometricInterpretation = 1, "MONOCHROME2"
    source.BitsAllocated, source.BitsStored, source.HighBit, source.PixelRepresentation = 16, 16, 15, 0
    return source


def highdicom_arguments(card: ModelIdentity, uid: str, series_number: int) -> dict[str, Any]:
    """Arguments that every highdicom object needs; the device serial number is from the weights' hash."""
    return {
        "sop_instance_uid": uid,
        "instance_number": 1,
        "series_instance_uid": derived_uid("series", uid),
        "series_number": series_number,
        "manufacturer": MANUFACTURER,
        "manufacturer_model_name": MODEL_NAME,
        "software_versions": tuple(software_versions(card)),
        "device_serial_number": serial_number(card),
    }


def serial_number(card: ModelIdentity) -> str:
    """The first 16 digits of the weights' hash, where an IOD requires a Device Serial Number."""
    return card.sha256[:16]


def add_missing(built: Dataset, ds: Dataset) -> None:
    """Add the attributes of `built` that `ds` lacks; its own identity, times and equipment stay."""
    for element in built:
        if element.tag not in ds:
            ds.add(element)


def set_dimension_uid(ds: Dataset, uid: str) -> None:
    """Set the Dimension Organization UID, for which highdicom generates a random one."""
    for item in [*ds.get("DimensionOrganizationSequence", ()), *ds.get("DimensionIndexSequence", ())]:
        item.DimensionOrganizationUID = uid
