"""What is seen of a film: a knee cut out of it, and its heat map laid over it, at the film's own sharpness."""

import io
from functools import lru_cache

import cv2
import numpy as np
from PIL import Image

from workers.preprocessing import Box, Grey, Pose
from workers.read import Film
from workers.report.layout.colours import STRONGEST_ALPHA, TABLE, Bytes, Strength, heat_alpha, heat_colour
from workers.report.layout.wording import Heat

LONGEST_SIDE = 1600
"""Of the film as the admin page shows it; the heat maps lie on the same grid."""
FINER = 8
"""By how much a map's cells are divided before they are turned."""
OPACITY = (heat_alpha(np.linspace(0, 1, 256, dtype=np.float32)) * 255).round().astype(np.uint8).tobytes()
"""Of each colour of TABLE."""


def cut(film: Film, box: Box, width: int, height: int) -> Bytes:
    """
    The grey picture of `box`, (height, width), stretched between its 0.5th and 99.5th percentile.

    What lies beyond the film or the exposed field is black and has no say in the stretch.
    """
    rows, columns = film.pixels.shape
    left, top = max(int(box.x0), 0), max(int(box.y0), 0)
    right, bottom = min(int(np.ceil(box.x1)), columns), min(int(np.ceil(box.y1)), rows)
    if right <= left or bottom <= top:
        return np.zeros((height, width), np.uint8)
    part, exposed = film.pixels[top:bottom, left:right], film.field[top:bottom, left:right]
    seen = part[exposed]
    low, high = np.percentile(seen[:: max(seen.size // 40_000, 1)], (0.5, 99.5)) if seen.size else (0.0, 1.0)
    even = np.clip((part - low) / max(float(high - low), 1e-3), 0, 1).astype(np.float32)
    return (_warp(even, Box(box.x0 - left, box.y0 - top, box.x1 - left, box.y1 - top), width, height) * 255).astype(
        np.uint8
    )


def _warp(image: Grey, box: Box, width: int, height: int) -> Grey:
    """`box` of `image` on a grid of (height, width); black beyond the image."""
    scale_x, scale_y = width / box.width, height / box.height
    shrink = min(scale_x, scale_y)
    if shrink < 1:  # averaged first, so that trabeculae do not turn into moiré
        size = (max(round(image.shape[1] * scale_x), 1), max(round(image.shape[0] * scale_y), 1))
        fit_x, fit_y = size[0] / image.shape[1], size[1] / image.shape[0]
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), dtype=np.float32)
        box = Box(box.x0 * fit_x, box.y0 * fit_y, box.x1 * fit_x, box.y1 * fit_y)
        scale_x, scale_y = width / box.width, height / box.height
    move = np.array(
        [[scale_x, 0, -box.x0 * scale_x + scale_x / 2 - 0.5], [0, scale_y, -box.y0 * scale_y + scale_y / 2 - 0.5]]
    )
    return np.clip(cv2.warpAffine(image, move, (width, height), flags=cv2.INTER_CUBIC, borderValue=0), 0, 1)


def spread(heat_map: Heat, box: Box, width: int, height: int) -> Strength:
    """The strengths on a grid (height, width) over `box`, smoothly; nothing exceeds the scale."""
    return np.clip(laid(heat_map.strength, heat_map.pose, box, width, height), 0, 1)


def laid(cells: Strength, pose: Pose, box: Box, width: int, height: int) -> Strength:
    """
    A map's cells on a grid (height, width) over `box` of the film, where the joint lies; nought beside it.

    They are made finer first: OpenCV turns by steps of a 32nd of what it turns.
    """
    size = len(cells) * FINER
    fine = cv2.resize(cells, (size, size), interpolation=cv2.INTER_CUBIC)
    # From the grid's pixels, whose middles lie at a half, to those of the film, and on to the joint's finer cells.
    grid = np.diag([box.width / width, box.height / height])
    first = np.array([box.x0, box.y0]) + grid @ [0.5, 0.5] - 0.5
    onto = pose.onto(size)
    move = np.column_stack([onto[:, :2] @ grid, onto[:, :2] @ first + onto[:, 2]])
    how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    over = cv2.warpAffine(fine, move, (width, height), flags=how, borderMode=cv2.BORDER_REPLICATE)
    there = cv2.warpAffine(
        np.ones_like(fine), move, (width, height), flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP, borderValue=0
    )
    return np.asarray(over * there, np.float32)


def mixed(grey: Bytes, strength: Bytes, opacity: float) -> Bytes:
    """An RGB picture of `grey` under the colours of `strength` (0 to 255), the strongest of them `opacity` opaque."""
    return np.asarray(_mixtures(opacity)[(strength.astype(np.uint16) << 8) | grey])


@lru_cache(maxsize=8)
def _mixtures(opacity: float) -> Bytes:
    """The colour (3) of each strength on each grey, by 256 * strength + grey: a look-up is a tenth of mixing."""
    strength = np.linspace(0, 1, 256, dtype=np.float32)
    alpha = (heat_alpha(strength) / STRONGEST_ALPHA * opacity)[:, None, None]
    bone = np.arange(256, dtype=np.float32)[None, :, None]
    mixture = bone * (1 - alpha) + heat_colour(strength)[:, None, :] * alpha
    return np.asarray(mixture.round(), dtype=np.uint8).reshape(-1, 3)


def film_png(film: Film) -> bytes:
    """The film as an 8-bit grey PNG, its longer side at most LONGEST_SIDE."""
    width, height, _ = shown_size(film)
    shown = film.pixels
    if shown.shape != (height, width):
        shown = np.asarray(cv2.resize(shown, (width, height), interpolation=cv2.INTER_AREA), dtype=np.float32)
    grey = (np.clip(shown, 0, 1) * 255).round().astype(np.uint8)
    # Of all strategies the fastest on radiographs, and the one with the fewest bytes.
    options = [cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE]
    written, content = cv2.imencode(".png", grey, options)
    if not written:
        raise ValueError("OpenCV could not write the PNG")
    return content.tobytes()


def overlay_png(film: Film, heat_map: Heat) -> bytes:
    """The heat map as a PNG on the grid of `film_png`, transparent elsewhere."""
    width, height, scale = shown_size(film)
    top, strength = on_grid(heat_map, width, height, scale)
    overlay: Bytes = np.zeros((height, width), np.uint8)
    overlay[top : top + strength.shape[0]] = (strength * 255).round()
    # A palette with an opacity for each colour: a tenth of the time that four channels take, and half the bytes.
    picture = Image.frombytes("P", (width, height), overlay.tobytes())
    picture.putpalette(TABLE.tobytes())
    content = io.BytesIO()
    picture.save(content, "PNG", transparency=OPACITY, compress_level=3)
    return content.getvalue()


def on_grid(heat_map: Heat, width: int, height: int, scale: float = 1.0) -> tuple[int, Strength]:
    """
    The strengths on the pixels of a film that is shown `scale` times as large, (height, width) then.

    Only those rows that the joint reaches, and the first of them.
    """
    around = heat_map.pose.around.scaled(scale)
    x0, x1 = (int(np.clip(edge, 0, width)) for edge in (np.floor(around.x0), np.ceil(around.x1)))
    y0, y1 = (int(np.clip(edge, 0, height)) for edge in (np.floor(around.y0), np.ceil(around.y1)))
    strength = np.zeros((y1 - y0, width), np.float32)
    if y1 > y0 and x1 > x0:
        here = Box(x0, y0, x1, y1).scaled(1 / scale)
        strength[:, x0:x1] = spread(heat_map, here, x1 - x0, y1 - y0)
    return y0, strength


def shown_size(film: Film) -> tuple[int, int, float]:
    """Width and height of `film_png`, and its pixels per pixel of the film."""
    rows, columns = film.pixels.shape
    scale = min(LONGEST_SIDE / max(rows, columns), 1.0)
    return max(round(columns * scale), 1), max(round(rows * scale), 1), scale
