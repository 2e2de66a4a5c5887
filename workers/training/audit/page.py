"""The audit's page: every wrongly graded knee, browsable from a disk, without a server."""

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
"""Regions of a knee that are listed, the largest share first."""


@dataclass(frozen=True)
class PageRow:
    """A knee on the page."""

    number: int
    name: str
    true: int
    given: int
    second: int
    grades_off: int
    probabilities: tuple[float, ...]
    words: str
    outside: float
    flags: tuple[str, ...]
    regions: tuple[tuple[str, float], ...]
    margin: float
    without: int


def write_audit_page(audited: Sequence[AuditedKnee], figures: dict[str, Any], model: Model, out: Path) -> None:
    """Write index.html and a picture of each wrong knee: film and maps side by side."""
    wrong = sorted((knee for knee in audited if knee.grades_off), key=_severity, reverse=True)
    pictures = out / "knees"
    pictures.mkdir(exist_ok=True)
    for old in pictures.glob("*.jpg"):
        old.unlink()
    rows = []
    for number, knee in enumerate(wrong, start=1):
        cv2.imwrite(str(pictures / f"{number:04}.jpg"), picture(knee, model)[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 88])
        rows.append(page_row(number, knee))
    templates = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    page = templates.get_template("page.html").render(card=model.card, figures=figures, knees=rows, joint=JOINT)
    (out / "index.html").write_text(page, encoding="utf-8")


def _severity(audited: AuditedKnee) -> tuple[int, bool, float]:
    confidence = float(audited.graded.probabilities[int(audited.graded.grade)])
    return audited.grades_off, bool(audited.attention.reasons), confidence


def page_row(number: int, audited: AuditedKnee) -> PageRow:
    """The text beside the picture of a knee."""
    graded, attention = audited.graded, audited.attention
    largest = sorted(attention.regions.items(), key=lambda item: -abs(item[1]))[:SHOWN]
    return PageRow(
        number,
        "/".join(audited.labelled.path.parts[-3:]),
        audited.labelled.kl,
        int(graded.grade),
        int(attention.second),
        audited.grades_off,
        tuple(float(probability) for probability in graded.probabilities),
        graded.certainty.words,
        audited.outside,
        attention.reasons,
        tuple(largest),
        attention.margin,
        int(attention.without),
    )


def picture(audited: AuditedKnee, model: Model) -> Bytes:
    """Film, heat map, contrast map and map of the expected grade of a knee, side by side (SIDE, 4 SIDE, 3)."""
    film, graded, box = as_film(audited.labelled), audited.graded, audited.graded.knee.joint.box
    grey = crop(film, box, SIDE, SIDE)
    strength = (resample_strength(audited.heat_map, box, SIDE, SIDE) * 255).round().astype(np.uint8)
    plain = np.repeat(grey[..., None], 3, axis=2)
    signed = [
        signed_colour(grey, resample_cells(values / model.card.heat_scale, graded.knee.pose, box, SIDE, SIDE), OPACITY)
        for values in (graded.contrast, expected_map(graded))
    ]
    return np.hstack([plain, blend(grey, strength, OPACITY), *signed])
