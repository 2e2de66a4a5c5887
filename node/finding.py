"""What Genu says: a Finding for each knee, a Reading for each radiograph. Plain data; JSON in and out."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from node.evidence import Agreement, Attention, Certainty, Evidence, KLGrade
from node.reasons import FLAGS, Flag, Reason, reason


class Laterality(StrEnum):
    """The side of a knee, as in Image Laterality (0020,0062)."""

    RIGHT = "R"
    LEFT = "L"
    UNKNOWN = "U"


class Outcome(StrEnum):
    """How the analysis of a radiograph ended."""

    GRADED = "graded"
    NOT_ANALYSED = "not_analysed"
    FAILED = "failed"


@dataclass(frozen=True)
class ModelIdentity:
    """Which model spoke. The hash is that of its weights."""

    name: str
    version: str
    sha256: str


@dataclass(frozen=True)
class Finding:
    """
    One knee: its side, where it lies, and its grade or the reason why it has none.

    `box` is (x0, y0, x1, y1) in pixels of the stored image; x1 and y1 lie just outside. `probabilities`
    are those of KL 0 to KL 4 and sum to 1. `laterality_source` names the attribute or sign that told the
    side ("ImageLaterality", "Laterality", "AnatomicRegionSequence", "marker", "position", "image",
    "SeriesDescription", "none"). `field_of_view_mm` is the box's width; `scale_source` what a millimetre
    is worth ("calibrated", "detector plane", "none").
    """

    laterality: Laterality
    laterality_source: str
    box: tuple[float, float, float, float]
    grade: KLGrade | None = None
    probabilities: tuple[float, ...] | None = None
    reason: Reason | None = None
    empty_map: bool = False
    """True if no cell of the grade's map speaks for it: there is nothing to show."""
    certainty: Certainty | None = None
    """None where there is no grade, and in answers of before there was such a thing."""
    flags: tuple[Flag, ...] = ()
    """What a reader should know of this knee, graded or not."""
    evidence: tuple[Evidence, ...] = ()
    """All that speaks of the side, whatever became of it."""
    agreement: Agreement = Agreement.NONE
    field_of_view_mm: float | None = None
    scale_source: str = "none"
    tilt: float | None = None
    """How far the plateau is turned on the film, in degrees, clockwise."""
    landmarks: tuple[tuple[float, float], ...] | None = None
    """Nine points along the tibial plateau and seven along the condyles, x and y, each from the image's left."""
    attention: Attention | None = None
    """None where there is no grade, and in answers of before there was such a thing."""

    @property
    def confidence(self) -> float | None:
        """The probability of the grade that is given."""
        return None if self.grade is None or self.probabilities is None else self.probabilities[self.grade]

    @property
    def sureness(self) -> str:
        """The confidence as a person says it: "62 %", and never all or nothing."""
        if self.confidence is None:
            return ""
        percent = round(100 * self.confidence)
        return ">99 %" if percent > 99 else "<1 %" if percent < 1 else f"{percent} %"

    def as_json(self) -> dict[str, Any]:
        return {
            "laterality": self.laterality.value,
            "laterality_source": self.laterality_source,
            "laterality_agreement": self.agreement.value,
            "laterality_evidence": [each.as_json() for each in self.evidence],
            "box": [round(edge, 1) for edge in self.box],
            "grade": None if self.grade is None else int(self.grade),
            "probabilities": None if self.probabilities is None else [round(p, 5) for p in self.probabilities],
            "confidence": None if self.confidence is None else round(self.confidence, 5),
            "certainty": self.certainty.as_json() if self.certainty else None,
            "reason": reason_as_json(self.reason),
            "flags": [flag_as_json(each) for each in self.flags],
            "empty_map": self.empty_map,
            "attention": self.attention.as_json() if self.attention else None,
            "field_of_view_mm": None if self.field_of_view_mm is None else round(self.field_of_view_mm, 1),
            "scale_source": self.scale_source,
            "tilt": None if self.tilt is None else round(self.tilt, 1),
            "landmarks": [[round(x, 1), round(y, 1)] for x, y in self.landmarks] if self.landmarks else None,
        }

    @classmethod
    def from_json(cls, told: dict[str, Any]) -> "Finding":
        return cls(
            laterality=Laterality(told["laterality"]),
            laterality_source=told["laterality_source"],
            box=(told["box"][0], told["box"][1], told["box"][2], told["box"][3]),
            grade=None if told["grade"] is None else KLGrade(told["grade"]),
            probabilities=None if told["probabilities"] is None else tuple(told["probabilities"]),
            reason=reason(told["reason"]["code"]) if told.get("reason") else None,
            empty_map=told.get("empty_map", False),
            certainty=Certainty.from_json(told["certainty"]) if told.get("certainty") else None,
            flags=tuple(flag_from_json(each) for each in told.get("flags", ())),
            evidence=tuple(Evidence(**each) for each in told.get("laterality_evidence", ())),
            agreement=Agreement(told.get("laterality_agreement", "none")),
            field_of_view_mm=told.get("field_of_view_mm"),
            scale_source=told.get("scale_source", "none"),
            tilt=told.get("tilt"),
            landmarks=tuple((x, y) for x, y in told["landmarks"]) if told.get("landmarks") else None,
            attention=Attention.from_json(told["attention"]) if told.get("attention") else None,
        )


@dataclass(frozen=True)
class Reading:
    """Everything Genu says of one radiograph."""

    sop_instance_uid: str
    outcome: Outcome
    model: ModelIdentity | None
    knees: tuple[Finding, ...] = ()
    reason: Reason | None = None
    detail: str = ""
    notes: tuple[str, ...] = ()
    """What a reader should know of how the film was read, e.g. that its polarity was put right."""

    @property
    def undecided(self) -> bool:
        """Whether two neighbouring grades of any knee could not be told apart."""
        return any(knee.certainty is not None and knee.certainty.undecided is not None for knee in self.knees)

    @property
    def flags(self) -> tuple[str, ...]:
        """The codes of what any knee is flagged with, each once."""
        return tuple(sorted({flag.code for knee in self.knees for flag in knee.flags}))

    def as_json(self) -> dict[str, Any]:
        model = self.model
        return {
            "sop_instance_uid": self.sop_instance_uid,
            "outcome": self.outcome.value,
            "reason": reason_as_json(self.reason, self.detail),
            "model": {"name": model.name, "version": model.version, "sha256": model.sha256} if model else None,
            "knees": [knee.as_json() for knee in self.knees],
            "notes": list(self.notes),
        }

    @classmethod
    def from_json(cls, told: dict[str, Any]) -> "Reading":
        return cls(
            sop_instance_uid=told["sop_instance_uid"],
            outcome=Outcome(told["outcome"]),
            model=ModelIdentity(**told["model"]) if told["model"] else None,
            knees=tuple(Finding.from_json(knee) for knee in told["knees"]),
            reason=reason(told["reason"]["code"]) if told["reason"] else None,
            detail=told["reason"].get("detail", "") if told["reason"] else "",
            notes=tuple(told.get("notes", ())),
        )


def reason_as_json(given: Reason | None, detail: str = "") -> dict[str, str] | None:
    """A reason as {"code", "text", "advice"}, and "detail" where something more is known."""
    if given is None:
        return None
    told = {"code": given.code, "text": given.meaning, "advice": given.advice}
    return {**told, "detail": detail} if detail else told


def flag_as_json(given: Flag) -> dict[str, Any]:
    """A flag as {"code", "text", "advice", "red"}."""
    return {"code": given.code, "text": given.meaning, "advice": given.advice, "red": given.red}


def flag_from_json(told: Mapping[str, Any]) -> Flag:
    """The flag that was written; one that this version's table lacks says what it said when it was written."""
    return FLAGS.get(told["code"]) or Flag(told["code"], told["text"], told["advice"], red=told["red"])
