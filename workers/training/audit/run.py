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
from workers.training.audit.inserted import ArtefactPair, audit_with_artefacts, flag_figures
from workers.training.audit.knees import AuditedKnee, audit_knees, with_progress
from workers.training.audit.page import write_audit_page

SEED = 40
FAITHFUL = 24
"""Knees on which the maps' faithfulness is measured: each costs 54 forward passes."""
SHUFFLED = 16
SHORTCUT_KNEES = 200
"""Knees that the shortcut model grades, with and without a numeral."""
OUTSIDE = 0.5
"""More than this part of the evidence from outside the joint: the attention lies outside."""


def audit(
    model: Model,
    data: Path,
    split: str,
    out: Path,
    settings: Settings,
    *,
    with_artefacts: bool = False,
    with_shortcut_model: bool = False,
    count: int = 0,
) -> dict[str, Any]:
    """
    Write `out`/index.html with its pictures and `out`/summary.json; return the summary.

    `with_artefacts` also inserts markers, text, borders and metal into the same knees; `with_shortcut_model` also
    trains a copy of the model, on the split train, to read a numeral; `count` takes so many knees at random, 0 all.
    """
    require_audit_folder(out)
    knees = read_labels(data, split)
    if count and count < len(knees):
        chosen = np.random.default_rng(SEED).permutation(len(knees))[:count]
        knees = [knees[int(at)] for at in sorted(chosen)]
    work = settings.work
    models = load_detection_models(engine=work.engine, threads=work.threads, within=folders(settings))
    with Progress(console=Console(stderr=True), transient=True) as bar:
        grading = partial(bar.advance, bar.add_task("Grading", total=len(knees)))
        audited = list(with_progress(audit_knees(knees, model, models), grading))
        figures = summary(audited, model)
        if with_artefacts:
            flags = _with_artefacts(audited, model, models, bar)
            figures |= {"flag_sensitivity": flags["all"]["sensitivity"], "flag_false_rate": figures["flag_rate"]}
            figures["planted"] = flags
        if with_shortcut_model:
            figures["cheating"] = _shortcut_figures(knees, model, data, models, settings, bar)
        figures |= _faithfulness(audited, model, settings, bar)
    out.mkdir(parents=True, exist_ok=True)
    (out / "summary.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    write_audit_page(audited, figures, model, out)
    return figures


def require_audit_folder(out: Path) -> None:
    """Raise GenuError if `out` exists and is not a folder that is empty or holds an audit."""
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not (out / "summary.json").is_file())):
        raise GenuError(f"{out} exists and holds no audit", hint="name a new folder")


def summary(audited: Sequence[AuditedKnee], model: Model) -> dict[str, Any]:
    """The figures that need no further forward pass."""
    card, wrong = model.card, [knee for knee in audited if knee.grades_off]
    energies = [knee.energy_inside for knee in audited if knee.energy_inside is not None]
    flagged = [knee for knee in audited if knee.attention.reasons]
    reasons = sorted({code for knee in flagged for code in knee.attention.reasons})
    return {
        "model": {"name": card.name, "version": card.version, "sha256": card.weights_sha256},
        "n": len(audited),
        "errors": len(wrong),
        "errors_between_neighbours": sum(knee.grades_off == 1 for knee in wrong),
        "errors_with_attention_outside": sum(knee.outside > OUTSIDE for knee in wrong),
        "errors_flagged": sum(bool(knee.attention.reasons) for knee in wrong),
        "flag_rate": round(len(flagged) / len(audited), 4),
        "flag_rate_held_out": held_out.flag_rate(audited, card),
        "flags": {code: sum(code in knee.attention.reasons for knee in flagged) for code in reasons},
        "energy_inside_median": round(float(np.median(energies)), 4) if energies else None,
        "evidence_inside_median": round(1 - float(np.median([knee.outside for knee in audited])), 4),
        "margins_off_most": float(
            max(abs(sum(knee.attention.regions.values()) - knee.attention.margin) for knee in audited)
        ),
        "cells": int(audited[0].graded.maps.shape[-1]),
    }


def _faithfulness(audited: Sequence[AuditedKnee], model: Model, settings: Settings, bar: Progress) -> dict[str, Any]:
    with_map = [knee for knee in audited if not knee.heat_map.empty]
    picked = np.random.default_rng(SEED).permutation(len(with_map))[:FAITHFUL]
    chosen = [with_map[int(at)] for at in picked]
    if not chosen:
        return {}
    task = bar.add_task("Faithfulness", total=FAITHFUL * len(faithfulness.ORDERS))
    results = faithfulness.deletion_insertion_areas(chosen, model, SEED, lambda: bar.advance(task))
    figures: dict[str, Any] = {"faithful_n": len(chosen)}
    for kind, areas in results.items():
        for order, values in areas.items():
            figures[f"{kind}_auc" + ("" if order == "map" else f"_{order}")] = round(float(np.mean(values)), 4)
        for order in ("centre", "random"):
            difference = faithfulness.paired_difference(areas["map"], areas[order])
            figures[f"{kind}_against_{order}"] = [round(value, 4) for value in difference]
    figures["stability"] = round(faithfulness.stability(chosen, model), 4)
    for key, head_alone in (("shuffled_head_alike", True), ("shuffled_alike", False)):
        shuffled = load(model.card.stem, engine="torch", within=folders(settings))
        figures[key] = round(
            faithfulness.shuffled_weight_correlation(chosen[:SHUFFLED], shuffled, head_alone=head_alone), 4
        )
    return figures


def _with_artefacts(
    audited: Sequence[AuditedKnee], model: Model, models: DetectionModels, bar: Progress
) -> dict[str, Any]:
    task, pairs = bar.add_task("Artefacts", total=len(audited)), list[ArtefactPair]()
    for pair in audit_with_artefacts(audited, model, models):
        pairs.append(pair)
        bar.advance(task)
    return flag_figures(pairs)


def _shortcut_figures(
    knees: Sequence[LabelledKnee], model: Model, data: Path, models: DetectionModels, settings: Settings, bar: Progress
) -> dict[str, Any]:
    recipe, shown = shortcut_model.ShortcutRecipe(), knees[:SHORTCUT_KNEES]
    step = partial(bar.advance, bar.add_task("Shortcut model", total=recipe.steps + 2 * len(shown)))
    copied = load(model.card.stem, engine="torch", within=folders(settings))
    trained = shortcut_model.train_shortcut(copied, read_labels(data, "train"), recipe, step)
    return shortcut_model.shortcut_figures(shortcut_model.audit_with_numerals(trained, shown, models, step))


def format_audit(figures: dict[str, Any], out: Path) -> str:
    """The summary as text."""
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
            by_map, centre, chance = (figures[f"{kind}_auc{order}"] for order in ("", "_centre", "_random"))
            difference, low, high = figures[f"{kind}_against_centre"]
            lines.append(f"{kind} ({better} is better): {by_map:.3f}, centre {centre:.3f}, random {chance:.3f}")
            lines.append(f"  map against centre {difference:+.3f} ({low:+.3f} to {high:+.3f})")
    if "planted" in figures:
        flags = figures["planted"]["all"]
        lines.append(
            f"inserted artefacts: {flags['deciding']} of {flags['n']} grades depend on it, {flags['flagged']} flagged"
        )
        lines.append(f"  of the {flags['n'] - flags['deciding']} others {flags['flagged_in_vain']} flagged")
    if "cheating" in figures:
        flags = figures["cheating"]
        lines.append(
            f"shortcut model: {flags['deciding']} of {flags['n']} grades follow the numeral, {flags['flagged']} flagged"
        )
    return "\n".join([*lines, f"page: {out / 'index.html'}"])
