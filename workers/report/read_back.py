"""A result object read back into a reading: for `genu read` and for other programs."""

from pathlib import Path

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

from node.errors import GenuError
from node.finding import Reading
from workers.report.private_json import embedded_json
from workers.report.provenance import MANUFACTURER, MODEL_NAME
from workers.report.structured_report.parse import parse_reading
from workers.report.structured_report.template import REPORTS


def read_result(source: Path | Dataset) -> Reading:
    """
    The reading in a report, Secondary Capture or segmentation of Genu.

    Without private attributes a report gives what its codes contain; a picture or segmentation then contains no
    reading. A report whose codes contradict its private attribute was changed after its creation, and is refused.

    Raises
    ------
    GenuError
        If it is no result of Genu, or one that was changed or has no reading.
    """
    name = "the object" if isinstance(source, Dataset) else str(source)
    ds = source if isinstance(source, Dataset) else _open(source)
    if (ds.get("Manufacturer"), ds.get("ManufacturerModelName")) != (MANUFACTURER, MODEL_NAME):
        raise GenuError(
            f"{name} was not made by Genu", hint="give a Secondary Capture, report or segmentation that Genu made"
        )
    try:
        embedded = embedded_json(ds)
        parsed = parse_reading(ds) if ds.get("SOPClassUID") in REPORTS else None
    except ValueError as error:
        raise GenuError(f"{name} cannot be read back: {error}", hint="check whether it was changed") from error
    if embedded is not None and parsed is not None and _compared_fields(embedded) != _compared_fields(parsed):
        raise GenuError(
            f"{name} has codes that contradict its private attribute",
            hint="it was changed; request the report again",
        )
    reading = embedded or parsed
    if reading is None:
        raise GenuError(
            f"{name} has lost its private attributes, and this kind has no codes", hint="read the report of the study"
        )
    return reading


def _open(path: Path) -> Dataset:
    try:
        return dcmread(path)
    except (InvalidDicomError, OSError, EOFError) as error:
        raise GenuError(f"{path} cannot be read", hint="a DICOM file is needed") from error


def _compared_fields(reading: Reading) -> tuple[object, ...]:
    """The fields in which the codes of a report and the embedded reading must agree."""
    knees = [(knee.laterality, knee.grade, knee.reason and knee.reason.code) for knee in reading.knees]
    return (reading.sop_instance_uid, reading.outcome, *knees)
