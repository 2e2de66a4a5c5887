"""A result object read back into what was said: `genu read`, and a function for other programs."""

from pathlib import Path

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

from node.errors import GenuError
from node.finding import Reading
from workers.report.private_json import carried
from workers.report.provenance import MANUFACTURER, MODEL_NAME
from workers.report.structured_report.parse import coded
from workers.report.structured_report.template import REPORTS


def read_result(source: Path | Dataset) -> Reading:
    """
    What a report, picture or segmentation of Genu says, as it was said.

    Without private attributes a report tells what its codes do; a picture or segmentation tells nothing any more. A
    report whose codes and private attribute contradict each other was changed by somebody, and is refused.

    Raises
    ------
    GenuError
        If it is no result of Genu's, or one that says nothing that can be relied on.
    """
    name = "the object" if isinstance(source, Dataset) else str(source)
    made = source if isinstance(source, Dataset) else _opened(source)
    if (made.get("Manufacturer"), made.get("ManufacturerModelName")) != (MANUFACTURER, MODEL_NAME):
        raise GenuError(f"{name} was not made by Genu", hint="name a Secondary Capture, report or segmentation of its")
    try:
        whole = carried(made)
        said = coded(made) if made.get("SOPClassUID") in REPORTS else None
    except ValueError as error:
        raise GenuError(f"{name} cannot be read back: {error}", hint="look whether somebody has changed it") from error
    if whole is not None and said is not None and _gist(whole) != _gist(said):
        raise GenuError(
            f"{name} says one thing in its codes and another in its private attribute",
            hint="somebody has changed it; ask for the report again",
        )
    told = whole or said
    if told is None:
        raise GenuError(
            f"{name} has lost its private attributes, and this kind has no codes", hint="read the report of the study"
        )
    return told


def _opened(path: Path) -> Dataset:
    try:
        return dcmread(path)
    except (InvalidDicomError, OSError, EOFError) as error:
        raise GenuError(f"{path} cannot be read", hint="a DICOM file is needed") from error


def _gist(reading: Reading) -> tuple[object, ...]:
    """What a report and the answer in it must agree upon."""
    knees = [(knee.laterality, knee.grade, knee.reason and knee.reason.code) for knee in reading.knees]
    return (reading.sop_instance_uid, reading.outcome, *knees)
