"""
The picture of the answer: each knee beside itself under its heat map, with its grade in words and bars.

One row a knee, the patient's right first, under its flags if it has any. Nothing is written on a knee. The picture is
made for a grey-level monitor of two megapixels: what colour says, a number, a word or lightness says too.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from node.finding import Certainty, Finding, KLGrade, Laterality, ModelIdentity
from workers.prepare import Box
from workers.read import Film
from workers.report import strip
from workers.report.canvas import AMBER, DIM, GREY, WHITE, Canvas, shortened
from workers.report.codes import GRADE_NAMES
from workers.report.colours import Bytes
from workers.report.view import Heat, cut, spread, under_heat, with_contours

LONGEST_SIDE = 1600
"""Pixels of the picture's longer side, whatever the film's: 5.8 MB for two knees."""
MARGIN, GAP, HEAD, FOOT, CAPTION = 32, 16, 76, 84, 34
BAR_WIDTH = 18
PITCH = 34
"""From one grade's bar to the next one's."""
SINGLE, PAIR = 512, 456
"""Side of a knee's picture where there is one knee, and where there are two."""
CONTOURS = (0.25, 0.5, 0.75)
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
LIMITS = (
    "Heat map: where the network found evidence for the grade, on one scale for all films. "
    "A cell is 1/{columns} of the picture wide. No outline of disease."
)
DIMMED = 0.72
"""Lightness of the radiograph under its map, so that the map stands out on a grey-level monitor too."""


@dataclass(frozen=True)
class Row:
    """A knee to draw: what is said of it, and its map if it has one."""

    finding: Finding
    heat_map: Heat | None


def picture(film: Film, rows: Sequence[Row], *, card: ModelIdentity, made_at: datetime) -> Bytes:
    """The RGB picture (rows, columns, 3) of all knees on a film."""
    side = _side(len(rows))
    height = HEAD + len(rows) * (side + CAPTION + GAP) + sum(strip.height(row.finding.flags) for row in rows) + FOOT
    sheet = Canvas(LONGEST_SIDE, height)
    _head(sheet)
    order = {Laterality.RIGHT: 0, Laterality.UNKNOWN: 1, Laterality.LEFT: 2}
    # The patient's right first; of two unknown sides, the one on the image's left.
    ordered = sorted(rows, key=lambda row: (order[row.finding.laterality], row.finding.box[0]))
    top = HEAD
    for row in ordered:
        strip.strip(sheet, row.finding.flags, MARGIN, top, LONGEST_SIDE - 2 * MARGIN)
        top += strip.height(row.finding.flags)
        _row(sheet, film, row, side=side, top=top)
        top += side + CAPTION + GAP
    _foot(sheet, rows, card=card, made_at=made_at)
    return sheet.pixels


def _side(count: int) -> int:
    """Side of a knee's picture, so that the whole stays within LONGEST_SIDE."""
    if count == 1:
        return SINGLE
    return min(PAIR, (LONGEST_SIDE - HEAD - FOOT) // max(count, 1) - CAPTION - GAP)


def _head(sheet: Canvas) -> None:
    end = sheet.text(MARGIN, 46, "Genu", 30, bold=True)
    sheet.text(end + 14, 46, "Kellgren-Lawrence grade", 24, colour=GREY)
    sheet.text(LONGEST_SIDE - MARGIN, 46, WARNING, 26, colour=AMBER, bold=True, anchor="rs")


def _row(sheet: Canvas, film: Film, row: Row, *, side: int, top: int) -> None:
    finding = row.finding
    box = Box(*finding.box)
    scale = side / max(box.width, box.height)
    width, height = max(round(box.width * scale), 1), max(round(box.height * scale), 1)
    grey = cut(film, box, width, height)
    second = MARGIN + side + GAP
    bar = second + side + GAP
    words = bar + BAR_WIDTH + 76
    for x, shown in ((MARGIN, grey), (second, _under_map(grey, row))):
        if shown is not None:
            sheet.paste(shown, x + (side - width) // 2, top + (side - height) // 2)
        sheet.box(x, top, x + side, top + side, line=DIM)
    sheet.text(MARGIN, top + side + 25, "Radiograph", 20, colour=GREY)
    spoken = row.heat_map is not None and not row.heat_map.empty
    sheet.text(second, top + side + 25, _map_caption(row), 20, colour=GREY if spoken else WHITE)
    if row.heat_map is not None:
        _colour_bar(sheet, bar, top, side)
    if finding.grade is None or finding.probabilities is None:
        _refusal(sheet, finding, words, top)
    else:
        _answer(sheet, finding, finding.grade, finding.probabilities, (words, top, side))


def _under_map(grey: Bytes, row: Row) -> Bytes | None:
    if row.heat_map is None:
        return None
    dimmed = np.asarray(grey * DIMMED, dtype=np.uint8)
    if row.heat_map.empty:
        return dimmed
    strength = spread(row.heat_map, grey.shape[1], grey.shape[0])
    return with_contours(under_heat(dimmed, strength), strength, CONTOURS)


def _map_caption(row: Row) -> str:
    if row.finding.grade is None or row.heat_map is None:
        return "No grade, so no heat map"
    if row.heat_map.empty:
        return "No positive evidence in the map"
    return f"Grad-CAM heat map for KL {row.finding.grade}"


def _colour_bar(sheet: Canvas, x: int, top: int, side: int) -> None:
    """The one scale that all maps share, strong on top."""
    ramp = np.repeat(np.linspace(1, 0, side, dtype=np.float32)[:, None], BAR_WIDTH, axis=1)
    # As the map looks on bone of middling lightness, not as the bare colours.
    sheet.paste(under_heat(np.full(ramp.shape, 128 * DIMMED, np.uint8), ramp), x, top)
    sheet.box(x, top, x + BAR_WIDTH, top + side, line=DIM)
    for level in CONTOURS:
        y = top + round((1 - level) * (side - 1))
        sheet.box(x, y, x + BAR_WIDTH, y + 1, fill=WHITE)
    for share, label in ((1.0, "1"), (0.75, ".75"), (0.5, ".5"), (0.25, ".25"), (0.0, "0")):
        y = top + round((1 - share) * (side - 1))
        sheet.box(x + BAR_WIDTH, y, x + BAR_WIDTH + 6, y + 1, fill=GREY)
        sheet.text(x + BAR_WIDTH + 11, min(max(y + 6, top + 14), top + side - 1), label, 18, colour=GREY)
    sheet.text(x, top + side + 25, "fixed scale", 18, colour=GREY)


def _answer(
    sheet: Canvas, finding: Finding, grade: KLGrade, probabilities: Sequence[float], place: tuple[int, int, int]
) -> None:
    x, top, side = place
    width = LONGEST_SIDE - MARGIN - x
    _whose(sheet, finding, x, top)
    name, features = GRADE_NAMES[grade]
    beside = sheet.text(x, top + 142, f"KL {grade}", 84, bold=True, colour=AMBER) + 18
    sheet.text(beside, top + 106, name, 30)
    sheet.text(beside, top + 142, f"{finding.sureness} sure", 30)
    y = sheet.paragraph(x, top + 178, features, 20, width=width, colour=GREY)
    bars = (x, top + side - 5 * PITCH, width)
    if finding.certainty is not None:
        y = sheet.paragraph(x, y + 8, finding.certainty.doubt, 21, width=width, colour=AMBER, bold=True)
        sheet.paragraph(x, y + 4, finding.certainty.remaining, 20, width=width)
        _bracket(sheet, finding.certainty, bars)
    _bars(sheet, grade, probabilities, bars)
    likeliest = KLGrade(int(np.argmax(probabilities)))
    if likeliest != grade:  # the card says what a mistake costs, and the grade is the one that costs least
        told = f"KL {likeliest} is likelier; KL {grade} errs less on average"
        sheet.text(LONGEST_SIDE - MARGIN, top + side + 25, told, 18, colour=GREY, anchor="rs")


def _whose(sheet: Canvas, finding: Finding, x: int, top: int) -> None:
    sheet.text(x, top + 28, SIDES[finding.laterality], 34, bold=True)
    told = SIDE_SOURCES.get(finding.laterality_source, f"side from {finding.laterality_source}")
    sheet.text(x, top + 60, shortened(told, 20, LONGEST_SIDE - MARGIN - x), 20, colour=GREY)


def _bars(sheet: Canvas, grade: KLGrade, probabilities: Sequence[float], place: tuple[int, int, int]) -> None:
    """The model's probability of each grade, from 0 to 100 % of the track."""
    x, top, width = place
    x, track = x + 16, width - 16 - 58 - 86
    for at, probability in zip(KLGrade, probabilities, strict=True):
        y = top + int(at) * PITCH
        mine = at == grade
        sheet.text(x, y + 25, f"KL {at}", 20, colour=WHITE if mine else GREY, bold=mine)
        sheet.box(x + 58, y + 8, x + 58 + track, y + 26, fill=(32, 32, 32))
        sheet.box(x + 58, y + 8, x + 58 + max(round(track * probability), 1), y + 26, fill=AMBER if mine else GREY)
        share = f"{100 * probability:.1f} %"
        sheet.text(LONGEST_SIDE - MARGIN, y + 25, share, 20, colour=WHITE if mine else GREY, bold=mine, anchor="rs")


def _bracket(sheet: Canvas, certainty: Certainty, place: tuple[int, int, int]) -> None:
    """A bracket before the grades that could not be ruled out; its shape says it, not its colour."""
    x, top, _ = place
    first, last = top + int(certainty.lowest) * PITCH + 6, top + int(certainty.highest) * PITCH + 28
    sheet.box(x, first, x + 3, last, fill=WHITE)
    for y in (first, last - 3):
        sheet.box(x, y, x + 9, y + 3, fill=WHITE)


def _refusal(sheet: Canvas, finding: Finding, x: int, top: int) -> None:
    width = LONGEST_SIDE - MARGIN - x
    _whose(sheet, finding, x, top)
    sheet.text(x, top + 140, "Not graded", 52, bold=True, colour=AMBER)
    if finding.reason is not None:
        y = sheet.paragraph(x, top + 190, finding.reason.meaning + ".", 24, width=width)
        sheet.paragraph(x, y + 12, finding.reason.advice, 22, width=width, colour=GREY)


def _foot(sheet: Canvas, rows: Sequence[Row], *, card: ModelIdentity, made_at: datetime) -> None:
    bottom = sheet.image.height
    cells = [row.heat_map.strength.shape[1] for row in rows if row.heat_map is not None and not row.heat_map.empty]
    if cells:
        sheet.text(MARGIN, bottom - 52, LIMITS.format(columns=max(cells)), 20, colour=GREY)
    told = f"Model {card.name} {card.version}, weights {card.sha256[:12]}"
    sheet.text(MARGIN, bottom - 22, told, 20, colour=GREY)
    zone = "UTC" if not made_at.utcoffset() else made_at.strftime("UTC%z")
    made = f"{made_at:%Y-%m-%d %H:%M} {zone}"
    sheet.text(LONGEST_SIDE - MARGIN, bottom - 22, made, 20, colour=GREY, anchor="rs")
