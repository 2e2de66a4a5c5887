"""Training is a product: it runs from one folder, refuses torn patients, resumes, and exports what it trained."""

import importlib
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from node.settings import Settings, Storage
from tests.samples.labelled import HEADER, call, folder_of
from workers.cli import training
from workers.evaluation.labelled_knees import LabelledKnee, LabelsError, grade_counts, normalised, read_labels
from workers.evaluation.plots import plot_training_log
from workers.models.engines import OpenVinoEngine, TorchEngine
from workers.models.networks import GRADERS, MirroredGrader, build, trunk_of
from workers.models.networks.feature_distance import FeatureDistance
from workers.models.networks.graders import GRADER_PREFIX
from workers.preprocessing import Pose, cut, grader_input, stretch
from workers.training.augment import augment
from workers.training.export import export, export_graph
from workers.training.feature_statistics import whitening
from workers.training.films import OUTSIDE, Crop, compose, film_without_joint, tight_film
from workers.training.films.leg import ANYWHERE, Seams
from workers.training.fit_grader import GraderRecipe, TrainingProgress, fit_grader
from workers.training.steps import mixup, soft_labels
from workers.training.train import recipes


def test_a_patient_in_two_splits_is_an_error(tmp_path: Path) -> None:
    """A split by image would judge a knee by a model that has reports the patient's other one."""
    folder = folder_of(tmp_path, "a.png,p1,R,0,train,0", "b.png,p1,L,1,val,0")
    with pytest.raises(LabelsError, match="more than one split"):
        read_labels(folder, "train")


def test_every_command_refuses_a_torn_patient(tmp_path: Path) -> None:
    """train, evaluate and calibrate end before they read a picture, and say what is wrong."""
    folder = folder_of(tmp_path / "knees", "a.png,p1,R,0,train,0", "b.png,p1,L,1,val,0")
    data, node = ["--data", str(folder)], Settings(storage=Storage(folder=tmp_path / "node"))
    calls = {
        training.train: ["kl-lite2", *data, "--out", str(tmp_path / "out")],
        training.evaluate: data,
        training.calibrate: [*data, "--name", "here"],
    }
    for command, arguments in calls.items():
        done = call(command, *arguments, settings=node)
        assert isinstance(done.exception, LabelsError)
        assert "more than one split" in str(done.exception)
    assert [path.name for path in tmp_path.iterdir()] == ["knees"]


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ("a.png,p1,X,0,train,0", "line 2: side 'X'"),
        ("a.png,p1,R,7,train,0", "kl 7"),
        ("a.png,p1,R,many,train,0", "line 2"),
        ("a.png,p1", "line 2"),
    ],
)
def test_a_row_that_cannot_be_used_is_named(tmp_path: Path, row: str, complaint: str) -> None:
    """The error says which line of labels.csv, and why."""
    with pytest.raises(LabelsError, match=complaint):
        read_labels(folder_of(tmp_path, row))


def test_a_missing_table_or_split_is_an_error(tmp_path: Path) -> None:
    """And the error names what there is."""
    with pytest.raises(LabelsError, match="does not exist"):
        read_labels(tmp_path)
    with pytest.raises(LabelsError, match=r"it has \['train'\]"):
        read_labels(folder_of(tmp_path, "a.png,p1,R,0,train,0"), "test")


def test_every_knee_is_normalised_to_a_right_one_with_bright_bones(tmp_path: Path) -> None:
    """An inverted left knee is turned over and mirrored."""
    stored = np.zeros((4, 4), np.float32)
    stored[1, 0] = 1
    shown = normalised(stored, inverted=True, left=True)
    assert shown[1, 3] == 0
    assert shown.sum() == 15
    knees = read_labels(folder_of(tmp_path, "a.png,p1,R,3,train,0", "b.png,p1,L,3,train,1"))
    assert grade_counts(knees) == [0, 0, 0, 2, 0]


def test_augmented_knees_stay_knees() -> None:
    """Same shape, same range, the same again from the same seed, and another from another."""
    knee = np.tile(np.linspace(0, 1, 80, dtype=np.float32), (80, 1))
    one, again, other = (augment(knee, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert one.shape == knee.shape
    assert 0 <= one.min() <= one.max() <= 1
    np.testing.assert_array_equal(one, again)
    assert np.abs(one - other).max() > 0.05


def test_soft_labels_lean_to_the_neighbours() -> None:
    """Each row is a distribution with its top at its own grade."""
    labels = soft_labels(0.45)
    np.testing.assert_allclose(labels.sum(1), 1, atol=1e-6)
    assert labels.argmax(1).tolist() == [0, 1, 2, 3, 4]
    assert labels[1, 2] > labels[1, 3]


def tiny(tmp_path: Path) -> tuple[list[LabelledKnee], list[LabelledKnee], GraderRecipe]:
    """Bright and dark squares as KL 4 and KL 0: learnt in a few steps."""
    rows = []
    for number in range(24):
        kl = 4 * (number % 2)
        name = f"{number}.png"
        picture = np.full((64, 64), 30, np.uint8)
        picture[16:48, 16 : 16 + (32 if kl else 6)] = 220
        cv2.imwrite(str(tmp_path / name), picture)
        rows.append(f"{name},p{number},R,{kl},{'val' if number >= 16 else 'train'},0")
    (tmp_path / "labels.csv").write_text("\n".join([HEADER, *rows]) + "\n")
    recipe = GraderRecipe("efficientnet_lite0", sizes=((2, 32), (2, 64)), batch=8, learning_rate=2e-3, seed=3)
    return read_labels(tmp_path, "train"), read_labels(tmp_path, "val"), recipe


def test_a_second_training_goes_on_from_the_first(tmp_path: Path) -> None:
    """[training.then] takes its recipe from the first where it says nothing, and begins with the first's weights."""
    fields = {
        "architecture": "efficientnet_lite0",
        "training": {"command": "x", "start": "", "sizes": [[1, 32]], "batch": 8, "mixup": 0.2, "seed": 3},
    }
    assert [folder.name for folder, _ in recipes("m", fields, tmp_path)] == ["m"]
    fields["training"]["then"] = {"sizes": [[1, 64]], "mixup": 0.0, "learning_rate": 0.0}
    (one, first), (other, second) = recipes("m", fields, tmp_path)
    assert (one.name, other.name) == ("m", "m-then")
    assert (second.batch, second.seed, second.mixup, second.sizes) == (8, 3, 0.0, ((1, 64),))
    train, val, _ = tiny(tmp_path)
    network = fit_grader(first, train, val, one)
    same = fit_grader(second, train, val, other, start=lambda new: new.load_state_dict(network.state_dict()))
    for ours, theirs in zip(same.parameters(), network.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)  # at a learning rate of nothing


@pytest.mark.parametrize("alpha", [0.0, 0.4])
def test_knees_are_blended_with_their_targets(alpha: float) -> None:
    """Each with the batch's reverse, image and target by the same part; without mixup nothing is."""
    images, targets = torch.arange(4.0).reshape(4, 1, 1, 1), torch.eye(5)[:4]
    blended, wanted = mixup(images, targets, alpha, np.random.default_rng(0))
    part = wanted[0, 0]
    torch.testing.assert_close(blended, images * part + images.flip(0) * (1 - part))
    torch.testing.assert_close(wanted, targets * part + targets.flip(0) * (1 - part))
    assert (part == 1) == (alpha == 0)


def test_an_interrupted_training_resumes(tmp_path: Path) -> None:
    """Stopped in its third epoch and called again, it does the third and fourth, and ends with the same weights."""
    train, val, recipe = tiny(tmp_path)
    whole = fit_grader(recipe, train, val, tmp_path / "whole")

    def stop(at: TrainingProgress) -> None:
        if at.epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit_grader(recipe, train, val, tmp_path / "torn", on_step=stop)
    reports: list[int] = []
    resumed = fit_grader(recipe, train, val, tmp_path / "torn", on_step=lambda at: reports.append(at.epoch))
    assert sorted(set(reports)) == [2, 3]
    logged = [json.loads(line)["epoch"] for line in (tmp_path / "torn" / "log.jsonl").read_text().splitlines()]
    assert logged == [0, 1, 2, 3]
    for ours, theirs in zip(resumed.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, atol=2e-2, rtol=0.1)
    with pytest.raises(ValueError, match="another recipe"):
        fit_grader(GraderRecipe("efficientnet_lite0", seed=4), train, val, tmp_path / "torn")


def test_time_left_counts_pixels() -> None:
    """Half of the epochs at half of the size are a fifth of the work."""
    recipe = GraderRecipe("efficientnet_lite0", sizes=((2, 128), (2, 256)))
    assert [recipe.fraction_done(epoch) for epoch in range(4)] == pytest.approx([0, 0.1, 0.2, 0.6])
    assert recipe.fraction_done(2, 0.5) == pytest.approx(0.4)
    assert recipe.fraction_done(3, 1.0) == 1


def test_a_training_reports_progress_and_plots_its_log(tmp_path: Path) -> None:
    """Its progress goes up to all of it, and time left down to none; the log names what each epoch was run with."""
    train, val, recipe = tiny(tmp_path)
    reports: list[TrainingProgress] = []
    fit_grader(recipe, train, val, tmp_path / "run", on_step=reports.append)
    parts = [at.part for at in reports]
    assert parts == sorted(parts)
    assert parts[-1] == 1
    assert reports[-1].seconds_left == 0
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [row["size"] for row in log] == [32, 32, 64, 64]
    rates = [row["learning_rate"] for row in log]
    assert rates[0] > rates[1] > rates[2] > rates[3] == 0
    plot_training_log(tmp_path / "run")
    assert "learning rate" in (tmp_path / "run" / "log.svg").read_text()


def test_an_older_log_is_drawn_with_gaps(tmp_path: Path) -> None:
    """A training that was begun before sizes were logged can go on."""
    row = {"epoch": 0, "loss": 1.0, "accuracy": 0.5, "qwk": 0.4, "mae": 0.6, "seconds": 9.0}
    (tmp_path / "log.jsonl").write_text(json.dumps(row) + "\n" + json.dumps({**row, "epoch": 1, "size": 64}) + "\n")
    plot_training_log(tmp_path)
    assert (tmp_path / "log.svg").read_text().startswith("<svg")


@pytest.mark.parametrize("name", sorted(GRADERS))
def test_an_exported_network_answers_as_it_did(tmp_path: Path, name: str) -> None:
    """From the two files alone, both engines give the trained network's logits and maps; the graph has no weights."""
    torch.manual_seed(1)
    network = GRADERS[name]().eval()
    images = np.stack(
        [grader_input(np.random.default_rng(seed).random((64, 64)).astype(np.float32), 64) for seed in (0, 1)]
    )
    with torch.no_grad():
        wanted = [part.numpy() for part in network(torch.from_numpy(images))]
    written = export(network, torch.zeros(1, 3, 64, 64), tmp_path, "model")
    graph = tmp_path / written["graph"]["file"]
    assert graph.stat().st_size < 1_000_000
    assert str(tmp_path).encode() not in graph.read_bytes()
    assert b"workers/" not in graph.read_bytes()
    for engine in (OpenVinoEngine(graph), TorchEngine(name, {tmp_path / written["weights"]["file"]: ""})):
        for ours, theirs in zip(engine(images), wanted, strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-3 * max(1.0, float(np.abs(theirs).max())))


def test_a_mirrored_grader_is_the_mean_over_a_knee_and_its_mirror_image(tmp_path: Path) -> None:
    """Its graph reads the grader's own file; a mirrored knee gets the same grade and the mirrored map."""
    torch.manual_seed(2)
    architecture = "efficientnet_lite0 fine from both sides"
    network = build(architecture).eval()
    assert isinstance(network, MirroredGrader)
    grader = network.grader
    with torch.no_grad():  # logits of a random network hardly differ; a larger head makes differences visible
        grader.head.weight.mul_(1e4)
    weights = {tmp_path / "grader.safetensors": GRADER_PREFIX}
    save_file(grader.state_dict(), tmp_path / "grader.safetensors")
    graph = tmp_path / "mirrored.onnx"
    export_graph(network, torch.zeros(2, 3, 64, 64), weights, graph)
    assert graph.stat().st_size < 1_000_000
    images = np.stack(
        [grader_input(np.random.default_rng(seed).random((64, 64)).astype(np.float32), 64) for seed in (0, 1)]
    )
    mirrored = np.ascontiguousarray(images[..., ::-1])
    with torch.no_grad():
        alone = [grader(torch.from_numpy(view))[0] for view in (images, mirrored)]
    for engine in (OpenVinoEngine(graph), TorchEngine(architecture, weights)):
        logits, maps, views = engine(images)
        assert (maps.shape, views.shape) == ((2, 5, 4, 4), (2, 2, 5))
        np.testing.assert_allclose(views, torch.stack(alone, 1).numpy(), atol=1e-3)
        np.testing.assert_allclose(logits, views.mean(1), atol=1e-4)
        np.testing.assert_allclose(engine(mirrored)[0], logits, atol=1e-3)
        np.testing.assert_allclose(engine(mirrored)[1], maps[..., ::-1], atol=1e-3 * max(1, np.abs(maps).max()))
        np.testing.assert_allclose(maps.mean((2, 3)) + grader.head.bias.detach().numpy(), logits, atol=1e-3)


@pytest.mark.parametrize("name", ["efficientnet_lite9", "efficientnet_lite0 + efficientnet_lite2 from both sides"])
def test_an_unknown_architecture_is_an_error(name: str) -> None:
    """Joins of several networks are no architecture any more."""
    with pytest.raises(KeyError):
        build(name)


def test_the_feature_distance_is_large_for_what_was_not_in_training(tmp_path: Path) -> None:
    """The same from both sides and by both engines, far for what it was not shown; its answers stay as they were."""
    torch.manual_seed(4)
    plain, telling = "efficientnet_lite0 from both sides", "efficientnet_lite0 from both sides and how familiar"
    network, alone = build(telling).eval(), build(plain).eval()
    assert isinstance(network, MirroredGrader)
    assert isinstance(network.familiar, FeatureDistance)
    alone.load_state_dict({key: held for key, held in network.state_dict().items() if "familiar" not in key})
    shown = torch.rand(12, 3, 64, 64)
    for at, features in enumerate(network.depths_of(shown)):
        mean, white = whitening(features.detach().double().numpy())
        network.familiar.get_buffer(f"mean_{at}").copy_(torch.from_numpy(mean))
        network.familiar.get_buffer(f"white_{at}").copy_(torch.from_numpy(white))
    save_file(network.state_dict(), tmp_path / "model.safetensors")
    weights = {tmp_path / "model.safetensors": ""}
    export_graph(network, torch.zeros(2, 3, 64, 64), weights, tmp_path / "model.onnx")
    strange = torch.zeros(1, 3, 64, 64)
    for engine in (OpenVinoEngine(tmp_path / "model.onnx"), TorchEngine(telling, weights)):
        logits, _, _, far = engine(torch.cat([shown, strange]).numpy())
        assert 0.8 < np.median(far[:12]) < 1.2
        assert far[12] > 3 * far[:12].max()
        np.testing.assert_allclose(engine(shown.flip(3).numpy())[3], far[:12], rtol=1e-3)
        with torch.no_grad():
            np.testing.assert_allclose(logits[:12], alone(shown)[0].numpy(), atol=1e-4)


def test_a_network_without_named_depths_has_no_feature_distance() -> None:
    """DenseNet-121 has none: the card is wrong, and building it says so."""
    with pytest.raises(ValueError, match="feature distance"):
        build("densenet121 from both sides and how familiar")


@pytest.mark.parametrize("name", ["efficientnet_lite0", "efficientnet_lite2"])
def test_a_finer_map_keeps_the_values_of_the_coarse_one(name: str) -> None:
    """The same weights: every other cell is the coarse map's, away from the image's edge."""
    torch.manual_seed(3)
    coarse = build(name).eval()
    fine = build(f"{name} fine").eval()
    fine.load_state_dict(coarse.state_dict())
    image = torch.randn(1, 3, 256, 256)
    with torch.no_grad():
        small, large = coarse(image)[1], fine(image)[1]
    assert large.shape[2:] == (16, 16)
    torch.testing.assert_close(large[..., ::2, ::2][..., 2:-2, 2:-2], small[..., 2:-2, 2:-2], rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("asked", ["", " fine", " from both sides", " fine from both sides"])
def test_a_card_is_trained_by_the_name_of_its_trunk(asked: str) -> None:
    """However a grader is asked, what is trained for it is a network that there is."""
    assert trunk_of(f"efficientnet_lite2{asked}") == "efficientnet_lite2"
    assert trunk_of(f"efficientnet_lite2{asked}") in GRADERS


@pytest.mark.parametrize("legs", [1, 2])
def test_a_joint_to_be_graded_is_whole_on_its_film(legs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    From rim to rim it is the crop, before anything is laid on it, whatever lies beside it and however near.

    On the films that a finder learns from some rims are drawn over.
    """
    composing = importlib.import_module("workers.training.films.compose")
    monkeypatch.setattr(composing, "add_acquisition_effects", lambda film, *_, **__: film)
    knee = Crop(stretch(cv2.GaussianBlur(np.random.default_rng(1).random((120, 120)).astype(np.float32), (0, 0), 4)))

    def most_off(seams: Seams, seed: int) -> float:
        film = compose([knee] * legs, np.random.default_rng(seed), joint=(200, 260), longest=1500, seams=seams)
        off = 0.0
        for joint in film.joints:
            pose = Pose(joint.box.middle, joint.box.width, joint.tilt)
            shown = cv2.warpAffine(np.ones_like(film.pixels), pose.onto(120), (120, 120)) == 1  # not beyond the film
            far = np.abs(cut(film.pixels, pose, 120) - knee.pixels)
            off = max(off, float((far * shown)[24:-24, 5:-5].max()))
        return off

    assert max(most_off(OUTSIDE, seed) for seed in range(12)) < 0.05
    assert max(most_off(ANYWHERE, seed) for seed in range(12)) > 0.1


@pytest.mark.parametrize("seed", range(8))
def test_composed_films_hold_their_boxes(seed: int) -> None:
    """Every box lies on the film where the joint was laid, and a film without joint has none."""
    random = np.random.default_rng(seed)
    knee = Crop(random.random((120, 120)).astype(np.float32))
    for film, count in (
        (compose([knee, knee], random), 2),
        (compose([knee], random), 1),
        (tight_film(knee, random), 1),
        (film_without_joint(knee, random), 0),
    ):
        assert len(film.boxes) == count
        assert film.pixels.dtype == np.float32
        assert 0 <= film.pixels.min() <= film.pixels.max() <= 1
        rows, columns = film.pixels.shape
        for box in film.boxes:
            assert 0 < (box.x0 + box.x1) / 2 < columns
            assert 0 < (box.y0 + box.y1) / 2 < rows
            assert box.width == pytest.approx(box.height)
