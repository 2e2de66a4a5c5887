"""
The frame that every page of a knee has: a strip above the picture, the picture, and a strip below it.

A page is four parts wide and five high; all of it grows with its height, type as well. Nothing is written on
the picture. What colour says, a number, a word or lightness says too, for grey-level monitors.
"""

from dataclasses import dataclass

import numpy as np

from node.finding import ModelIdentity
from workers.report.codes import GRADE_NAMES
from workers.report.layout.canvas import AMBER, DIM, GREY, WHITE, Canvas, Colour, shortened
from workers.report.layout.colours import Bytes, signed_colour
from workers.report.layout.contours import LEVELS
from workers.report.layout.rendering import mixed
from workers.report.layout.wording import SIDES, WARNING, Row, flags_of, told_by

UNITS = 520
"""Height of a page in the units that it is laid out in."""
RED: Colour = (176, 28, 28)
"""Behind white type: dark enough to be read on a grey-level monitor too."""
PAPER: Colour = (255, 255, 255)


@dataclass(frozen=True)
class Layout:
    """Where things are on a page `height` pixels high."""

    height: int

    def at(self, units: float) -> int:
        """Pixels of so many units."""
        return max(round(units * self.height / UNITS), 1)

    @property
    def width(self) -> int:
        """Even, and so is the number of bytes of every page."""
        return self.at(416) // 2 * 2

    @property
    def top(self) -> int:
        """Where the picture begins."""
        return self.at(44)

    @property
    def side(self) -> int:
        """Of the picture, a square."""
        return self.width

    @property
    def foot(self) -> int:
        """Where the picture ends."""
        return self.top + self.side


def framed(row: Row, card: ModelIdentity, layout: Layout) -> Canvas:
    """The strips that all pages of a knee have, with nothing between them."""
    sheet = Canvas(layout.width, layout.height)
    _head(sheet, row, layout)
    _answer(sheet, row, layout)
    at, bottom, margin = layout.at, layout.height - layout.at(9), layout.at(10)
    end = sheet.text(margin, bottom, WARNING, at(13.5), colour=AMBER, bold=True) + at(8)
    model = shortened(f"{card.name} {card.version}", at(12), layout.width - margin - end)
    sheet.text(layout.width - margin, bottom, model, at(12), colour=GREY, anchor="rs")
    return sheet


def _head(sheet: Canvas, row: Row, layout: Layout) -> None:
    at, margin = layout.at, layout.at(10)
    grave = [flag for flag in flags_of(row.finding) if flag.red]
    if grave:
        sheet.box(0, 0, layout.width, layout.top - at(3), fill=RED)
    quiet = PAPER if grave else GREY
    sheet.text(margin, at(21), SIDES[row.finding.laterality], at(19), bold=True)
    told = "; ".join(f"{flag.code.replace('_', ' ')}: {flag.meaning}" for flag in grave) or told_by(row.finding)
    sheet.text(margin, at(37), shortened(told, at(12), layout.width - 2 * margin), at(12), colour=quiet)


def _answer(sheet: Canvas, row: Row, layout: Layout) -> None:
    finding, at = row.finding, layout.at
    base = layout.foot + at(24)
    if finding.grade is None:
        why = f"Not graded: {finding.reason.meaning}" if finding.reason else "Not graded"
        words = shortened(why, at(15), layout.width - 2 * at(10))
        sheet.text(at(10), base, words, at(15), colour=AMBER)
        return
    end = sheet.text(at(10), base, f"KL {finding.grade}", at(22), colour=AMBER, bold=True)
    sheet.text(end + at(9), base, f"{GRADE_NAMES[finding.grade][0]}, {finding.confidence_text} sure", at(15))


def named(strips: Canvas, name: str, layout: Layout, picture: Bytes | None = None) -> Canvas:
    """A page of its own: the strips with its name, and the picture between them."""
    sheet = strips.copy()
    sheet.text(layout.width - layout.at(10), layout.at(21), name, layout.at(15), anchor="rs")
    if picture is not None:
        height, width = picture.shape[:2]
        sheet.paste(picture, (layout.width - width) // 2, layout.top + (layout.side - height) // 2)
    return sheet


def scale(sheet: Canvas, layout: Layout, opacity: float) -> None:
    """The colours from weak to strong, as they look on bone of middling lightness; one scale for all films."""
    at, words = layout.at, layout.at(11)
    right, y, width = layout.width - at(10), layout.foot + at(9), at(110)
    left = right - width
    ramp = np.repeat(np.linspace(0, 255, width).astype(np.uint8)[None], at(10), axis=0)
    sheet.paste(mixed(np.full(ramp.shape, 128, np.uint8), ramp, opacity), left, y)
    sheet.box(left, y, right, y + at(10), line=DIM)
    for level in (0.0, *LEVELS, 1.0):
        x = left + round(level * (width - 1))
        sheet.box(x, y + at(10), x + 1, y + at(13), fill=GREY)
        if level in (0.0, 0.5, 1.0):
            anchor = {0.0: "ls", 0.5: "ms", 1.0: "rs"}[level]
            sheet.text(x if level < 1 else right, y + at(22), f"{level:g}", words, colour=GREY, anchor=anchor)


def both(sheet: Canvas, layout: Layout, opacity: float) -> None:
    """The colours of a contrast map, from what speaks against the grade to what speaks for it."""
    at, words = layout.at, layout.at(11)
    right, y, width = layout.width - at(10), layout.foot + at(9), at(110)
    left = right - width
    ramp = np.repeat(np.linspace(-1, 1, width, dtype=np.float32)[None], at(10), axis=0)
    sheet.paste(signed_colour(np.full(ramp.shape, 128, np.uint8), ramp, opacity), left, y)
    sheet.box(left, y, right, y + at(10), line=DIM)
    for told, x, anchor in (("against", left, "ls"), ("for", right, "rs")):
        sheet.text(x, y + at(22), told, words, colour=GREY, anchor=anchor)


def key(sheet: Canvas, layout: Layout) -> None:
    """What the lines around the evidence mean, by how thick they are."""
    at, x = layout.at, layout.width - layout.at(10)
    base = layout.foot + at(24)
    for level, thick in zip(reversed(LEVELS), (3.4, 2.2, 1.2), strict=True):
        told = f"{100 * level:.0f} %"
        sheet.text(x, base, told, at(12), colour=GREY, anchor="rs")
        start = x - at(26)
        sheet.box(start - at(18), base - at(4) - at(thick) / 2, start - at(4), base - at(4) + at(thick) / 2, fill=WHITE)
        x = start - at(24)
