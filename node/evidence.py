"""What a result rests on: certainty of the grade, sources of the laterality, where the decision came from."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Any


class KLGrade(IntEnum):
    """
    The Kellgren-Lawrence grade (Kellgren & Lawrence 1957, Ann Rheum Dis 16:494).

    0 none; 1 doubtful narrowing, possible lipping; 2 definite osteophytes, possible narrowing; 3 moderate
    osteophytes, definite narrowing, some sclerosis; 4 large osteophytes, marked narrowing, severe sclerosis.
    """

    KL0 = 0
    KL1 = 1
    KL2 = 2
    KL3 = 3
    KL4 = 4


@dataclass(frozen=True)
class Certainty:
    """
    The certainty of a grade.

    `lowest` to `highest` are the grades that could not be ruled out: of a hundred knees of any one grade
    like those that the model was calibrated on, the set holds the true grade of 100 * `level`.
    `undecided` are two neighbouring grades of nearly equal probability. `spread` is the standard deviation, in
    grades, of the expected grade over the views of the knee that the model graded (as displayed and mirrored);
    None for a model that grades one view.
    """

    lowest: KLGrade
    highest: KLGrade
    level: float
    undecided: tuple[KLGrade, KLGrade] | None = None
    spread: float | None = None

    @property
    def words(self) -> str:
        """The set in words: "KL 2" or "KL 1 to 2"."""
        return f"KL {self.lowest}" if self.lowest == self.highest else f"KL {self.lowest} to {self.highest}"

    @property
    def remaining(self) -> str:
        """The set in a sentence, with its level."""
        level = f"({100 * self.level:g} % set)"
        if self.lowest == self.highest:
            return f"Only {self.words} remains {level}"
        if (self.lowest, self.highest) == (KLGrade.KL0, KLGrade.KL4):
            return f"No grade can be ruled out {level}"
        return f"{self.words} cannot be ruled out {level}"

    @property
    def doubt(self) -> str:
        """Which two grades could not be told apart, in a sentence; empty where there are none."""
        return "KL {} and KL {} could not be told apart".format(*self.undecided) if self.undecided else ""

    def as_json(self) -> dict[str, Any]:
        return {
            "set": [int(self.lowest), int(self.highest)],
            "level": self.level,
            "undecided": [int(grade) for grade in self.undecided] if self.undecided else None,
            "spread": None if self.spread is None else round(self.spread, 3),
        }

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> "Certainty":
        lowest, highest = (KLGrade(grade) for grade in fields["set"])
        undecided = fields["undecided"]
        return cls(
            lowest,
            highest,
            level=fields["level"],
            undecided=(KLGrade(undecided[0]), KLGrade(undecided[1])) if undecided else None,
            spread=fields["spread"],
        )


class LateralitySource(StrEnum):
    """What the laterality of a knee was taken from: a DICOM keyword, or a sign on the film."""

    IMAGE_LATERALITY = "ImageLaterality"
    LATERALITY = "Laterality"
    FRAME_LATERALITY = "FrameLaterality"
    ANATOMIC_REGION = "AnatomicRegionSequence"
    MARKER = "marker"
    POSITION = "position"
    IMAGE = "image"
    SERIES_DESCRIPTION = "SeriesDescription"
    PROTOCOL_NAME = "ProtocolName"
    PROCEDURE_STEP = "PerformedProcedureStepDescription"
    REQUESTED_PROCEDURE = "RequestedProcedureDescription"
    STUDY_DESCRIPTION = "StudyDescription"
    NONE = "none"

    @classmethod
    def parse(cls, value: str) -> "LateralitySource":
        """The source of that value; NONE for one that this release does not know."""
        return cls(value) if value in set(cls) else cls.NONE

    @property
    def text(self) -> str:
        """The source in words, as pages and reports name it."""
        return LATERALITY_SOURCES[self]


LATERALITY_SOURCES = {
    LateralitySource.IMAGE_LATERALITY: "the header (Image Laterality)",
    LateralitySource.LATERALITY: "the header (Laterality)",
    LateralitySource.FRAME_LATERALITY: "the header (Frame Laterality)",
    LateralitySource.ANATOMIC_REGION: "the header (Anatomic Region)",
    LateralitySource.MARKER: "the marker on the film",
    LateralitySource.POSITION: "the position on the film",
    LateralitySource.IMAGE: "the image",
    LateralitySource.SERIES_DESCRIPTION: "the header (Series Description)",
    LateralitySource.PROTOCOL_NAME: "the header (Protocol Name)",
    LateralitySource.PROCEDURE_STEP: "the header (Performed Procedure Step Description)",
    LateralitySource.REQUESTED_PROCEDURE: "the header (Requested Procedure Description)",
    LateralitySource.STUDY_DESCRIPTION: "the header (Study Description)",
    LateralitySource.NONE: "neither header nor film",
}
"""The words for each source, used on every page and in every report."""


@dataclass(frozen=True)
class Evidence:
    """
    What one source states about the laterality of a knee, and its weight in the vote (workers/laterality/vote.py).

    `value` is "R", "L", "B" for both, or "?" for what cannot be understood. `weight` is about the logarithm of the odds
    that the source is right.
    """

    source: LateralitySource
    value: str
    weight: float

    def as_json(self) -> dict[str, Any]:
        return {"witness": self.source.value, "says": self.value, "weight": round(self.weight, 1)}

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> "Evidence":
        return cls(LateralitySource.parse(fields["witness"]), fields["says"], fields["weight"])


class Agreement(StrEnum):
    """How the sources of a laterality agree."""

    AGREED = "agreed"
    """Two independent sources or more state the same side, and none another."""
    SINGLE = "single"
    """One source alone states a side."""
    CONFLICT = "conflict"
    """Sources contradict each other."""
    NONE = "none"
    """No source states a side."""


@dataclass(frozen=True)
class Attention:
    """
    Where the decision for a grade came from (workers/explanation/attribution.py).

    `second` is the next probable grade, `margin` the difference of the two logits. `regions` holds how much each region
    of the film adds to the margin, and "constant" what none of them adds: their sum is the margin. `inside` is the part
    of the evidence for the grade and against the next that lies in the joint, None where there is none. `without` is
    the grade when everything but the joint is removed, `shift` by how many grades the expected grade then moves.
    `reasons` are the codes of the red flags that this raises.
    """

    second: KLGrade
    margin: float
    regions: Mapping[str, float]
    inside: float | None
    without: KLGrade
    shift: float
    reasons: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        return {
            "second": int(self.second),
            "margin": round(self.margin, 7),
            "regions": {name: round(share, 7) for name, share in self.regions.items()},
            "inside": None if self.inside is None else round(self.inside, 4),
            "without": int(self.without),
            "shift": round(self.shift, 3),
            "flag": bool(self.reasons),
            "reasons": list(self.reasons),
        }

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> "Attention":
        return cls(
            KLGrade(fields["second"]),
            fields["margin"],
            dict(fields["regions"]),
            fields["inside"],
            KLGrade(fields["without"]),
            fields["shift"],
            tuple(fields["reasons"]),
        )
