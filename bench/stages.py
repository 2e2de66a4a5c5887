"""What a worker does with a film once it is read, step by step: finding and gating, grading, explaining."""

from collections.abc import Callable

import numpy as np

from bench.progress import taking_turns
from bench.tables import Row, Spread, Table
from node.finding import Laterality
from workers.detection.detect import open_eyes, see
from workers.evaluation.labelled_films import film_of
from workers.explanation.attribution import attended
from workers.explanation.grad_cam import explain
from workers.grading.grader import grade
from workers.models.registry import DEFAULT, load
from workers.phantom import KneeShape, render

ROWS, COLUMNS = 2048, 2500


def measure(*, rounds: int) -> Table:
    """Milliseconds a film of two knees, each step after the other; and the cost of explaining, in plain forwards."""
    rendered = render([KneeShape(Laterality.RIGHT), KneeShape(Laterality.LEFT)], rows=ROWS, columns=COLUMNS, seed=3)
    film = film_of(rendered.pixels.astype(np.float32) / np.float32(4095), Laterality.UNKNOWN)
    eyes, grader = open_eyes(), load(DEFAULT)
    _, knees = see(film, eyes)
    graded = grade(film.pixels, knees, grader)

    def explained() -> None:
        attended(film.pixels, graded, grader)
        for each in graded:
            explain(each, grader.card.heat_scale)

    steps: dict[str, Callable[[], object]] = {
        "find, look, gate, side, marks": lambda: see(film, eyes),
        "grade": lambda: grade(film.pixels, knees, grader),
        "maps, shares, second forward": explained,
    }
    found = taking_turns("stages", steps, rounds=rounds)
    rows: tuple[Row, ...] = tuple(
        {"step": name, "ms a film": Spread.of(values), "n": len(values)} for name, values in found.items()
    )
    times = np.array(found["maps, shares, second forward"]) / np.array(found["grade"])
    model = f"{grader.card.name} {grader.card.version}"
    notes = (
        f"A rendered film of {COLUMNS} x {ROWS} pixels with {len(knees)} knees, {model}.",
        f"Explaining costs {float(np.median(times)):.2f} times a plain forward ({times.min():.2f}-{times.max():.2f}).",
    )
    return Table("stages", "A film of both knees in a worker, step by step", rows, notes)
