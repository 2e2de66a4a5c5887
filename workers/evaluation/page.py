"""The model's page for people: one HTML file that opens from a disk, with figures, plots and knees it got wrong."""

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
from workers.evaluation.evaluate import FLATTERED, Judgement, rows_of, with_range
from workers.evaluation.labelled_films import as_film
from workers.evaluation.plots import plots_of
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
    """A knee that was given a wrong grade: it has a number, and nothing that tells whose it is."""

    number: int
    true: int
    given: int
    probabilities: tuple[float, ...]
    words: str
    film: str
    map: str


def write(judged: Judgement, path: Path) -> None:
    """Write the page of a model that was judged."""
    rooms = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    numbers = iter(range(1, WORST + TYPICAL + 1))
    page = rooms.get_template("page.html").render(
        card=judged.model.card,
        told=judged.model.card.contents,
        files=(*judged.model.card.weights, judged.model.card.graph),
        figures=judged.figures,
        flattered=FLATTERED,
        rows=[(name, with_range(figure)) for name, figure in rows_of(judged.figures)],
        patients=len({knee.patient for knee in judged.knees}),
        plots={name: Markup(svg) for name, svg in plots_of(judged).items()},  # noqa: S704 drawn here
        worst=[example(judged, at, next(numbers)) for at in worst(judged)],
        typical=[example(judged, at, next(numbers)) for at in typical(judged)],
        stress=stress.say(judged.figures["stress"]) if "stress" in judged.figures else "",
        version=__version__,
        made=f"{datetime.now(UTC):%Y-%m-%d}",
    )
    path.write_text(page, encoding="utf-8")


def refuse_absent_folder(path: Path) -> None:
    """Raise GenuError if the page could not be written there: grading takes minutes."""
    if not path.parent.is_dir():
        raise GenuError(f"{path} cannot be written: there is no such folder", hint="make it, or name another file")


def worst(judged: Judgement) -> list[int]:
    """The knees whose grade lies farthest from the truth, the surest mistakes first."""
    given, truth = judged.said.grades, judged.truth
    sure = judged.said.probabilities[np.arange(len(given)), given]
    order = np.lexsort((-sure, -np.abs(given - truth)))
    return [int(at) for at in order if given[at] != truth[at]][:WORST]


def typical(judged: Judgement) -> list[int]:
    """Of each of the commonest confusions of neighbours the knee that the model was middling sure of."""
    given, truth, shown = judged.said.grades, judged.truth, set(worst(judged))
    near = [int(at) for at in np.flatnonzero(np.abs(given - truth) == 1) if int(at) not in shown]
    pairs = Counter((int(truth[at]), int(given[at])) for at in near)
    found = []
    for pair, _ in pairs.most_common(TYPICAL):
        alike = [at for at in near if (truth[at], given[at]) == pair]
        alike.sort(key=lambda at: float(judged.said.probabilities[at, given[at]]))
        found.append(alike[len(alike) // 2])
    return found


def example(judged: Judgement, at: int, number: int) -> Example:
    """A knee as the page shows it: the film, and the film under the map of the grade that was given."""
    graded, film = judged.graded[at], as_film(judged.knees[at])
    grey = crop(film, graded.knee.joint.box, SIDE, SIDE)
    heat = explain(graded, judged.model.card.heat_scale)
    strength = (resample_strength(heat, graded.knee.joint.box, SIDE, SIDE) * 255).round().astype(np.uint8)
    return Example(
        number,
        int(judged.truth[at]),
        int(graded.grade),
        tuple(float(each) for each in graded.probabilities),
        graded.certainty.words,
        _png(grey),
        _png(blend(grey, strength, OPACITY)),
    )


def _png(pixels: Bytes) -> str:
    """A picture as a data URL."""
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}"
