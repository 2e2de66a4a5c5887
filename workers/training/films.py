"""
Whole films to train the joint finder on, composed from labelled crops: shafts, soft tissue and background
are made around one or both knees of a patient, so that the finder meets joints at every size and place.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from workers.prepare import Box, Grey


@dataclass(frozen=True)
class LabelledFilm:
    """A film, (rows, columns) 0 to 1 with bright bones, and the boxes of the joints on it."""

    pixels: Grey
    boxes: tuple[Box, ...]


def compose(knees: Sequence[Grey], random: np.random.Generator, *, long_side: int = 320) -> LabelledFilm:
    """A film of one knee, or of two as hung (the patient's right knee first, on the image's left)."""
    aspect = random.uniform(0.62, 1.1) if len(knees) == 1 else random.uniform(0.85, 1.7)
    columns = int(long_side * min(1, aspect))
    rows = int(long_side * min(1, 1 / aspect))
    film = _background(rows, columns, random)
    boxes = []
    share = columns / len(knees)
    largest = min(share, rows)
    side = largest * (random.uniform(0.45, 0.98) if len(knees) == 2 else random.uniform(0.3, 0.95))
    level = rows * random.uniform(0.35, 0.65)
    for at, knee in enumerate(knees):
        size = side * random.uniform(0.95, 1.05)
        middle = share * (at + 0.5) + random.uniform(-0.5, 0.5) * max(0.0, share - size)
        box = _box(middle, np.clip(level + random.normal(0, rows * 0.02), size / 2, rows - size / 2), size)
        _lay(film, knee, box, random)
        boxes.append(box)
    film = _finish(film, boxes, random)
    return LabelledFilm(film, tuple(boxes))


def tight(knee: Grey, random: np.random.Generator, *, long_side: int = 256) -> LabelledFilm:
    """A crop of one joint, a little wider, narrower or beside it."""
    zoom = float(np.exp(random.normal(0, 0.1)))
    size = long_side * zoom
    middle = long_side / 2 + random.normal(0, 0.04, 2) * long_side
    move = np.array([[zoom * long_side / knee.shape[1], 0, middle[0] - size / 2]])
    move = np.vstack([move, [0, zoom * long_side / knee.shape[0], middle[1] - size / 2]])
    film = cv2.warpAffine(knee, move, (long_side, long_side), flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REPLICATE)
    box = _box(float(middle[0]), float(middle[1]), size)
    return LabelledFilm(_finish(np.asarray(film, np.float32), [box], random), (box,))


def without_joint(knee: Grey, random: np.random.Generator, *, long_side: int = 256) -> LabelledFilm:
    """A film with bone on it but no AP knee: a shaft, a joint lying on its side, or shapes and edges."""
    kind = random.integers(0, 3)
    if kind == 0:  # the strip above or below the joint, blown up
        rows = knee.shape[0]
        part = knee[: rows // 4] if random.random() < 0.5 else knee[-rows // 5 :]
        film = cv2.resize(part, (long_side, long_side), interpolation=cv2.INTER_LINEAR)
    elif kind == 1:
        film = np.rot90(cv2.resize(knee, (long_side, long_side), interpolation=cv2.INTER_AREA), random.choice((1, 3)))
    else:
        film = _shapes(long_side, random)
    return LabelledFilm(_finish(np.ascontiguousarray(film, dtype=np.float32), [], random), ())


def _box(x: float, y: float, size: float) -> Box:
    return Box(x - size / 2, y - size / 2, x + size / 2, y + size / 2)


def _background(rows: int, columns: int, random: np.random.Generator) -> Grey:
    coarse = random.uniform(0, 0.25) + random.uniform(0, 0.12) * random.random((4, 4))
    smooth = cv2.resize(coarse.astype(np.float32), (columns, rows), interpolation=cv2.INTER_CUBIC)
    return np.asarray(smooth, np.float32)


def _lay(film: Grey, knee: Grey, box: Box, random: np.random.Generator) -> None:
    """Lay a joint on the film, continued up and down as a leg, its edges blended in."""
    rows, columns = film.shape
    size = max(8, round(box.width))
    joint = cv2.resize(knee, (size, size), interpolation=cv2.INTER_AREA)
    top, left = round(box.y0), round(box.x0)
    margin = int(size * random.uniform(0.05, 0.6))
    reach_up, reach_down = max(0, top) + size // 2, max(0, rows - top - size) + size // 2
    bordered = cv2.copyMakeBorder(joint, reach_up, reach_down, margin, margin, cv2.BORDER_REPLICATE)
    leg = np.asarray(bordered, np.float32)
    _smear(leg, reach_up, size, random)
    weight = _leg_weight(leg.shape, margin, size, random)
    y0, x0 = top - reach_up, left - margin
    inside_y, inside_x = (
        slice(max(0, y0), min(rows, y0 + leg.shape[0])),
        slice(max(0, x0), min(columns, x0 + leg.shape[1])),
    )
    part = (slice(inside_y.start - y0, inside_y.stop - y0), slice(inside_x.start - x0, inside_x.stop - x0))
    alpha = weight[part]
    film[inside_y, inside_x] = film[inside_y, inside_x] * (1 - alpha) + leg[part] * alpha


def _smear(leg: Grey, above: int, size: int, random: np.random.Generator) -> None:
    """Continue the crop's first and last rows as shafts: blurred along the bone, drifting in brightness."""
    below = above + size
    for part in (slice(0, above), slice(below, leg.shape[0])):
        if leg[part].shape[0] < 2:
            continue
        drift = np.linspace(0, random.normal(0, 0.15), leg[part].shape[0])[:, None]
        grain = cv2.GaussianBlur(random.normal(0, 0.05, leg[part].shape).astype(np.float32), (0, 0), 1.0)
        soft = cv2.GaussianBlur(leg[part], (0, 0), random.uniform(0.5, 4))
        leg[part] = np.clip(soft + (drift if part.start else drift[::-1]) + grain, 0, 1)
    for seam in (above, below):  # no straight edge where the crop ends
        band = slice(max(0, seam - 3), seam + 3)
        leg[band] = cv2.GaussianBlur(leg[max(0, seam - 9) : seam + 9], (0, 0), 2)[band.start - max(0, seam - 9) :][:6]


def _leg_weight(shape: tuple[int, int], margin: int, size: int, random: np.random.Generator) -> Grey:
    """1 on the leg, falling to 0 towards the background; the leg's outline wanders a little."""
    rows, columns = shape
    down = np.linspace(-1, 1, rows)
    half = (size / 2 + margin * random.uniform(0, 0.7)) * (
        1 + random.normal(0, 0.06) * down + random.normal(0, 0.08) * down**2
    )
    off = np.abs(np.arange(columns)[None, :] - columns / 2) - half[:, None]
    soft = max(1.5, size * random.uniform(0.02, 0.15))
    return np.asarray(1 / (1 + np.exp(np.clip(off / soft * 2, -30, 30))), np.float32)


def _shapes(size: int, random: np.random.Generator) -> Grey:
    film = _background(size, size, random)
    for _ in range(random.integers(2, 9)):
        centre = tuple(int(value) for value in random.uniform(0, size, 2))
        axes = tuple(int(value) for value in random.uniform(size * 0.03, size * 0.5, 2))
        layer = np.zeros_like(film)
        cv2.ellipse(layer, centre, axes, float(random.uniform(0, 180)), 0, 360, float(random.uniform(0.1, 0.6)), -1)
        film = film + cv2.GaussianBlur(layer, (0, 0), random.uniform(0.5, 6))
    return np.clip(film, 0, 1).astype(np.float32)


def _finish(film: Grey, boxes: Sequence[Box], random: np.random.Generator) -> Grey:
    """Exposure, noise, collimation, marker and text: what a film has beside its bones."""
    film = np.clip(film, 0, 1) ** float(np.exp(random.normal(0, 0.35)))
    film = film * random.uniform(0.5, 1) + random.uniform(0, 0.3)
    if random.random() < 0.5:
        film = np.asarray(cv2.GaussianBlur(film, (0, 0), float(random.uniform(0.3, 1.2))), np.float32)
    film = (film + random.normal(0, random.uniform(0.002, 0.04), film.shape)).astype(np.float32)
    if random.random() < 0.4:
        _collimate(film, boxes, random)
    for _ in range(random.integers(0, 3)):
        _mark(film, random)
    return np.clip(film, 0, 1).astype(np.float32)


def _collimate(film: Grey, boxes: Sequence[Box], random: np.random.Generator) -> None:
    rows, columns = film.shape
    first = min((box.x0 for box in boxes), default=columns * 0.2), min((box.y0 for box in boxes), default=rows * 0.2)
    last = max((box.x1 for box in boxes), default=columns * 0.8), max((box.y1 for box in boxes), default=rows * 0.8)
    edge = float(random.choice((0.0, 0.0, 1.0)))
    film[:, : max(0, int(first[0] * random.uniform(0, 1)))] = edge
    film[: max(0, int(first[1] * random.uniform(0, 1)))] = edge
    film[:, int(last[0] + (columns - last[0]) * random.uniform(0, 1)) :] = edge
    film[int(last[1] + (rows - last[1]) * random.uniform(0, 1)) :] = edge


def _mark(film: Grey, random: np.random.Generator) -> None:
    rows, columns = film.shape
    text = str(random.choice(("R", "L", "R 12", "AP", "KNEE", "STANDING", "123456", "PA")))
    where = int(random.uniform(0, columns * 0.85)), int(random.uniform(rows * 0.05, rows))
    grey = float(random.choice((1.0, 0.9, 0.0)))
    ink = np.zeros(film.shape, np.uint8)
    cv2.putText(ink, text, where, cv2.FONT_HERSHEY_SIMPLEX, float(random.uniform(0.25, 0.9)), 255, 1, cv2.LINE_AA)
    alpha = ink.astype(np.float32) / 255
    film *= 1 - alpha
    film += grey * alpha
