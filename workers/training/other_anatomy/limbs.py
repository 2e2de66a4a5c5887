"""Hands, feet, wrists, elbows, shoulders, ankles, and shafts between joints."""

import numpy as np

from workers.training.other_anatomy.canvas import XY, Canvas


def hand(canvas: Canvas, random: np.random.Generator) -> None:
    """Five rays of four bones over the wrist's two rows; spread, closed or bent."""
    spread = random.uniform(0.12, 0.5)
    canvas.flesh([(0, 0.2), (0, 0.55)], random.uniform(0.3, 0.42), 0.7)
    for ray in range(5):
        lean = (ray - 2) * spread * (1.7 if ray == 0 else 1)
        start = ((ray - 2) * 0.13, 0.2)
        _ray(canvas, random, start, lean, random.uniform(0.85, 1.05) * (0.75 if ray in (0, 4) else 1))
    for row, y in enumerate((0.33, 0.47)):
        for at in range(4):
            middle = ((at - 1.5) * 0.13 + random.normal(0, 0.01), y + random.normal(0, 0.015))
            canvas.blob(middle, (random.uniform(0.06, 0.085), random.uniform(0.055, 0.08)), 0.8 + 0.1 * row)
    for x, wide in ((-0.13, 0.12), (0.14, 0.07)):
        canvas.tube([(x, 0.58), (x * 0.8, 1.4)], [wide, wide * 0.7, wide * 0.6, wide * 0.6])


def _ray(canvas: Canvas, random: np.random.Generator, start: XY, lean: float, long: float) -> None:
    x, y = start
    lengths = np.array([0.42, 0.28, 0.18, 0.13]) * long
    wide = random.uniform(0.04, 0.055)
    for at, length in enumerate(lengths):
        lean += random.normal(0, 0.06)
        end = (x + np.sin(lean) * length, y - np.cos(lean) * length)
        w = wide * (1 - 0.14 * at)
        canvas.tube([(x, y), end], [w * 1.2, w * 0.75, w * 0.7, w * 1.15], 0.8)
        canvas.flesh([(x, y), end], w * 2.2, 0.5)
        x, y = end[0] + np.sin(lean) * 0.03, end[1] - np.cos(lean) * 0.03


def foot(canvas: Canvas, random: np.random.Generator) -> None:
    """Five toes and metatarsals before the packed bones of the midfoot."""
    canvas.flesh([(0, -0.5), (0, 0.6)], random.uniform(0.35, 0.45), 0.8)
    for ray in range(5):
        _ray(canvas, random, ((ray - 2) * 0.13, 0.1), (ray - 2) * random.uniform(0.05, 0.12), 1.0 if ray else 1.1)
    for _ in range(7):
        middle = (random.uniform(-0.25, 0.25), random.uniform(0.18, 0.55))
        canvas.blob(middle, (random.uniform(0.09, 0.16), random.uniform(0.08, 0.13)), 0.8, random.uniform(0, 3))
    canvas.blob((random.uniform(-0.1, 0.1), 0.75), (0.2, 0.28), 1.0)


def finger(canvas: Canvas, random: np.random.Generator) -> None:
    """One small joint close up: a broad base over a rounded head."""
    canvas.flesh([(0, -1.5), (0, 1.5)], random.uniform(0.5, 0.75), 0.7)
    wide, gap = random.uniform(0.28, 0.42), random.uniform(0.02, 0.07)
    canvas.tube([(0, -gap), (random.normal(0, 0.05), -1.6)], [wide, wide * 0.65, wide * 0.55, wide * 0.6])
    canvas.tube(
        [(0, gap + wide * 0.4), (random.normal(0, 0.05), 1.6)], [wide * 0.85, wide * 0.6, wide * 0.5, wide * 0.55]
    )


def wrist(canvas: Canvas, random: np.random.Generator) -> None:
    """The end of the forearm and both rows of the wrist, close up."""
    canvas.flesh([(0, -1.5), (0, 1.5)], random.uniform(0.6, 0.8), 0.8)
    for row, y in enumerate((-0.05, -0.38)):
        for at in range(4):
            middle = ((at - 1.5) * 0.27 + random.normal(0, 0.02), y + random.normal(0, 0.03))
            canvas.blob(middle, (random.uniform(0.12, 0.18), random.uniform(0.12, 0.18)), 0.8 + 0.1 * row)
    for at in range(5):
        x = (at - 2) * 0.22
        canvas.tube([(x, -0.62), (x * 1.4, -1.6)], [0.1, 0.07, 0.07])
    canvas.tube([(-0.2, 0.22), (-0.2, 1.6)], [0.33, 0.22, 0.17, 0.17])
    canvas.tube([(0.33, 0.25), (0.28, 1.6)], [0.15, 0.11, 0.1, 0.1])


def elbow(canvas: Canvas, random: np.random.Generator) -> None:
    """Humerus flaring to both epicondyles over radius and ulna, the olecranon behind: it looks most like a knee."""
    canvas.flesh([(0, -1.6), (0, 1.6)], random.uniform(0.45, 0.65), 0.9)
    wide, carry = random.uniform(0.36, 0.5), random.normal(0.12, 0.06)
    canvas.tube([(0, -0.12), (0, -0.45), (0, -1.7)], [wide, wide * 0.75, wide * 0.42, wide * 0.38, wide * 0.38])
    canvas.blob((wide * 0.5, 0.0), (wide * 0.42, 0.14), 0.9)
    canvas.blob((-wide * 0.35, 0.0), (wide * 0.55, 0.13), 0.9)
    canvas.tube([(-wide * 0.35, -0.2), (-wide * 0.3, 0.3), (-wide * 0.3 + carry, 1.7)], [0.2, 0.2, 0.15, 0.12, 0.12])
    canvas.tube([(wide * 0.5, 0.2), (wide * 0.45 + carry, 1.7)], [0.17, 0.1, 0.11, 0.11, 0.11])


def elbow_lateral(canvas: Canvas, random: np.random.Generator) -> None:
    """Bent by a right angle: humerus down, forearm across, the hook of the ulna about the joint."""
    bend = random.uniform(-0.3, 0.6)
    canvas.flesh([(0, -1.6), (0, 0)], random.uniform(0.3, 0.45), 0.9)
    canvas.flesh([(0, 0), (1.5, bend)], random.uniform(0.28, 0.4), 0.9)
    canvas.tube([(0, 0), (0, -1.7)], [0.2, 0.16, 0.16, 0.17])
    canvas.blob((0, 0.02), (0.2, 0.19), 1.1)
    canvas.tube([(-0.22, 0.1), (0.2, 0.26), (1.6, bend + 0.2)], [0.16, 0.16, 0.12, 0.1])
    canvas.tube([(0.27, 0.03), (1.6, bend)], [0.14, 0.09, 0.1])


def shoulder(canvas: Canvas, random: np.random.Generator) -> None:
    """A round head at the socket, the blade, the collar bone, ribs behind."""
    canvas.flesh([(0.2, -0.2), (-0.6, 0.8)], 0.6, 0.8)
    canvas.blob((0.1, -0.25), (0.3, 0.3), 1.0)
    canvas.tube([(0.15, -0.1), (0.45, 1.5)], [0.26, 0.17, 0.15, 0.15])
    canvas.tube([(-0.3, -0.25), (-0.45, 0.5)], [0.1, 0.06, 0.12], 0.8)
    canvas.tube([(-1.3, -0.6), (-0.2, -0.65), (0.15, -0.6)], [0.1, 0.08, 0.08])
    for at in range(4):
        canvas.ring((-1.2, 0.2 + 0.25 * at), (0.75, 0.5), 0.035, 0.5, (-1.2, 1.0))


def ankle(canvas: Canvas, random: np.random.Generator) -> None:
    """Tibia and fibula about the block of the talus."""
    canvas.flesh([(0, -1.5), (0, 0.6)], random.uniform(0.42, 0.55), 0.9)
    wide = random.uniform(0.28, 0.36)
    canvas.tube([(0, -0.1), (random.normal(0, 0.04), -1.7)], [wide, wide * 0.72, wide * 0.55, wide * 0.55])
    canvas.tube([(-wide * 0.9, 0.12), (-wide * 0.95, -0.2)], [0.08, 0.11], 0.9)
    canvas.tube([(wide * 1.15, 0.28), (wide * 0.95, -1.7)], [0.11, 0.13, 0.08, 0.08])
    canvas.blob((0, 0.2), (wide * 0.95, 0.2), 1.1)
    canvas.blob((random.normal(0, 0.05), 0.62), (wide * 0.9, 0.3), 0.9)


def ankle_lateral(canvas: Canvas, random: np.random.Generator) -> None:
    """The shin on the talus, the heel behind, the midfoot before it."""
    canvas.flesh([(0, -1.5), (0, 0.2), (0.9, 0.6)], 0.35, 0.9)
    canvas.tube([(0, -0.05), (0, -1.7)], [0.25, 0.18, 0.15])
    canvas.blob((0.05, 0.15), (0.32, 0.18), 1.0, 0.3)
    canvas.blob((-0.3, 0.5), (0.42, 0.22), 1.0, -0.25)
    for at in range(3):
        canvas.blob((0.45 + 0.22 * at, 0.35 + 0.08 * at), (0.16, 0.14), 0.9)
        canvas.tube([(0.95, 0.5 + 0.06 * at), (1.7, 0.8 + 0.05 * at)], [0.1, 0.07, 0.08], 0.6)


def shafts(canvas: Canvas, random: np.random.Generator) -> None:
    """A thigh, a lower leg or a forearm between its joints."""
    canvas.flesh([(0, -1.8), (0, 1.8)], random.uniform(0.35, 0.8), 0.9)
    if random.random() < 0.5:
        wide = random.uniform(0.12, 0.26)
        canvas.tube([(0, -1.8), (random.normal(0, 0.1), 1.8)], [wide, wide * 0.9, wide * random.uniform(0.9, 1.5)])
        return
    wide = random.uniform(0.1, 0.2)
    canvas.tube([(-0.12, -1.8), (-0.1, 1.8)], [wide * 1.3, wide, wide])
    canvas.tube([(0.25, -1.8), (0.22, 1.8)], [wide * 0.6, wide * 0.5, wide * 0.6])
