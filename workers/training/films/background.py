"""What a film shows besides bones: exposure, noise, collimation, frames, rulers, balls, markers and text."""

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from workers.preprocessing import Grey
from workers.training.films.joint import LabelledJoint
from workers.training.films.overlay import overlay, rotated

Mask = npt.NDArray[np.uint8]

WORDS = ("AP", "PA", "KNEE", "STANDING", "WEIGHT BEARING", "123456", "12:04", "PORTABLE", "LAT", "KNIE STEHEND", "XR")
LETTERS = ("R", "L", "R", "L", "RE", "LI", "D", "G", "I", "R 12", "JK L")
FONTS = (cv2.FONT_HERSHEY_SIMPLEX, cv2.FONT_HERSHEY_DUPLEX, cv2.FONT_HERSHEY_TRIPLEX, cv2.FONT_HERSHEY_PLAIN)


def background(rows: int, columns: int, random: np.random.Generator) -> Grey:
    """Air: dark, or not so dark, with a slow gradient."""
    level = random.uniform(0, 0.25) if random.random() < 0.85 else random.uniform(0.25, 0.7)
    coarse = level + random.uniform(0, 0.12) * random.random((4, 4))
    smooth = cv2.resize(coarse.astype(np.float32), (columns, rows), interpolation=cv2.INTER_LINEAR)
    return np.asarray(smooth, np.float32)


def add_acquisition_effects(
    film: Grey,
    joints: Sequence[LabelledJoint],
    random: np.random.Generator,
    *,
    drawn: bool = False,
    grain: float = 1.0,
    with_markers: bool = True,
) -> Grey:
    """
    The film as a detector and a console produce it.

    `drawn` films get fewer lead markers; without `with_markers` there is neither lead nor text.
    """
    for _ in range(_lead_marker_count(random, drawn=drawn) if with_markers else 0):
        _add_lead_marker(film, joints, random)
    film = np.clip(film, 0, 1) ** float(np.exp(random.normal(0, 0.35)))
    low, high = random.uniform(0, 0.25), random.uniform(0.7, 1)
    film = film * (high - low) + low
    if random.random() < 0.5:
        film = np.asarray(cv2.GaussianBlur(film, (0, 0), grain * float(random.uniform(0.3, 1.3))), np.float32)
    noise = random.standard_normal(film.shape, np.float32) * np.float32(grain * random.uniform(0.002, 0.04))
    film = (film + noise).astype(np.float32)
    if random.random() < 0.45:
        _add_collimation(film, joints, random)
    if random.random() < 0.1:
        _add_frame(film, random)
    for _ in range(int(random.choice([0, 0, 1, 2])) if with_markers else 0):
        _add_text(film, random)
    return np.clip(film, 0, 1).astype(np.float32)


def _lead_marker_count(random: np.random.Generator, *, drawn: bool) -> int:
    """The random number of pieces of lead on a film."""
    return int(random.integers(0, 2)) if drawn else int(random.choice([0, 0, 0, 1, 1, 2]))


def _add_lead_marker(film: Grey, joints: Sequence[LabelledJoint], random: np.random.Generator) -> None:
    """A letter, a ruler or a ball; letters are right or wrong, so that nothing is learnt from them."""
    rows, columns = film.shape
    unit = joints[0].box.width if joints else min(rows, columns) * 0.7
    mask = np.zeros(film.shape, np.uint8)
    kind = random.random()
    if kind < 0.7:
        _draw_letter(mask, unit, random)
    elif kind < 0.85:
        middle = (int(random.uniform(0, columns)), int(random.uniform(0, rows)))
        cv2.circle(mask, middle, max(2, int(unit * random.uniform(0.05, 0.14))), 255, -1, cv2.LINE_AA)
    else:
        _draw_ruler(mask, unit, random)
    cover = mask.astype(np.float32) * np.float32(random.uniform(0.5, 1) / 255)
    overlay(film, cover, random.uniform(0.85, 1))


def _draw_letter(mask: Mask, unit: float, random: np.random.Generator) -> None:
    rows, columns = mask.shape
    text, font = str(random.choice(LETTERS)), int(random.choice(FONTS))
    tall = unit * random.uniform(0.05, 0.16)
    scale = float(max(tall, 5) / 22)
    (wide, high), _ = cv2.getTextSize(text, font, scale, 1)
    x, y = int(random.uniform(0, max(1, columns - wide))), int(random.uniform(high, max(high + 1, rows)))
    thick = max(1, round(scale * random.uniform(1.2, 3.5)))
    cv2.putText(mask, text, (x, y), font, scale, 255, thick, cv2.LINE_AA)
    if random.random() < 0.3:
        cv2.rectangle(mask, (x - 4, y - high - 4), (x + wide + 4, y + 4), 255, max(1, thick // 2), cv2.LINE_AA)
    turn = float(random.choice([0, random.normal(0, 12), 90, 180]))
    mask[:] = rotated(mask, (x + wide / 2, y - high / 2), turn)


def _draw_ruler(mask: Mask, unit: float, random: np.random.Generator) -> None:
    """A ruler beside or between the legs: a line with ticks."""
    rows, columns = mask.shape
    x, step = int(random.uniform(0, columns)), max(2, int(unit * random.uniform(0.03, 0.12)))
    if random.random() < 0.5:
        cv2.line(mask, (x, 0), (x, rows), 255, 1)
    for at, y in enumerate(range(0, rows, step)):
        reach = step if at % 5 else 2 * step
        cv2.line(mask, (x, y), (x + reach, y), 255, 1)


def _add_collimation(film: Grey, joints: Sequence[LabelledJoint], random: np.random.Generator) -> None:
    """The shutters' edges, seldom quite straight, black, white or grey outside; joints mostly stay visible."""
    rows, columns = film.shape
    boxes = [joint.box for joint in joints]
    first = min((box.x0 for box in boxes), default=columns * 0.2), min((box.y0 for box in boxes), default=rows * 0.2)
    last = max((box.x1 for box in boxes), default=columns * 0.8), max((box.y1 for box in boxes), default=rows * 0.8)
    near = random.uniform(0, 1, 4) * (random.random(4) < 0.8)
    left, top = max(0, first[0]) * near[0], max(0, first[1]) * near[1]
    right = columns - max(0, columns - last[0]) * near[2]
    bottom = rows - max(0, rows - last[1]) * near[3]
    corners = np.array([[left, top], [right, top], [right, bottom], [left, bottom]])
    lean = np.radians(random.normal(0, 1.5))
    turn = np.array([[np.cos(lean), -np.sin(lean)], [np.sin(lean), np.cos(lean)]])
    corners = (corners - corners.mean(0)) @ turn + corners.mean(0)
    mask = np.zeros(film.shape, np.uint8)
    cv2.fillConvexPoly(mask, np.round(corners).astype(np.int32), 255, cv2.LINE_AA)
    open_part = mask.astype(np.float32) / 255
    film *= open_part
    film += (1 - open_part) * np.float32(random.choice((0.0, 0.0, 0.0, 1.0, random.uniform(0, 0.5))))


def _add_frame(film: Grey, random: np.random.Generator) -> None:
    """The white or black border of a scanned film."""
    rows, columns = film.shape
    wide = max(1, int(min(rows, columns) * random.uniform(0.005, 0.05)))
    grey = float(random.choice((1.0, 1.0, 0.0)))
    for part in (np.s_[:wide], np.s_[-wide:], np.s_[:, :wide], np.s_[:, -wide:]):
        film[part] = grey


def _add_text(film: Grey, random: np.random.Generator) -> None:
    """A line of text from the console, near an edge more often than not."""
    rows, columns = film.shape
    mask = np.zeros(film.shape, np.uint8)
    edge = random.random() < 0.7
    level = random.choice([random.uniform(0.03, 0.12), random.uniform(0.9, 0.99)]) if edge else random.uniform(0.1, 1)
    where = int(random.uniform(0, columns * 0.8)), int(level * rows)
    scale = float(max(rows, columns) * random.uniform(0.0008, 0.0025))
    text = str(random.choice(WORDS + LETTERS))
    cv2.putText(mask, text, where, int(random.choice(FONTS)), scale, 255, max(1, round(scale * 1.5)), cv2.LINE_AA)
    cover = mask.astype(np.float32) / 255
    overlay(film, cover, float(random.choice((1.0, 1.0, 0.9, 0.0))))
