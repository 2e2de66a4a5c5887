"""The model's page: one self-contained HTML file with figures, plots and wrongly graded knees."""

import base64
import io
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from node import __version__
from node.errors import GenuError
from workers.evaluation import stress
from workers.evaluation.evaluate import FLATTERED, Evaluation, format_with_interval, table_rows
from workers.evaluation.labelled_films import as_film
from workers.evaluation.plots import model_plots
from workers.explanation.grad_cam import explain
from workers.report.layout.colours import Bytes
from workers.report.layout.rendering import blend, crop, resample_strength

WORST, TYPICAL = 6, 6
"""How many knees are shown of each kind."""
SIDE = 260
"""Pixels of a knee's picture."""
OPACITY = 0.5
"""Of the strongest colour of a map."""


@dataclass(frozen=True)
class Example:
    """A knee with a wrong grade; a number, and nothing that identifies the patient."""

    number: int
    true: int
    given: int
    probabilities: tuple[float, ...]
    words: str
    film: str
    map: str


def write_model_page(evaluation: Evaluation, path: Path) -> None:
    """Write the page of a model that was evaluated."""
    templates = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    numbers = iter(range(1, WORST + TYPICAL + 1))
    page = templates.get_template("page.html").render(
        card=evaluation.model.card,
        fields=evaluation.model.card.contents,
        files=(*evaluation.model.card.weights, evaluation.model.card.graph),
        figures=evaluation.figures,
        flattered=FLATTERED,
        rows=[(name, format_with_interval(figure)) for name, figure in table_rows(evaluation.figures)],
        patients=len({knee.patient for knee in evaluation.knees}),
        plots={name: Markup(svg) for name, svg in model_plots(evaluation).items()},  # noqa: S704 drawn here
        worst=[render_example(evaluation, at, next(numbers)) for at in worst_errors(evaluation)],
        typical=[render_example(evaluation, at, next(numbers)) for at in typical_confusions(evaluation)],
        stress=stress.format_rows(evaluation.figures["stress"]) if "stress" in evaluation.figures else "",
        version=__version__,
        date=f"{datetime.now(UTC):%Y-%m-%d}",
    )
    path.write_text(page, encoding="utf-8")


def require_folder(path: Path) -> None:
    """Raise GenuError if the folder of the page does not exist: known before grading, which takes minutes."""
    if not path.parent.is_dir():
        raise GenuError(f"{path} cannot be written: there is no such folder", hint="make it, or name another file")


def worst_errors(evaluation: Evaluation) -> list[int]:
    """Indices of the knees whose grade lies farthest from the truth, the most confident first."""
    given, truth = evaluation.predictions.grades, evaluation.truth
    confidence = evaluation.predictions.probabilities[np.arange(len(given)), given]
    order = np.lexsort((-confidence, -np.abs(given - truth)))
    return [int(at) for at in order if given[at] != truth[at]][:WORST]


def typical_confusions(evaluation: Evaluation) -> list[int]:
    """Of each of the most frequent confusions of neighbouring grades the knee of median confidence."""
    given, truth, shown = evaluation.predictions.grades, evaluation.truth, set(worst_errors(evaluation))
    off_by_one = [int(at) for at in np.flatnonzero(np.abs(given - truth) == 1) if int(at) not in shown]
    pairs = Counter((int(truth[at]), int(given[at])) for at in off_by_one)
    medians = []
    for pair, _ in pairs.most_common(TYPICAL):
        confused = [at for at in off_by_one if (truth[at], given[at]) == pair]
        confused.sort(key=lambda at: float(evaluation.predictions.probabilities[at, given[at]]))
        medians.append(confused[len(confused) // 2])
    return medians


def render_example(evaluation: Evaluation, at: int, number: int) -> Example:
    """A knee as the page shows it: the film, and the film under the map of the predicted grade."""
    graded, film = evaluation.graded[at], as_film(evaluation.knees[at])
    grey = crop(film, graded.knee.joint.box, SIDE, SIDE)
    heat = explain(graded, evaluation.model.card.heat_scale)
    strength = (resample_strength(heat, graded.knee.joint.box, SIDE, SIDE) * 255).round().astype(np.uint8)
    return Example(
        number,
        int(evaluation.truth[at]),
        int(graded.grade),
        tuple(float(probability) for probability in graded.probabilities),
        graded.certainty.words,
        _png(grey),
        _png(blend(grey, strength, OPACITY)),
    )


def _png(pixels: Bytes) -> str:
    """A picture as a data URL."""
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}"
