"""Hips, pelvis, chest, spine, skull; breasts, vessels; and films that show no body at all."""

import cv2
import numpy as np

from workers.training.other_anatomy.canvas import Canvas


def hip(canvas: Canvas, random: np.random.Generator) -> None:
    """A round head in its socket, the neck, both trochanters and the shaft."""
    canvas.flesh([(-0.4, -0.6), (0.1, 1.4)], random.uniform(0.6, 0.9), 1.0)
    canvas.ring((-0.25, -0.25), (0.36, 0.36), 0.06, 0.8, (2.6, 6.0))
    canvas.blob((-0.25, -0.22), (0.29, 0.29), 1.0)
    canvas.tube([(-0.2, -0.15), (0.2, 0.15)], [0.22, 0.19, 0.24])
    canvas.blob((0.35, 0.1), (0.17, 0.22), 0.8)
    canvas.tube([(0.22, 0.15), (0.2, 1.8)], [0.27, 0.19, 0.17, 0.17])
    canvas.blob((-0.6, -0.75), (0.5, 0.4), 0.6)
    canvas.tube([(-0.5, 0.15), (-0.9, 0.35), (-0.7, 0.75)], [0.12, 0.09, 0.12], 0.7)


def pelvis(canvas: Canvas, random: np.random.Generator) -> None:
    """The ring, both hips, the last vertebrae."""
    canvas.flesh([(-0.5, 0), (0.5, 0)], 0.8, 1.0)
    canvas.ring((0, 0.05), (0.38, 0.32), 0.05, 0.8)
    for side in (-1, 1):
        canvas.blob((side * 0.5, -0.35), (0.3, 0.36), 0.7, side * 0.4)
        canvas.blob((side * 0.6, 0.2), (0.14, 0.14), 1.0)
        canvas.tube([(side * 0.62, 0.22), (side * 0.82, 0.4), (side * 0.78, 1.4)], [0.11, 0.13, 0.09])
        canvas.ring((side * 0.25, 0.5), (0.14, 0.17), 0.05, 0.8)
    for at in range(3):
        canvas.blob((0, -0.45 - 0.25 * at), (0.17, 0.1), 0.8)


def chest(canvas: Canvas, random: np.random.Generator) -> None:
    """Dark lungs between ribs, the heart's shadow, the spine."""
    canvas.flesh([(0, -0.2), (0, 0.3)], 0.85, 0.8)
    for side in (-1, 1):
        lung = np.zeros_like(canvas.soft, dtype=np.uint8)
        middle = canvas.place([(side * 0.4, 0.0)])[0]
        axes = (max(1, int(canvas.pixels(0.33))), max(1, int(canvas.pixels(0.62))))
        cv2.ellipse(lung, (int(middle[0]), int(middle[1])), axes, 0, 0, 360, 255, -1)
        dark = cv2.GaussianBlur(lung, (0, 0), 4).astype(np.float32) / 255
        canvas.soft *= 1 - dark * random.uniform(0.5, 0.85)
        for at in range(8):
            canvas.ring(
                (side * 0.12, -0.75 + 0.19 * at), (0.62, 0.3), 0.025, 0.35, (-0.4, 1.6) if side > 0 else (1.5, 3.5)
            )
        canvas.tube([(side * 0.1, -0.72), (side * 0.75, -0.85)], [0.05, 0.04, 0.05], 0.5)
    canvas.flesh([(0.1, 0.35)], random.uniform(0.25, 0.4), 1.0)
    _column(canvas, random, 10, 0.13)


def _column(canvas: Canvas, random: np.random.Generator, count: int, wide: float) -> None:
    step = 2.4 / count
    for at in range(count):
        middle = (random.normal(0, 0.01), -1.2 + step * (at + 0.5))
        canvas.blob(middle, (wide, step * 0.42), 0.6)


def spine(canvas: Canvas, random: np.random.Generator) -> None:
    """A column of blocks with their processes."""
    canvas.flesh([(0, -1.5), (0, 1.5)], random.uniform(0.6, 0.9), 1.0)
    wide = random.uniform(0.2, 0.36)
    _column(canvas, random, int(random.integers(4, 8)), wide)
    for at in range(5):
        y = -1 + 0.5 * at
        for side in (-1, 1):
            canvas.tube([(side * wide, y), (side * (wide + 0.3), y + 0.05)], [0.06, 0.04], 0.5)


def skull(canvas: Canvas, random: np.random.Generator) -> None:
    """A vault, orbits, the jaw."""
    canvas.flesh([(0, 0)], 0.8, 0.6)
    canvas.ring((0, -0.15), (0.68, 0.72), random.uniform(0.03, 0.07), 0.9)
    for side in (-1, 1):
        canvas.ring((side * 0.25, 0.12), (0.17, 0.15), 0.025, 0.7)
    canvas.ring((0, 0.3), (0.45, 0.5), 0.06, 0.7, (0.1, 3.0))
    canvas.blob((0, 0.35), (0.12, 0.2), 0.5)


def breast(canvas: Canvas, random: np.random.Generator) -> None:
    """A half disc of strands."""
    canvas.flesh([(-1.0, 0)], random.uniform(0.9, 1.3), 0.8)
    for _ in range(int(random.integers(10, 30))):
        start = (random.uniform(-0.9, -0.3), random.uniform(-0.5, 0.5))
        end = (start[0] + random.uniform(0.1, 0.6), start[1] * random.uniform(0.2, 1))
        canvas.tube([start, end], [random.uniform(0.005, 0.05)] * 3, random.uniform(0.1, 0.4))


def vessels(canvas: Canvas, random: np.random.Generator) -> None:
    """Branches filled with contrast."""
    canvas.flesh([(0, 0)], 1.2, random.uniform(0.2, 0.7))
    ends = [(random.uniform(-0.3, 0.3), -1.2, 0.0, random.uniform(0.03, 0.08))]
    for _ in range(int(random.integers(12, 30))):
        x, y, lean, wide = ends.pop(0)
        lean += random.normal(0, 0.5)
        end = (x + np.sin(lean) * 0.3, y + np.cos(lean) * 0.3)
        canvas.tube([(x, y), end], [wide, wide * 0.85], 1.0, 0.1)
        ends += [(*end, lean - 0.3, wide * 0.75), (*end, lean + 0.3, wide * 0.75)]


def plain(canvas: Canvas, random: np.random.Generator) -> None:
    """No body: a wedge, bars, a grid, a page of writing, or ellipses of any kind."""
    kind = int(random.integers(0, 5))
    y, x = np.mgrid[0 : canvas.side, 0 : canvas.side].astype(np.float32) / canvas.side
    if kind == 0:
        canvas.soft += np.floor(x * random.integers(4, 14)) / 8
    elif kind == 1:
        canvas.bone += (np.sin(x * random.uniform(20, 150)) > 0) * np.float32(0.8)
    elif kind == 2:
        canvas.soft += ((np.sin(x * 90) > 0.95) | (np.sin(y * 90) > 0.95)).astype(np.float32)
    elif kind == 3:
        for at in range(12):
            ink = np.zeros((canvas.side, canvas.side), np.uint8)
            words = "".join(chr(random.integers(97, 122)) for _ in range(20))
            cv2.putText(ink, words, (5, 12 + at * canvas.side // 12), cv2.FONT_HERSHEY_PLAIN, 1, 255, 1)
            canvas.bone += ink.astype(np.float32) / 255
    else:
        for _ in range(int(random.integers(2, 10))):
            radii = (random.uniform(0.03, 0.6), random.uniform(0.03, 0.6))
            canvas.blob(
                (random.uniform(-1, 1), random.uniform(-1, 1)), radii, random.uniform(0.2, 1), random.uniform(0, 3)
            )
