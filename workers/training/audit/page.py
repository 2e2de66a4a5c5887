"""The audit's page: every knee that was graded wrong, browsable from a disk, without a server."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from workers.evaluation.labelled_films import as_film
from workers.explanation.regions import JOINT
from workers.grading.grader import expected_map
from workers.models.registry import Model
from workers.report.layout.colours import Bytes, signed_colour
from workers.report.layout.rendering import blend, crop, resample_cells, resample_strength
from workers.training.audit.knees import AuditedKnee

SIDE, OPACITY = 240, 0.5
SHOWN = 5
"""Regions of a knee that are listed, the loudest first."""


@dataclass(frozen=True)
class Shown:
    """A knee as the page shows it."""

    number: int
    name: str
    true: int
    given: int
    second: int
    away: int
    probabilities: tuple[float, ...]
    words: str
    outside: float
    flags: tuple[str, ...]
    regions: tuple[tuple[str, float], ...]
    margin: float
    without: int


def write(asked: Sequence[AuditedKnee], figures: dict[str, Any], model: Model, out: Path) -> None:
    """Write index.html and a picture of each wrong knee: film and maps side by side."""
    wrong = sorted((each for each in asked if each.away), key=_how_wrong, reverse=True)
    pictures = out / "knees"
    pictures.mkdir(exist_ok=True)
    for old in pictures.glob("*.jpg"):
        old.unlink()
    shown = []
    for number, each in enumerate(wrong, start=1):
        cv2.imwrite(str(pictures / f"{number:04}.jpg"), picture(each, model)[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 88])
        shown.append(row(number, each))
    rooms = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    page = rooms.get_template("page.html").render(card=model.card, figures=figures, knees=shown, joint=JOINT)
    (out / "index.html").write_text(page, encoding="utf-8")


def _how_wrong(asked: AuditedKnee) -> tuple[int, bool, float]:
    return asked.away, bool(asked.attention.reasons), float(asked.graded.probabilities[int(asked.graded.grade)])


def row(number: int, asked: AuditedKnee) -> Shown:
    """What is said of a knee beside its picture."""
    graded, told = asked.graded, asked.attention
    loudest = sorted(told.regions.items(), key=lambda each: -abs(each[1]))[:SHOWN]
    return Shown(
        number,
        "/".join(asked.labelled.path.parts[-3:]),
        asked.labelled.kl,
        int(graded.grade),
        int(told.second),
        asked.away,
        tuple(float(each) for each in graded.probabilities),
        graded.certainty.words,
        asked.outside,
        told.reasons,
        tuple(loudest),
        told.margin,
        int(told.without),
    )


def picture(asked: AuditedKnee, model: Model) -> Bytes:
    """Film, heat map, contrast map and map of the expected grade of a knee, side by side (SIDE, 4 SIDE, 3)."""
    film, graded, box = as_film(asked.labelled), asked.graded, asked.graded.knee.joint.box
    grey = crop(film, box, SIDE, SIDE)
    strength = (resample_strength(asked.heat_map, box, SIDE, SIDE) * 255).round().astype(np.uint8)
    plain = np.repeat(grey[..., None], 3, axis=2)
    signed = [
        signed_colour(grey, resample_cells(each / model.card.heat_scale, graded.knee.pose, box, SIDE, SIDE), OPACITY)
        for each in (graded.contrast, expected_map(graded))
    ]
    return np.hstack([plain, blend(grey, strength, OPACITY), *signed])
