"""Composed films with lead letters, and with distractors that resemble letters."""

import string
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from workers.evaluation.labelled_knees import LabelledKnee
from workers.laterality.lead_markers import letter_candidates
from workers.models.labels import LETTER_L, LETTER_R, NOTHING
from workers.preprocessing import Box, Grey
from workers.training.films import Crop, compose
from workers.training.films.overlay import overlay

Mask = npt.NDArray[np.float32]
"""How much of each pixel is covered, 0 to 1."""
Marker = tuple[Mask, Mask]
"""The mask of a letter alone, and that of the whole marker, of the same shape."""

FONTS = (
    "DejaVuSans-Bold", "DejaVuSans-Bold", "DejaVuSans", "DejaVuSansMono-Bold", "DejaVuSansMono", "DejaVuSerif-Bold",
    "STIXGeneralBol",
)  # fmt: skip
"""Those that come with matplotlib; real markers are mostly bold and without serifs."""
STROKES = (cv2.FONT_HERSHEY_SIMPLEX, cv2.FONT_HERSHEY_DUPLEX, cv2.FONT_HERSHEY_PLAIN)
OTHERS = "".join(sorted(set(string.ascii_uppercase + string.digits) - set("RL")))
WORDS = (
    "LAT", "KNEE", "STANDING", "WEIGHT BEARING", "PORTABLE", "AP", "PA", "LL", "RR", "12:04", "RE", "LI", "LEFT",
    "RIGHT", "ROSENBERG", "XR", "2041", "MOBILE", "KNIE STEHEND",
)  # fmt: skip


@dataclass(frozen=True)
class FilmWithLetters:
    """A film, the side of its joints in pixels, and its letters: their boxes, and LETTER_R or LETTER_L."""

    pixels: Grey
    side: float
    letters: tuple[tuple[Box, int], ...]


def film_without_letters(knees: Sequence[LabelledKnee], random: np.random.Generator) -> tuple[Grey, float]:
    """A composed film of one or two knees, without any marker or text, and the side of its joints in pixels."""
    chosen = [knees[int(at)] for at in random.integers(len(knees), size=1 + (random.random() < 0.5))]
    film = compose(
        [Crop(knee.as_displayed()) for knee in chosen],
        random,
        joint=(150, 260),
        longest=800,
        metal=0.2,
        with_markers=False,
    )
    return film.pixels, float(np.mean([box.width for box in film.boxes]))


def with_letters(
    pixels: Grey, side: float, random: np.random.Generator, count: int, distractors: int
) -> FilmWithLetters:
    """A copy of a film with `count` letters and `distractors` other objects."""
    film, letters = pixels.copy(), []
    for _ in range(distractors):
        _add_marker(film, _distractor(random), side * random.uniform(0.05, 0.2), random)
    for _ in range(count):
        kind = LETTER_R if random.random() < 0.5 else LETTER_L
        box = _add_marker(film, _letter("RL"[kind == LETTER_L], random), side * random.uniform(0.055, 0.19), random)
        letters.append((box, kind))
    return FilmWithLetters(film, side, tuple(letters))


def labelled_patches(film: FilmWithLetters, size: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """The classifier's inputs from a film, (n, 1, size, size), and the class of each, (n,)."""
    boxes, patches = letter_candidates(film.pixels, film.side, size)
    truth = [next((kind for letter, kind in film.letters if is_same(box, letter)), NOTHING) for box in boxes]
    return patches, np.array(truth, np.int64)


def is_same(box: Box, letter: Box) -> bool:
    """Whether a candidate box is that letter: the middles are near, and the heights are alike."""
    x, y = box.middle[0] - letter.middle[0], box.middle[1] - letter.middle[1]
    return float(np.hypot(x, y)) < 0.3 * letter.height and 0.6 < box.height / letter.height < 1.5


@cache
def _font(name: str) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(Path(mpl.get_data_path()) / "fonts" / "ttf" / f"{name}.ttf"), 72)


def _text_mask(text: str, random: np.random.Generator) -> Mask:
    """The mask of a text in a random font, cropped to it."""
    if random.random() < 0.3:
        thick, font = int(random.integers(3, 14)), int(random.choice(STROKES))
        scale = 8.0 if font == cv2.FONT_HERSHEY_PLAIN else 3.0
        (wide, high), below = cv2.getTextSize(text, font, scale, thick)
        drawn = np.zeros((high + below + 40, wide + 40), np.uint8)
        cv2.putText(drawn, text, (20, high + 20), font, scale, 255, thick, cv2.LINE_AA)
    else:
        font_ = _font(str(random.choice(FONTS)))
        x0, y0, x1, y1 = font_.getbbox(text)
        image = Image.new("L", (int(x1 - x0) + 20, int(y1 - y0) + 20))
        ImageDraw.Draw(image).text((10 - x0, 10 - y0), text, font=font_, fill=255)
        drawn = np.asarray(image)
    rows, columns = np.flatnonzero(drawn.max(1)), np.flatnonzero(drawn.max(0))
    tight = drawn[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return np.asarray(tight, np.float32) / np.float32(255)


def _letter(text: str, random: np.random.Generator) -> Marker:
    """A letter alone on a larger mask, and the marker: the letter, perhaps with a ring, a frame or initials."""
    text_mask = _text_mask(text, random)
    high, wide = text_mask.shape
    reach = 2 * max(high, wide)
    letter = np.zeros((2 * reach, 2 * reach), np.float32)
    top, left = reach - high // 2, reach - wide // 2
    letter[top : top + high, left : left + wide] = text_mask
    marker = letter.copy()
    around, thick = random.random(), max(2, int(high * random.uniform(0.05, 0.14)))
    radius = int(np.hypot(high, wide) / 2 * random.uniform(1.15, 1.5))
    if around < 0.25:
        cv2.circle(marker, (reach, reach), radius, 1.0, thick, cv2.LINE_AA)
    elif around < 0.4:
        cv2.rectangle(marker, (reach - radius, reach - radius), (reach + radius, reach + radius), 1.0, thick)
    elif around < 0.55:
        initials = cv2.resize(_text_mask("".join(random.choice(list(OTHERS), 2)), random), None, fx=0.45, fy=0.45)
        y, x = top + high + high // 5, left
        part = marker[y : y + initials.shape[0], x : x + initials.shape[1]]
        part[:] = np.maximum(part, initials[: part.shape[0], : part.shape[1]])
    return letter, marker


def _distractor(random: np.random.Generator) -> Marker:
    """Something bright that is no single R or L: a word, another letter, a bent wire, a ring, a ball."""
    kind = random.random()
    if kind < 0.35:
        word = _text_mask(str(random.choice(WORDS)), random)
        return word, word
    if kind < 0.7:
        other = _text_mask(str(random.choice(list(OTHERS))), random)
        return other, other
    mask = np.zeros((96, 96), np.float32)
    if kind < 0.85:
        points = random.integers(8, 88, (int(random.integers(2, 5)), 2)).astype(np.int32)
        cv2.polylines(mask, [points], False, 1.0, int(random.integers(3, 16)), cv2.LINE_AA)
    else:
        cv2.circle(mask, (48, 48), int(random.integers(20, 44)), 1.0, int(random.choice([-1, 4, 9])), cv2.LINE_AA)
    return mask, mask


def _add_shutter(film: Grey, letter: tuple[float, float], height: float, random: np.random.Generator) -> None:
    """The edge of a shutter, white, black or grey, on one side of a letter at (x, y)."""
    x, y = letter
    reach, apart = 2 * height, height * random.uniform(0.5, 1.2)
    left = int(x + apart if random.random() < 0.5 else x - apart - reach)
    outside = np.zeros(film.shape, np.float32)
    outside[max(0, int(y - reach)) : int(y + reach), max(0, left) : max(0, int(left + reach))] = 1
    cover = cv2.GaussianBlur(outside, (0, 0), 0.4 + height * random.uniform(0, 0.15))
    overlay(film, cover, float(random.choice((1.0, 1.0, 0.0, random.random()))))


def _add_marker(film: Grey, marker: Marker, height: float, random: np.random.Generator) -> Box:
    """Add a marker at a random place of a film, its letter `height` pixels tall; the box of the letter."""
    letter, whole = marker
    rows, columns = film.shape
    if random.random() < 0.3:
        letter, whole = letter[:, ::-1], whole[:, ::-1]
    lit = np.flatnonzero(letter.max(1) > 0.5)
    factor = height / max(1, lit[-1] - lit[0])
    turn = float(np.clip(random.normal(0, 8), -25, 25))
    middle = (whole.shape[1] / 2, whole.shape[0] / 2)
    move = np.asarray(cv2.getRotationMatrix2D(middle, turn, factor), np.float64)
    reach = 0.6 * height
    x, y = random.uniform(reach, max(reach + 1, columns - reach)), random.uniform(reach, max(reach + 1, rows - reach))
    move[:, 2] += np.array([x, y]) - middle
    # Shrinking by half at a time would be exact; a blur before it keeps thin strokes from breaking up.
    soft = [cv2.GaussianBlur(np.ascontiguousarray(mask), (0, 0), max(0.3, 0.4 / factor)) for mask in (letter, whole)]
    letter_cover, cover = (cv2.warpAffine(mask, move, (columns, rows), flags=cv2.INTER_LINEAR) for mask in soft)
    spread = float(random.uniform(0.3, 0.05 * height + 0.4))
    cover = cv2.GaussianBlur(cover, (0, 0), spread) * np.float32(random.uniform(0.45, 1))
    bright = float(np.clip(film.max() * random.uniform(0.85, 1.1), 0, 1))
    overlay(film, cover, bright)
    if random.random() < 0.25:
        _add_shutter(film, (x, y), height, random)
    down, across = np.flatnonzero(letter_cover.max(1) > 0.4), np.flatnonzero(letter_cover.max(0) > 0.4)
    if not len(down):
        return Box.about((x, y), height)
    return Box(float(across[0]), float(down[0]), float(across[-1] + 1), float(down[-1] + 1))
