"""
A model's probabilities and sets fitted to a hospital's own labelled knees, as a new card: `genu calibrate`.

The network stays as it is; its files are not copied. What is told of the new card is honest: each knee is judged
by a calibration that was fitted to other patients.
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
from workers.evaluation.calibration_fit import FOLDS, Logits, calibrated, cross_fitted, too_few
from workers.evaluation.evaluate import graded_by, with_range
from workers.evaluation.labelled_films import grader_of
from workers.evaluation.labelled_knees import LabelledKnee, LabelsError, read_labels, splits_of, truth_of
from workers.evaluation.metrics import Said, known, with_intervals
from workers.grading.grader import grade_crops
from workers.knee import Knee
from workers.models.registry import Card, Model, card_names, folders, read_card
from workers.preprocessing import cut
from workers.read import Film, Reader

LEAST_KNEES, LEAST_PATIENTS = 100, 50
"""With fewer, one temperature and five thresholds would follow chance: a coverage is known to 6 points at best."""


@dataclass(frozen=True)
class Asked:
    """Labelled knees and the logits (n, 5) that a model gave them; and those that it could not be asked about."""

    knees: Sequence[LabelledKnee]
    logits: Logits
    left_out: Sequence[str]

    @property
    def patients(self) -> list[str]:
        """The owner of each knee."""
        return [knee.patient for knee in self.knees]


@dataclass(frozen=True)
class Fitted:
    """A new card, the knees that it was fitted to, and the figures of the old and of the new calibration on them."""

    path: Path
    model: str
    version: str
    asked: Asked
    before: dict[str, Any]
    after: dict[str, Any]
    warnings: Sequence[str]


def calibrate(settings: Settings, data: Path, split: str, model: str, name: str, out: Path | None) -> Fitted:
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
    refuse_name(name, path, within)
    knees = _chosen(data, split)
    refuse_few(knees, data)
    grader = grader_of(model, settings, engine=settings.work.engine)
    asked = ask(grader, knees, settings)
    refuse_few(asked.knees, data, asked.left_out)
    truth, old = truth_of(asked.knees), grader.card.calibration
    before = with_intervals(truth, Said.by(old, old.probabilities(asked.logits)), asked.patients)
    after = with_intervals(truth, cross_fitted(asked.logits, truth, asked.patients, old), asked.patients)
    version = next_version(grader.card, tuple(dict.fromkeys((path.parent, *within))))
    told = new_card(grader.card, version, asked, after)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("x", encoding="utf-8") as file:
        tomlkit.dump(told, file)
    return Fitted(path, grader.card.name, version, asked, before, after, too_few(truth, old.level))


def refuse_name(name: str, path: Path, within: Sequence[Path]) -> None:
    """Raise SettingsError unless a card of that name can be written: none is overwritten, none stands in two places."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]*", name):
        raise SettingsError(f"{name!r} is no name of a card", hint="use a to z, 0 to 9, dots, dashes and underscores")
    if path.exists() or name in card_names(within):
        raise SettingsError(
            f"there is a card {name!r} already", hint="choose another --name; cards are not overwritten"
        )


def refuse_few(knees: Sequence[LabelledKnee], data: Path, left_out: Sequence[str] = ()) -> None:
    """Raise LabelsError if there are too few knees or patients to fit anything to."""
    patients = len({knee.patient for knee in knees})
    if len(knees) < LEAST_KNEES or patients < LEAST_PATIENTS:
        raise LabelsError(
            "\n".join([f"{data} has {len(knees)} usable knees of {patients} patients", *left_out]),
            hint=f"a calibration takes {LEAST_KNEES} knees of {LEAST_PATIENTS} patients at the least; label more",
        )


def _chosen(data: Path, split: str) -> list[LabelledKnee]:
    knees = read_labels(data, split or None)
    if len(splits_of(knees)) > 1:
        raise LabelsError(
            f"{data} has the splits {splits_of(knees)}",
            hint="say which with --split, and none that the model was trained on",
        )
    return knees


def ask(grader: Model, knees: Sequence[LabelledKnee], settings: Settings) -> Asked:
    """The logits of all knees: of crops as they are, of films as the node reads them, finds their joints and grades."""
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
    used, logits = list(crops), [each.logits for each in graded_by(grader, crops, models.refiner)]
    left_out: list[str] = []
    if films:
        for knee, said in _on_films(films, grader, models, settings):
            if isinstance(said, str):
                left_out.append(f"{knee.path.name}, {knee.side}: {said}")
            else:
                used.append(knee)
                logits.append(said)
    return Asked(used, np.array(logits, np.float32), left_out)


def _on_films(
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
                joint = the_one(knee, knees, [each.knee for each in prepared.candidates if each.refusal is None])
                yield knee, _said_of(prepared.film, joint, grader) if joint else "this knee is not on the film"
    finally:
        reader.close()


def _said_of(film: Film, joint: Knee, grader: Model) -> Logits | str:
    crop = cut(film.pixels, joint.pose, grader.card.input_size)
    (graded,) = grade_crops([crop], [joint], grader)
    return str(Ungradable(reason("NOT_LIKE_TRAINED"))) if graded.out_of_distribution else graded.logits


def the_one(knee: LabelledKnee, labelled: Sequence[LabelledKnee], found: Sequence[Knee]) -> Knee | None:
    """The joint that a label is about: that of its side; or the only one, if nothing tells the side of it."""
    if len(labelled) == len(found) == 1 and found[0].laterality is Laterality.UNKNOWN:
        return found[0]
    return next((joint for joint in found if joint.laterality == Laterality(knee.side)), None)


def next_version(card: Card, within: Sequence[Path]) -> str:
    """The version that the card's model has after another calibration today: no two are the same."""
    taken = set()
    for name in card_names(within):
        try:
            taken.add(read_card(name, within).version)
        except SettingsError:  # a card that cannot be read answers for nothing
            continue
    version = f"{card.version.split('+')[0]}+site.{datetime.now(UTC):%Y%m%d}"
    tried = (version if number == 1 else f"{version}.{number}" for number in itertools.count(1))
    return next(each for each in tried if each not in taken)


def new_card(card: Card, version: str, asked: Asked, after: dict[str, Any]) -> dict[str, Any]:
    """The card as it is, but for version, calibration, and the figures on the site's knees."""
    told = copy.deepcopy(card.contents)
    told["version"] = version
    told["calibration"] = calibrated(asked.logits, truth_of(asked.knees), card.calibration)
    told["site"] = {
        "base": card.version,
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "knees": len(asked.knees),
        "patients": len(set(asked.patients)),
        "note": f"[metrics.site] is judged in {FOLDS} folds over patients; other metrics are of {card.version}.",
    }
    told["metrics"] = {**told.get("metrics", {}), "site": known(after)}
    return told


COMPARED = {"accuracy": "accuracy", "qwk": "quadratic weighted kappa", "ece": "calibration error (15 bins)"}
COMPARED |= {"coverage": "coverage of the sets", "set_size": "grades in a set"}


def say(fitted: Fitted) -> str:
    """The old and the new calibration side by side, and what to think of it, for a person."""
    asked, before, after = fitted.asked, fitted.before, fitted.after
    counts = np.bincount(truth_of(asked.knees), minlength=5)
    pairs = [(name, before[key], after[key]) for key, name in COMPARED.items()]
    pairs += [
        (f"coverage of KL {grade}, n = {counts[grade]}", before["set_coverage"][grade], after["set_coverage"][grade])
        for grade in range(5)
    ]
    return "\n".join(
        [
            f"{fitted.model} {fitted.version}, from {len(asked.knees)} knees of {len(set(asked.patients))} patients",
            "",
            f"{'':30} {'as it was':26} calibrated",
            *(f"{name:30} {with_range(old):26} {with_range(new)}" for name, old, new in pairs),
            "",
            "In brackets: 95 % interval over patients. No knee was judged by a calibration that has seen its patient.",
            *fitted.warnings,
            *(
                [f"Left out, {len(asked.left_out)}:", *(f"  {each}" for each in asked.left_out)]
                if asked.left_out
                else []
            ),
            f"The card is {fitted.path}. Nothing uses it before: genu models promote {fitted.path.stem}",
        ]
    )
