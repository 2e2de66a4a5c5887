"""Whether a worker's memory grows: thousands of knees graded and explained in one process."""

import os
from itertools import cycle

import numpy as np

from bench.memory import held_mb
from bench.progress import bar
from bench.tables import Row, Table
from node.finding import Laterality
from workers.detection.detect import open_eyes, see
from workers.evaluation.labelled_films import film_of
from workers.explanation.attribution import attended
from workers.explanation.grad_cam import explain
from workers.grading.grader import grade
from workers.models.registry import DEFAULT, load
from workers.phantom import random_film

FILMS = 24
"""Different films, taken again and again."""


def measure(*, knees: int) -> Table:
    """The memory that the process holds after each tenth of `knees`, in MB."""
    eyes, grader, random = open_eyes(), load(DEFAULT), np.random.default_rng(1)
    pixels = [random_film(random).pixels.astype(np.float32) / np.float32(4095) for _ in range(FILMS)]
    seen = [see(film_of(each, Laterality.UNKNOWN), eyes) for each in pixels]
    rows: list[Row] = []
    done, marks = 0, [round(knees * part / 10) for part in range(1, 11)]
    with bar() as progress:
        task = progress.add_task("endurance", total=knees)
        for film, joints in cycle(seen):
            graded = grade(film.pixels, joints, grader)
            attended(film.pixels, graded, grader)
            for each in graded:
                explain(each, grader.card.heat_scale)
            done += len(graded)
            progress.update(task, completed=min(done, knees))
            while marks and done >= marks[0]:
                rows.append({"knees": marks.pop(0), "MB held": held_mb(os.getpid()) or 0.0})
            if not marks:
                break
    growth = float(rows[-1]["MB held"]) - float(rows[0]["MB held"])  # type: ignore[arg-type]
    notes = (
        f"Graded and explained with {grader.card.name} {grader.card.version}, {FILMS} rendered films in turns.",
        f"From the first tenth to the last it grew by {growth:+.1f} MB.",
    )
    return Table("endurance", "Memory of a worker's process, knee after knee", tuple(rows), notes)
