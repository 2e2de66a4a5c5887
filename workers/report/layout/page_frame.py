"""
The frame of every page of a knee: a header above the picture, the picture, and a footer below it.

A page has an aspect ratio of 4:5; everything scales with its height, text as well. Nothing is written on the
picture. What a colour means is also given by a number, a word or lightness, for grey-level monitors.
"""

from dataclasses import dataclass

import numpy as np

from node.finding import ModelIdentity
from workers.report.codes import GRADE_NAMES
from workers.report.layout.canvas import AMBER, DIM, GREY, WHITE, Canvas, Colour, shorten
from workers.report.layout.colours import Bytes, signed_colour
from workers.report.layout.contours import LEVELS
from workers.report.layout.rendering import blend
from workers.report.layout.wording import KNEE_LABELS, WARNING, KneeContent, laterality_source_text, sorted_flags

PAGE_UNITS = 520
"""Height of a page in the units that it is laid out in."""
RED: Colour = (176, 28, 28)
"""Behind white text: dark enough to be readable on a grey-level monitor too."""
PAPER: Colour = (255, 255, 255)
LINE_WIDTHS = (1.2, 2.2, 3.4)
"""Width of the contour of each level, in units of the page."""


@dataclass(frozen=True)
class Layout:
    """The geometry of a page `height` pixels high."""

    height: int

    def px(self, units: float) -> int:
        """Units of the page in pixels, at least 1."""
        return max(round(units * self.height / PAGE_UNITS), 1)

    @property
    def width(self) -> int:
        """Width of the page: even, so that the number of bytes of every page is."""
        return self.px(416) // 2 * 2

    @property
    def top(self) -> int:
        """Upper edge of the picture."""
        return self.px(44)

    @property
    def picture_size(self) -> int:
        """Side length of the picture, a square."""
        return self.width

    @property
    def bottom(self) -> int:
        """Lower edge of the picture."""
        return self.top + self.picture_size


def draw_frame(knee: KneeContent, card: ModelIdentity, layout: Layout) -> Canvas:
    """Header and footer of all pages of a knee, without a picture."""
    canvas = Canvas(layout.width, layout.height)
    _draw_header(canvas, knee, layout)
    _draw_grade(canvas, knee, layout)
    px, baseline, margin = layout.px, layout.height - layout.px(9), layout.px(10)
    x = canvas.text(margin, baseline, WARNING, px(13.5), colour=AMBER, bold=True) + px(8)
    model = shorten(f"{card.name} {card.version}", px(12), layout.width - margin - x)
    canvas.text(layout.width - margin, baseline, model, px(12), colour=GREY, anchor="rs")
    return canvas


def _draw_header(canvas: Canvas, knee: KneeContent, layout: Layout) -> None:
    px, margin = layout.px, layout.px(10)
    red_flags = [flag for flag in sorted_flags(knee.finding) if flag.red]
    if red_flags:
        canvas.box(0, 0, layout.width, layout.top - px(3), fill=RED)
    colour = PAPER if red_flags else GREY
    canvas.text(margin, px(21), KNEE_LABELS[knee.finding.laterality], px(19), bold=True)
    flag_text = "; ".join(f"{flag.code.replace('_', ' ')}: {flag.meaning}" for flag in red_flags)
    text = flag_text or laterality_source_text(knee.finding)
    canvas.text(margin, px(37), shorten(text, px(12), layout.width - 2 * margin), px(12), colour=colour)


def _draw_grade(canvas: Canvas, knee: KneeContent, layout: Layout) -> None:
    finding, px = knee.finding, layout.px
    baseline = layout.bottom + px(24)
    if finding.grade is None:
        text = f"Not graded: {finding.reason.meaning}" if finding.reason else "Not graded"
        canvas.text(px(10), baseline, shorten(text, px(15), layout.width - 2 * px(10)), px(15), colour=AMBER)
        return
    x = canvas.text(px(10), baseline, f"KL {finding.grade}", px(22), colour=AMBER, bold=True)
    canvas.text(x + px(9), baseline, f"{GRADE_NAMES[finding.grade][0]}, {finding.confidence_text} sure", px(15))


def compose_page(frame: Canvas, name: str, layout: Layout, picture: Bytes | None = None) -> Canvas:
    """A page: the frame, its name in the header, and the picture."""
    canvas = frame.copy()
    canvas.text(layout.width - layout.px(10), layout.px(21), name, layout.px(15), anchor="rs")
    if picture is not None:
        height, width = picture.shape[:2]
        canvas.paste(picture, (layout.width - width) // 2, layout.top + (layout.picture_size - height) // 2)
    return canvas


def draw_scale(canvas: Canvas, layout: Layout, opacity: float) -> None:
    """The colours from weak to strong, as on mid-grey bone; the scale is the same for all films."""
    px, text_size = layout.px, layout.px(11)
    ramp = np.linspace(0, 255, px(110)).astype(np.uint8)[None]
    left, right, y = _paste_ramp(canvas, layout, blend(np.full_like(ramp, 128), ramp, opacity))
    for level in (0.0, *LEVELS, 1.0):
        x = left + round(level * (right - left - 1))
        canvas.box(x, y + px(10), x + 1, y + px(13), fill=GREY)
        if level in (0.0, 0.5, 1.0):
            anchor = {0.0: "ls", 0.5: "ms", 1.0: "rs"}[level]
            canvas.text(x if level < 1 else right, y + px(22), f"{level:g}", text_size, colour=GREY, anchor=anchor)


def draw_signed_scale(canvas: Canvas, layout: Layout, opacity: float) -> None:
    """The colours of a contrast map, from evidence against the grade to evidence for it."""
    px, text_size = layout.px, layout.px(11)
    ramp = np.linspace(-1, 1, px(110), dtype=np.float32)[None]
    left, right, y = _paste_ramp(canvas, layout, signed_colour(np.full(ramp.shape, 128, np.uint8), ramp, opacity))
    for text, x, anchor in (("against", left, "ls"), ("for", right, "rs")):
        canvas.text(x, y + px(22), text, text_size, colour=GREY, anchor=anchor)


def _paste_ramp(canvas: Canvas, layout: Layout, ramp: Bytes) -> tuple[int, int, int]:
    """Paste the colours (1, columns, 3) of a scale below the picture; returns its left, right and upper edge."""
    px, y, right = layout.px, layout.bottom + layout.px(9), layout.width - layout.px(10)
    left = right - ramp.shape[1]
    canvas.paste(np.repeat(ramp, px(10), axis=0), left, y)
    canvas.box(left, y, right, y + px(10), line=DIM)
    return left, right, y


def draw_contour_legend(canvas: Canvas, layout: Layout) -> None:
    """The strength that each line width of a contour means."""
    px, x = layout.px, layout.width - layout.px(10)
    baseline = layout.bottom + px(24)
    for level, width in zip(reversed(LEVELS), reversed(LINE_WIDTHS), strict=True):
        text = f"{100 * level:.0f} %"
        canvas.text(x, baseline, text, px(12), colour=GREY, anchor="rs")
        start = x - px(26)
        y, half = baseline - px(4), px(width) / 2
        canvas.box(start - px(18), y - half, start - px(4), y + half, fill=WHITE)
        x = start - px(24)
