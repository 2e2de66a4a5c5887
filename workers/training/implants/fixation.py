"""What holds broken bones: nails, plates, screws, staples, wires, pins; and the cast around them."""

import cv2
import numpy as np

from workers.preprocessing import Grey
from workers.training.implants.implant_canvas import XY, ImplantCanvas


def nail(canvas: ImplantCanvas, random: np.random.Generator) -> None:
    """A rod in the shaft of femur or tibia, ending near the joint, with locking screws."""
    up = random.random() < 0.5
    x, wide = random.normal(0, 0.06), random.uniform(0.045, 0.085)
    end = random.uniform(-0.42, -0.12) if up else random.uniform(0.04, 0.3)
    far = -2.0 if up else 2.0
    lean = random.normal(0, 0.05)
    canvas.fill([(x - wide, end), (x + wide, end), (x + lean + wide, far), (x + lean - wide, far)])
    canvas.disc((x, end), wide)
    away = -1 if up else 1
    for at in range(int(random.integers(1, 4))):
        level = end + away * (0.08 + 0.14 * at + random.uniform(0, 0.05))
        reach = random.uniform(0.18, 0.42)
        _screw(canvas, (x - reach, level), (x + reach, level + random.normal(0, 0.05)), random)


def plate(canvas: ImplantCanvas, random: np.random.Generator) -> None:
    """A plate along one side of femur or tibia, bent to its flare, with holes and screws into the bone."""
    side, up = random.choice([-1, 1]), random.random() < 0.4
    away = -1 if up else 1
    start = random.uniform(0.04, 0.16)
    wide = random.uniform(0.05, 0.1)
    path: list[XY] = [
        (side * 0.5, away * start), (side * 0.49, away * (start + 0.18)), (side * 0.36, away * (start + 0.45)),
        (side * 0.28, away * (start + 0.8)), (side * 0.26, away * 2.0),
    ]  # fmt: skip
    canvas.line(path, wide)
    for at in range(int(random.integers(3, 8))):
        y = start + 0.05 + 0.12 * at
        x = float(np.interp(y, [start, start + 0.2, start + 0.45, start + 0.8, 2.0], [0.5, 0.49, 0.36, 0.28, 0.26]))
        canvas.disc((side * x, away * y), wide * 0.32, 120)
        if random.random() < 0.7:
            reach = random.uniform(0.35, 0.85) if y < start + 0.3 else random.uniform(0.3, 0.5)
            _screw(canvas, (side * x, away * y), (side * (x - reach), away * y + random.normal(0, 0.02)), random)


def screws(canvas: ImplantCanvas, random: np.random.Generator) -> None:
    """One to four screws through the joint's bones."""
    up = random.random() < 0.5
    for _ in range(int(random.integers(1, 5))):
        y = random.uniform(-0.35, -0.08) if up else random.uniform(0.06, 0.3)
        x, turn = random.uniform(-0.45, 0.1), random.normal(0, 0.35)
        reach = random.uniform(0.3, 0.7)
        _screw(canvas, (x, y), (x + reach * np.cos(turn), y + reach * np.sin(turn)), random)


def remote(canvas: ImplantCanvas, random: np.random.Generator) -> None:
    """One screw or staple well away from the joint."""
    away = random.choice([-1, 1])
    y = random.uniform(0.3, 0.42) if away > 0 else random.uniform(-0.72, -0.5)
    x = random.uniform(-0.3, 0.3)
    if random.random() < 0.6:
        _screw(canvas, (x - 0.15, y), (x + 0.15, y + random.normal(0, 0.06)), random)
    else:
        _staple(canvas, (x, y), random)


def staples(canvas: ImplantCanvas, random: np.random.Generator) -> None:
    """Staples across a growth plate or an osteotomy, or a row of small ones in the skin."""
    if random.random() < 0.25:
        x = random.normal(0, 0.1)
        for y in np.arange(-0.9, 0.9, random.uniform(0.06, 0.12)):
            canvas.line([(x - 0.03, y), (x + 0.03, y + 0.01)], 0.012)
        return
    for _ in range(int(random.integers(1, 4))):
        side = random.choice([-1, 1])
        _staple(canvas, (side * random.uniform(0.3, 0.45), random.uniform(0.08, 0.35)), random)


def wires(canvas: ImplantCanvas, random: np.random.Generator) -> None:
    """Two straight wires and a loop about them, as for a broken patella."""
    x, gap = random.normal(0, 0.08), random.uniform(0.08, 0.2)
    top, bottom = random.uniform(-0.55, -0.35), random.uniform(-0.1, 0.02)
    for wire in (x - gap / 2, x + gap / 2):
        canvas.line([(wire, top), (wire + random.normal(0, 0.02), bottom)], 0.02)
    loop: list[XY] = [(x - gap, top), (x + gap, bottom), (x + gap, top), (x - gap, bottom), (x - gap, top)]
    canvas.line(loop, 0.013)


def fixator(canvas: ImplantCanvas, random: np.random.Generator) -> None:
    """Thick pins that leave the leg on one side."""
    side, away = random.choice([-1, 1]), random.choice([-1, 1])
    for at in range(int(random.integers(2, 4))):
        y = away * (random.uniform(0.08, 0.2) + 0.2 * at)
        canvas.line([(-side * random.uniform(0.1, 0.3), y), (side * 2.0, y + random.normal(0, 0.03))], 0.05)


def cast(knee: Grey, random: np.random.Generator) -> Grey:
    """A shell of plaster or fibreglass: haze over all, its weave, and bright lines where it is seen along its wall."""
    rows, columns = knee.shape
    y, x = np.mgrid[0:rows, 0:columns].astype(np.float32) / rows
    pitch, turn = random.uniform(0.015, 0.05), random.uniform(0.3, 1.2)
    weave = np.sin((x * np.cos(turn) + y * np.sin(turn)) * 6.28 / pitch)
    weave = weave * np.sin((x * np.cos(turn) - y * np.sin(turn)) * 6.28 / pitch)
    coarse = random.random((6, 6)).astype(np.float32)
    patchy = cv2.resize(coarse, (columns, rows), interpolation=cv2.INTER_CUBIC)
    haze = random.uniform(0.1, 0.35)
    veiled = knee * (1 - haze) + haze * random.uniform(0.5, 1) * (0.7 + 0.3 * patchy)
    veiled = veiled + weave * random.uniform(0.01, 0.05)
    for side in (-1, 1):
        wall = 0.5 + side * random.uniform(0.3, 0.48) + random.normal(0, 0.03) * (y - 0.5)
        thick = random.uniform(0.015, 0.05)
        line = np.exp(-(((x * rows / columns - wall) / thick) ** 2))
        veiled = veiled + line * random.uniform(0.1, 0.4)
    return np.asarray(np.clip(veiled, 0, 1), np.float32)


def _screw(canvas: ImplantCanvas, head: XY, tip: XY, random: np.random.Generator) -> None:
    """A shaft with a thread and a head."""
    wide = random.uniform(0.02, 0.05)
    canvas.line([head, tip], wide)
    for part in np.linspace(0.3, 0.95, int(random.integers(6, 16))):
        at = (head[0] + (tip[0] - head[0]) * part, head[1] + (tip[1] - head[1]) * part)
        canvas.disc((float(at[0]), float(at[1])), wide * 0.75)
    canvas.disc(head, wide * random.uniform(1.0, 1.6))


def _staple(canvas: ImplantCanvas, at: XY, random: np.random.Generator) -> None:
    """A bridge with two legs."""
    wide, deep = random.uniform(0.1, 0.24), random.uniform(0.12, 0.28)
    thick, turn = random.uniform(0.02, 0.045), random.uniform(0, 6.28)
    corners = ((-wide / 2, deep), (-wide / 2, 0.0), (wide / 2, 0.0), (wide / 2, deep))
    path = [
        (at[0] + x * np.cos(turn) - y * np.sin(turn), at[1] + x * np.sin(turn) + y * np.cos(turn)) for x, y in corners
    ]
    canvas.line([(float(x), float(y)) for x, y in path], thick)
