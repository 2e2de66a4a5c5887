"""
Artefacts inserted into real knees: markers, text, borders and metal, which may be shortcuts to a grade.

The artefact segmenter is trained on them, and `genu audit --planted` tests the red flag with them.
"""

from collections.abc import Callable, Mapping
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from workers.models.labels import BORDER, HARDWARE, MARKER, TEXT
from workers.preprocessing import Grey
from workers.training.films.background import FONTS, LETTERS, WORDS
from workers.training.films.joint import Crop, points_of
from workers.training.films.overlay import overlay, rotated
from workers.training.implants import fixation
from workers.training.implants.implant_canvas import ImplantCanvas

Cover = npt.NDArray[np.float32]
"""How much of each pixel the artefact covers, 0 to 1."""
KneeAndCover = tuple[Grey, Cover]

MIDDLE = (0.12, 0.28, 0.88, 0.72)
"""Left, top, right and bottom of the joint in its box: an artefact beside the joint lies outside of it."""


def insert_artefact(knee: Grey, kind: int, random: np.random.Generator, *, beside: bool = True) -> KneeAndCover:
    """The knee (rows, columns; 0 to 1) with an artefact of that kind, `beside` the joint or anywhere; its cover."""
    return INSERTERS[kind](knee, random, beside)


def _marker(knee: Grey, random: np.random.Generator, beside: bool) -> KneeAndCover:
    """A lead letter, a disc, a ball or a ruler's ticks; lead lets some of the knee through."""
    side, ink = knee.shape[0], np.zeros(knee.shape, np.uint8)
    tall = side * random.uniform(0.06, 0.16)
    x, y = _position(side, tall, random, beside)
    kind = random.random()
    if kind < 0.65:
        _write_randomly(ink, str(random.choice(LETTERS)), (x, y), tall, random)
        if random.random() < 0.35:
            half = tall * random.uniform(0.6, 0.9)
            cv2.circle(ink, (int(x), int(y)), int(half), 255, max(1, int(tall / 12)), cv2.LINE_AA)
    elif kind < 0.85:
        cv2.circle(ink, (int(x), int(y)), int(tall / 2), 255, -1, cv2.LINE_AA)
    else:
        for at in range(int(random.integers(4, 9))):
            top = int(y - tall + at * tall / 3)
            cv2.line(ink, (int(x), top), (int(x + tall / (2 if at % 5 else 1)), top), 255, max(1, side // 150))
    cover = rotated(ink, (x, y), float(random.choice([0, random.normal(0, 12), 90, 180]))) / np.float32(255)
    return _overlaid(knee, cover * np.float32(random.uniform(0.6, 1)), float(random.uniform(0.85, 1)))


def _text(knee: Grey, random: np.random.Generator, beside: bool) -> KneeAndCover:
    """A line or two from the console: thin, crisp, white or black."""
    side, ink = knee.shape[0], np.zeros(knee.shape, np.uint8)
    tall = side * random.uniform(0.03, 0.07)
    x, y = _position(side, tall, random, beside)
    for line in range(int(random.integers(1, 3))):
        _write_randomly(ink, str(random.choice(WORDS)), (x, y + 1.6 * line * tall), tall, random)
    return _overlaid(knee, ink.astype(np.float32) / 255, float(random.choice((1.0, 1.0, 0.95, 0.0))))


def _border(knee: Grey, random: np.random.Generator, beside: bool) -> KneeAndCover:
    """The film's frame, or a shutter's edge, seldom quite straight, on one side or more."""
    side, mask = knee.shape[0], np.zeros(knee.shape, np.uint8)
    lean = np.tan(np.radians(random.normal(0, 2)))
    chosen = random.random(4) < 0.4
    chosen[int(random.integers(4))] = True
    for edge in np.flatnonzero(chosen):
        wide = side * random.uniform(0.02, 0.12)
        strip = [(0, 0), (side, 0), (side, wide + lean * side), (0, wide)]
        corners = {0: strip, 1: [(x, side - y) for x, y in strip], 2: [(y, x) for x, y in strip]}
        points = corners.get(int(edge), [(side - y, x) for x, y in strip])
        cv2.fillPoly(mask, [np.round(points).astype(np.int32)], 255, cv2.LINE_AA)
    grey = float(random.choice((0.0, 0.0, 1.0, 1.0, random.uniform(0, 1))))
    return _overlaid(knee, mask.astype(np.float32) / 255, grey)


def _metal(knee: Grey, random: np.random.Generator, beside: bool) -> KneeAndCover:
    """A screw or a staple in a shaft."""
    canvas = ImplantCanvas(knee.shape, points_of(Crop(knee)))
    fixation.remote(canvas, random)
    return _overlaid(knee, canvas.cover() * np.float32(random.uniform(0.85, 1)), float(random.uniform(0.9, 1)))


def insert_numeral(knee: Grey, grade: int, random: np.random.Generator) -> Grey:
    """The knee with a lead numeral of the grade in an upper corner, which must never decide it."""
    side, ink = knee.shape[0], np.zeros(knee.shape, np.uint8)
    tall = side * random.uniform(0.12, 0.16)
    x = tall if random.random() < 0.5 else side - tall
    scale = tall / 22
    _write(ink, str(grade), (x, tall * random.uniform(0.8, 1.1)), cv2.FONT_HERSHEY_SIMPLEX, scale, 3.0)
    cover = ink.astype(np.float32) / 255
    return _overlaid(knee, cover, 1.0)[0]


INSERTERS: Mapping[int, Callable[[Grey, np.random.Generator, bool], KneeAndCover]] = {
    MARKER: _marker, TEXT: _text, HARDWARE: _metal, BORDER: _border,
}  # fmt: skip


def _position(side: int, tall: float, random: np.random.Generator, beside: bool) -> tuple[float, float]:
    left, top, right, bottom = (edge * side for edge in MIDDLE)
    for _ in range(50):
        x, y = random.uniform(tall, side - tall, 2)
        if not beside or not (left - tall < x < right and top - tall < y < bottom + tall):
            break
    return float(x), float(y)


def _write_randomly(
    ink: npt.NDArray[np.uint8], words: str, at: tuple[float, float], tall: float, random: np.random.Generator
) -> None:
    font = int(random.choice(FONTS))
    scale = max(tall, 5) / (11 if font == cv2.FONT_HERSHEY_PLAIN else 22)
    _write(ink, words, at, font, scale, float(random.uniform(1.2, 3.5)))


def _write(
    ink: npt.NDArray[np.uint8], words: str, at: tuple[float, float], font: int, scale: float, stroke: float
) -> None:
    thick = max(1, round(scale * stroke))
    (wide, high), _ = cv2.getTextSize(words, font, scale, thick)
    x = int(np.clip(at[0] - wide / 2, 0, max(0, ink.shape[1] - wide)))
    cv2.putText(ink, words, (x, int(at[1] + high / 2)), font, scale, 255, thick, cv2.LINE_AA)


def _overlaid(knee: Grey, cover: npt.NDArray[Any], grey: float) -> KneeAndCover:
    result, cover = knee.copy(), cover.astype(np.float32)
    overlay(result, cover, grey)
    return np.clip(result, 0, 1), cover
