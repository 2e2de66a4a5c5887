"""
A model's probabilities and sets fitted to a hospital's own labelled knees, as a new card: `genu calibrate`.

The network stays as it is; its files are not copied. The figures of the new card are cross-validated: each knee is
predicted with a calibration that was fitted to other patients.
"""

import copy
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tomlkit
from rich.console import Console
from rich.progress import track

from node.errors import Permanent, SettingsError, Ungradable
from node.finding import Laterality
from node.reasons import reason
from node.settings import Settings
from workers.analysis import prepare_film
from workers.detection.detection_models import DetectionModels, load_detection_models
from workers.eligibility import Rules
from workers.evaluation.calibration_fit import (
    FOLDS,
    Logits,
    cross_fitted_predictions,
    fit_calibration,
    sample_size_warnings,
)
from workers.evaluation.evaluate import format_with_interval, grade_labelled_knees
from workers.evaluation.labelled_films import grader_of
from workers.evaluation.labelled_knees import LabelledKnee, LabelsError, read_labels, split_names, true_grades
from workers.evaluation.metrics import Predictions, with_intervals, without_none
from workers.grading.grader import grade_crops
from workers.knee import Knee
from workers.models.registry import Card, Model, card_names, folders, read_card
from workers.preprocessing import cut
from workers.read import Film, Reader

LEAST_KNEES, LEAST_PATIENTS = 100, 50
"""With fewer, one temperature and five thresholds would follow chance: a coverage is known to 6 points at best."""


@dataclass(frozen=True)
class KneeLogits:
    """Labelled knees and a model's logits of them (n, 5); `left_out` has a line for each knee that has none."""

    knees: Sequence[LabelledKnee]
    logits: Logits
    left_out: Sequence[str]

    @property
    def patients(self) -> list[str]:
        """The patient of each knee."""
        return [knee.patient for knee in self.knees]


@dataclass(frozen=True)
class SiteCalibration:
    """A new card, the knees that it was fitted to, and the figures of the old and of the new calibration on them."""

    path: Path
    model: str
    version: str
    sample: KneeLogits
    before: dict[str, Any]
    after: dict[str, Any]
    warnings: Sequence[str]


def calibrate(settings: Settings, data: Path, split: str, model: str, name: str, out: Path | None) -> SiteCalibration:
    """
    Fit the calibration of `model` to the labelled knees of `data`, and write the card `name` into `out`.

    Raises
    ------
    SettingsError
        If there is a card of that name already, or the model is no grader.
    LabelsError
        If the knees cannot be read, or are too few.
    """
    within = folders(settings)
    path = (out or within[0]) / f"{name}.toml"
    require_free_name(name, path, within)
    knees = _chosen(data, split)
    require_enough_knees(knees, data)
    grader = grader_of(model, settings, engine=settings.work.engine)
    sample = collect_logits(grader, knees, settings)
    require_enough_knees(sample.knees, data, sample.left_out)
    truth, old = true_grades(sample.knees), grader.card.calibration
    before = with_intervals(truth, Predictions.calibrated(old, old.probabilities(sample.logits)), sample.patients)
    after = with_intervals(truth, cross_fitted_predictions(sample.logits, truth, sample.patients, old), sample.patients)
    version = next_version(grader.card, tuple(dict.fromkeys((path.parent, *within))))
    card = new_card(grader.card, version, sample, after)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("x", encoding="utf-8") as file:
        tomlkit.dump(card, file)
    return SiteCalibration(
        path, grader.card.name, version, sample, before, after, sample_size_warnings(truth, old.level)
    )


def require_free_name(name: str, path: Path, within: Sequence[Path]) -> None:
    """Raise SettingsError unless a card of that name can be written: none is overwritten or exists in two folders."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]*", name):
        raise SettingsError(f"{name!r} is no name of a card", hint="use a to z, 0 to 9, dots, dashes and underscores")
    if path.exists() or name in card_names(within):
        raise SettingsError(
            f"there is a card {name!r} already", hint="choose another --name; cards are not overwritten"
        )


def require_enough_knees(knees: Sequence[LabelledKnee], data: Path, left_out: Sequence[str] = ()) -> None:
    """Raise LabelsError if there are too few knees or patients to fit anything to."""
    patients = len({knee.patient for knee in knees})
    if len(knees) < LEAST_KNEES or patients < LEAST_PATIENTS:
        raise LabelsError(
            "\n".join([f"{data} has {len(knees)} usable knees of {patients} patients", *left_out]),
            hint=f"a calibration takes {LEAST_KNEES} knees of {LEAST_PATIENTS} patients at the least; label more",
        )


def _chosen(data: Path, split: str) -> list[LabelledKnee]:
    knees = read_labels(data, split or None)
    if len(split_names(knees)) > 1:
        raise LabelsError(
            f"{data} has the splits {split_names(knees)}",
            hint="choose one with --split, none that the model was trained on",
        )
    return knees


def collect_logits(grader: Model, knees: Sequence[LabelledKnee], settings: Settings) -> KneeLogits:
    """The logits of all knees: of crops as they are; of films as the node reads them, detects joints and grades."""
    absent = [knee.path for knee in knees if not knee.path.is_file()]
    if absent:
        raise LabelsError(f"{absent[0]} does not exist, but labels.csv lists it")
    work = settings.work
    models = load_detection_models(engine=work.engine, threads=work.threads, within=folders(settings))
    films: dict[Path, list[LabelledKnee]] = {}
    crops: list[LabelledKnee] = []
    for knee in knees:
        if cv2.haveImageReader(str(knee.path)):
            crops.append(knee)
        else:
            films.setdefault(knee.path, []).append(knee)
    used, logits = (
        list(crops),
        [graded.logits for graded in grade_labelled_knees(grader, crops, models.refiner)],
    )
    left_out: list[str] = []
    if films:
        for knee, result in _logits_on_films(films, grader, models, settings):
            if isinstance(result, str):
                left_out.append(f"{knee.path.name}, {knee.side}: {result}")
            else:
                used.append(knee)
                logits.append(result)
    return KneeLogits(used, np.array(logits, np.float32), left_out)


def _logits_on_films(
    films: Mapping[Path, Sequence[LabelledKnee]], grader: Model, models: DetectionModels, settings: Settings
) -> Iterator[tuple[LabelledKnee, Logits | str]]:
    """For each knee on a film its logits (5,), or why it has none."""
    work = settings.work
    reader = Reader.from_settings(work)
    try:
        for path, knees in track(films.items(), "Films", transient=True, console=Console(stderr=True)):
            try:
                prepared = prepare_film(reader.film(path), models, Rules.of(work))
                if prepared.refusal:
                    raise Ungradable(prepared.refusal)
            except (Ungradable, Permanent) as refusal:
                yield from ((knee, str(refusal)) for knee in knees)
                continue
            for knee in knees:
                joint = matching_joint(
                    knee, knees, [candidate.knee for candidate in prepared.candidates if candidate.refusal is None]
                )
                yield knee, _logits_or_reason(prepared.film, joint, grader) if joint else "this knee is not on the film"
    finally:
        reader.close()


def _logits_or_reason(film: Film, joint: Knee, grader: Model) -> Logits | str:
    crop = cut(film.pixels, joint.pose, grader.card.input_size)
    (graded,) = grade_crops([crop], [joint], grader)
    return str(Ungradable(reason("NOT_LIKE_TRAINED"))) if graded.out_of_distribution else graded.logits


def matching_joint(knee: LabelledKnee, labelled: Sequence[LabelledKnee], found: Sequence[Knee]) -> Knee | None:
    """The joint that a label is about: that of its side; or the only one, if its side is unknown."""
    if len(labelled) == len(found) == 1 and found[0].laterality is Laterality.UNKNOWN:
        return found[0]
    return next((joint for joint in found if joint.laterality == Laterality(knee.side)), None)


def next_version(card: Card, within: Sequence[Path]) -> str:
    """The version of the card's model after another calibration today: no two are the same."""
    used = set()
    for name in card_names(within):
        try:
            used.add(read_card(name, within).version)
        except SettingsError:  # a card that cannot be read is used by no result
            continue
    version = f"{card.version.split('+')[0]}+site.{datetime.now(UTC):%Y%m%d}"
    candidates = (version if number == 1 else f"{version}.{number}" for number in itertools.count(1))
    return next(candidate for candidate in candidates if candidate not in used)


def new_card(card: Card, version: str, sample: KneeLogits, after: dict[str, Any]) -> dict[str, Any]:
    """The card as it is, but for version, calibration, and the figures on the site's knees."""
    fields = copy.deepcopy(card.contents)
    fields["version"] = version
    fields["calibration"] = fit_calibration(sample.logits, true_grades(sample.knees), card.calibration)
    fields["site"] = {
        "base": card.version,
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "knees": len(sample.knees),
        "patients": len(set(sample.patients)),
        "note": f"[metrics.site] is cross-validated, {FOLDS} folds over patients; other metrics are of {card.version}.",
    }
    fields["metrics"] = {**fields.get("metrics", {}), "site": without_none(after)}
    return fields


COMPARED = {"accuracy": "accuracy", "qwk": "quadratic weighted kappa", "ece": "calibration error (15 bins)"}
COMPARED |= {"coverage": "coverage of the sets", "set_size": "grades in a set"}


def format_calibration(fitted: SiteCalibration) -> str:
    """The old and the new calibration side by side, with warnings and what was left out, as text."""
    sample, before, after = fitted.sample, fitted.before, fitted.after
    counts = np.bincount(true_grades(sample.knees), minlength=5)
    pairs = [(name, before[key], after[key]) for key, name in COMPARED.items()]
    pairs += [
        (f"coverage of KL {grade}, n = {counts[grade]}", before["set_coverage"][grade], after["set_coverage"][grade])
        for grade in range(5)
    ]
    return "\n".join(
        [
            f"{fitted.model} {fitted.version}, from {len(sample.knees)} knees of {len(set(sample.patients))} patients",
            "",
            f"{'':30} {'as it was':26} calibrated",
            *(f"{name:30} {format_with_interval(old):26} {format_with_interval(new)}" for name, old, new in pairs),
            "",
            "In brackets: 95 % interval over patients. No knee was predicted by a calibration fitted to its patient.",
            *fitted.warnings,
            *(
                [f"Left out, {len(sample.left_out)}:", *(f"  {line}" for line in sample.left_out)]
                if sample.left_out
                else []
            ),
            f"The card is {fitted.path}. To use it: genu models promote {fitted.path.stem}",
        ]
    )
