"""The name and UID by which a knee of a film is followed through every object that speaks of it."""

from pydicom.dataset import Dataset
from pydicom.uid import UID

from node.finding import Finding, Laterality
from node.uids import derived_uid
from workers.report.identity import text_of

SIDE_WORDS = {Laterality.RIGHT: "right knee", Laterality.LEFT: "left knee", Laterality.UNKNOWN: "knee, side unknown"}


def tracking(header: Dataset, knee: Finding, place: int) -> tuple[str, UID]:
    """Those of the report's group: the side may be put right later, the knee's place on its film does not change."""
    name = f"Genu KL {SIDE_WORDS[knee.laterality]}"
    return name, derived_uid("tracking", text_of(header, "SOPInstanceUID"), f"knee {place}")


def film_tracking(header: Dataset) -> tuple[str, UID]:
    """Those of the group of a film without a knee to speak of."""
    return "Genu KL film", derived_uid("tracking", text_of(header, "SOPInstanceUID"), "film")
