"""
The pages of a film: for each knee the radiograph, the same under its heat map at three opacities, outlines, words.

The pages of a knee differ only in what they say, so that scrolling through them is a switch. A knee that was
refused, or whose map has nothing to show, has the radiograph and the words alone.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

import cv2
import numpy as np

from node.finding import Finding, Laterality, ModelIdentity
from workers.preprocessing import Box
from workers.read import Film
from workers.read.header import numbers
from workers.report.layout.canvas import Canvas
from workers.report.layout.colours import Bytes, Strength, signed_colour
from workers.report.layout.contours import LEVELS, outlines
from workers.report.layout.explanation_page import explain_page
from workers.report.layout.page_frame import Layout, both, framed, key, named, scale
from workers.report.layout.rendering import cut, laid, mixed, spread
from workers.report.layout.wording import Heat, Row, ordered

OPACITIES = (0.25, 0.5, 0.75)
THICKNESS = (1.2, 2.2, 3.4)
"""Of the line of each level, in units of the page."""
LINE, RIM = 245, 130
"""Lightness of a line, and how much of 255 the bone beside it is darkened, so that it shows on white and on black."""
SHIFT = 4
"""Binary digits of a pixel's parts in OpenCV's drawing."""


@dataclass(frozen=True)
class Page:
    """A picture (rows, columns, 3), its name of at most 16 characters (PS3.5 SH), and the knee that it shows."""

    name: str
    knee: Finding
    pixels: Bytes


def pages(film: Film, rows: Sequence[Row], *, card: ModelIdentity, made_at: datetime, long_side: int) -> list[Page]:
    """All pages of a film, each `long_side` pixels high, the patient's right knee first."""
    layout, told = Layout(long_side), []
    for number, row in enumerate(ordered(rows), start=1):
        side = row.finding.laterality
        whose = str(number) if side is Laterality.UNKNOWN else side.value
        told += [
            Page(f"{whose} {label}", row.finding, sheet.pixels)
            for label, sheet in _of_knee(film, row, card, layout, made_at)
        ]
    return told


def _of_knee(
    film: Film, row: Row, card: ModelIdentity, layout: Layout, made_at: datetime
) -> Iterator[tuple[str, Canvas]]:
    grey, strips = _picture(film, row.finding, layout), framed(row, card, layout)
    yield "original", named(strips, "Radiograph", layout, grey)
    if row.heat_map is not None and not row.heat_map.empty:
        box = Box(*row.finding.box)
        strength = (spread(row.heat_map, box, grey.shape[1], grey.shape[0]) * 255).round().astype(np.uint8)
        for opacity in OPACITIES:
            percent = f"{100 * opacity:.0f} %"
            sheet = named(strips, f"Heat map {percent}", layout, mixed(grey, strength, opacity))
            scale(sheet, layout, opacity)
            yield f"overlay {percent}", sheet
        sheet = named(strips, "Outlines", layout, lined(grey, box, row.heat_map, layout))
        key(sheet, layout)
        yield "contours", sheet
        if row.heat_map.contrast is not None and row.finding.attention is not None:
            fine = laid(row.heat_map.contrast, row.heat_map.pose, box, grey.shape[1], grey.shape[0])
            yield "contrast", _contrast(row, fine, grey, strips, layout)
    sheet = named(strips, "Explanation", layout)
    explain_page(sheet, row, card, layout, notes=film.notes, made_at=made_at)
    yield "explanation", sheet


def _contrast(row: Row, signed: Strength, grey: Bytes, strips: Canvas, layout: Layout) -> Canvas:
    """What speaks for the grade and against the next one, and what the other way."""
    assert row.finding.attention is not None
    picture = signed_colour(grey, np.clip(signed, -1, 1), OPACITIES[1])
    sheet = named(strips, f"KL {row.finding.grade} against KL {row.finding.attention.second}", layout, picture)
    both(sheet, layout, OPACITIES[1])
    return sheet


def _picture(film: Film, finding: Finding, layout: Layout) -> Bytes:
    """The knee in grey, as large as the page's square allows and as wide to its height as it was on the detector."""
    box = Box(*finding.box)
    wide, high = box.width, box.height * pixel_aspect(film)
    factor = layout.side / max(wide, high)
    return cut(film, box, max(round(wide * factor), 1), max(round(high * factor), 1))


def pixel_aspect(film: Film) -> float:
    """How much higher than wide a pixel is (PS3.3 C.7.6.3.1.7): of the first spacing or ratio that makes sense."""
    for keyword in ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing", "PixelAspectRatio"):
        told = numbers(film.header, keyword)
        if len(told) == 2 and min(told) > 0 and 0.2 <= told[0] / told[1] <= 5:
            return told[0] / told[1]
    return 1.0


def lined(grey: Bytes, box: Box, heat_map: Heat, layout: Layout) -> Bytes:
    """`grey`, the picture of `box`, with a light line, in a dark one, along each level: the stronger, the thicker."""
    scale = np.array([grey.shape[1] / box.width, grey.shape[0] / box.height])
    line, rim = np.zeros_like(grey), np.zeros_like(grey)
    for level, thick in zip(LEVELS, THICKNESS, strict=True):
        lines = [
            (((each - [box.x0, box.y0]) * scale - 0.5) * (1 << SHIFT)).round().astype(np.int32)
            for each in outlines(heat_map.strength, heat_map.pose, level)
        ]
        cv2.polylines(line, lines, True, (255,), layout.at(thick), cv2.LINE_AA, SHIFT)
        cv2.polylines(rim, lines, True, (RIM,), layout.at(thick) + 2, cv2.LINE_AA, SHIFT)
    dark = grey * (1 - rim / np.float32(255))
    light = line / np.float32(255)
    return np.repeat((dark * (1 - light) + LINE * light).round().astype(np.uint8)[..., None], 3, axis=2)
