"""What a header alone decides: whether an object is a radiograph that may be read at all."""

from pydicom import Dataset
from pydicom.uid import UID, DigitalXRayImageStorageForProcessing

from node.errors import Permanent, Ungradable
from node.radiograph import RADIOGRAPH_CLASSES, is_uid
from node.reasons import reason
from workers.read.header import items, text, whole

OWN_NAME = "genu"
"""Manufacturer and model name of our results, and the manufacturer in their Contributing Equipment Sequence."""

OWN_SERIES = "Genu KL "
"""Start of the Series Description of our results. "Genu" alone is Latin for knee, and common on real films."""

MODALITIES = frozenset({"CR", "DX", "RG", "RF", "OT", "SC", "HC", "FD", ""})
"""
Modalities of a projection radiograph, as such or wrapped as a Secondary Capture (OT, SC, HC and FD are what
digitisers and print-outs call themselves). Mammography, dental films, angiography and the rest are refused.
"""

SMALLEST = 64
"""Rows or columns; a joint on fewer pixels has no joint space to see."""

MOST_FRAMES = 4
"""More frames than exposures of one examination is a film run or a tomosynthesis."""


def admit(header: Dataset, *, max_megapixels: float, for_processing: bool) -> None:
    """
    The header is that of a radiograph within the limits.

    ImageType DERIVED\\SECONDARY refuses nothing: digitised and wrapped films have it, and our own results are
    known by their maker.

    Raises
    ------
    Ungradable
        With the reason why it must not be read.
    Permanent
        IDENTITY_MISSING where a result could not be filed beside it.
    """
    _is_radiograph(header, for_processing)
    lacking = [each for each in ("StudyInstanceUID", "SOPInstanceUID") if not is_uid(text(header, each))]
    if lacking:
        raise Permanent(reason("IDENTITY_MISSING"), "without a usable " + " and ".join(lacking))
    _has_sane_size(header, max_megapixels)


def is_own(header: Dataset) -> bool:
    """Whether Genu made the object itself; a PACS may route results back to where films go."""
    made = all(text(header, each).casefold() == OWN_NAME for each in ("Manufacturer", "ManufacturerModelName"))
    # The sample films of workers/phantom have our Manufacturer too, but another model name, and no contribution.
    had_a_hand = any(
        text(item, "Manufacturer").casefold() == OWN_NAME for item in items(header, "ContributingEquipmentSequence")
    )
    return made or had_a_hand or text(header, "SeriesDescription").startswith(OWN_SERIES)


def frames(header: Dataset) -> int:
    """How many frames there are; a missing or senseless number means one (PS3.3 C.7.6.6)."""
    return max(1, whole(header, "NumberOfFrames") or 1)


def _is_radiograph(header: Dataset, for_processing: bool) -> None:
    sop_class, modality = UID(text(header, "SOPClassUID")), text(header, "Modality").upper()
    if is_own(header):
        raise Ungradable(reason("OWN_OBJECT"))
    if not sop_class:
        raise Ungradable(reason("UNREADABLE"), "the header does not say what it is")
    if sop_class not in RADIOGRAPH_CLASSES and not _may_hold_pixels(sop_class, header):
        raise Ungradable(reason("NOT_AN_IMAGE"))
    if sop_class not in RADIOGRAPH_CLASSES or modality not in MODALITIES:
        raise Ungradable(reason("NOT_A_RADIOGRAPH"))
    raw = sop_class == DigitalXRayImageStorageForProcessing
    raw = raw or text(header, "PresentationIntentType").upper() == "FOR PROCESSING"
    if raw and not for_processing:
        raise Ungradable(reason("FOR_PROCESSING"))


def _may_hold_pixels(sop_class: UID, header: Dataset) -> bool:
    """Whether the SOP class is one of images; of an unknown one, whether it says how many pixels it has."""
    if sop_class.is_private or sop_class.name == sop_class:
        return whole(header, "Rows") is not None
    return "Image Storage" in sop_class.name


def _has_sane_size(header: Dataset, max_megapixels: float) -> None:
    rows, columns = whole(header, "Rows"), whole(header, "Columns")
    if rows is None or columns is None or rows <= 0 or columns <= 0:
        raise Ungradable(reason("NO_PIXELS"), "without rows and columns")
    if frames(header) > MOST_FRAMES:
        raise Ungradable(reason("MANY_FRAMES"), f"{frames(header)} frames")
    if rows * columns > max_megapixels * 1e6:
        raise Ungradable(reason("TOO_LARGE"), f"{rows} x {columns} pixels")
    if min(rows, columns) < SMALLEST:
        raise Ungradable(reason("TOO_SMALL"), f"{rows} x {columns} pixels")
