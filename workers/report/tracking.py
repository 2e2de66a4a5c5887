"""Tracking identifier and UID of a knee, the same in every object that describes it."""

from pydicom.dataset import Dataset
from pydicom.uid import UID

from node.finding import Finding, Laterality
from node.uids import derived_uid
from workers.report.identity import text_of

TRACKED_KNEES = {Laterality.RIGHT: "right knee", Laterality.LEFT: "left knee", Laterality.UNKNOWN: "knee, side unknown"}


def knee_tracking(header: Dataset, knee: Finding, number: int) -> tuple[str, UID]:
    """Identifier and UID of knee `number` of a film; the UID is independent of the laterality, which may change."""
    name = f"Genu KL {TRACKED_KNEES[knee.laterality]}"
    return name, derived_uid("tracking", text_of(header, "SOPInstanceUID"), f"knee {number}")


def film_tracking(header: Dataset) -> tuple[str, UID]:
    """Identifier and UID for the group of a film without a knee."""
    return "Genu KL film", derived_uid("tracking", text_of(header, "SOPInstanceUID"), "film")
