"""Planted shortcuts: markers, text, metal and borders laid on the same knees, and whether the red flag catches them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from workers.detection.detection_models import DetectionModels
from workers.models.labels import ARTEFACT_KINDS
from workers.models.registry import Model
from workers.preprocessing import Grey
from workers.training.audit.knees import AuditedKnee, Change, ask
from workers.training.inserted_artefacts import PLANTS, plant

SEED = 30


@dataclass(frozen=True)
class Planted:
    """A knee with something planted on it, beside what was said of it without."""

    kind: int
    with_it: AuditedKnee
    without: AuditedKnee

    @property
    def decides(self) -> bool:
        """Whether the grade hangs on the plant: it is another when the plant is taken away."""
        return self.with_it.graded.grade != self.without.graded.grade


def kind_of(number: int) -> int:
    """Which plant the knee of that number gets: each in turn."""
    kinds = sorted(PLANTS)
    return kinds[number % len(kinds)]


def planting(seed: int = SEED) -> Change:
    """What lays its plant beside the joint of each knee, the same at every run."""

    def change(pixels: Grey, number: int) -> Grey:
        return plant(pixels, kind_of(number), np.random.default_rng((seed, number)))[0]

    return change


def planted(clean: Sequence[AuditedKnee], model: Model, models: DetectionModels) -> Iterator[Planted]:
    """Every knee again, with a plant of its own on it."""
    again = ask([each.labelled for each in clean], model, models, planting())
    for at, (one, other) in enumerate(zip(again, clean, strict=True)):
        yield Planted(kind_of(at), one, other)


def caught(found: Sequence[Planted]) -> dict[str, Any]:
    """How many grades hang on their plant, and how many of those and of the others are flagged; in all and by kind."""

    def of(chosen: Sequence[Planted]) -> dict[str, Any]:
        deciding = [each for each in chosen if each.decides]
        flagged = sum(bool(each.with_it.attention.reasons) for each in deciding)
        return {
            "n": len(chosen),
            "deciding": len(deciding),
            "flagged": flagged,
            "flagged_in_vain": sum(bool(each.with_it.attention.reasons) for each in chosen) - flagged,
            "sensitivity": round(flagged / len(deciding), 4) if deciding else None,
        }

    return {"all": of(found)} | {
        ARTEFACT_KINDS[kind]: of([each for each in found if each.kind == kind]) for kind in sorted(PLANTS)
    }
