"""Memory growth of a worker: thousands of knees graded and explained in one process."""

import os
from itertools import cycle

import numpy as np

from bench.memory import resident_mb
from bench.progress import bar
from bench.tables import Row, Table
from node.finding import Laterality
from workers.analysis import grade_knees, prepare_film
from workers.detection.detection_models import load_detection_models
from workers.eligibility import Rules
from workers.evaluation.labelled_films import film_from_pixels
from workers.models.registry import DEFAULT, load
from workers.phantom import random_film

FILMS = 24
"""Number of different films, used in turn."""


def measure(*, knees: int) -> Table:
    """The resident memory of the process after each tenth of `knees`, in MB."""
    models, grader, random = load_detection_models(), load(DEFAULT), np.random.default_rng(1)
    pixels = [random_film(random).pixels.astype(np.float32) / np.float32(4095) for _ in range(FILMS)]
    rules = Rules()
    films = [prepare_film(film_from_pixels(image, Laterality.UNKNOWN), models, rules) for image in pixels]
    rows: list[Row] = []
    done, milestones = 0, [round(knees * part / 10) for part in range(1, 11)]
    with bar() as progress:
        task = progress.add_task("endurance", total=knees)
        for prepared in cycle(films):
            joints = [candidate.knee for candidate in prepared.candidates]
            done += len(grade_knees(prepared.film.pixels, joints, grader, rules))
            progress.update(task, completed=min(done, knees))
            while milestones and done >= milestones[0]:
                rows.append({"knees": milestones.pop(0), "MB held": resident_mb(os.getpid()) or 0.0})
            if not milestones:
                break
    growth = float(rows[-1]["MB held"]) - float(rows[0]["MB held"])  # type: ignore[arg-type]
    notes = (
        f"Graded and explained with {grader.card.name} {grader.card.version}, {FILMS} rendered films in turn.",
        f"From the first tenth to the last it grew by {growth:+.1f} MB.",
    )
    return Table("endurance", "Memory of a worker's process, by knees graded", tuple(rows), notes)
