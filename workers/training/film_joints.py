"""Joints on composed films, with the errors of the detector in their boxes and of the landmarks in their poses."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from rich.console import Console
from rich.progress import track

from workers.evaluation.labelled_films import joint_pose
from workers.evaluation.labelled_knees import LabelledKnee, both_knees
from workers.models.registry import Model
from workers.preprocessing import Box, Grey, Pose
from workers.training.films import OUTSIDE, Crop, compose


@dataclass(frozen=True)
class FilmJoint:
    """A labelled knee on a film with bright bones, and its box there with a detection error."""

    knee: LabelledKnee
    pixels: Grey
    box: Box


def joints_on_composed_films(
    knees: Sequence[LabelledKnee], count: int, random: np.random.Generator, *, joint: tuple[float, float]
) -> Iterator[FilmJoint]:
    """`count` knees on films on which a joint is `joint` pixels wide."""
    pairs: Sequence[Sequence[LabelledKnee]] = both_knees(knees) or [(knee,) for knee in knees]
    done = 0
    while done < count:
        pair = pairs[int(random.integers(len(pairs)))]
        chosen = pair if random.random() < 0.6 else (pair[int(random.integers(len(pair)))],)
        crops = [Crop(knee.as_displayed()) for knee in chosen]
        film = compose(crops, random, joint=joint, longest=1600, grain=random.uniform(0.3, 1), seams=OUTSIDE)
        for knee, box in zip(chosen, film.boxes, strict=True):
            if done < count:
                done += 1
                yield FilmJoint(knee, film.pixels, with_detection_error(box, random))


def with_detection_error(box: Box, random: np.random.Generator) -> Box:
    """The box with a random error of the detector."""
    x, y = np.array(box.middle) + np.clip(random.normal(0, 0.02, 2), -0.05, 0.05) * box.width
    return Box.about((float(x), float(y)), box.width * float(np.exp(np.clip(random.normal(0, 0.03), -0.08, 0.08))))


def with_pose_error(pose: Pose, random: np.random.Generator) -> Pose:
    """The pose with a random error of the landmarks."""
    x, y = np.array(pose.middle) + np.clip(random.normal(0, 0.008, 2), -0.03, 0.03) * pose.side
    side = pose.side * float(np.exp(np.clip(random.normal(0, 0.02), -0.06, 0.06)))
    return Pose((float(x), float(y)), side, pose.turn + float(np.clip(random.normal(0, 0.8), -3, 3)))


def crop_poses(knees: Sequence[LabelledKnee], refiner: Model) -> list[Pose]:
    """The pose of each knee on its crop, as a right one with bright bones."""
    poses = []
    for knee in track(knees, "Landmarks", transient=True, console=Console(stderr=True)):
        pixels = knee.read()
        poses.append(joint_pose(pixels, Box.whole(pixels), refiner))
    return poses
