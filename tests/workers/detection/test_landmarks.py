"""What refinement tells apart: knees to grade, replaced joints, casts, other parts; and where the joint lies."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.finding import Laterality
from tests.paths import ROOT
from tests.samples.real_knees import needs_knees, pixels, some_knees
from tests.workers.detection.test_joints import as_film, rendered
from workers.analysis import Candidate, prepare_film
from workers.detection.detection_models import DetectionModels, load_detection_models
from workers.detection.landmarks import MOST_MOVED, MOST_SIZED, MOST_TURNED, TYPICAL, pose_of
from workers.eligibility import Rules
from workers.models.labels import HARDWARE
from workers.phantom import KneeShape, render
from workers.preprocessing import Box, Pose
from workers.read import Film
from workers.training import other_anatomy
from workers.training.films import Crop, compose, left_to_right
from workers.training.films.joint import points_of
from workers.training.implants import KINDS, add_implant, add_remote_metal

R, L = Laterality.RIGHT, Laterality.LEFT


@pytest.fixture(scope="module")
def models() -> DetectionModels:
    return load_detection_models()


def candidates(film: Film, models: DetectionModels) -> tuple[Candidate, ...]:
    return prepare_film(film, models, Rules()).candidates


def refusals(film: Film, models: DetectionModels) -> list[str]:
    """The reason of each knee, "" where it may be graded; of a film without one, the film's."""
    prepared = prepare_film(film, models, Rules())
    of_knees = [candidate.refusal.code if candidate.refusal else "" for candidate in prepared.candidates]
    return [prepared.refusal.code] if prepared.refusal else of_knees


@pytest.mark.parametrize("seed", range(3))
def test_a_joint_cut_off_above_is_not_graded_beside_a_whole_one(models: DetectionModels, seed: int) -> None:
    """Though its rims are visible; and what the header states is meant of the whole one."""
    film = rendered(render([KneeShape(R), KneeShape(L)], rows=1800, columns=2200, seed=seed))
    box = candidates(film, models)[1].knee.joint.box
    begin = int(box.y0 + 0.35 * box.height)
    film.pixels[:-begin, 1100:] = film.pixels[begin:, 1100:].copy()
    film.header.ImageLaterality = "R"
    whole, part = candidates(film, models)
    assert whole.refusal is None
    assert (whole.knee.laterality, whole.knee.side.source) == (R, "ImageLaterality")
    assert part.refusal is not None
    assert part.refusal.code == "JOINT_CUT_OFF"
    assert part.knee.joint.box.y0 < 0


@pytest.mark.parametrize("seed", range(3))
def test_landmarks_lie_in_the_box_and_the_tilt_follows_the_film(models: DetectionModels, seed: int) -> None:
    """Plateau and condyles run from left to right across the box; the plateau of an upright knee is about level."""
    film = rendered(render([KneeShape(R), KneeShape(L)], rows=1800, columns=2200, seed=seed))
    joints = [candidate.knee.joint for candidate in candidates(film, models)]
    assert len(joints) == 2
    for joint in joints:
        assert joint.landmarks is not None
        plateau = joint.landmarks[:9]
        assert (np.diff(plateau[:, 0]) > 0).all()
        assert joint.box.x0 < plateau[0, 0] < plateau[-1, 0] < joint.box.x1
        assert joint.box.y0 < plateau[:, 1].min() < plateau[:, 1].max() < joint.box.y1
        assert abs(joint.tilt) < 12


@given(
    shift=st.tuples(st.floats(-0.1, 0.1), st.floats(-0.1, 0.1)), size=st.floats(-0.15, 0.15), turn=st.floats(-25, 25)
)
def test_the_pose_lays_an_average_knee_onto_the_landmarks(shift: tuple[float, float], size: float, turn: float) -> None:
    """Landmarks that are an average knee's, moved, scaled and turned, give that pose; their mirror image too."""
    box = Box(100, 200, 500, 600)
    laid = Pose((300 + 400 * shift[0], 400 + 400 * shift[1]), 400 * float(np.exp(size)), turn)
    points = ((TYPICAL - 0.5) * laid.side @ laid.axes + np.array(laid.middle)).astype(np.float32)
    pose = pose_of(points, box)
    assert pose.middle == pytest.approx(laid.middle, abs=0.01)
    assert (pose.side, pose.turn) == pytest.approx((laid.side, turn), abs=0.01)
    np.testing.assert_allclose(pose.within(points), TYPICAL, atol=1e-4)
    flipped = pose_of(left_to_right(points * [-1, 1] + np.array([600, 0])), box)
    assert flipped.middle[0] == pytest.approx(600 - pose.middle[0], abs=0.01)
    assert flipped.turn == pytest.approx(-turn, abs=0.01)


def test_impossible_landmarks_are_clipped() -> None:
    """However they lie, what is graded stays near the box; without any it is the box."""
    box, random = Box(100, 200, 500, 600), np.random.default_rng(4)
    for points in (np.zeros((16, 2)), np.full((16, 2), 1e6), random.normal(0, 1e4, (16, 2)), TYPICAL[::-1] * 1e-3):
        pose = pose_of(points.astype(np.float32), box)
        assert np.abs(np.array(pose.middle) - box.middle).max() <= MOST_MOVED * 400 + 1e-6
        assert abs(np.log(pose.side / 400)) <= MOST_SIZED + 1e-9
        assert abs(pose.turn) <= MOST_TURNED
    assert pose_of(None, box) == Pose.of(box)


@needs_knees
def test_replaced_knees_are_refused_and_others_are_not(models: DetectionModels) -> None:
    """Of 30 val knees at most one is refused as it is; with a replacement drawn in, at most one is not."""
    graded = refused = 0
    for at, row in enumerate(some_knees("val", 30)):
        knee = pixels(row).astype(np.float32) / 255
        graded += refusals(as_film(knee), models) == [""]
        laid, _ = add_implant(knee, points_of(Crop(knee)), "total_replacement", np.random.default_rng(at))
        refused += refusals(as_film(laid), models) != [""]
    assert (graded >= 29, refused >= 29) == (True, True), (graded, refused)


@needs_knees
def test_an_implant_on_one_side_leaves_the_other_gradable(models: DetectionModels) -> None:
    """A film of two knees, one of them replaced: one has a reason, the other none."""
    rows = some_knees("val", 8)
    right = next(row for row in rows if row["side"] == "R")
    left = next(row for row in rows if row["side"] == "L")
    crops = [pixels(row).astype(np.float32) / 255 for row in (right, left)]
    laid, _ = add_implant(crops[1], points_of(Crop(crops[1])), "total_replacement", np.random.default_rng(3))
    gap = np.zeros((299, 40), np.float32)
    film = as_film(np.hstack([crops[0], gap, laid]))
    assert refusals(film, models) == ["", "TOTAL_REPLACED"]


@needs_knees
def test_metal_beside_the_joint_is_segmented(models: DetectionModels) -> None:
    """A screw or a staple in a shaft refuses nothing, and most are found; on a knee without one there is none."""
    with_metal, without = [], []
    for at, row in enumerate(some_knees("val", 12)):
        knee = pixels(row).astype(np.float32) / 255
        laid, _ = add_remote_metal(knee, points_of(Crop(knee)), np.random.default_rng(at))
        for film, metal in ((as_film(laid), with_metal), (as_film(knee), without)):
            (found,) = candidates(film, models)
            metal.append(bool((found.knee.labels == HARDWARE).any()) or found.refusal is not None)
    assert (sum(with_metal) >= 10, sum(without)) == (True, 0), (with_metal, without)


@pytest.mark.parametrize("part", other_anatomy.BODY_PARTS)
def test_other_parts_are_drawn_at_every_size_and_refused(models: DetectionModels, part: str) -> None:
    """The same seed gives the same picture, in range and not blank; no knee is graded on it."""
    for size in ((96, 96), (220, 300), (300, 180)):
        drawn = other_anatomy.draw(part, np.random.default_rng(5), size)
        assert drawn.shape == size
        assert 0 <= drawn.min() < drawn.max() <= 1
        np.testing.assert_array_equal(drawn, other_anatomy.draw(part, np.random.default_rng(5), size))
    assert "" not in refusals(as_film(other_anatomy.draw(part, np.random.default_rng(8), (400, 400))), models)


@pytest.mark.parametrize("kind", [*KINDS, "remote"])
@pytest.mark.parametrize("size", [96, 400])
def test_metal_brightens_what_it_covers_and_keeps_the_range(kind: str, size: int) -> None:
    """The same seed lays the same metal, within the picture's range, and its box is on the picture."""
    knee = np.full((size, size), 0.4, np.float32)
    knee[size // 3 :] += 0.1

    def laid() -> tuple[np.ndarray, object]:  # type: ignore[type-arg]
        random, points = np.random.default_rng(7), points_of(Crop(knee))
        return add_remote_metal(knee, points, random) if kind == "remote" else add_implant(knee, points, kind, random)

    picture, box = laid()
    assert picture.shape == knee.shape
    assert 0 <= picture.min() < picture.max() <= 1
    assert picture.max() > knee.max()
    assert box is not None
    np.testing.assert_array_equal(picture, laid()[0])


@pytest.mark.parametrize("seed", range(6))
def test_landmarks_move_with_the_joint_they_belong_to(seed: int) -> None:
    """A bright dot in the crop lies where the film's landmark says it does."""
    random = np.random.default_rng(seed)
    knee = np.full((299, 299), 0.1, np.float32)
    points = points_of(Crop(knee))
    x, y = points[4].astype(int)
    knee[y - 4 : y + 5, x - 4 : x + 5] = 1
    film = compose([Crop(knee, points)], random, joint=(200, 260))
    (joint,) = film.joints
    assert joint.points is not None
    at_x, at_y = joint.points[4].astype(int)
    around = cv2.GaussianBlur(film.pixels, (0, 0), 2)[at_y - 20 : at_y + 21, at_x - 20 : at_x + 21]
    row, column = np.unravel_index(around.argmax(), around.shape)
    assert abs(int(row) - 20) <= 3
    assert abs(int(column) - 20) <= 3


def test_weights_are_small() -> None:
    """Detector and refiner together stay below six megabytes."""
    folder = ROOT / "workers" / "models" / "weights"
    assert sum((folder / f"{name}.safetensors").stat().st_size for name in ("finder", "look")) < 6e6
