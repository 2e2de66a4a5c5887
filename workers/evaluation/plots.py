"""
The plots of a model's page and of a training's log, as SVG.

On a page they take its text colour, light or dark. Their colours are told apart by colour-blind eyes as well
(Okabe & Ito 2008), and what colour says, position or a number says too.
"""

import io
import json
import re
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from workers.evaluation.evaluate import Judgement
from workers.evaluation.metrics import auc_from, confusion

INK = "#010203"
"""Stands for the text's colour until the SVG is written."""
BLUE, RED = "#0072b2", "#d55e00"
STYLE: Any = {
    **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK),
    **dict.fromkeys(("figure.facecolor", "axes.facecolor", "savefig.facecolor"), "none"),
    **dict.fromkeys(("axes.spines.top", "axes.spines.right", "legend.frameon"), False),
    "svg.fonttype": "none",
    "svg.hashsalt": "genu",
    "font.size": 9,
    "axes.titlesize": 9,
}
KL = [f"KL {grade}" for grade in range(5)]
BINS = 15
"""As many as the calibration error has."""


def plots_of(judged: Judgement) -> dict[str, str]:
    """The plots of a model's page by name, as SVG that stands in a page and takes its text colour."""
    drawn = (confusion_matrix, reliability, coverage, set_sizes, roc, confidences)
    with mpl.rc_context(STYLE):
        return {draw.__name__: _svg(draw(judged), "currentColor", draw.__name__) for draw in drawn}


def confusion_matrix(judged: Judgement) -> Figure:
    """How many knees of each grade were given which; the shade is the part of the row."""
    table = confusion(judged.truth, judged.said.grades)
    shares = table / np.maximum(table.sum(1, keepdims=True), 1)
    figure, (axes,) = _figure(1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.ndindex(table.shape):
        share = shares[row, column]
        told = f"{table[row, column]}\n{100 * share:.0f} %"
        axes.text(column, row, told, ha="center", va="center", color="white" if share > 0.5 else "black")
    axes.set(
        xticks=range(5), xticklabels=KL, yticks=range(5), yticklabels=KL, xlabel="given grade", ylabel="true grade"
    )
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    return figure


def reliability(judged: Judgement) -> Figure:
    """How often the given grade was right, by how probable it was said to be; beside each point its knees."""
    confidence, right = _confidence(judged)
    bin_of = np.minimum((confidence * BINS).astype(int), BINS - 1)
    figure, (axes,) = _figure(1)
    axes.plot((0, 1), (0, 1), color=INK, linewidth=0.8, linestyle=":")
    filled = np.unique(bin_of)
    said = [float(confidence[bin_of == each].mean()) for each in filled]
    true = [float(right[bin_of == each].mean()) for each in filled]
    axes.plot(said, true, color=BLUE, marker="o", markersize=4)
    for each, x, y in zip(filled, said, true, strict=True):
        axes.annotate(f"{(bin_of == each).sum()}", (x, y), (0, 6), textcoords="offset points", ha="center", fontsize=7)
    axes.set(xlim=(0, 1), ylim=(0, 1.05), xlabel="confidence in the given grade", ylabel="part that was right")
    return figure


def coverage(judged: Judgement) -> Figure:
    """How often the set held the true grade, for the knees of each grade, and how often it should."""
    told = judged.figures["set_coverage"]
    level = judged.model.card.calibration.level
    figure, (axes,) = _figure(1)
    for grade, figures in enumerate(told):
        if figures["value"] is not None:
            axes.plot((grade, grade), (figures["low"], figures["high"]), color=BLUE, linewidth=1.5)
            axes.plot(grade, figures["value"], color=BLUE, marker="o", markersize=5)
    axes.axhline(level, color=INK, linewidth=0.8, linestyle=":")
    least = min((figures["low"] for figures in told if figures["low"] is not None), default=0.5)
    axes.set(xlim=(-0.5, 4.5), ylim=(min(0.5, least - 0.05), 1.02), ylabel="part of sets with the true grade")
    axes.set(xticks=range(5), xticklabels=KL, xlabel="true grade")
    return figure


def set_sizes(judged: Judgement) -> Figure:
    """How many grades the sets held in the mean, for the knees of each grade."""
    figure, (axes,) = _figure(1)
    for grade in range(5):
        sizes = judged.said.set_sizes[judged.truth == grade]
        mean = float(sizes.mean()) if len(sizes) else 0.0
        axes.bar(grade, mean, color=BLUE, width=0.6)
        axes.text(grade, mean + 0.08, f"{mean:.2f}" if len(sizes) else "no knee", ha="center")
    axes.set(ylim=(0, 5.4), ylabel="grades in the set, mean", xticks=range(5), xticklabels=KL, xlabel="true grade")
    return figure


def roc(judged: Judgement) -> Figure:
    """How well the probability of KL 2 and above tells such knees from others; the mark is where the grades do."""
    score, ill = judged.said.probabilities[:, 2:].sum(1), judged.truth >= 2
    figure, (axes,) = _figure(1)
    axes.plot((0, 1), (0, 1), color=INK, linewidth=0.8, linestyle=":")
    if ill.any() and not ill.all():
        order = np.argsort(-score, kind="stable")
        last = np.append(np.diff(score[order]) != 0, True)  # equal scores are passed together
        found = np.append(0, (np.cumsum(ill[order]) / ill.sum())[last])
        false = np.append(0, (np.cumsum(~ill[order]) / (~ill).sum())[last])
        axes.plot(false, found, color=BLUE)
        given = judged.said.grades >= 2
        axes.plot(given[~ill].mean(), given[ill].mean(), color=RED, marker="D", markersize=5, linestyle="")
        axes.text(0.95, 0.08, f"area {auc_from(judged.truth, judged.said.probabilities):.3f}", ha="right")
    axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="false alarms (1 - specificity)", ylabel="found (sensitivity)")
    return figure


def confidences(judged: Judgement) -> Figure:
    """How sure the model was of its grades, right ones and wrong ones."""
    confidence, right = _confidence(judged)
    figure, (axes,) = _figure(1)
    edges = np.linspace(0, 1, BINS + 1)
    sure, unsure = (np.histogram(confidence[part], edges)[0] for part in (right, ~right))
    axes.bar(edges[:-1], sure, 1 / BINS, align="edge", color=BLUE, label=f"right ({right.sum()})")
    axes.bar(
        edges[:-1],
        unsure,
        1 / BINS,
        bottom=sure,
        align="edge",
        color=RED,
        hatch="////",
        label=f"wrong ({(~right).sum()})",
    )
    axes.legend(loc="upper left")
    axes.set(xlim=(0, 1), xlabel="confidence in the given grade", ylabel="knees")
    return figure


def training_log(folder: Path) -> None:
    """Draw folder/log.jsonl as folder/log.svg: loss, figures on val, learning rate and size of each epoch."""
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    epochs = [row["epoch"] + 1 for row in rows]
    with mpl.rc_context({**STYLE, "savefig.facecolor": "white"}):
        figure, places = _figure(4)
        titles = ("loss of the last step", "on val", "learning rate", "input, pixels a side")
        shown = (("loss",), ("accuracy", "qwk"), ("learning_rate",), ("size",))
        for axes, title, keys in zip(places, titles, shown, strict=True):
            for key, marker in zip(keys, ("o", "D"), strict=False):
                # A log that was begun before all of it was logged has gaps.
                values = [row.get(key, float("nan")) for row in rows]
                axes.plot(epochs, values, color=BLUE if marker == "o" else RED, marker=marker, markersize=3, label=key)
            axes.set(title=title, xlabel="epoch")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        places[1].legend(labels=("accuracy", "QWK"))
        (folder / "log.svg").write_text(_svg(figure, "#222222", "log"), encoding="utf-8")


def _confidence(judged: Judgement) -> tuple[Any, Any]:
    """How probable each given grade was said to be, (n,), and whether it was right, (n,)."""
    grades = judged.said.grades
    return judged.said.probabilities[np.arange(len(grades)), grades], grades == judged.truth


def _figure(columns: int) -> tuple[Figure, list[Axes]]:
    """An empty figure with so many plots side by side, at most two in a row."""
    across, down = min(columns, 2), (columns + 1) // 2
    figure = Figure(figsize=(4.4 if columns == 1 else 3.6 * across, 3.4 * down), layout="constrained")
    return figure, list(np.ravel(figure.subplots(down, across)))


def _svg(figure: Figure, ink: str, name: str) -> str:
    """The figure as one <svg> element, whose ids are its own among others on a page."""
    content = io.StringIO()
    figure.savefig(content, format="svg", metadata={"Date": None})
    svg = content.getvalue()[content.getvalue().index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\b(id="|href="#|url\(#)', rf"\g<1>{name}-", svg)
    return svg.replace(INK, ink)
