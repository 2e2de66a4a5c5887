"""Knee replacements from in front: femoral component, the clear gap of the polyethylene, tibial tray, keel and stem."""

import numpy as np

from workers.training.implants.implant_canvas import XY, ImplantCanvas


def total_replacement(canvas: ImplantCanvas, random: np.random.Generator) -> None:
    """Cruciate retaining or stabilised, with or without stems, hinged at times; a metal tray, or polyethylene alone."""
    wide = random.uniform(0.44, 0.53)
    floor, gap = random.uniform(-0.1, -0.02), random.uniform(0.07, 0.16)
    tray = floor + gap
    canvas.empty([(-wide, floor - 0.12), (wide, floor - 0.12), (wide, tray + 0.05), (-wide, tray + 0.05)])
    _femoral(canvas, random, wide, floor)
    if random.random() < 0.92:
        _tray(canvas, random, -wide * random.uniform(0.93, 1.02), wide * random.uniform(0.93, 1.02), tray)
        _keel(canvas, random, tray)
    else:  # all polyethylene: a wire marks it
        canvas.line([(-wide * 0.8, tray), (wide * 0.8, tray)], 0.012)
    if random.random() < 0.12:  # hinged: metal joins both
        canvas.fill([(-0.14, floor - 0.3), (0.14, floor - 0.3), (0.12, tray), (-0.12, tray)])


def _femoral(canvas: ImplantCanvas, random: np.random.Generator, wide: float, floor: float) -> None:
    """A cap over both condyles, with the notch between them or a box in it."""
    top = floor - random.uniform(0.2, 0.36)
    notch = random.uniform(0.06, 0.14)
    shoulder = random.uniform(0.02, 0.09)
    roof = floor - random.uniform(0.1, 0.2)
    half: list[XY] = [
        (notch * 0.6, roof), (notch, floor - 0.05), (notch + 0.06, floor - 0.01), (wide * 0.6, floor),
        (wide * 0.88, floor - 0.03), (wide, floor - 0.1), (wide * 1.01, top + 0.06), (wide - shoulder, top),
    ]  # fmt: skip
    mirrored = [(-x, y) for x, y in reversed(half)]
    canvas.fill([*half, (0.0, top + random.uniform(-0.03, 0.1)), *mirrored])
    if random.random() < 0.45:
        box = random.uniform(0.1, 0.16)
        canvas.fill([(-box, floor - 0.04), (box, floor - 0.04), (box, top - random.uniform(0, 0.12)), (-box, top)])
    if random.random() < 0.4:  # pegs, or a stem
        for x in (-0.25, 0.25):
            canvas.fill([(x - 0.03, top + 0.05), (x + 0.03, top + 0.05), (x + 0.02, top - 0.1), (x - 0.02, top - 0.1)])
    if random.random() < 0.22:
        stem, long = random.uniform(0.05, 0.1), random.uniform(0.5, 1.6)
        canvas.fill([(-stem, top + 0.1), (stem, top + 0.1), (stem * 0.8, top - long), (-stem * 0.8, top - long)])


def _tray(canvas: ImplantCanvas, random: np.random.Generator, left: float, right: float, level: float) -> None:
    thick, lean = random.uniform(0.025, 0.06), random.normal(0, 0.008)
    edge = random.uniform(0, 0.02)
    canvas.fill(
        [
            (left, level - lean),
            (right, level + lean),
            (right - edge, level + thick + lean),
            (left + edge, level + thick),
        ]
    )


def _keel(canvas: ImplantCanvas, random: np.random.Generator, level: float) -> None:
    """A stem, with fins or a cruciform keel, sometimes pegs alone; a long one after revision."""
    kind = random.random()
    if kind < 0.15:
        for x in (-0.28, -0.1, 0.1, 0.28):
            canvas.fill([(x - 0.03, level), (x + 0.03, level), (x + 0.025, level + 0.13), (x - 0.025, level + 0.13)])
        return
    long = random.uniform(0.9, 1.8) if random.random() < 0.15 else random.uniform(0.28, 0.6)
    top, tip = random.uniform(0.06, 0.11), random.uniform(0.03, 0.08)
    off = random.normal(0, 0.02)
    canvas.fill([(off - top, level), (off + top, level), (off + tip, level + long), (off - tip, level + long)])
    canvas.disc((off, level + long), tip)
    if kind < 0.7:
        reach, deep = random.uniform(0.16, 0.34), random.uniform(0.1, 0.34)
        canvas.fill([(off - reach, level), (off + reach, level), (off + top, level + deep), (off - top, level + deep)])


def partial_replacement(canvas: ImplantCanvas, random: np.random.Generator) -> None:
    """The same in one compartment: a rounded runner on the condyle, a small tray with a keel below it."""
    side = random.choice([-1, 1])
    inner, outer = random.uniform(0.08, 0.16), random.uniform(0.42, 0.5)
    floor = random.uniform(-0.08, -0.02)
    tray, top = floor + random.uniform(0.07, 0.12), floor - random.uniform(0.12, 0.26)
    canvas.empty(
        [(side * x, y) for x, y in ((inner, floor), (outer, floor), (outer, tray + 0.04), (inner, tray + 0.04))]
    )
    runner = [
        (inner + 0.04, floor - 0.03), (inner + 0.12, floor), (outer - 0.08, floor), (outer, floor - 0.06),
        (outer, top), (outer - 0.06, top + 0.03), (outer - 0.08, floor - 0.08), (inner + 0.12, floor - 0.09),
    ]  # fmt: skip
    canvas.fill([(side * x, y) for x, y in runner])
    middle = (inner + outer) / 2
    if random.random() < 0.7:
        peg = [(middle - 0.025, floor), (middle + 0.025, floor), (middle + 0.02, top), (middle - 0.02, top)]
        canvas.fill([(side * x, y) for x, y in peg])
    thick = random.uniform(0.02, 0.045)
    plate = [(inner, tray), (outer, tray), (outer, tray + thick), (inner, tray + thick)]
    canvas.fill([(side * x, y) for x, y in plate])
    deep = random.uniform(0.08, 0.22)
    keel = [(middle - 0.08, tray), (middle + 0.05, tray), (middle + 0.02, tray + deep), (middle - 0.02, tray + deep)]
    canvas.fill([(side * x, y) for x, y in keel])
    if random.random() < 0.5:  # the wall beside the spine
        wall = [(inner, tray - 0.06), (inner + 0.02, tray - 0.06), (inner + 0.02, tray), (inner, tray)]
        canvas.fill([(side * x, y) for x, y in wall])
