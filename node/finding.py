"""The result of an analysis: a Finding for each knee, a Reading for each radiograph. Plain data; JSON in and out."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from node.evidence import Agreement, Attention, Certainty, Evidence, KLGrade, LateralitySource
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


class ScaleSource(StrEnum):
    """The plane in which lengths in millimetres on a film are measured."""

    CALIBRATED = "calibrated"
    """In the patient: corrected for magnification, or measured against an object of known size."""
    DETECTOR_PLANE = "detector plane"
    """In the plane of the detector: up to a third more than in the patient."""
    NONE = "none"
    """Unknown: the header has no reliable spacing."""


@dataclass(frozen=True)
class ModelIdentity:
    """Which model graded: name, version and the SHA-256 of its weights."""

    name: str
    version: str
    sha256: str


@dataclass(frozen=True)
class Finding:
    """
    One knee: its laterality, where it lies, and its grade or the reason why it has none.

    `box` is (x0, y0, x1, y1) in pixels of the stored image; x1 and y1 lie just outside. `probabilities`
    are those of KL 0 to KL 4 and sum to 1. `field_of_view_mm` is the width of the box.
    """

    laterality: Laterality
    laterality_source: LateralitySource
    box: tuple[float, float, float, float]
    grade: KLGrade | None = None
    probabilities: tuple[float, ...] | None = None
    reason: Reason | None = None
    empty_map: bool = False
    """True if no cell of the grade's map is positive: there is nothing to show."""
    certainty: Certainty | None = None
    """None where there is no grade, and in results of releases that did not have it."""
    flags: tuple[Flag, ...] = ()
    """Remarks and warnings on this knee, graded or not."""
    evidence: tuple[Evidence, ...] = ()
    """All that the vote on the laterality took into account."""
    agreement: Agreement = Agreement.NONE
    field_of_view_mm: float | None = None
    scale_source: ScaleSource = ScaleSource.NONE
    tilt: float | None = None
    """Rotation of the tibial plateau on the film, in degrees, clockwise."""
    landmarks: tuple[tuple[float, float], ...] | None = None
    """Nine points along the tibial plateau and seven along the condyles, x and y, each from the image's left."""
    attention: Attention | None = None
    """None where there is no grade, and in results of releases that did not have it."""

    @property
    def confidence(self) -> float | None:
        """The probability of the grade that is given."""
        return None if self.grade is None or self.probabilities is None else self.probabilities[self.grade]

    @property
    def confidence_text(self) -> str:
        """The confidence in words: "62 %"; never 0 % and never 100 %."""
        if self.confidence is None:
            return ""
        percent = round(100 * self.confidence)
        return ">99 %" if percent > 99 else "<1 %" if percent < 1 else f"{percent} %"

    def as_json(self) -> dict[str, Any]:
        return {
            "laterality": self.laterality.value,
            "laterality_source": self.laterality_source.value,
            "laterality_agreement": self.agreement.value,
            "laterality_evidence": [evidence.as_json() for evidence in self.evidence],
            "box": [round(edge, 1) for edge in self.box],
            "grade": None if self.grade is None else int(self.grade),
            "probabilities": None if self.probabilities is None else [round(p, 5) for p in self.probabilities],
            "confidence": None if self.confidence is None else round(self.confidence, 5),
            "certainty": self.certainty.as_json() if self.certainty else None,
            "reason": reason_as_json(self.reason),
            "flags": [flag_as_json(flag) for flag in self.flags],
            "empty_map": self.empty_map,
            "attention": self.attention.as_json() if self.attention else None,
            "field_of_view_mm": None if self.field_of_view_mm is None else round(self.field_of_view_mm, 1),
            "scale_source": self.scale_source.value,
            "tilt": None if self.tilt is None else round(self.tilt, 1),
            "landmarks": [[round(x, 1), round(y, 1)] for x, y in self.landmarks] if self.landmarks else None,
        }

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> "Finding":
        return cls(
            laterality=Laterality(fields["laterality"]),
            laterality_source=LateralitySource.parse(fields["laterality_source"]),
            box=(fields["box"][0], fields["box"][1], fields["box"][2], fields["box"][3]),
            grade=None if fields["grade"] is None else KLGrade(fields["grade"]),
            probabilities=None if fields["probabilities"] is None else tuple(fields["probabilities"]),
            reason=reason(fields["reason"]["code"]) if fields.get("reason") else None,
            empty_map=fields.get("empty_map", False),
            certainty=Certainty.from_json(fields["certainty"]) if fields.get("certainty") else None,
            flags=tuple(flag_from_json(flag) for flag in fields.get("flags", ())),
            evidence=tuple(Evidence.from_json(item) for item in fields.get("laterality_evidence", ())),
            agreement=Agreement(fields.get("laterality_agreement", "none")),
            field_of_view_mm=fields.get("field_of_view_mm"),
            scale_source=ScaleSource(fields.get("scale_source", "none")),
            tilt=fields.get("tilt"),
            landmarks=tuple((x, y) for x, y in fields["landmarks"]) if fields.get("landmarks") else None,
            attention=Attention.from_json(fields["attention"]) if fields.get("attention") else None,
        )


@dataclass(frozen=True)
class Reading:
    """The result of the analysis of one radiograph."""

    sop_instance_uid: str
    outcome: Outcome
    model: ModelIdentity | None
    knees: tuple[Finding, ...] = ()
    reason: Reason | None = None
    detail: str = ""
    notes: tuple[str, ...] = ()
    """Notes on how the film was read, e.g. that its polarity was corrected."""

    @property
    def undecided(self) -> bool:
        """Whether two neighbouring grades of any knee could not be told apart."""
        return any(knee.certainty is not None and knee.certainty.undecided is not None for knee in self.knees)

    @property
    def flags(self) -> tuple[str, ...]:
        """The codes of the flags of all knees, without repeats."""
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
    def from_json(cls, fields: dict[str, Any]) -> "Reading":
        return cls(
            sop_instance_uid=fields["sop_instance_uid"],
            outcome=Outcome(fields["outcome"]),
            model=ModelIdentity(**fields["model"]) if fields["model"] else None,
            knees=tuple(Finding.from_json(knee) for knee in fields["knees"]),
            reason=reason(fields["reason"]["code"]) if fields["reason"] else None,
            detail=fields["reason"].get("detail", "") if fields["reason"] else "",
            notes=tuple(fields.get("notes", ())),
        )


def reason_as_json(reason: Reason | None, detail: str = "") -> dict[str, str] | None:
    """A reason as {"code", "text", "advice"}, and "detail" where something more is known."""
    if reason is None:
        return None
    fields = {"code": reason.code, "text": reason.meaning, "advice": reason.advice}
    return {**fields, "detail": detail} if detail else fields


def flag_as_json(flag: Flag) -> dict[str, Any]:
    """A flag as {"code", "text", "advice", "red"}."""
    return {"code": flag.code, "text": flag.meaning, "advice": flag.advice, "red": flag.red}


def flag_from_json(fields: Mapping[str, Any]) -> Flag:
    """The flag that was written; one that the table of this release lacks, with the texts that were written."""
    return FLAGS.get(fields["code"]) or Flag(fields["code"], fields["text"], fields["advice"], red=fields["red"])
