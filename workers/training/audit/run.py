"""The audit of a model, from labelled knees to a page and a summary."""

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import Progress

from node.errors import GenuError
from node.settings import Settings
from workers.detection.detection_models import DetectionModels, load_detection_models
from workers.evaluation.labelled_knees import LabelledKnee, read_labels
from workers.models.registry import Model, folders, load
from workers.training.audit import faithfulness, held_out, shortcut_model
from workers.training.audit.inserted import Planted, caught, planted
from workers.training.audit.knees import AuditedKnee, ask, watched
from workers.training.audit.page import write

SEED = 40
FAITHFUL = 24
"""Knees on which the maps' faithfulness is measured: each costs 54 forwards."""
SHUFFLED = 16
CHEATED = 200
"""Knees that a cheating model is shown, with and without a numeral."""
OUTSIDE = 0.5
"""More than this part of the evidence from outside the joint: the attention lies outside."""


def audit(
    model: Model,
    data: Path,
    split: str,
    out: Path,
    settings: Settings,
    *,
    plants: bool = False,
    cheat: bool = False,
    count: int = 0,
) -> dict[str, Any]:
    """
    Write `out`/index.html with its pictures and `out`/summary.json; return the summary.

    `plants` also lays markers, text, borders and metal on the same knees; `cheat` also teaches a copy of the model, on
    the split train, to read a numeral; `count` takes so many knees by chance.
    """
    refuse_full(out)
    knees = read_labels(data, split)
    if count and count < len(knees):
        chosen = np.random.default_rng(SEED).permutation(len(knees))[:count]
        knees = [knees[int(at)] for at in sorted(chosen)]
    work = settings.work
    models = load_detection_models(engine=work.engine, threads=work.threads, within=folders(settings))
    with Progress(console=Console(stderr=True), transient=True) as bar:
        grading = partial(bar.advance, bar.add_task("Grading", total=len(knees)))
        asked = list(watched(ask(knees, model, models), grading))
        figures = summary(asked, model)
        if plants:
            told = _planted(asked, model, models, bar)
            figures |= {"flag_sensitivity": told["all"]["sensitivity"], "flag_false_rate": figures["flag_rate"]}
            figures["planted"] = told
        if cheat:
            figures["cheating"] = _cheating(knees, model, data, models, settings, bar)
        figures |= _faithfulness(asked, model, settings, bar)
    out.mkdir(parents=True, exist_ok=True)
    (out / "summary.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    write(asked, figures, model, out)
    return figures


def refuse_full(out: Path) -> None:
    """Raise GenuError if `out` is no folder, or one that holds something else than an audit."""
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not (out / "summary.json").is_file())):
        raise GenuError(f"{out} is there and holds no audit", hint="name a new folder")


def summary(asked: Sequence[AuditedKnee], model: Model) -> dict[str, Any]:
    """The figures that need no more forwards."""
    card, wrong = model.card, [each for each in asked if each.away]
    energies = [each.energy_inside for each in asked if each.energy_inside is not None]
    flagged = [each for each in asked if each.attention.reasons]
    reasons = sorted({code for each in flagged for code in each.attention.reasons})
    return {
        "model": {"name": card.name, "version": card.version, "sha256": card.weights_sha256},
        "n": len(asked),
        "errors": len(wrong),
        "errors_between_neighbours": sum(each.away == 1 for each in wrong),
        "errors_with_attention_outside": sum(each.outside > OUTSIDE for each in wrong),
        "errors_flagged": sum(bool(each.attention.reasons) for each in wrong),
        "flag_rate": round(len(flagged) / len(asked), 4),
        "flag_rate_held_out": held_out.flag_rate(asked, card),
        "flags": {code: sum(code in each.attention.reasons for each in flagged) for code in reasons},
        "energy_inside_median": round(float(np.median(energies)), 4) if energies else None,
        "evidence_inside_median": round(1 - float(np.median([each.outside for each in asked])), 4),
        "margins_off_most": float(max(abs(sum(e.attention.regions.values()) - e.attention.margin) for e in asked)),
        "cells": int(asked[0].graded.maps.shape[-1]),
    }


def _faithfulness(asked: Sequence[AuditedKnee], model: Model, settings: Settings, bar: Progress) -> dict[str, Any]:
    speaking = [each for each in asked if not each.heat_map.empty]
    picked = np.random.default_rng(SEED).permutation(len(speaking))[:FAITHFUL]
    chosen = [speaking[int(at)] for at in picked]
    if not chosen:
        return {}
    task = bar.add_task("Faithfulness", total=FAITHFUL * len(faithfulness.ORDERS))
    told = faithfulness.curves(chosen, model, SEED, lambda: bar.advance(task))
    figures: dict[str, Any] = {"faithful_n": len(chosen)}
    for kind, areas in told.items():
        for order, each in areas.items():
            figures[f"{kind}_auc" + ("" if order == "map" else f"_{order}")] = round(float(np.mean(each)), 4)
        for order in ("centre", "random"):
            apart = faithfulness.compared(areas["map"], areas[order])
            figures[f"{kind}_against_{order}"] = [round(value, 4) for value in apart]
    figures["stability"] = round(faithfulness.stability(chosen, model), 4)
    for key, head_alone in (("shuffled_head_alike", True), ("shuffled_alike", False)):
        spoilt = load(model.card.stem, engine="torch", within=folders(settings))
        figures[key] = round(faithfulness.shuffled(chosen[:SHUFFLED], spoilt, head_alone=head_alone), 4)
    return figures


def _planted(asked: Sequence[AuditedKnee], model: Model, models: DetectionModels, bar: Progress) -> dict[str, Any]:
    task, found = bar.add_task("Planting", total=len(asked)), list[Planted]()
    for each in planted(asked, model, models):
        found.append(each)
        bar.advance(task)
    return caught(found)


def _cheating(
    knees: Sequence[LabelledKnee], model: Model, data: Path, models: DetectionModels, settings: Settings, bar: Progress
) -> dict[str, Any]:
    lesson, shown = shortcut_model.Lesson(), knees[:CHEATED]
    step = partial(bar.advance, bar.add_task("Cheating", total=lesson.steps + 2 * len(shown)))
    spoilt = load(model.card.stem, engine="torch", within=folders(settings))
    taught = shortcut_model.cheat(spoilt, read_labels(data, "train"), lesson, step)
    return shortcut_model.figures(shortcut_model.hung(taught, shown, models, step))


def say(figures: dict[str, Any], out: Path) -> str:
    """The summary in words."""
    n, wrong = figures["n"], figures["errors"]
    lines = [
        f"{n} knees, {wrong} wrong: {figures['errors_between_neighbours']} by one grade, "
        f"{figures['errors_with_attention_outside']} with most of the evidence outside the joint",
        f"flagged: {100 * figures['flag_rate']:.1f} % of all, {figures['errors_flagged']} of the wrong ones",
    ]
    if figures["flag_rate_held_out"] is not None:
        lines.append(f"  by limits set on other patients: {100 * figures['flag_rate_held_out']:.1f} %")
    if figures["energy_inside_median"] is not None:
        lines.append(f"energy of the map inside the joint, median: {figures['energy_inside_median']:.2f}")
    for kind, better in (("deletion", "lower"), ("insertion", "higher")):
        if f"{kind}_auc" in figures:
            mine, centre, chance = (figures[f"{kind}_auc{order}"] for order in ("", "_centre", "_random"))
            apart, low, high = figures[f"{kind}_against_centre"]
            lines.append(f"{kind} ({better} is better): {mine:.3f}, centre {centre:.3f}, random {chance:.3f}")
            lines.append(f"  map against centre {apart:+.3f} ({low:+.3f} to {high:+.3f})")
    if "planted" in figures:
        told = figures["planted"]["all"]
        lines.append(f"planted: {told['deciding']} of {told['n']} grades hang on the plant, {told['flagged']} flagged")
        lines.append(f"  of the {told['n'] - told['deciding']} others {told['flagged_in_vain']} flagged")
    if "cheating" in figures:
        told = figures["cheating"]
        lines.append(
            f"cheating model: {told['deciding']} of {told['n']} grades follow the numeral, {told['flagged']} flagged"
        )
    return "\n".join([*lines, f"page: {out / 'index.html'}"])
