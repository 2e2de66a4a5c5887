"""Evaluation on whole films, composed of labelled knees with a fixed seed: `genu evaluate --films`."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track

from node.finding import Laterality
from node.settings import Settings
from workers.analysis import prepare_film
from workers.detection.detection_models import DetectionModels, load_detection_models
from workers.eligibility import Rules
from workers.evaluation.labelled_films import as_film, film_from_pixels, grade_joints, knee_of_crop
from workers.evaluation.labelled_knees import LabelledKnee, both_knees, read_labels
from workers.models.registry import Model, folders
from workers.preprocessing import Box
from workers.training.films import OUTSIDE, Crop, LabelledFilm, compose

SEED = 20
GRAIN = 0.15
"""Part of the noise of the training films. At the grader's input, two films of storage phosphor and a chest of
8 bits have noise of 0.001 to 0.006 (a second difference, of the contrast from 0 to 1); so composed joints have 0.004,
and 0.012 at the 95th percentile. With 0.4 they had 0.009 and 0.029."""
CLOSE = 0.5
"""A joint is found if the middle of a box lies nearer to its own than this part of its side."""


@dataclass
class FilmCounts:
    """Counts and errors over the films."""

    joints: int = 0
    found: int = 0
    refused: int = 0
    false: int = 0
    centre: list[float] = field(default_factory=list)
    size: list[float] = field(default_factory=list)
    grade_differences: list[int] = field(default_factory=list)
    sides: list[bool] = field(default_factory=list)


def evaluate_films(grader: Model, data: Path, split: str, settings: Settings, count: int) -> dict[str, Any]:
    """
    The figures of `count` composed films: shares, and 95th percentiles of the errors of boxes, in sides of the box.

    `grade_equal` compares the grade on the film with that of the crop that the film was composed of.
    """
    work, counts, films_with_false = settings.work, FilmCounts(), 0
    models = load_detection_models(engine=work.engine, threads=work.threads, within=folders(settings))
    pairs = both_knees(read_labels(data, split))
    for at in track(range(count), "Films", transient=True, console=Console(stderr=True)):
        random = np.random.default_rng((SEED, at))
        pair = pairs[int(random.integers(len(pairs)))]
        chosen = list(pair) if random.random() < 0.6 else [pair[int(random.integers(2))]]
        crops = [Crop(knee.as_displayed()) for knee in chosen]
        film = compose(crops, random, joint=(220, 420), longest=2500, grain=GRAIN, seams=OUTSIDE)
        before = counts.false
        _count(film, chosen, models, grader, counts)
        films_with_false += counts.false > before
    return {
        "films": count,
        "joints": counts.joints,
        "found": round(counts.found / counts.joints, 4),
        "refused": round(counts.refused / counts.joints, 4),
        "false_joints": round(films_with_false / count, 4),
        "centre_error": _p95(counts.centre),
        "size_error": _p95(counts.size),
        "grade_equal": _share(np.array(counts.grade_differences) == 0),
        "grade_within_one": _share(np.array(counts.grade_differences) <= 1),
        "side_right": _share(np.array(counts.sides)),
    }


def _count(
    labelled: LabelledFilm,
    chosen: Sequence[LabelledKnee],
    models: DetectionModels,
    grader: Model,
    counts: FilmCounts,
) -> None:
    film = film_from_pixels(labelled.pixels, Laterality.UNKNOWN)
    counts.joints += len(labelled.joints)
    prepared = prepare_film(film, models, Rules())
    if prepared.refusal:
        return
    candidates = prepared.candidates
    matched: set[int] = set()
    for joint, knee in zip(labelled.joints, chosen, strict=True):
        nearest = min(range(len(candidates)), key=lambda at: _distance(candidates[at].knee.joint.box, joint.box))
        if _distance(candidates[nearest].knee.joint.box, joint.box) > CLOSE or nearest in matched:
            continue
        matched.add(nearest)
        counts.found += 1
        found, refusal = candidates[nearest].knee, candidates[nearest].refusal
        counts.centre.append(_distance(found.joint.box, joint.box))
        counts.size.append(abs(found.joint.box.width / joint.box.width - 1))
        counts.sides.append(found.laterality.value == knee.side)
        if refusal is not None:
            counts.refused += 1
            continue
        crop = as_film(knee)
        on_film, on_crop = grade_joints([(prepared.film, found), (crop, knee_of_crop(crop, models.refiner))], grader)
        if on_film.out_of_distribution:
            counts.refused += 1
            continue
        counts.grade_differences.append(abs(int(on_film.grade) - int(on_crop.grade)))
    counts.false += len(candidates) - len(matched)


def _distance(one: Box, other: Box) -> float:
    """The distance of the middles, in sides of the second box."""
    x, y = one.x0 + one.x1 - other.x0 - other.x1, one.y0 + one.y1 - other.y0 - other.y1
    return float(np.hypot(x, y) / 2 / other.width)


def _p95(values: Sequence[float]) -> float | None:
    return round(float(np.percentile(values, 95)), 4) if values else None


def _share(true: "np.ndarray[Any, Any]") -> float | None:
    return round(float(true.mean()), 4) if len(true) else None


def format_film_figures(figures: dict[str, Any]) -> str:
    """The figures as a table."""
    names = {
        "found": "joints found", "refused": "of them refused", "false_joints": "films with a false joint",
        "centre_error": "error of the middle, sides of the box (p95)", "size_error": "error of the side (p95)",
        "grade_equal": "grade as on the crop", "grade_within_one": "at most one grade away", "side_right": "side right",
    }  # fmt: skip
    lines = [f"{figures['films']} composed films with {figures['joints']} joints", ""]
    return "\n".join(lines + [f"{name:44} {figures[key]}" for key, name in names.items()])
