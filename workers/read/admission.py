"""Admission by the header alone: whether an object is a radiograph that may be read."""

from pydicom import Dataset
from pydicom.uid import UID, DigitalXRayImageStorageForProcessing

from node.errors import Permanent, Ungradable
from node.radiograph import RADIOGRAPH_CLASSES, is_uid
from node.reasons import reason
from workers.read.header import integer, items, text

OWN_NAME = "genu"
"""Manufacturer and model name of our results, and the manufacturer in their Contributing Equipment Sequence."""

OWN_SERIES = "Genu KL "
"""Start of the Series Description of our results. "Genu" alone is Latin for knee, and common on real films."""

MODALITIES = frozenset({"CR", "DX", "DR", "XR", "RG", "RF", "OT", "SC", "HC", "FD", ""})
"""
Modalities of a projection radiograph, as such or wrapped as a Secondary Capture: OT, SC, HC and FD are what
digitisers and print-outs call themselves, DR and XR no defined terms, and common. Mammography, dental films,
angiography and the rest are refused.
"""

MIN_SIDE = 64
"""Fewest rows or columns; a joint on fewer pixels has no visible joint space."""

MAX_FRAMES = 4
"""More frames than the exposures of one examination are a cine run or a tomosynthesis."""


def admit(header: Dataset, *, max_megapixels: float, for_processing: bool) -> None:
    """
    Raise unless the header is that of a radiograph within the limits.

    ImageType DERIVED\\SECONDARY is no reason to refuse: digitised and wrapped films have it, and Genu's own results
    are recognised by their manufacturer.

    Raises
    ------
    Ungradable
        With the reason why it is not read.
    Permanent
        IDENTITY_MISSING without the UIDs that a result needs to be filed beside it.
    """
    _check_radiograph(header, for_processing)
    missing = [keyword for keyword in ("StudyInstanceUID", "SOPInstanceUID") if not is_uid(text(header, keyword))]
    if missing:
        raise Permanent(reason("IDENTITY_MISSING"), "without a usable " + " and ".join(missing))
    _check_size(header, max_megapixels)


def is_own(header: Dataset) -> bool:
    """Whether Genu made the object itself; a PACS may route results back to the source of films."""
    by_equipment = all(
        text(header, keyword).casefold() == OWN_NAME for keyword in ("Manufacturer", "ManufacturerModelName")
    )
    # The sample films of workers/phantom have our Manufacturer too, but another model name, and no contribution.
    by_contribution = any(
        text(item, "Manufacturer").casefold() == OWN_NAME for item in items(header, "ContributingEquipmentSequence")
    )
    return by_equipment or by_contribution or text(header, "SeriesDescription").startswith(OWN_SERIES)


def frame_count(header: Dataset) -> int:
    """The number of frames; a missing or impossible Number of Frames means one (PS3.3 C.7.6.6)."""
    return max(1, integer(header, "NumberOfFrames") or 1)


def _check_radiograph(header: Dataset, for_processing: bool) -> None:
    sop_class, modality = UID(text(header, "SOPClassUID")), text(header, "Modality").upper()
    if is_own(header):
        raise Ungradable(reason("OWN_OBJECT"))
    if not sop_class:
        raise Ungradable(reason("UNREADABLE"), "the header does not say what it is")
    if sop_class not in RADIOGRAPH_CLASSES and not _may_have_pixels(sop_class, header):
        raise Ungradable(reason("NOT_AN_IMAGE"))
    if sop_class not in RADIOGRAPH_CLASSES or modality not in MODALITIES:
        raise Ungradable(reason("NOT_A_RADIOGRAPH"))
    is_for_processing = sop_class == DigitalXRayImageStorageForProcessing
    is_for_processing = is_for_processing or text(header, "PresentationIntentType").upper() == "FOR PROCESSING"
    if is_for_processing and not for_processing:
        raise Ungradable(reason("FOR_PROCESSING"))


def _may_have_pixels(sop_class: UID, header: Dataset) -> bool:
    """Whether the SOP class is one of images; of an unknown one, whether it has Rows."""
    if sop_class.is_private or sop_class.name == sop_class:
        return integer(header, "Rows") is not None
    return "Image Storage" in sop_class.name


def _check_size(header: Dataset, max_megapixels: float) -> None:
    rows, columns = integer(header, "Rows"), integer(header, "Columns")
    if rows is None or columns is None or rows <= 0 or columns <= 0:
        raise Ungradable(reason("NO_PIXELS"), "without rows and columns")
    if frame_count(header) > MAX_FRAMES:
        raise Ungradable(reason("MANY_FRAMES"), f"{frame_count(header)} frames")
    if rows * columns > max_megapixels * 1e6:
        raise Ungradable(reason("TOO_LARGE"), f"{rows} x {columns} pixels")
    if min(rows, columns) < MIN_SIDE:
        raise Ungradable(reason("TOO_SMALL"), f"{rows} x {columns} pixels")
