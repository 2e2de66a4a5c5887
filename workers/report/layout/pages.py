"""
The pages of a film: for each knee the radiograph, its heat map at three opacities, contours, contrast, explanation.

The pages of a knee show the same picture at the same position, so that scrolling switches the overlay. A refused knee,
or one whose map is empty, has only the radiograph and the explanation.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

import cv2
import numpy as np

from node.finding import Finding, Laterality, ModelIdentity
from workers.preprocessing import Box
from workers.read import Film
from workers.report.layout.canvas import Canvas
from workers.report.layout.colours import Bytes, Strength, signed_colour
from workers.report.layout.contours import LEVELS, contour_polygons
from workers.report.layout.explanation_page import draw_explanation
from workers.report.layout.page_frame import (
    LINE_WIDTHS,
    Layout,
    compose_page,
    draw_contour_legend,
    draw_frame,
    draw_scale,
    draw_signed_scale,
)
from workers.report.layout.rendering import blend, crop, resample_cells, resample_strength
from workers.report.layout.wording import DrawableHeatMap, KneeContent, in_display_order
from workers.report.source import positive_pair

OPACITIES = (0.25, 0.5, 0.75)
LINE_GREY, RIM_DARKENING = 245, 130
"""Grey level of a contour, and darkening (of 255) beside it, so that it is visible on white and on black."""
FRACTION_BITS = 4
"""Fractional bits of OpenCV's coordinates."""


@dataclass(frozen=True)
class Page:
    """A page as pixels (rows, columns, 3), its name of at most 16 characters (PS3.5 SH), and its knee."""

    name: str
    knee: Finding
    pixels: Bytes


def draw_pages(
    film: Film, knees: Sequence[KneeContent], *, card: ModelIdentity, made_at: datetime, long_side: int
) -> list[Page]:
    """All pages of a film, each `long_side` pixels high, the patient's right knee first."""
    layout, pages = Layout(long_side), []
    for number, knee in enumerate(in_display_order(knees), start=1):
        side = knee.finding.laterality
        prefix = str(number) if side is Laterality.UNKNOWN else side.value
        pages += [
            Page(f"{prefix} {label}", knee.finding, canvas.pixels)
            for label, canvas in _knee_pages(film, knee, card, layout, made_at)
        ]
    return pages


def _knee_pages(
    film: Film, knee: KneeContent, card: ModelIdentity, layout: Layout, made_at: datetime
) -> Iterator[tuple[str, Canvas]]:
    grey, frame = _crop_knee(film, knee.finding, layout), draw_frame(knee, card, layout)
    yield "original", compose_page(frame, "Radiograph", layout, grey)
    if knee.heat_map is not None and not knee.heat_map.empty:
        box = Box(*knee.finding.box)
        strength = (resample_strength(knee.heat_map, box, grey.shape[1], grey.shape[0]) * 255).round().astype(np.uint8)
        for opacity in OPACITIES:
            percent = f"{100 * opacity:.0f} %"
            canvas = compose_page(frame, f"Heat map {percent}", layout, blend(grey, strength, opacity))
            draw_scale(canvas, layout, opacity)
            yield f"overlay {percent}", canvas
        canvas = compose_page(frame, "Outlines", layout, draw_contours(grey, box, knee.heat_map, layout))
        draw_contour_legend(canvas, layout)
        yield "contours", canvas
        if knee.heat_map.contrast is not None and knee.finding.attention is not None:
            signed = resample_cells(knee.heat_map.contrast, knee.heat_map.pose, box, grey.shape[1], grey.shape[0])
            yield "contrast", _contrast_page(knee, signed, grey, frame, layout)
    canvas = compose_page(frame, "Explanation", layout)
    draw_explanation(canvas, knee, card, layout, notes=film.notes, made_at=made_at)
    yield "explanation", canvas


def _contrast_page(knee: KneeContent, signed: Strength, grey: Bytes, frame: Canvas, layout: Layout) -> Canvas:
    """Evidence for the grade against the second one, and for the second one against the grade."""
    assert knee.finding.attention is not None
    picture = signed_colour(grey, np.clip(signed, -1, 1), OPACITIES[1])
    canvas = compose_page(frame, f"KL {knee.finding.grade} against KL {knee.finding.attention.second}", layout, picture)
    draw_signed_scale(canvas, layout, OPACITIES[1])
    return canvas


def _crop_knee(film: Film, finding: Finding, layout: Layout) -> Bytes:
    """The knee in grey, as large as fits the page's square, with the aspect ratio it had on the detector."""
    box = Box(*finding.box)
    width, height = box.width, box.height * pixel_aspect(film)
    scale = layout.picture_size / max(width, height)
    return crop(film, box, max(round(width * scale), 1), max(round(height * scale), 1))


def pixel_aspect(film: Film) -> float:
    """Height of a pixel over its width (PS3.3 C.7.6.3.1.7), from the first plausible spacing or ratio; else 1."""
    for keyword in ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing", "PixelAspectRatio"):
        spacing = positive_pair(film.header, keyword)
        if spacing and 0.2 <= spacing[0] / spacing[1] <= 5:
            return spacing[0] / spacing[1]
    return 1.0


def draw_contours(grey: Bytes, box: Box, heat_map: DrawableHeatMap, layout: Layout) -> Bytes:
    """`grey`, the picture of `box`, with a light line on a dark rim along each level: the stronger, the thicker."""
    scale = np.array([grey.shape[1] / box.width, grey.shape[0] / box.height])
    line, rim = np.zeros_like(grey), np.zeros_like(grey)
    for level, thickness in zip(LEVELS, LINE_WIDTHS, strict=True):
        polygons = [
            (((polygon - [box.x0, box.y0]) * scale - 0.5) * (1 << FRACTION_BITS)).round().astype(np.int32)
            for polygon in contour_polygons(heat_map.strength, heat_map.pose, level)
        ]
        cv2.polylines(line, polygons, True, (255,), layout.px(thickness), cv2.LINE_AA, FRACTION_BITS)
        cv2.polylines(rim, polygons, True, (RIM_DARKENING,), layout.px(thickness) + 2, cv2.LINE_AA, FRACTION_BITS)
    dark = grey * (1 - rim / np.float32(255))
    light = line / np.float32(255)
    return np.repeat((dark * (1 - light) + LINE_GREY * light).round().astype(np.uint8)[..., None], 3, axis=2)
