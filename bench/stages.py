"""The steps of a worker on a film that has been read: detection and eligibility, grading, explanation."""

from collections.abc import Callable

import numpy as np

from bench.progress import in_turns
from bench.tables import Row, Spread, Table
from node.finding import Laterality
from workers.analysis import attribute, prepare_film
from workers.detection.detection_models import load_detection_models
from workers.eligibility import Rules
from workers.evaluation.labelled_films import film_from_pixels
from workers.explanation.grad_cam import explain
from workers.grading.grader import Graded, grade_crops
from workers.models.registry import DEFAULT, load
from workers.phantom import KneeShape, render
from workers.preprocessing import cut

ROWS, COLUMNS = 2048, 2500


def measure(*, rounds: int) -> Table:
    """Milliseconds of each step for a film of two knees, and the cost of explaining in forward passes."""
    rendered = render([KneeShape(Laterality.RIGHT), KneeShape(Laterality.LEFT)], rows=ROWS, columns=COLUMNS, seed=3)
    film = film_from_pixels(rendered.pixels.astype(np.float32) / np.float32(4095), Laterality.UNKNOWN)
    models, grader, rules = load_detection_models(), load(DEFAULT), Rules()
    knees = [candidate.knee for candidate in prepare_film(film, models, rules).candidates]
    size = grader.card.input_size
    crops = [cut(film.pixels, knee.pose, size) for knee in knees]

    def grade() -> list[Graded]:
        return grade_crops([cut(film.pixels, knee.pose, size) for knee in knees], knees, grader)

    graded = grade()

    def run_explanation() -> None:
        attribute(graded, crops, grader)
        for knee in graded:
            explain(knee, grader.card.heat_scale)

    steps: dict[str, Callable[[], object]] = {
        "joints, laterality, artefacts, eligibility": lambda: prepare_film(film, models, rules),
        "grade": grade,
        "maps, attribution, second forward": run_explanation,
    }
    times = in_turns("stages", steps, rounds=rounds)
    rows: tuple[Row, ...] = tuple(
        {"step": name, "ms a film": Spread.of(values), "n": len(values)} for name, values in times.items()
    )
    ratio = np.array(times["maps, attribution, second forward"]) / np.array(times["grade"])
    model = f"{grader.card.name} {grader.card.version}"
    notes = (
        f"A rendered film of {COLUMNS} x {ROWS} pixels with {len(knees)} knees, {model}.",
        f"Explaining costs {float(np.median(ratio)):.2f} times a plain forward ({ratio.min():.2f}-{ratio.max():.2f}).",
    )
    return Table("stages", "A film of both knees in a worker, step by step", rows, notes)
