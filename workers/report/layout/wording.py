"""What the pictures say in words: sides, what told them, the limits of a heat map. ASCII, few words, one place."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from node.finding import Finding, Laterality
from node.reasons import Flag
from workers.preprocessing import Pose
from workers.report.layout.colours import Strength

WARNING = "AI second opinion, not for primary diagnosis"
SIDES = {Laterality.RIGHT: "Right knee", Laterality.LEFT: "Left knee", Laterality.UNKNOWN: "Side unknown"}
SIDE_SOURCES = {
    "ImageLaterality": "side from the header (Image Laterality)",
    "Laterality": "side from the header (Laterality)",
    "AnatomicRegionSequence": "side from the header (Anatomic Region)",
    "FrameLaterality": "side from the header (Frame Laterality)",
    "SeriesDescription": "side from the header (Series Description)",
    "ProtocolName": "side from the header (Protocol Name)",
    "marker": "side from the marker on the film",
    "position": "side from the position on the film",
    "image": "side from the image",
    "none": "neither header nor film tells the side",
}
SEEN = 0.05
"""Grades; a smaller move is none to a reader, rounded to a tenth."""
LIMITS = (
    "One view of an adult's knee, graded by a network. The heat map shows what spoke for the grade: "
    "no outline of disease, and no proof of it."
)


class Heat(Protocol):
    """What drawing needs of a heat map (workers.explanation.grad_cam.HeatMap is one)."""

    @property
    def strength(self) -> Strength: ...
    @property
    def empty(self) -> bool: ...
    @property
    def pose(self) -> Pose: ...
    @property
    def contrast(self) -> Strength | None: ...


@dataclass(frozen=True)
class Row:
    """A knee to draw: what is said of it, its map if it has one, and `facts`, more to tell as (name, words)."""

    finding: Finding
    heat_map: Heat | None
    facts: tuple[tuple[str, str], ...] = ()


def ordered(rows: Sequence[Row]) -> list[Row]:
    """The patient's right first, as a film hangs; of two unknown sides, the one on the image's left."""
    order = {Laterality.RIGHT: 0, Laterality.UNKNOWN: 1, Laterality.LEFT: 2}
    return sorted(rows, key=lambda row: (order[row.finding.laterality], row.finding.box[0]))


def flags_of(finding: Finding) -> list[Flag]:
    """The flags of a knee, the grave ones first."""
    return sorted(finding.flags, key=lambda flag: not flag.red)


def where(finding: Finding) -> tuple[tuple[str, str], ...]:
    """Where the grade came from, as facts of its page: the loudest regions, and what is left without the rest."""
    told = finding.attention
    if told is None:
        return ()
    inside = "" if told.inside is None else f"{100 * told.inside:.0f} % from the joint: "
    loudest = sorted(told.regions.items(), key=lambda each: -abs(each[1]))[:3]
    shares = ", ".join(f"{name} {share:+.2f}" for name, share in loudest)
    moved = f" ({told.shift:+.1f} grades)" if abs(told.shift) >= SEEN else ""
    return (
        ("Evidence", f"{inside}{shares}, of {told.margin:+.2f} over KL {told.second}"),
        ("Check", f"KL {told.without} without what lies beside the joint{moved}"),
    )


def told_by(finding: Finding) -> str:
    """What told the side, in words."""
    return SIDE_SOURCES.get(finding.laterality_source, f"side from {finding.laterality_source}")


def grade_words(finding: Finding) -> str:
    """The answer in a line of ASCII: "KL 3, 71 %", or why there is none."""
    if finding.grade is None:
        return f"not graded: {finding.reason.meaning}" if finding.reason else "not graded"
    return f"KL {finding.grade}, {finding.confidence_text}"
