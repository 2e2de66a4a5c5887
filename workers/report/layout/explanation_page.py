"""The page that explains a result in text and bars: grade, probabilities, set, laterality, flags, model, limits."""

from collections.abc import Sequence
from datetime import datetime

import numpy as np

from node import __version__
from node.evidence import Certainty, KLGrade
from node.finding import Finding, ModelIdentity
from workers.report.codes import GRADE_NAMES
from workers.report.layout.canvas import AMBER, DIM, GREY, WHITE, Canvas, shorten, wrap
from workers.report.layout.page_frame import Layout
from workers.report.layout.wording import LIMITS, KneeContent, laterality_source_text, sorted_flags

BAR_PITCH = 21
"""Distance from one grade's bar to the next, in units of the page."""
FACTS_TOP, FACTS_BOTTOM = 270, 448
"""Extent of the facts in units of the page; text that does not fit is shortened."""


def draw_explanation(
    canvas: Canvas, knee: KneeContent, card: ModelIdentity, layout: Layout, *, notes: Sequence[str], made_at: datetime
) -> None:
    """Draw everything between the header and footer of a knee's explanation page."""
    canvas.box(0, layout.top, layout.width, layout.height - layout.px(24), fill=(0, 0, 0))
    if knee.finding.grade is None or knee.finding.probabilities is None:
        facts_top = _draw_refusal(canvas, knee.finding, layout)
    else:
        _draw_grade(canvas, knee.finding, knee.finding.grade, layout)
        _draw_probabilities(canvas, knee.finding, knee.finding.probabilities, layout)
        facts_top = FACTS_TOP
    _draw_facts(canvas, explanation_facts(knee, card, notes, made_at), layout, facts_top)
    _draw_limits(canvas, layout)


def _draw_grade(canvas: Canvas, finding: Finding, grade: KLGrade, layout: Layout) -> None:
    px, margin = layout.px, layout.px(10)
    name, features = GRADE_NAMES[grade]
    x = canvas.text(margin, px(92), f"KL {grade}", px(50), bold=True, colour=AMBER) + px(12)
    canvas.text(x, px(70), name, px(18))
    canvas.text(x, px(92), f"{finding.confidence_text} sure", px(18))
    width = layout.width - 2 * margin
    canvas.text(margin, px(112), shorten(features, px(12.5), width), px(12.5), colour=GREY)
    if finding.certainty is not None:
        canvas.text(margin, px(131), finding.certainty.remaining, px(14))
        canvas.text(margin, px(148), finding.certainty.doubt, px(14), colour=AMBER, bold=True)


def _draw_probabilities(canvas: Canvas, finding: Finding, probabilities: Sequence[float], layout: Layout) -> None:
    """The model's probability of each grade, as bars of 0 to 100 %; a bracket marks the grades not ruled out."""
    px, margin = layout.px, layout.px(10)
    left, right = margin + px(56), layout.width - margin - px(60)
    for grade, probability in zip(KLGrade, probabilities, strict=True):
        top, is_reported = px(155 + BAR_PITCH * int(grade)), grade == finding.grade
        colour = WHITE if is_reported else GREY
        canvas.text(margin + px(12), top + px(14), f"KL {grade}", px(13), colour=colour, bold=is_reported)
        canvas.box(left, top + px(3), right, top + px(15), fill=(36, 36, 36))
        end = left + max(round((right - left) * probability), 1)
        canvas.box(left, top + px(3), end, top + px(15), fill=_bar_colour(is_reported))
        text = f"{100 * probability:.1f} %"
        canvas.text(layout.width - margin, top + px(14), text, px(13), colour=colour, bold=is_reported, anchor="rs")
    if finding.certainty is not None:
        _draw_bracket(canvas, finding.certainty, layout)


def _bar_colour(is_reported: bool) -> tuple[int, int, int]:
    return AMBER if is_reported else (128, 128, 128)


def _draw_bracket(canvas: Canvas, certainty: Certainty, layout: Layout) -> None:
    """A bracket beside the grades not ruled out: its shape marks them, not its colour."""
    px, x = layout.px, layout.px(10)
    first = px(155 + BAR_PITCH * int(certainty.lowest)) + px(2)
    last = px(155 + BAR_PITCH * int(certainty.highest)) + px(16)
    canvas.box(x, first, x + px(2), last, fill=WHITE)
    for y in (first, last - px(2)):
        canvas.box(x, y, x + px(7), y + px(2), fill=WHITE)


def _draw_refusal(canvas: Canvas, finding: Finding, layout: Layout) -> int:
    """Reason and advice in place of a grade; returns where the facts begin, in units of the page."""
    px, margin = layout.px, layout.px(10)
    canvas.text(margin, px(92), "Not graded", px(38), bold=True, colour=AMBER)
    if finding.reason is not None:
        width = layout.width - 2 * margin
        y = canvas.paragraph(margin, px(122), finding.reason.meaning + ".", px(17), width=width)
        canvas.paragraph(margin, y + px(4), finding.reason.advice, px(15), width=width, colour=GREY)
    return 220


def explanation_facts(
    knee: KneeContent, card: ModelIdentity, notes: Sequence[str], made_at: datetime
) -> list[tuple[str, str]]:
    """Further facts about the result as (name, text), the most important first."""
    finding = knee.finding
    facts = [("Warning" if flag.red else "Flag", f"{flag.meaning}. {flag.advice}") for flag in sorted_flags(finding)]
    facts.append(("Side", laterality_source_text(finding).removeprefix("side ")))
    if finding.grade is not None:
        facts.append(("Heat map", _heat_map_text(knee)))
    facts += knee.facts
    if finding.grade is not None and finding.probabilities is not None:
        most_likely = KLGrade(int(np.argmax(finding.probabilities)))
        if most_likely != finding.grade:  # the reported grade has the least expected cost by the card's cost matrix
            facts.append(("Grade", f"KL {most_likely} is likelier; KL {finding.grade} errs less on average"))
    facts += [("Film", note) for note in notes]
    facts.append(("Model", f"{card.name} {card.version}, weights {card.sha256[:12]}, Genu {__version__}"))
    zone = "UTC" if not made_at.utcoffset() else made_at.strftime("UTC%z")
    return [*facts, ("Received", f"{made_at:%Y-%m-%d %H:%M} {zone}")]


def _heat_map_text(knee: KneeContent) -> str:
    if knee.heat_map is None:
        return "none was made"
    if knee.heat_map.empty:
        return "no positive evidence for the grade in it, so nothing is drawn"
    cells = knee.heat_map.strength.shape[1]
    return f"Grad-CAM for KL {knee.finding.grade}, one scale for all films; a cell is 1/{cells} of the picture wide"


def _draw_facts(canvas: Canvas, facts: Sequence[tuple[str, str]], layout: Layout, facts_top: int) -> None:
    """The facts one below the other; the longest are shortened until all fit."""
    px, margin = layout.px, layout.px(10)
    x, size, line_height = margin + px(70), px(12.5), px(16)
    width = layout.width - margin - x
    canvas.box(margin, px(facts_top), layout.width - margin, px(facts_top) + 1, fill=DIM)
    lines = [wrap(text, size, width) if text else [""] for _, text in facts]
    max_lines = (px(FACTS_BOTTOM) - px(facts_top)) // (line_height + px(1))
    while sum(map(len, lines)) > max_lines and max(map(len, lines)) > 1:
        longest = max(range(len(lines)), key=lambda number: len(lines[number]))
        lines[longest] = [*lines[longest][:-2], " ".join(lines[longest][-2:])]
    y = px(facts_top) + px(16)
    for (name, _), text_lines in list(zip(facts, lines, strict=True))[:max_lines]:
        canvas.text(margin, y, shorten(name, size, x - margin - px(4)), size, colour=GREY)
        for text in text_lines:
            canvas.text(x, y, shorten(text, size, width), size)
            y += line_height
        y += px(1)


def _draw_limits(canvas: Canvas, layout: Layout) -> None:
    px, margin = layout.px, layout.px(10)
    top = layout.bottom - px(9)
    canvas.box(margin, top, layout.width - margin, top + 1, fill=DIM)
    canvas.paragraph(margin, top + px(15), LIMITS, px(11), width=layout.width - 2 * margin, colour=GREY)
