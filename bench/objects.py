"""The result objects of a film of both knees: the time to create each kind, and its size."""

from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import get_args

import numpy as np

from bench.films import Films
from bench.progress import in_turns
from bench.tables import Row, Spread, Table
from node.evidence import Certainty, KLGrade, LateralitySource
from node.finding import Finding, Laterality, ModelIdentity, Outcome, Reading
from node.settings import DEFAULT_OBJECTS, ObjectKind, Work
from workers.explanation.grad_cam import HeatMap
from workers.preprocessing import Box, Pose
from workers.read import Film, Reader
from workers.report import report

SHARES = (0.05, 0.25, 0.5, 0.15, 0.05)
BOXES = ((280, 760, 1080, 1560), (1720, 760, 2520, 1560))
MODEL = ModelIdentity("kl-bench", "1.0.0", "0" * 64)


def measure(films: Films, *, rounds: int) -> Table:
    """Milliseconds from a reading to encoded objects, the kinds taking turns, and their sizes."""
    uid, path = films.file()
    reader = Reader.from_settings(Work())
    try:
        film = reader.film(path)
    finally:
        reader.close()
        Path(path).unlink()
    wanted: dict[str, tuple[ObjectKind, ...]] = {"default: " + " ".join(DEFAULT_OBJECTS): DEFAULT_OBJECTS}
    wanted |= {kind: (kind,) for kind in get_args(ObjectKind)}
    sizes: dict[str, int] = {}

    def encode(name: str, kinds: tuple[ObjectKind, ...]) -> None:
        sizes[name] = _encoded_size(film, uid, kinds)

    times = in_turns(
        "result objects", {name: partial(encode, name, kinds) for name, kinds in wanted.items()}, rounds=rounds
    )
    rows: tuple[Row, ...] = tuple(
        {"objects": name, "ms": Spread.of(values), "MB": sizes[name] / 1e6, "n": len(values)}
        for name, values in times.items()
    )
    height, width = film.pixels.shape
    note = f"Film of {width} x {height} pixels. KO is created for a red flag. Every row includes SR."
    return Table("objects", "Result objects of a film of both knees, created and encoded", rows, (note,))


def _encoded_size(film: Film, uid: str, kinds: tuple[ObjectKind, ...]) -> int:
    """The size of the objects of those kinds, in bytes."""
    y, x = np.mgrid[0:8, 0:8].astype(np.float32)
    strength = (0.9 * np.exp(-((x - 2.4) ** 2 + (y - 4) ** 2) / 3)).astype(np.float32)
    certainty = Certainty(KLGrade.KL1, KLGrade.KL3, 0.9)
    knees = tuple(
        Finding(side, LateralitySource.POSITION, box, KLGrade.KL2, SHARES, certainty=certainty)
        for side, box in zip((Laterality.RIGHT, Laterality.LEFT), BOXES, strict=True)
    )
    reading = Reading(uid, Outcome.GRADED, MODEL, knees=knees)
    maps = [HeatMap(strength, strength, False, Pose.of(Box(*box))) for box in BOXES]
    at = datetime(2026, 1, 1, tzinfo=UTC)
    objects = report(
        film, reading, maps, MODEL, sr_class="comprehensive", made_at=at, kinds=kinds, is_red=lambda _: True
    )
    return sum(len(result.encode()) for result in objects)
