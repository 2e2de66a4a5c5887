"""The networks that localise and describe the joints on a film, loaded once for a process."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from workers.models.registry import ARTEFACTS, DETECTOR, LEAD_MARKERS, ORIENTATION, REFINER, SHIPPED, Model, load


@dataclass(frozen=True)
class DetectionModels:
    """
    The networks that a film passes before it is graded.

    `detector` finds joint boxes, `refiner` gives kind, box and landmarks of each, `orientation` classifies polarity
    and side, `lead_markers` reads lead letters, `artefacts` segments what lies beside the bones.
    """

    detector: Model
    refiner: Model
    orientation: Model
    lead_markers: Model
    artefacts: Model


def load_detection_models(*, engine: str = "", threads: int = 0, within: Sequence[Path] = SHIPPED) -> DetectionModels:
    """The five networks, checked and loaded; raises SettingsError as `load` does."""
    cards = (DETECTOR, REFINER, ORIENTATION, LEAD_MARKERS, ARTEFACTS)
    return DetectionModels(*(load(name, engine=engine, threads=threads, within=within) for name in cards))
