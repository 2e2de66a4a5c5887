"""Knees that are not seen from in front: from the side, and from below with the knee bent."""

import numpy as np

from workers.training.other_anatomy.canvas import Canvas


def lateral(canvas: Canvas, random: np.random.Generator) -> None:
    """Both condyles one behind the other, the patella before them, the tibia's slope, the fibula behind."""
    bend = random.uniform(-0.1, 1.4)
    toward = np.array([-np.sin(bend), np.cos(bend)])
    canvas.flesh([(0.05, -1.6), (0.0, 0.0)], random.uniform(0.42, 0.6), 0.9)
    canvas.flesh([(0.0, 0.0), tuple(toward * 1.7)], random.uniform(0.38, 0.5), 0.9)
    for off in (0.0, random.uniform(0.02, 0.09)):
        canvas.blob((-0.06 + off, -0.08 + off * 0.5), (0.35, 0.3), 0.6, 0.3)
    canvas.tube([(0.08, -0.25), (0.1, -1.8)], [0.27, 0.19, 0.18, 0.18])
    top = toward * 0.36
    base = toward * 1.8
    canvas.tube([tuple(top), tuple(top * 1.6), tuple(base)], [0.34, 0.26, 0.19, 0.17])
    side = np.array([-toward[1], toward[0]])
    behind = top * 1.3 + side * 0.3
    canvas.tube([tuple(behind), tuple(base + side * 0.22)], [0.11, 0.07, 0.07])
    front = (random.uniform(0.42, 0.5), random.uniform(-0.35, 0.05))
    canvas.blob(front, (0.1, random.uniform(0.19, 0.26)), 0.9, random.normal(0.1, 0.15))
    if random.random() < 0.3:
        canvas.blob((-0.42, -0.12), (0.06, 0.06), 0.6)


def skyline(canvas: Canvas, random: np.random.Generator) -> None:
    """The patella over the groove between the condyles."""
    for middle in (0.0,) if random.random() < 0.6 else (-0.62, 0.62):
        size = 1.0 if middle == 0 else 0.6
        canvas.flesh([(middle, 0.15)], 0.78 * size, 0.8)
        high = random.uniform(0.9, 1.1)
        for side in (-1, 1):
            canvas.blob((middle + side * 0.27 * size, 0.25 * size), (0.33 * size, 0.32 * size * high), 0.8, side * 0.3)
        canvas.blob((middle, 0.5 * size), (0.45 * size, 0.35 * size), 0.6)
        shift = random.normal(0, 0.06)
        tilt = random.normal(0, 0.2)
        canvas.blob((middle + shift, -0.3 * size), (0.34 * size, random.uniform(0.13, 0.18) * size), 1.0, tilt)
