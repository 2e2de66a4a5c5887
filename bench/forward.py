"""Forward passes of the network: the default engine and plain torch with the same weights."""

import time

import numpy as np

from bench.progress import bar
from bench.tables import Cell, Spread, Table
from node.errors import SettingsError
from workers.models.registry import DEFAULT, Model, load, read_card

BATCHES = (1, 8)
PASSES_PER_ROUND = 10
"""Forward passes of an engine before the next engine's turn."""


def measure(*, rounds: int) -> Table:
    """Milliseconds per knee, with batches of one and eight, the engines taking turns."""
    name = DEFAULT
    card = read_card(name)
    models: dict[str, Model] = {}
    notes = [f"Model {card.name} {card.version}, {card.architecture}, {card.input_size} px, fp32. Median (least–most)."]
    for engine in dict.fromkeys((card.engine, "torch")):
        try:
            models[engine] = load(name, engine=engine)
        except SettingsError as error:
            notes.append(f"Not measured: {error}")
    times: dict[tuple[int, str], list[float]] = {}
    random = np.random.default_rng(1)
    images = {n: random.standard_normal((n, 3, card.input_size, card.input_size), np.float32) for n in BATCHES}
    with bar() as progress:
        step = progress.add_task("forward pass", total=rounds * len(BATCHES) * len(models))
        for _ in range(rounds):
            for batch in BATCHES:
                for engine, model in models.items():
                    times.setdefault((batch, engine), []).extend(_milliseconds_per_knee(model, images[batch]))
                    progress.advance(step)
    rows = tuple(_row(batch, engine, values) for (batch, engine), values in sorted(times.items()))
    return Table("forward", "Forward pass of a knee", rows, tuple(notes))


def _milliseconds_per_knee(model: Model, images: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> list[float]:
    model.run(images)
    times = []
    for _ in range(PASSES_PER_ROUND):
        started = time.perf_counter()
        model.run(images)
        times.append((time.perf_counter() - started) * 1000 / len(images))
    return times


def _row(batch: int, engine: str, values: list[float]) -> dict[str, Cell]:
    return {"knees at once": batch, "engine": engine, "ms a knee": Spread.of(values), "n": len(values)}
