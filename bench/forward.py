"""The network alone: the engine that is shipped against plain torch of the same weights."""

import time

import numpy as np

from bench.progress import bar
from bench.tables import Cell, Spread, Table
from node.errors import SettingsError
from workers.models.registry import DEFAULT, Model, load, read_card

BATCHES = (1, 8)
A_ROUND = 10
"""Forward passes of an engine before it is the other's turn."""


def measure(*, rounds: int) -> Table:
    """Milliseconds a knee, one knee and eight at a time, the engines taking turns."""
    name = DEFAULT
    card = read_card(name)
    models: dict[str, Model] = {}
    notes = [f"Model {card.name} {card.version}, {card.architecture}, {card.input_size} px, fp32. Median (least–most)."]
    for engine in dict.fromkeys((card.engine, "torch")):
        try:
            models[engine] = load(name, engine=engine)
        except SettingsError as error:
            notes.append(f"Not measured: {error}")
    found: dict[tuple[int, str], list[float]] = {}
    random = np.random.default_rng(1)
    images = {n: random.standard_normal((n, 3, card.input_size, card.input_size), np.float32) for n in BATCHES}
    with bar() as progress:
        step = progress.add_task("forward pass", total=rounds * len(BATCHES) * len(models))
        for _ in range(rounds):
            for batch in BATCHES:
                for engine, model in models.items():
                    found.setdefault((batch, engine), []).extend(_milliseconds_a_knee(model, images[batch]))
                    progress.advance(step)
    rows = tuple(_row(batch, engine, values) for (batch, engine), values in sorted(found.items()))
    return Table("forward", "Forward pass of a knee", rows, tuple(notes))


def _milliseconds_a_knee(model: Model, images: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> list[float]:
    model.run(images)
    found = []
    for _ in range(A_ROUND):
        begun = time.perf_counter()
        model.run(images)
        found.append((time.perf_counter() - begun) * 1000 / len(images))
    return found


def _row(batch: int, engine: str, values: list[float]) -> dict[str, Cell]:
    return {"knees at once": batch, "engine": engine, "ms a knee": Spread.of(values), "n": len(values)}
