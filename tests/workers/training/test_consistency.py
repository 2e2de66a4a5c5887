"""Consistency training: its views, targets and loss, what it leaves unchanged, and that it resumes."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import nn

from tests.samples.labelled import rendered_knees
from workers.evaluation.labelled_knees import LabelledKnee, read_labels
from workers.models.networks import GRADERS, Grader
from workers.models.registry import REFINER, load
from workers.preprocessing import Box, Pose, cut, grader_input
from workers.training.consistency import (
    ConsistencyRecipe,
    ViewPairs,
    consistency_loss,
    consistency_targets,
    train_consistency,
)
from workers.training.film_joints import crop_poses
from workers.training.films import OUTSIDE, Crop, compose, mirrored
from workers.training.steps import fold_batch_norm

RECIPE = ConsistencyRecipe(sizes=((2, 64), (2, 96)), batch=8, learning_rate=1e-3, joint=(70, 110), seed=2, processes=0)


@pytest.fixture(scope="module")
def knees(tmp_path_factory: pytest.TempPathFactory) -> list[LabelledKnee]:
    return read_labels(rendered_knees(tmp_path_factory.mktemp("knees"), 6))


def untaught() -> Grader:
    """A network whose batch statistics are not those that it begins with."""
    torch.manual_seed(5)
    network = GRADERS["efficientnet_lite0"]()
    network.train()
    with torch.no_grad():
        network(torch.randn(8, 3, 64, 64))
    return network.eval()


def test_statistics_that_are_folded_change_no_answer() -> None:
    """And every weight and every norm learns as it would have."""
    network, folded = untaught(), untaught()
    fold_batch_norm(folded)
    assert list(folded.state_dict()) == list(network.state_dict())
    images = torch.randn(4, 3, 64, 64)
    for one in (network, folded):
        one(images)[0].square().sum().backward()
    torch.testing.assert_close(folded(images)[0], network(images)[0], atol=1e-4, rtol=1e-3)
    for ours, theirs in zip(folded.parameters(), network.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-3, rtol=1e-2)


def test_both_views_are_of_the_same_knees(knees: list[LabelledKnee]) -> None:
    """Four at a time, of the size that the step has, the same ones again, and never twice the same picture."""
    pairs = ViewPairs(knees, [Pose.of(Box(0, 0, 299, 299))] * len(knees), RECIPE)
    assert len(pairs) == 4
    assert [pairs[at][0].shape[-1] for at in range(4)] == [64, 64, 96, 96]
    filmed, again, which = pairs[1]
    assert filmed.shape == again.shape == (4, 3, 64, 64)
    for ours, once_more in zip(pairs[1], (filmed, again, which), strict=True):
        np.testing.assert_array_equal(ours, once_more)
    assert all(np.abs(on_film - on_crop).mean() > 0.05 for on_film, on_crop in zip(filmed, again, strict=True))


def test_a_view_shows_the_knee_of_its_index(knees: list[LabelledKnee]) -> None:
    """It is likest to its own, as it hangs or mirrored, of all knees; where neither noise nor small joints blur it."""
    recipe = replace(RECIPE, joint=(220, 260), grain=(0.0, 0.01))
    pairs = ViewPairs(knees, [Pose.of(Box(0, 0, 299, 299))] * len(knees), recipe)

    def alike(one: npt.NDArray[np.float32], other: npt.NDArray[np.float32]) -> float:
        return max(float(np.corrcoef(one.ravel(), image.ravel())[0, 1]) for image in (other, other[:, :, ::-1]))

    for filmed, again, which in (pairs[at] for at in range(4)):
        clean = [grader_input(knee.read(), filmed.shape[-1]) for knee in knees]
        for views in (filmed, again):
            found = [int(np.argmax([alike(knee, view) for knee in clean])) for view in views]
            assert found == which.tolist()


def test_targets_are_the_teachers_predictions_blended_with_the_readers(
    tmp_path: Path, knees: list[LabelledKnee]
) -> None:
    """The teacher gets a knee and its mirror image as the node does; its predictions are cached."""
    network, poses = untaught(), crop_poses(knees, load(REFINER))
    nn.init.normal_(network.head.weight, std=0.5)  # or it predicts the same for all
    taught, both, read = (
        consistency_targets(replace(RECIPE, labels=part), network, knees, poses, tmp_path / "teacher.pt").numpy()
        for part in (0.0, 0.25, 1.0)
    )
    np.testing.assert_allclose(taught.sum(1), 1, atol=1e-5)
    np.testing.assert_allclose(both, 0.75 * taught + 0.25 * read, atol=1e-6)
    assert [int(row.argmax()) for row in read] == [knee.kl for knee in knees]
    shown = torch.from_numpy(np.stack([grader_input(cut(knees[1].read(), poses[1], 96), 96)]))
    with torch.no_grad():
        logits = (network(shown)[0] + network(shown.flip(3))[0]) / 2
    np.testing.assert_allclose(taught[1], logits.softmax(1)[0].numpy(), atol=1e-4)


def test_cached_predictions_of_another_teacher_are_not_used(tmp_path: Path, knees: list[LabelledKnee]) -> None:
    """Nor those of other knees or of other poses; its own are not computed again."""
    kept, recipe, poses = tmp_path / "teacher.pt", replace(RECIPE, labels=0.0), crop_poses(knees, load(REFINER))
    one, other = untaught(), untaught()
    for network, bias in ((one, 0.0), (other, 3.0)):
        nn.init.zeros_(network.head.weight)
        nn.init.constant_(network.head.bias, 0)
        network.head.bias.data[2] = bias
    first = consistency_targets(recipe, one, knees, poses, kept)
    written = kept.stat().st_mtime_ns
    assert torch.equal(consistency_targets(recipe, one, knees, poses, kept), first)
    assert kept.stat().st_mtime_ns == written
    assert not torch.allclose(consistency_targets(recipe, other, knees, poses, kept), first)
    assert len(consistency_targets(recipe, other, knees[:4], poses[:4], kept)) == 4
    written = kept.stat().st_mtime_ns
    consistency_targets(recipe, other, knees[:4], [replace(poses[0], turn=9.0), *poses[1:4]], kept)
    assert kept.stat().st_mtime_ns != written


def test_the_loss_of_two_views_by_hand() -> None:
    """By hand: nothing where all agree, the mean divergence from the truth, half the sum of both between the views."""
    first, second, truth = (torch.tensor(one) for one in ([0.7, 0.1, 0.1, 0.05, 0.05], [0.2] * 5, [0.2] * 5))

    def loss(one: torch.Tensor, other: torch.Tensor, alike: float) -> float:
        return float(consistency_loss(torch.stack([one, other]).log(), truth[None], alike))

    def divergence(one: torch.Tensor, other: torch.Tensor) -> float:
        return float((one * (one / other).log()).sum())

    assert loss(truth, truth, 1.0) == pytest.approx(0, abs=1e-6)
    assert loss(first, second, 0.0) == pytest.approx(divergence(truth, first) / 2, abs=1e-5)
    between = (divergence(first, second) + divergence(second, first)) / 2
    assert loss(first, second, 2.0) - loss(first, second, 0.0) == pytest.approx(2 * between, abs=1e-5)


@pytest.mark.parametrize("seed", range(6))
def test_a_knee_on_a_film_is_laid_as_on_its_crop(knees: list[LabelledKnee], seed: int) -> None:
    """Wherever composing lays it, turned and resized: cut out of the film it is the knee of the crop."""
    random = np.random.default_rng(seed)
    right, left = (Crop(knee.read(), pose=Pose((145 + 8 * at, 152), 260, 6)) for at, knee in enumerate(knees[:2]))
    pair = right, mirrored(left)
    film = compose(
        pair,
        random,
        joint=(220, 260),
        longest=1200,
        grain=0.01,
        with_markers=False,
        seams=OUTSIDE,
    )
    for crop, joint in zip(pair, film.joints, strict=True):
        assert crop.pose is not None
        pose, middle = crop.pose_on_film(joint), (slice(8, -8), slice(8, -8))
        found = cut(film.pixels, pose, 64)[middle].ravel()
        wanted = cut(crop.pixels, crop.pose, 64)[middle].ravel()
        beside = cut(film.pixels, Pose(pose.middle, pose.side, pose.turn + 5), 64)[middle].ravel()
        assert np.corrcoef(found, wanted)[0, 1] > max(0.95, np.corrcoef(beside, wanted)[0, 1])


def test_an_interrupted_consistency_training_resumes(
    tmp_path: Path, knees: list[LabelledKnee], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does the steps that were left and ends with the same weights; another recipe's checkpoint is refused."""
    monkeypatch.setattr("workers.training.consistency.EVERY", 2)
    start, poses = untaught(), crop_poses(knees, load(REFINER))
    before = {key: value.clone() for key, value in start.state_dict().items()}
    losses: dict[int, float] = {}
    whole = train_consistency(RECIPE, start, knees, poses, tmp_path / "whole", on_step=losses.__setitem__)
    assert list(losses) == [1, 2, 3, 4]

    def stop(step: int, loss: float) -> None:
        if step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_consistency(RECIPE, start, knees, poses, tmp_path / "torn", on_step=stop)
    steps: list[int] = []
    resumed = train_consistency(
        RECIPE, start, knees, poses, tmp_path / "torn", on_step=lambda step, loss: steps.append(step)
    )
    assert steps == [3, 4]
    for ours, theirs in zip(resumed.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-2)
    with pytest.raises(ValueError, match="another recipe"):
        train_consistency(ConsistencyRecipe(seed=3), start, knees, poses, tmp_path / "torn")
    for key, value in start.state_dict().items():
        torch.testing.assert_close(value, before[key])  # the one that is taught is a copy
    changed = [key for key, value in whole.state_dict().items() if not torch.equal(value, before[key])]
    assert changed
    assert not [key for key in changed if "running" in key]


def test_a_part_interpolates_between_teacher_and_student(tmp_path: Path, knees: list[LabelledKnee]) -> None:
    """Every weight is that part of both; none of the way is the teacher."""
    start, poses = untaught(), crop_poses(knees, load(REFINER))
    whole, half = (
        train_consistency(replace(RECIPE, part=part), start, knees, poses, tmp_path / str(part)).state_dict()
        for part in (1.0, 0.25)
    )
    for key, before in start.state_dict().items():
        if before.is_floating_point():
            torch.testing.assert_close(half[key], 0.75 * before + 0.25 * whole[key], atol=1e-5, rtol=1e-2)


def test_the_student_learns_its_targets(tmp_path: Path, knees: list[LabelledKnee]) -> None:
    """Of a single knee, whose readers are believed, the last losses are much smaller than the first."""
    losses: list[float] = []
    recipe = ConsistencyRecipe(sizes=((24, 64),), batch=8, learning_rate=1e-3, labels=0.9, joint=(70, 110), processes=0)
    alone = knees[4:5]
    train_consistency(
        recipe,
        untaught(),
        alone,
        crop_poses(alone, load(REFINER)),
        tmp_path,
        on_step=lambda step, loss: losses.append(loss),
    )
    assert np.mean(losses[-6:]) < 0.5 * np.mean(losses[:6])
