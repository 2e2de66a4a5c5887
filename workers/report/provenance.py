"""
What Genu adds to every result: UIDs, manufacturer, model and creation time.

Nothing here reads the clock or depends on the machine: the same film, reading, model and creation time give the same
bytes, so that a result created twice is one result (a PACS keeps the first of two with the same UID).
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
"""The reader recognises Genu's own objects by these two (workers/read)."""

IMPLEMENTATION_CLASS_UID = UID("2.25.208766331093367979304630128636928402740")


def device_uid(card: ModelIdentity) -> UID:
    """The Device UID of the model; it changes whenever the weights do (IHE AIR 6.5.3.1)."""
    return derived_uid("device", card.sha256)


def object_uid(kind: str, reading: Reading, card: ModelIdentity, *settings: str) -> UID:
    """
    The SOP Instance UID of a result, derived from its source, model, kind, and everything that changes its content.

    Of numbers only what they decide goes into the UID: two engines compute probabilities that differ in their last
    digits, and their results are the same.
    """
    parts = [reading.outcome.value, reading.reason.code if reading.reason else ""]
    for knee in reading.knees:
        outcome = str(int(knee.grade)) if knee.grade is not None else knee.reason.code if knee.reason else ""
        parts.append(f"{knee.laterality.value}{outcome}")
        parts += [flag.code for flag in knee.flags]
        if (certainty := knee.certainty) is not None:
            parts += [certainty.remaining, certainty.doubt]
    model = (card.name, card.version, card.sha256, __version__)
    return derived_uid("object", kind, reading.sop_instance_uid, *model, *settings, *parts)


def new_result(
    header: Dataset, card: ModelIdentity, *, sop_class: str, sop_instance_uid: UID, made_at: datetime, utf8: bool
) -> Dataset:
    """A data set of the source's patient and study, in a series of its own, with equipment and creation time."""
    ds = Dataset()
    copy_identity(header, ds, utf8=utf8)
    ds.SOPClassUID, ds.SOPInstanceUID = UID(sop_class), sop_instance_uid
    ds.SeriesInstanceUID = derived_uid("series", sop_instance_uid)
    ds.InstanceNumber = 1
    copy_attributes(header, ("InstitutionName",), ds)
    ds.Manufacturer, ds.ManufacturerModelName = MANUFACTURER, MODEL_NAME
    ds.SoftwareVersions = software_versions(card)
    local_time = to_source_time_zone(made_at, header)
    for event in ("InstanceCreation", "Content", "Series"):
        setattr(ds, f"{event}Date", local_time.strftime("%Y%m%d"))
        setattr(ds, f"{event}Time", local_time.strftime("%H%M%S"))
    ds.ContributingEquipmentSequence = contributing_equipment(header, card, local_time)
    ds.file_meta = FileMetaDataset()
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.ImplementationClassUID = IMPLEMENTATION_CLASS_UID
    ds.file_meta.ImplementationVersionName = f"GENU_{__version__}"[:16]
    return ds


def software_versions(card: ModelIdentity) -> list[str]:
    """Genu's version, the model's, and the start of its weights' hash."""
    return [__version__, ascii_only(f"{card.name} {card.version}")[:64], f"weights {card.sha256[:16]}"]


def to_source_time_zone(made_at: datetime, header: Dataset) -> datetime:
    """
    `made_at` in the source's time zone, if it names one, otherwise in its own.

    Timezone Offset From UTC applies to every date and time of an object, so also to those that Genu adds.
    """
    zone = timezone_of(header)
    if not zone:
        return made_at if made_at.tzinfo else made_at.replace(tzinfo=UTC)
    offset = timedelta(hours=int(zone[1:3]), minutes=int(zone[3:5])) * (-1 if zone[0] == "-" else 1)
    return (made_at if made_at.tzinfo else made_at.replace(tzinfo=UTC)).astimezone(timezone(offset))


def contributing_equipment(header: Dataset, card: ModelIdentity, local_time: datetime) -> list[Dataset]:
    """Contributing Equipment Sequence: the modality, the node, and the algorithm as IHE AIR describes it."""
    items = []
    if text_of(header, "Manufacturer"):
        modality = Dataset()
        modality.PurposeOfReferenceCodeSequence = [code_item(codes.ACQUISITION_EQUIPMENT)]
        copy_attributes(header, EQUIPMENT, modality)
        if "Manufacturer" in modality:
            items.append(modality)
    time = local_time.strftime("%Y%m%d%H%M%S%z")
    for purpose, model, description in (
        (codes.PROCESSING_EQUIPMENT, MODEL_NAME, "Kellgren-Lawrence grading of knee radiographs"),
        (codes.PROCESSING_ALGORITHM, ascii_only(card.name)[:64], f"Weights sha256 {card.sha256}"),
    ):
        item = Dataset()
        item.PurposeOfReferenceCodeSequence = [code_item(purpose)]
        item.Manufacturer, item.ManufacturerModelName = MANUFACTURER, model
        item.SoftwareVersions = software_versions(card)
        if purpose is codes.PROCESSING_ALGORITHM:
            item.DeviceUID = device_uid(card)
        item.ContributionDateTime, item.ContributionDescription = time, description
        items.append(item)
    return items


def code_item(code: Code) -> Dataset:
    """A code as an item of a code sequence (PS3.3 8.8)."""
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code.value, code.scheme_designator, code.meaning
    return item


def ascii_only(text: str) -> str:
    """`text` in ASCII, which every character set has; other characters become question marks."""
    return text.encode("ascii", "replace").decode("ascii")
