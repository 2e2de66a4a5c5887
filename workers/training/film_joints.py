"""Joints as they are cut out of composed films, their boxes off by what the finder misses."""

from collections.abc import Iterator, Sequence

import numpy as np

from workers.prepare import Box, Grey, crop
from workers.training.films import Crop, compose
from workers.training.knees import LabelledKnee, both_knees


def joints_on_films(
    knees: Sequence[LabelledKnee], count: int, random: np.random.Generator, *, size: int, joint: tuple[float, float]
) -> Iterator[tuple[LabelledKnee, Grey]]:
    """`count` knees as hung with bright bones, (size, size), off films on which a joint is `joint` pixels wide."""
    pairs: Sequence[Sequence[LabelledKnee]] = both_knees(knees) or [(knee,) for knee in knees]
    made = 0
    while made < count:
        both = pairs[int(random.integers(len(pairs)))]
        chosen = both if random.random() < 0.6 else (both[int(random.integers(len(both)))],)
        crops = [Crop(knee.as_hung()) for knee in chosen]
        film = compose(crops, random, joint=joint, longest=1600, grain=random.uniform(0.3, 1))
        for knee, box in zip(chosen, film.boxes, strict=True):
            if made < count:
                made += 1
                yield knee, crop(film.pixels, missed(box, random), size)


def missed(box: Box, random: np.random.Generator) -> Box:
    """The box as the finder may see it."""
    x, y = np.array(box.middle) + np.clip(random.normal(0, 0.02, 2), -0.05, 0.05) * box.width
    return Box.about((float(x), float(y)), box.width * float(np.exp(np.clip(random.normal(0, 0.03), -0.08, 0.08))))
