"""What a worker does with a film once it is read, step by step: finding and gating, grading, explaining."""

from collections.abc import Callable

import numpy as np

from bench.progress import taking_turns
from bench.tables import Row, Spread, Table
from node.finding import Laterality
from workers.analysis import prepare_film
from workers.detection.detection_models import load_detection_models
from workers.eligibility import Rules
from workers.evaluation.labelled_films import film_of
from workers.explanation.attribution import attribute
from workers.explanation.grad_cam import explain
from workers.grading.grader import Graded, crop_knees, grade_crops
from workers.models.registry import DEFAULT, load
from workers.phantom import KneeShape, render

ROWS, COLUMNS = 2048, 2500


def measure(*, rounds: int) -> Table:
    """Milliseconds a film of two knees, each step after the other; and the cost of explaining, in plain forwards."""
    rendered = render([KneeShape(Laterality.RIGHT), KneeShape(Laterality.LEFT)], rows=ROWS, columns=COLUMNS, seed=3)
    film = film_of(rendered.pixels.astype(np.float32) / np.float32(4095), Laterality.UNKNOWN)
    models, grader, rules = load_detection_models(), load(DEFAULT), Rules()
    knees = [candidate.knee for candidate in prepare_film(film, models, rules).candidates]
    crops = crop_knees(film.pixels, knees, grader)

    def grade() -> list[Graded]:
        return grade_crops(crop_knees(film.pixels, knees, grader), knees, grader)

    graded = grade()

    def explained() -> None:
        attribute(crops, graded, grader)
        for one in graded:
            explain(one, grader.card.heat_scale)

    steps: dict[str, Callable[[], object]] = {
        "joints, laterality, artefacts, eligibility": lambda: prepare_film(film, models, rules),
        "grade": grade,
        "maps, attribution, second forward": explained,
    }
    found = taking_turns("stages", steps, rounds=rounds)
    rows: tuple[Row, ...] = tuple(
        {"step": name, "ms a film": Spread.of(values), "n": len(values)} for name, values in found.items()
    )
    times = np.array(found["maps, attribution, second forward"]) / np.array(found["grade"])
    model = f"{grader.card.name} {grader.card.version}"
    notes = (
        f"A rendered film of {COLUMNS} x {ROWS} pixels with {len(knees)} knees, {model}.",
        f"Explaining costs {float(np.median(times)):.2f} times a plain forward ({times.min():.2f}-{times.max():.2f}).",
    )
    return Table("stages", "A film of both knees in a worker, step by step", rows, notes)
