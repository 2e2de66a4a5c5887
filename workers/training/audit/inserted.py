"""Artefacts inserted into the audited knees: whether the grade follows them and whether the red flag reports it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from workers.detection.detection_models import DetectionModels
from workers.models.labels import ARTEFACT_KINDS
from workers.models.registry import Model
from workers.preprocessing import Grey
from workers.training.audit.knees import AuditedKnee, FilmTransform, audit_knees
from workers.training.inserted_artefacts import INSERTERS, insert_artefact

SEED = 30


@dataclass(frozen=True)
class ArtefactPair:
    """A knee graded with an inserted artefact of that kind and without it."""

    kind: int
    with_artefact: AuditedKnee
    without: AuditedKnee

    @property
    def changes_grade(self) -> bool:
        """Whether the grade depends on the artefact: without it the grade is another."""
        return self.with_artefact.graded.grade != self.without.graded.grade

    @property
    def flags(self) -> Sequence[str]:
        """The codes of the red flags of the knee with the artefact."""
        return self.with_artefact.attention.reasons


def artefact_kind(number: int) -> int:
    """The kind of artefact that the knee of that number gets: the kinds in rotation."""
    kinds = sorted(INSERTERS)
    return kinds[number % len(kinds)]


def artefact_inserter(seed: int = SEED) -> FilmTransform:
    """Inserts an artefact beside the joint of each knee, the same at every run."""

    def insert(pixels: Grey, number: int) -> Grey:
        return insert_artefact(pixels, artefact_kind(number), np.random.default_rng((seed, number)))[0]

    return insert


def audit_with_artefacts(
    audited: Sequence[AuditedKnee], model: Model, models: DetectionModels
) -> Iterator[ArtefactPair]:
    """Every knee graded again with an artefact of its own."""
    again = audit_knees([knee.labelled for knee in audited], model, models, artefact_inserter())
    for number, (with_artefact, without) in enumerate(zip(again, audited, strict=True)):
        yield ArtefactPair(artefact_kind(number), with_artefact, without)


def flag_figures(pairs: Sequence[ArtefactPair]) -> dict[str, Any]:
    """
    How many grades depend on their artefact, and how many of those and of the others are flagged; in all and by kind.

    "sensitivity" is the flagged part of the grades that depend on one.
    """
    by_kind = {
        ARTEFACT_KINDS[kind]: _flag_figures([pair for pair in pairs if pair.kind == kind]) for kind in sorted(INSERTERS)
    }
    return {"all": _flag_figures(pairs), **by_kind}


def _flag_figures(pairs: Sequence[ArtefactPair]) -> dict[str, Any]:
    deciding = [pair for pair in pairs if pair.changes_grade]
    flagged = sum(bool(pair.flags) for pair in deciding)
    return {
        "n": len(pairs),
        "deciding": len(deciding),
        "flagged": flagged,
        "flagged_in_vain": sum(bool(pair.flags) for pair in pairs) - flagged,
        "sensitivity": round(flagged / len(deciding), 4) if deciding else None,
    }
