"""The page that explains an answer in words and bars: grade, probabilities, set, side, flags, model, limits."""

from collections.abc import Sequence
from datetime import datetime

import numpy as np

from node import __version__
from node.evidence import Certainty, KLGrade
from node.finding import Finding, ModelIdentity
from workers.report.codes import GRADE_NAMES
from workers.report.layout.canvas import AMBER, DIM, GREY, WHITE, Canvas, shortened, wrapped
from workers.report.layout.page_frame import Layout
from workers.report.layout.wording import LIMITS, Row, flags_of, told_by

PITCH = 21
"""From one grade's bar to the next one's, in units of the page."""
ROWS_BEGIN, ROWS_END = 270, 448
"""The rows of facts; what does not fit between is shortened."""


def explain_page(
    sheet: Canvas, row: Row, card: ModelIdentity, layout: Layout, *, notes: Sequence[str], made_at: datetime
) -> None:
    """Everything between the strips of a knee's page, in words."""
    sheet.box(0, layout.top, layout.width, layout.height - layout.at(24), fill=(0, 0, 0))
    if row.finding.grade is None or row.finding.probabilities is None:
        begin = _refusal(sheet, row.finding, layout)
    else:
        _answer(sheet, row.finding, row.finding.grade, layout)
        _bars(sheet, row.finding, row.finding.probabilities, layout)
        begin = ROWS_BEGIN
    _rows(sheet, facts(row, card, notes, made_at), layout, begin)
    _limits(sheet, layout)


def _answer(sheet: Canvas, finding: Finding, grade: KLGrade, layout: Layout) -> None:
    at, margin = layout.at, layout.at(10)
    name, features = GRADE_NAMES[grade]
    beside = sheet.text(margin, at(92), f"KL {grade}", at(50), bold=True, colour=AMBER) + at(12)
    sheet.text(beside, at(70), name, at(18))
    sheet.text(beside, at(92), f"{finding.confidence_text} sure", at(18))
    wide = layout.width - 2 * margin
    sheet.text(margin, at(112), shortened(features, at(12.5), wide), at(12.5), colour=GREY)
    if finding.certainty is not None:
        sheet.text(margin, at(131), finding.certainty.remaining, at(14))
        sheet.text(margin, at(148), finding.certainty.doubt, at(14), colour=AMBER, bold=True)


def _bars(sheet: Canvas, finding: Finding, shares: Sequence[float], layout: Layout) -> None:
    """The model's probability of each grade, from 0 to 100 % of the track; a bracket before those not ruled out."""
    at, margin = layout.at, layout.at(10)
    left, right = margin + at(56), layout.width - margin - at(60)
    for grade, share in zip(KLGrade, shares, strict=True):
        top, mine = at(155 + PITCH * int(grade)), grade == finding.grade
        colour = WHITE if mine else GREY
        sheet.text(margin + at(12), top + at(14), f"KL {grade}", at(13), colour=colour, bold=mine)
        sheet.box(left, top + at(3), right, top + at(15), fill=(36, 36, 36))
        sheet.box(left, top + at(3), left + max(round((right - left) * share), 1), top + at(15), fill=_bar(mine))
        told = f"{100 * share:.1f} %"
        sheet.text(layout.width - margin, top + at(14), told, at(13), colour=colour, bold=mine, anchor="rs")
    if finding.certainty is not None:
        _bracket(sheet, finding.certainty, layout)


def _bar(mine: bool) -> tuple[int, int, int]:
    return AMBER if mine else (128, 128, 128)


def _bracket(sheet: Canvas, certainty: Certainty, layout: Layout) -> None:
    """Its shape says which grades remain, not its colour."""
    at, x = layout.at, layout.at(10)
    first = at(155 + PITCH * int(certainty.lowest)) + at(2)
    last = at(155 + PITCH * int(certainty.highest)) + at(16)
    sheet.box(x, first, x + at(2), last, fill=WHITE)
    for y in (first, last - at(2)):
        sheet.box(x, y, x + at(7), y + at(2), fill=WHITE)


def _refusal(sheet: Canvas, finding: Finding, layout: Layout) -> int:
    """What is said in place of a grade; returns the unit below it."""
    at, margin = layout.at, layout.at(10)
    sheet.text(margin, at(92), "Not graded", at(38), bold=True, colour=AMBER)
    if finding.reason is not None:
        wide = layout.width - 2 * margin
        y = sheet.paragraph(margin, at(122), finding.reason.meaning + ".", at(17), width=wide)
        sheet.paragraph(margin, y + at(4), finding.reason.advice, at(15), width=wide, colour=GREY)
    return 220


def facts(row: Row, card: ModelIdentity, notes: Sequence[str], made_at: datetime) -> list[tuple[str, str]]:
    """What else is known of the answer, as (name, words), the most telling first."""
    finding = row.finding
    told = [("Warning" if flag.red else "Flag", f"{flag.meaning}. {flag.advice}") for flag in flags_of(finding)]
    told.append(("Side", told_by(finding).removeprefix("side ")))
    if finding.grade is not None:
        told.append(("Heat map", _map(row)))
    told += row.facts
    if finding.grade is not None and finding.probabilities is not None:
        likeliest = KLGrade(int(np.argmax(finding.probabilities)))
        if likeliest != finding.grade:  # the card says what a mistake costs, and the grade is the one that costs least
            told.append(("Grade", f"KL {likeliest} is likelier; KL {finding.grade} errs less on average"))
    told += [("Film", note) for note in notes]
    told.append(("Model", f"{card.name} {card.version}, weights {card.sha256[:12]}, Genu {__version__}"))
    zone = "UTC" if not made_at.utcoffset() else made_at.strftime("UTC%z")
    return [*told, ("Received", f"{made_at:%Y-%m-%d %H:%M} {zone}")]


def _map(row: Row) -> str:
    if row.heat_map is None:
        return "none was made"
    if row.heat_map.empty:
        return "no positive evidence for the grade in it, so nothing is drawn"
    cells = row.heat_map.strength.shape[1]
    return f"Grad-CAM for KL {row.finding.grade}, one scale for all films; a cell is 1/{cells} of the picture wide"


def _rows(sheet: Canvas, facts: Sequence[tuple[str, str]], layout: Layout, begin: int) -> None:
    """The facts under each other, each on as many lines as there is room for."""
    at, margin = layout.at, layout.at(10)
    x, size, line = margin + at(70), at(12.5), at(16)
    wide = layout.width - margin - x
    sheet.box(margin, at(begin), layout.width - margin, at(begin) + 1, fill=DIM)
    lines = [wrapped(words, size, wide) if words else [""] for _, words in facts]
    most = (at(ROWS_END) - at(begin)) // (line + at(1))
    while sum(map(len, lines)) > most and max(map(len, lines)) > 1:
        longest = max(range(len(lines)), key=lambda number: len(lines[number]))
        lines[longest] = [*lines[longest][:-2], " ".join(lines[longest][-2:])]
    y = at(begin) + at(16)
    for (name, _), told in list(zip(facts, lines, strict=True))[:most]:
        sheet.text(margin, y, shortened(name, size, x - margin - at(4)), size, colour=GREY)
        for words in told:
            sheet.text(x, y, shortened(words, size, wide), size)
            y += line
        y += at(1)


def _limits(sheet: Canvas, layout: Layout) -> None:
    at, margin = layout.at, layout.at(10)
    top = layout.foot - at(9)
    sheet.box(margin, top, layout.width - margin, top + 1, fill=DIM)
    sheet.paragraph(margin, top + at(15), LIMITS, at(11), width=layout.width - 2 * margin, colour=GREY)
