"""Texts of pages, PDF and presentation state: knees, sources of laterality, limits. ASCII and short."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from node.evidence import LateralitySource
from node.finding import Finding, Laterality
from node.reasons import Flag
from workers.preprocessing import Pose
from workers.report.layout.colours import Strength

WARNING = "AI second opinion, not for primary diagnosis"
KNEE_LABELS = {Laterality.RIGHT: "Right knee", Laterality.LEFT: "Left knee", Laterality.UNKNOWN: "Side unknown"}
MIN_SHIFT = 0.05
"""In grades; a smaller shift would round to zero."""
LIMITS = (
    "One view of an adult's knee, graded by a network. The heat map shows what spoke for the grade: "
    "no outline of disease, and no proof of it."
)


class DrawableHeatMap(Protocol):
    """What drawing needs of a heat map; workers.explanation.grad_cam.HeatMap implements it."""

    @property
    def strength(self) -> Strength: ...
    @property
    def empty(self) -> bool: ...
    @property
    def pose(self) -> Pose: ...
    @property
    def contrast(self) -> Strength | None: ...


@dataclass(frozen=True)
class KneeContent:
    """A knee to draw: its finding, its heat map if it has one, and further `facts` as (name, text)."""

    finding: Finding
    heat_map: DrawableHeatMap | None
    facts: tuple[tuple[str, str], ...] = ()


def in_display_order(knees: Sequence[KneeContent]) -> list[KneeContent]:
    """The patient's right knee first, as films are displayed; of two of unknown laterality, the image's left one."""
    order = {Laterality.RIGHT: 0, Laterality.UNKNOWN: 1, Laterality.LEFT: 2}
    return sorted(knees, key=lambda knee: (order[knee.finding.laterality], knee.finding.box[0]))


def sorted_flags(finding: Finding) -> list[Flag]:
    """The flags of a knee, red ones first."""
    return sorted(finding.flags, key=lambda flag: not flag.red)


def attention_facts(finding: Finding) -> tuple[tuple[str, str], ...]:
    """Facts on the grade's attribution: the regions with the most evidence, and the grade without the surroundings."""
    attention = finding.attention
    if attention is None:
        return ()
    inside = "" if attention.inside is None else f"{100 * attention.inside:.0f} % from the joint: "
    largest = sorted(attention.regions.items(), key=lambda share: -abs(share[1]))[:3]
    shares = ", ".join(f"{name} {share:+.2f}" for name, share in largest)
    shift = f" ({attention.shift:+.1f} grades)" if abs(attention.shift) >= MIN_SHIFT else ""
    return (
        ("Evidence", f"{inside}{shares}, of {attention.margin:+.2f} over KL {attention.second}"),
        ("Check", f"KL {attention.without} without what lies beside the joint{shift}"),
    )


def laterality_source_text(finding: Finding) -> str:
    """The source of the laterality as a text."""
    source = finding.laterality_source
    return f"{source.text} tells the side" if source is LateralitySource.NONE else f"side from {source.text}"


def grade_text(finding: Finding) -> str:
    """The grade as a line of ASCII: "KL 3, 71 %", or why there is none."""
    if finding.grade is None:
        return f"not graded: {finding.reason.meaning}" if finding.reason else "not graded"
    return f"KL {finding.grade}, {finding.confidence_text}"
