"""Joints on composed films, their boxes off by what the finder misses, their poses by what the landmarks do."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from rich.console import Console
from rich.progress import track

from workers.evaluation.labelled_films import pose_on
from workers.evaluation.labelled_knees import LabelledKnee, both_knees
from workers.models.registry import Model
from workers.preprocessing import Box, Grey, Pose
from workers.training.films import OUTSIDE, Crop, compose


@dataclass(frozen=True)
class FilmJoint:
    """A labelled knee as it hangs on a film with bright bones, and its box there as the finder may see it."""

    knee: LabelledKnee
    pixels: Grey
    box: Box


def joints_on_films(
    knees: Sequence[LabelledKnee], count: int, random: np.random.Generator, *, joint: tuple[float, float]
) -> Iterator[FilmJoint]:
    """`count` knees on films on which a joint is `joint` pixels wide."""
    pairs: Sequence[Sequence[LabelledKnee]] = both_knees(knees) or [(knee,) for knee in knees]
    made = 0
    while made < count:
        both = pairs[int(random.integers(len(pairs)))]
        chosen = both if random.random() < 0.6 else (both[int(random.integers(len(both)))],)
        crops = [Crop(knee.as_hung()) for knee in chosen]
        film = compose(crops, random, joint=joint, longest=1600, grain=random.uniform(0.3, 1), seams=OUTSIDE)
        for knee, box in zip(chosen, film.boxes, strict=True):
            if made < count:
                made += 1
                yield FilmJoint(knee, film.pixels, missed(box, random))


def missed(box: Box, random: np.random.Generator) -> Box:
    """The box as the finder may see it."""
    x, y = np.array(box.middle) + np.clip(random.normal(0, 0.02, 2), -0.05, 0.05) * box.width
    return Box.about((float(x), float(y)), box.width * float(np.exp(np.clip(random.normal(0, 0.03), -0.08, 0.08))))


def missed_pose(pose: Pose, random: np.random.Generator) -> Pose:
    """The joint as its landmarks may place it."""
    x, y = np.array(pose.middle) + np.clip(random.normal(0, 0.008, 2), -0.03, 0.03) * pose.side
    side = pose.side * float(np.exp(np.clip(random.normal(0, 0.02), -0.06, 0.06)))
    return Pose((float(x), float(y)), side, pose.turn + float(np.clip(random.normal(0, 0.8), -3, 3)))


def poses_of(knees: Sequence[LabelledKnee], landmark_model: Model) -> list[Pose]:
    """How each knee lies on its crop, as a right one with bright bones."""
    poses = []
    for knee in track(knees, "Landmarks", transient=True, console=Console(stderr=True)):
        pixels = knee.read()
        poses.append(pose_on(pixels, Box.whole(pixels), landmark_model))
    return poses
