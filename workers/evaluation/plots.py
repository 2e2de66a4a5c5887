"""
The plots of a model's page and of a training's log, as SVG.

On a page they take its text colour, light or dark. Their colours can be distinguished by colour-blind readers
(Okabe & Ito 2008), and whatever colour shows, position or a number shows too.
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

from workers.evaluation.evaluate import Evaluation
from workers.evaluation.metrics import auc, confusion

INK = "#010203"
"""Placeholder of the text's colour until the SVG is written."""
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


def model_plots(evaluation: Evaluation) -> dict[str, str]:
    """The plots of a model's page by name, as inline SVG that takes the page's text colour."""
    plots = (confusion_matrix, reliability, coverage, set_sizes, roc, confidences)
    with mpl.rc_context(STYLE):
        return {plot.__name__: _svg(plot(evaluation), "currentColor", plot.__name__) for plot in plots}


def confusion_matrix(evaluation: Evaluation) -> Figure:
    """How many knees of each true grade were given each grade; the shade is the part of the row."""
    table = confusion(evaluation.truth, evaluation.predictions.grades)
    shares = table / np.maximum(table.sum(1, keepdims=True), 1)
    figure, (axes,) = _figure(1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.ndindex(table.shape):
        share = shares[row, column]
        text = f"{table[row, column]}\n{100 * share:.0f} %"
        axes.text(column, row, text, ha="center", va="center", color="white" if share > 0.5 else "black")
    axes.set(
        xticks=range(5), xticklabels=KL, yticks=range(5), yticklabels=KL, xlabel="given grade", ylabel="true grade"
    )
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    return figure


def reliability(evaluation: Evaluation) -> Figure:
    """How often the given grade was right, by its confidence; beside each point the number of knees."""
    confidence, right = _confidence(evaluation)
    bin_of = np.minimum((confidence * BINS).astype(int), BINS - 1)
    figure, (axes,) = _figure(1)
    axes.plot((0, 1), (0, 1), color=INK, linewidth=0.8, linestyle=":")
    filled = np.unique(bin_of)
    confidences = [float(confidence[bin_of == index].mean()) for index in filled]
    shares = [float(right[bin_of == index].mean()) for index in filled]
    axes.plot(confidences, shares, color=BLUE, marker="o", markersize=4)
    for index, x, y in zip(filled, confidences, shares, strict=True):
        axes.annotate(f"{(bin_of == index).sum()}", (x, y), (0, 6), textcoords="offset points", ha="center", fontsize=7)
    axes.set(xlim=(0, 1), ylim=(0, 1.05), xlabel="confidence in the given grade", ylabel="part that was right")
    return figure


def coverage(evaluation: Evaluation) -> Figure:
    """How often the set contains the true grade, for the knees of each grade, and the nominal level."""
    coverages = evaluation.figures["set_coverage"]
    level = evaluation.model.card.calibration.level
    figure, (axes,) = _figure(1)
    for grade, figures in enumerate(coverages):
        if figures["value"] is not None:
            axes.plot((grade, grade), (figures["low"], figures["high"]), color=BLUE, linewidth=1.5)
            axes.plot(grade, figures["value"], color=BLUE, marker="o", markersize=5)
    axes.axhline(level, color=INK, linewidth=0.8, linestyle=":")
    least = min((figures["low"] for figures in coverages if figures["low"] is not None), default=0.5)
    axes.set(xlim=(-0.5, 4.5), ylim=(min(0.5, least - 0.05), 1.02), ylabel="part of sets with the true grade")
    axes.set(xticks=range(5), xticklabels=KL, xlabel="true grade")
    return figure


def set_sizes(evaluation: Evaluation) -> Figure:
    """The mean number of grades in a set, for the knees of each grade."""
    figure, (axes,) = _figure(1)
    for grade in range(5):
        sizes = evaluation.predictions.set_sizes[evaluation.truth == grade]
        mean = float(sizes.mean()) if len(sizes) else 0.0
        axes.bar(grade, mean, color=BLUE, width=0.6)
        axes.text(grade, mean + 0.08, f"{mean:.2f}" if len(sizes) else "no knee", ha="center")
    axes.set(ylim=(0, 5.4), ylabel="grades in the set, mean", xticks=range(5), xticklabels=KL, xlabel="true grade")
    return figure


def roc(evaluation: Evaluation) -> Figure:
    """The ROC curve of the probability of KL 2 and above; the diamond marks the given grades."""
    score, positive = evaluation.predictions.probabilities[:, 2:].sum(1), evaluation.truth >= 2
    figure, (axes,) = _figure(1)
    axes.plot((0, 1), (0, 1), color=INK, linewidth=0.8, linestyle=":")
    if positive.any() and not positive.all():
        order = np.argsort(-score, kind="stable")
        last = np.append(np.diff(score[order]) != 0, True)  # equal scores share one threshold
        found = np.append(0, (np.cumsum(positive[order]) / positive.sum())[last])
        false = np.append(0, (np.cumsum(~positive[order]) / (~positive).sum())[last])
        axes.plot(false, found, color=BLUE)
        given = evaluation.predictions.grades >= 2
        axes.plot(given[~positive].mean(), given[positive].mean(), color=RED, marker="D", markersize=5, linestyle="")
        axes.text(0.95, 0.08, f"area {auc(evaluation.truth, evaluation.predictions.probabilities):.3f}", ha="right")
    axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="false alarms (1 - specificity)", ylabel="found (sensitivity)")
    return figure


def confidences(evaluation: Evaluation) -> Figure:
    """Histogram of the confidence in the given grades, right and wrong ones."""
    confidence, right = _confidence(evaluation)
    figure, (axes,) = _figure(1)
    edges = np.linspace(0, 1, BINS + 1)
    right_counts, wrong_counts = (np.histogram(confidence[part], edges)[0] for part in (right, ~right))
    axes.bar(edges[:-1], right_counts, 1 / BINS, align="edge", color=BLUE, label=f"right ({right.sum()})")
    axes.bar(
        edges[:-1],
        wrong_counts,
        1 / BINS,
        bottom=right_counts,
        align="edge",
        color=RED,
        hatch="////",
        label=f"wrong ({(~right).sum()})",
    )
    axes.legend(loc="upper left")
    axes.set(xlim=(0, 1), xlabel="confidence in the given grade", ylabel="knees")
    return figure


def plot_training_log(folder: Path) -> None:
    """Draw folder/log.jsonl as folder/log.svg: loss, figures on val, learning rate and size of each epoch."""
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    epochs = [row["epoch"] + 1 for row in rows]
    with mpl.rc_context({**STYLE, "savefig.facecolor": "white"}):
        figure, all_axes = _figure(4)
        titles = ("loss of the last step", "on val", "learning rate", "input, pixels a side")
        plotted = (("loss",), ("accuracy", "qwk"), ("learning_rate",), ("size",))
        for axes, title, keys in zip(all_axes, titles, plotted, strict=True):
            for key, marker in zip(keys, ("o", "D"), strict=False):
                # A log begun by a version that logged fewer figures has gaps.
                values = [row.get(key, float("nan")) for row in rows]
                axes.plot(epochs, values, color=BLUE if marker == "o" else RED, marker=marker, markersize=3, label=key)
            axes.set(title=title, xlabel="epoch")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        all_axes[1].legend(labels=("accuracy", "QWK"))
        (folder / "log.svg").write_text(_svg(figure, "#222222", "log"), encoding="utf-8")


def _confidence(evaluation: Evaluation) -> tuple[Any, Any]:
    """The confidence in each given grade, (n,), and whether the grade was right, (n,)."""
    grades = evaluation.predictions.grades
    return evaluation.predictions.probabilities[np.arange(len(grades)), grades], grades == evaluation.truth


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
