"""Pictures of a film: a knee cropped from it, and its heat map over it, at the film's own resolution."""

import io
from functools import lru_cache

import cv2
import numpy as np
from PIL import Image

from workers.preprocessing import Box, Grey, Pose
from workers.read import Film
from workers.report.layout.colours import STRONGEST_ALPHA, TABLE, Bytes, Strength, heat_alpha, heat_colour
from workers.report.layout.wording import DrawableHeatMap

LONGEST_SIDE = 1600
"""Longer side in pixels of the film as the admin page shows it; the heat maps have the same grid."""
UPSAMPLING = 8
"""Factor by which a map's cells are upsampled before they are rotated."""
PALETTE_ALPHA = (heat_alpha(np.linspace(0, 1, 256, dtype=np.float32)) * 255).round().astype(np.uint8).tobytes()
"""Opacity (0 to 255) of each colour of TABLE."""


def crop(film: Film, box: Box, width: int, height: int) -> Bytes:
    """
    The grey picture of `box`, (height, width), stretched between its 0.5th and 99.5th percentile.

    Pixels beyond the film or the exposed field are black and excluded from the percentiles.
    """
    rows, columns = film.pixels.shape
    left, top = max(int(box.x0), 0), max(int(box.y0), 0)
    right, bottom = min(int(np.ceil(box.x1)), columns), min(int(np.ceil(box.y1)), rows)
    if right <= left or bottom <= top:
        return np.zeros((height, width), np.uint8)
    pixels, exposed = film.pixels[top:bottom, left:right], film.field[top:bottom, left:right]
    sample = pixels[exposed]
    sample = sample[:: max(sample.size // 40_000, 1)]
    low, high = np.percentile(sample, (0.5, 99.5)) if sample.size else (0.0, 1.0)
    stretched = np.clip((pixels - low) / max(float(high - low), 1e-3), 0, 1).astype(np.float32)
    box = Box(box.x0 - left, box.y0 - top, box.x1 - left, box.y1 - top)
    return (_warp(stretched, box, width, height) * 255).astype(np.uint8)


def _warp(image: Grey, box: Box, width: int, height: int) -> Grey:
    """`box` of `image` on a grid of (height, width); black beyond the image."""
    scale_x, scale_y = width / box.width, height / box.height
    shrink = min(scale_x, scale_y)
    if shrink < 1:  # area-averaged first, so that trabeculae cause no moiré
        size = (max(round(image.shape[1] * scale_x), 1), max(round(image.shape[0] * scale_y), 1))
        ratio_x, ratio_y = size[0] / image.shape[1], size[1] / image.shape[0]
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), dtype=np.float32)
        box = Box(box.x0 * ratio_x, box.y0 * ratio_y, box.x1 * ratio_x, box.y1 * ratio_y)
        scale_x, scale_y = width / box.width, height / box.height
    transform = np.array(
        [[scale_x, 0, -box.x0 * scale_x + scale_x / 2 - 0.5], [0, scale_y, -box.y0 * scale_y + scale_y / 2 - 0.5]]
    )
    return np.clip(cv2.warpAffine(image, transform, (width, height), flags=cv2.INTER_CUBIC, borderValue=0), 0, 1)


def resample_strength(heat_map: DrawableHeatMap, box: Box, width: int, height: int) -> Strength:
    """The strengths on a grid (height, width) over `box`, interpolated and clipped to 0 to 1."""
    return np.clip(resample_cells(heat_map.strength, heat_map.pose, box, width, height), 0, 1)


def resample_cells(cells: Strength, pose: Pose, box: Box, width: int, height: int) -> Strength:
    """
    A map's cells on a grid (height, width) over `box` of the film, at the joint's pose; zero outside the joint.

    They are upsampled first: OpenCV's coordinates have a resolution of 1/32 of a source pixel.
    """
    size = len(cells) * UPSAMPLING
    fine = cv2.resize(cells, (size, size), interpolation=cv2.INTER_CUBIC)
    # From the grid's pixels, whose centres are at 0.5, to those of the film, and on to the joint's upsampled cells.
    spacing = np.diag([box.width / width, box.height / height])
    origin = np.array([box.x0, box.y0]) + spacing @ [0.5, 0.5] - 0.5
    to_cells = pose.onto(size)
    transform = np.column_stack([to_cells[:, :2] @ spacing, to_cells[:, :2] @ origin + to_cells[:, 2]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    resampled = cv2.warpAffine(fine, transform, (width, height), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    inside = cv2.warpAffine(
        np.ones_like(fine), transform, (width, height), flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP, borderValue=0
    )
    return np.asarray(resampled * inside, np.float32)


def blend(grey: Bytes, strength: Bytes, opacity: float) -> Bytes:
    """An RGB picture of `grey` under the colours of `strength` (0 to 255), the strongest of them `opacity` opaque."""
    return np.asarray(_blend_table(opacity)[(strength.astype(np.uint16) << 8) | grey])


@lru_cache(maxsize=8)
def _blend_table(opacity: float) -> Bytes:
    """The colour (3) of each strength on each grey, by 256 * strength + grey: a look-up takes a tenth of the time."""
    strength = np.linspace(0, 1, 256, dtype=np.float32)
    alpha = (heat_alpha(strength) / STRONGEST_ALPHA * opacity)[:, None, None]
    grey = np.arange(256, dtype=np.float32)[None, :, None]
    blended = grey * (1 - alpha) + heat_colour(strength)[:, None, :] * alpha
    return np.asarray(blended.round(), dtype=np.uint8).reshape(-1, 3)


def film_png(film: Film) -> bytes:
    """The film as an 8-bit grey PNG, its longer side at most LONGEST_SIDE."""
    width, height, _ = display_size(film)
    image = film.pixels
    if image.shape != (height, width):
        image = np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), dtype=np.float32)
    grey = (np.clip(image, 0, 1) * 255).round().astype(np.uint8)
    # Of all strategies the fastest on radiographs, and with the fewest bytes.
    options = [cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE]
    is_written, content = cv2.imencode(".png", grey, options)
    if not is_written:
        raise ValueError("OpenCV could not write the PNG")
    return content.tobytes()


def overlay_png(film: Film, heat_map: DrawableHeatMap) -> bytes:
    """The heat map as a PNG on the grid of `film_png`, transparent elsewhere."""
    width, height, scale = display_size(film)
    top, strength = strength_on_film(heat_map, width, height, scale)
    overlay: Bytes = np.zeros((height, width), np.uint8)
    overlay[top : top + strength.shape[0]] = (strength * 255).round()
    # A palette with an opacity for each colour takes a tenth of the time of four channels, and half the bytes.
    picture = Image.frombytes("P", (width, height), overlay.tobytes())
    picture.putpalette(TABLE.tobytes())
    content = io.BytesIO()
    picture.save(content, "PNG", transparency=PALETTE_ALPHA, compress_level=3)
    return content.getvalue()


def strength_on_film(heat_map: DrawableHeatMap, width: int, height: int, scale: float = 1.0) -> tuple[int, Strength]:
    """
    The strengths on the pixels of a film that is displayed at `scale`, (height, width) then.

    Returns the first row that the joint reaches and the strengths of the rows that it covers.
    """
    bounds = heat_map.pose.around.scaled(scale)
    x0, x1 = (int(np.clip(edge, 0, width)) for edge in (np.floor(bounds.x0), np.ceil(bounds.x1)))
    y0, y1 = (int(np.clip(edge, 0, height)) for edge in (np.floor(bounds.y0), np.ceil(bounds.y1)))
    strength = np.zeros((y1 - y0, width), np.float32)
    if y1 > y0 and x1 > x0:
        box = Box(x0, y0, x1, y1).scaled(1 / scale)
        strength[:, x0:x1] = resample_strength(heat_map, box, x1 - x0, y1 - y0)
    return y0, strength


def display_size(film: Film) -> tuple[int, int, float]:
    """Width and height of `film_png`, and its pixels per pixel of the film."""
    rows, columns = film.pixels.shape
    scale = min(LONGEST_SIDE / max(rows, columns), 1.0)
    return max(round(columns * scale), 1), max(round(rows * scale), 1), scale
