"""
What Genu adds to every result: its UIDs, its name, its model's name, and when it was made.

Nothing here asks the clock or the machine: the same film, answer, model and time of making give the same
bytes, so that a result made twice is one result (a PACS keeps the first of two with the same UID).
"""

from datetime import UTC, datetime, timedelta, timezone

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sr.coding import Code
from pydicom.uid import UID, ExplicitVRLittleEndian

from node import __version__
from node.finding import ModelIdentity, Reading
from node.uids import derived_uid
from workers.report import codes
from workers.report.identity import copy_attributes, copy_identity, text_of, timezone_of
from workers.report.modules import EQUIPMENT

MANUFACTURER = "Genu"
MODEL_NAME = "Genu"
"""read.py recognises Genu's own objects by these two."""

IMPLEMENTATION_CLASS_UID = UID("2.25.208766331093367979304630128636928402740")


def device_uid(card: ModelIdentity) -> UID:
    """The Device UID of the model; it changes whenever the weights do (IHE AIR 6.5.3.1)."""
    return derived_uid("device", card.sha256)


def object_uid(kind: str, reading: Reading, card: ModelIdentity, *settings: str) -> UID:
    """
    The SOP Instance UID of a result: of its source, model and kind, and of all that changes what it says.

    Of numbers the UID takes only what was decided by them. Two engines compute the same probabilities
    but for their last digits, and what they say is one result.
    """
    said = [reading.outcome.value, reading.reason.code if reading.reason else ""]
    for knee in reading.knees:
        answer = str(int(knee.grade)) if knee.grade is not None else knee.reason.code if knee.reason else ""
        said.append(f"{knee.laterality.value}{answer}")
        said += [flag.code for flag in knee.flags]
        if (sure := knee.certainty) is not None:
            said += [sure.remaining, sure.doubt]
    model = (card.name, card.version, card.sha256, __version__)
    return derived_uid("object", kind, reading.sop_instance_uid, *model, *settings, *said)


def result(
    header: Dataset, card: ModelIdentity, *, sop_class: str, sop_instance_uid: UID, made_at: datetime, utf8: bool
) -> Dataset:
    """A data set of the source's patient and study, in a series of its own, that says who made it and when."""
    made = Dataset()
    copy_identity(header, made, utf8=utf8)
    made.SOPClassUID, made.SOPInstanceUID = UID(sop_class), sop_instance_uid
    made.SeriesInstanceUID = derived_uid("series", sop_instance_uid)
    made.InstanceNumber = 1
    copy_attributes(header, ("InstitutionName",), made)
    made.Manufacturer, made.ManufacturerModelName = MANUFACTURER, MODEL_NAME
    made.SoftwareVersions = software_versions(card)
    here = local(made_at, header)
    for event in ("InstanceCreation", "Content", "Series"):
        setattr(made, f"{event}Date", here.strftime("%Y%m%d"))
        setattr(made, f"{event}Time", here.strftime("%H%M%S"))
    made.ContributingEquipmentSequence = contributing(header, card, here)
    made.file_meta = FileMetaDataset()
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.file_meta.ImplementationClassUID = IMPLEMENTATION_CLASS_UID
    made.file_meta.ImplementationVersionName = f"GENU_{__version__}"[:16]
    return made


def software_versions(card: ModelIdentity) -> list[str]:
    """Genu's version, the model's, and the start of its weights' hash."""
    return [__version__, ascii_only(f"{card.name} {card.version}")[:64], f"weights {card.sha256[:16]}"]


def local(made_at: datetime, header: Dataset) -> datetime:
    """
    `made_at` in the source's time zone, if it names one, otherwise in its own.

    Timezone Offset From UTC holds for every date and time of an object, so ours have to follow it too.
    """
    zone = timezone_of(header)
    if not zone:
        return made_at if made_at.tzinfo else made_at.replace(tzinfo=UTC)
    offset = timedelta(hours=int(zone[1:3]), minutes=int(zone[3:5])) * (-1 if zone[0] == "-" else 1)
    return (made_at if made_at.tzinfo else made_at.replace(tzinfo=UTC)).astimezone(timezone(offset))


def contributing(header: Dataset, card: ModelIdentity, here: datetime) -> list[Dataset]:
    """Who had a hand in it: the modality, the node, and the algorithm in the words of IHE AIR."""
    items = []
    if text_of(header, "Manufacturer"):
        modality = Dataset()
        modality.PurposeOfReferenceCodeSequence = [code_item(codes.ACQUISITION_EQUIPMENT)]
        copy_attributes(header, EQUIPMENT, modality)
        if "Manufacturer" in modality:
            items.append(modality)
    done = here.strftime("%Y%m%d%H%M%S%z")
    for purpose, model, what in (
        (codes.PROCESSING_EQUIPMENT, MODEL_NAME, "Kellgren-Lawrence grading of knee radiographs"),
        (codes.PROCESSING_ALGORITHM, ascii_only(card.name)[:64], f"Weights sha256 {card.sha256}"),
    ):
        item = Dataset()
        item.PurposeOfReferenceCodeSequence = [code_item(purpose)]
        item.Manufacturer, item.ManufacturerModelName = MANUFACTURER, model
        item.SoftwareVersions = software_versions(card)
        if purpose is codes.PROCESSING_ALGORITHM:
            item.DeviceUID = device_uid(card)
        item.ContributionDateTime, item.ContributionDescription = done, what
        items.append(item)
    return items


def code_item(code: Code) -> Dataset:
    """A code as an item of a code sequence (PS3.3 8.8)."""
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code.value, code.scheme_designator, code.meaning
    return item


def ascii_only(text: str) -> str:
    """`text` in characters that every character set has; what has none becomes a question mark."""
    return text.encode("ascii", "replace").decode("ascii")
