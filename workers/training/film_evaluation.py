"""How the node does on whole films: `genu evaluate --films` composes them of labelled knees, a fixed seed for all."""

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
from workers.evaluation.labelled_films import as_film, film_of, grade_joints, whole
from workers.evaluation.labelled_knees import LabelledKnee, both_knees, read_labels
from workers.models.registry import Model, folders
from workers.preprocessing import Box
from workers.training.films import OUTSIDE, Crop, LabelledFilm, compose

SEED = 20
GRAIN = 0.15
"""Of the noise that networks are trained with. As a grader sees a joint, two films of storage phosphor and a chest of
8 bits have noise of 0.001 to 0.006 (a second difference, of the contrast from 0 to 1); so composed joints have 0.004,
and 0.012 at the 95th percentile. With 0.4 they had 0.009 and 0.029."""
CLOSE = 0.5
"""A joint is found if the middle of a box lies nearer to its own than this part of its side."""


@dataclass
class Tally:
    """What is counted over the films."""

    joints: int = 0
    found: int = 0
    refused: int = 0
    false: int = 0
    centre: list[float] = field(default_factory=list)
    size: list[float] = field(default_factory=list)
    apart: list[int] = field(default_factory=list)
    sides: list[bool] = field(default_factory=list)


def judge_films(grader: Model, data: Path, split: str, settings: Settings, count: int) -> dict[str, Any]:
    """
    The figures of `count` composed films: shares, and 95th percentiles of how far boxes lie off in sides of the box.

    `grade_equal` compares the grade on the film with that of the crop that the film was composed of.
    """
    work, tally, films_with_false = settings.work, Tally(), 0
    models = load_detection_models(engine=work.engine, threads=work.threads, within=folders(settings))
    pairs = both_knees(read_labels(data, split))
    for at in track(range(count), "Films", transient=True, console=Console(stderr=True)):
        random = np.random.default_rng((SEED, at))
        pair = pairs[int(random.integers(len(pairs)))]
        chosen = list(pair) if random.random() < 0.6 else [pair[int(random.integers(2))]]
        crops = [Crop(knee.as_hung()) for knee in chosen]
        film = compose(crops, random, joint=(220, 420), longest=2500, grain=GRAIN, seams=OUTSIDE)
        false = tally.false
        _one(film, chosen, models, grader, tally)
        films_with_false += tally.false > false
    return {
        "films": count,
        "joints": tally.joints,
        "found": round(tally.found / tally.joints, 4),
        "refused": round(tally.refused / tally.joints, 4),
        "false_joints": round(films_with_false / count, 4),
        "centre_error": _p95(tally.centre),
        "size_error": _p95(tally.size),
        "grade_equal": _share(np.array(tally.apart) == 0),
        "grade_within_one": _share(np.array(tally.apart) <= 1),
        "side_right": _share(np.array(tally.sides)),
    }


def _one(
    labelled: LabelledFilm,
    chosen: Sequence[LabelledKnee],
    models: DetectionModels,
    grader: Model,
    tally: Tally,
) -> None:
    film = film_of(labelled.pixels, Laterality.UNKNOWN)
    tally.joints += len(labelled.joints)
    prepared = prepare_film(film, models, Rules())
    if prepared.refusal:
        return
    knees = prepared.candidates
    taken: set[int] = set()
    for joint, knee in zip(labelled.joints, chosen, strict=True):
        near = min(range(len(knees)), key=lambda at: _apart(knees[at].knee.joint.box, joint.box))
        if _apart(knees[near].knee.joint.box, joint.box) > CLOSE or near in taken:
            continue
        taken.add(near)
        tally.found += 1
        found, refusal = knees[near].knee, knees[near].refusal
        tally.centre.append(_apart(found.joint.box, joint.box))
        tally.size.append(abs(found.joint.box.width / joint.box.width - 1))
        tally.sides.append(found.laterality.value == knee.side)
        if refusal is not None:
            tally.refused += 1
            continue
        crop = as_film(knee)
        on_film, on_crop = grade_joints([(prepared.film, found), (crop, whole(crop, models.refiner))], grader)
        if on_film.out_of_distribution:
            tally.refused += 1
            continue
        tally.apart.append(abs(int(on_film.grade) - int(on_crop.grade)))
    tally.false += len(knees) - len(taken)


def _apart(one: Box, other: Box) -> float:
    """How far the middles lie apart, in sides of the other."""
    x, y = one.x0 + one.x1 - other.x0 - other.x1, one.y0 + one.y1 - other.y0 - other.y1
    return float(np.hypot(x, y) / 2 / other.width)


def _p95(values: Sequence[float]) -> float | None:
    return round(float(np.percentile(values, 95)), 4) if values else None


def _share(true: "np.ndarray[Any, Any]") -> float | None:
    return round(float(true.mean()), 4) if len(true) else None


def say(figures: dict[str, Any]) -> str:
    """The figures as a table for a person."""
    names = {
        "found": "joints found", "refused": "of them refused", "false_joints": "films with a false joint",
        "centre_error": "middle off, sides of the box (p95)", "size_error": "side off (p95)",
        "grade_equal": "grade as on the crop", "grade_within_one": "at most one grade away", "side_right": "side right",
    }  # fmt: skip
    lines = [f"{figures['films']} composed films with {figures['joints']} joints", ""]
    return "\n".join(lines + [f"{name:36} {figures[key]}" for key, name in names.items()])
