"""What an answer rests on: how sure the grade is, who told the side, where on the film the decision came from."""

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
    How sure a model is of a grade.

    `lowest` to `highest` are the grades that could not be ruled out: of a hundred knees of any one grade
    like those that the model was calibrated on, the set holds the true grade of 100 * `level`.
    `undecided` are two neighbours of which one is hardly likelier than the other. `spread` is the
    standard deviation, in grades, of the expected grade over the views that the model took of the knee
    (by each of its networks, as seen and mirrored); None for a model that takes one view.
    """

    lowest: KLGrade
    highest: KLGrade
    level: float
    undecided: tuple[KLGrade, KLGrade] | None = None
    spread: float | None = None

    @property
    def words(self) -> str:
        """The set as a person says it: "KL 2" or "KL 1 to 2"."""
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
        """Which two grades look alike, in a sentence; nothing where none do."""
        return "KL {} and KL {} could not be told apart".format(*self.undecided) if self.undecided else ""

    def as_json(self) -> dict[str, Any]:
        return {
            "set": [int(self.lowest), int(self.highest)],
            "level": self.level,
            "undecided": [int(grade) for grade in self.undecided] if self.undecided else None,
            "spread": None if self.spread is None else round(self.spread, 3),
        }

    @classmethod
    def from_json(cls, told: dict[str, Any]) -> "Certainty":
        lowest, highest = (KLGrade(grade) for grade in told["set"])
        undecided = told["undecided"]
        return cls(
            lowest,
            highest,
            level=told["level"],
            undecided=(KLGrade(undecided[0]), KLGrade(undecided[1])) if undecided else None,
            spread=told["spread"],
        )


@dataclass(frozen=True)
class Evidence:
    """What one source says of the side of a knee, "R", "L" or "B", and its weight (workers/laterality/vote.py)."""

    witness: str
    says: str
    weight: float

    def as_json(self) -> dict[str, Any]:
        return {"witness": self.witness, "says": self.says, "weight": round(self.weight, 1)}


class Agreement(StrEnum):
    """How the witnesses of a side stand to each other."""

    AGREED = "agreed"
    SINGLE = "single"
    CONFLICT = "conflict"
    NONE = "none"


@dataclass(frozen=True)
class Attention:
    """
    Where the decision for a grade came from (workers/explanation/attribution.py).

    `second` is the next probable grade, `margin` the difference of the two logits. `regions` say how much of it each
    region of the film adds, and "constant" what none does: together they are the margin. `inside` is the part of the
    evidence for the grade and against the next that lies in the joint, None where there is none anywhere. `without`
    is the grade that stays when what is no joint is taken away, `shift` by how many grades the expected grade moves.
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
    def from_json(cls, told: Mapping[str, Any]) -> "Attention":
        return cls(
            KLGrade(told["second"]),
            told["margin"],
            dict(told["regions"]),
            told["inside"],
            KLGrade(told["without"]),
            told["shift"],
            tuple(told["reasons"]),
        )
