"""Random films as varied as those that clinics send: to train and test the joint detector."""

from dataclasses import replace

import numpy as np

from node.finding import Laterality
from workers.phantom import markers
from workers.phantom.film import Exposure, Scene, expose
from workers.phantom.framing import PLATEAU_WIDTH_MM, PLATEAU_WIDTH_OF_BOX
from workers.phantom.shape import KneeShape, Pose, RenderedFilm
from workers.phantom.tissue import Leg

BOX_MM = PLATEAU_WIDTH_MM / PLATEAU_WIDTH_OF_BOX
"""Side of the joint box of an average knee."""

SIDES = (Laterality.RIGHT, Laterality.LEFT)

WORDS = ("AP", "PA", "STANDING", "WB", "ERECT", "KNEE", "BEIN", "STEHEND", "XR", "40in", "2/4", "RAD 3", "FLEX")


def random_film(
    random: np.random.Generator,
    *,
    rows: int = 320,
    columns: int = 256,
    one_knee: float = 0.45,
    tight: float = 0.15,
    blank: float = 0.0,
    fine: int = 2,
) -> RenderedFilm:
    """
    A random film of one or two knees, with its true boxes.

    `blank` is the share that shows no knee (shafts of legs, or no leg at all), `tight` the share of the others cut
    closely about one joint (their box may reach a little beyond the film), `one_knee` the share of what is left with
    a single knee. `fine` is the number of rays per pixel along each side: 1 is faster and coarser.
    """
    kind = random.uniform()
    if kind < blank:
        return _without_joint(random, rows, columns, fine)
    if kind < blank + (1 - blank) * tight:
        return _closely(random, rows, columns, fine)
    count = 1 if random.uniform() < one_knee else 2
    # The spacing that lets the joints fill the part of the film that they fill on real ones.
    across_mm = random.uniform(130, 330) if count == 1 else random.uniform(250, 470)
    spacing = across_mm / columns
    sides = [*SIDES] if count == 2 else [_side(random)]
    if count == 2 and random.uniform() < 0.04:
        sides.reverse()
    scale = random.uniform(0.82, 1.2)
    knees = tuple(_knee(random, side, scale * random.uniform(0.96, 1.04)) for side in sides)
    poses = _poses(random, rows, columns, spacing, knees)
    legs = _legs(random, count)
    return expose(_scene(random, rows, columns, spacing, knees, poses, legs, fine), random)


def _closely(random: np.random.Generator, rows: int, columns: int, fine: int) -> RenderedFilm:
    """One joint fills the film, as on crops in archives."""
    knee = _knee(random, _side(random), random.uniform(0.82, 1.2))
    spacing = BOX_MM * knee.scale * random.uniform(0.95, 1.6) / min(rows, columns)
    box = BOX_MM * knee.scale / spacing
    # The box lies about centred: half the slack either way.
    slack = (max(columns - box, 0) / 2, max(rows - box, 0) / 2)
    x = columns / 2 + random.uniform(-1, 1) * (slack[0] + 0.03 * box)
    y = rows / 2 + 0.125 * box + random.uniform(-1, 1) * (slack[1] + 0.04 * box)
    pose = Pose(x, y, random.normal(0, 3))
    return expose(_scene(random, rows, columns, spacing, (knee,), (pose,), _legs(random, 1), fine), random)


def _without_joint(random: np.random.Generator, rows: int, columns: int, fine: int) -> RenderedFilm:
    """A film without a knee joint: the shafts of a thigh or a lower leg, or only text."""
    spacing = random.uniform(130, 400) / columns
    count = int(random.integers(0, 3))
    sides = SIDES[:count]
    knees = tuple(_knee(random, side, random.uniform(0.8, 1.2)) for side in sides)
    away = (rows * 0.5 + random.uniform(75, 130) / spacing) * random.choice([-1, 1])
    poses = tuple(
        Pose(columns * (0.5 if count == 1 else 0.27 + 0.46 * i) + random.normal(0, 0.04) * columns, rows / 2 + away)
        for i in range(count)
    )
    film = expose(_scene(random, rows, columns, spacing, knees, poses, _legs(random, count), fine), random)
    return replace(film, boxes=(), knees=(), joint_spaces=())


def _side(random: np.random.Generator) -> Laterality:
    """Right or left. By its index: Generator.choice would return a numpy.str_, which is no Laterality."""
    return SIDES[int(random.integers(len(SIDES)))]


def _knee(random: np.random.Generator, side: Laterality, scale: float) -> KneeShape:
    """A knee of random severity, from healthy to severe osteoarthritis."""
    worn = random.uniform() ** 1.5
    narrow = random.uniform(5.8, 6.2) - worn * random.uniform(1, 6)
    wide = random.uniform(4.2, 7.2)
    medial, lateral = (narrow, wide) if random.uniform() < 0.7 else (wide, narrow)
    tilt = random.normal(0, 3) + (3 if medial < lateral else -3) * worn
    spurs = float(np.clip(worn * random.uniform(0, 1.3), 0, 1))
    return KneeShape(side, max(0.0, medial), max(0.0, lateral), spurs, float(np.clip(tilt, -12, 12)), scale)


def _poses(
    random: np.random.Generator, rows: int, columns: int, spacing: float, knees: tuple[KneeShape, ...]
) -> tuple[Pose, ...]:
    """Random poses that keep each box on the film as far as it fits, and two knees apart."""
    turn = random.normal(0, 4)
    boxes = [BOX_MM * knee.scale / spacing for knee in knees]
    line = random.normal(0.5, 0.1) * rows
    if len(knees) == 1:
        across = [_within(random.normal(0.5, 0.12) * columns, boxes[0], columns, 0.5)]
    else:
        apart = max(float(random.uniform(0.36, 0.58) * columns), 1.02 * max(boxes))
        middle = columns / 2 + random.normal(0, 0.025) * columns
        across = [_within(middle + sign * apart / 2, boxes[i], columns, 0.5) for i, sign in enumerate((-1, 1))]
    return tuple(
        Pose(x, _within(line + random.normal(0, 0.02) * rows, box, rows, 0.625), turn + random.normal(0, 3))
        for x, box in zip(across, boxes, strict=True)
    )


def _within(place: float, box: float, length: int, share: float) -> float:
    """The place moved so that the box, which has `share` of itself before it, lies on the film if it fits."""
    return float(np.clip(place, share * box, length - (1 - share) * box)) if box < length else length * share


def _legs(random: np.random.Generator, count: int) -> tuple[Leg, ...]:
    """Slim and stout people; both legs of one person are nearly alike."""
    width, depth = random.uniform(0.85, 1.35), random.uniform(0.8, 1.4)
    fat = random.uniform(3, 18)
    return tuple(Leg(width * random.uniform(0.97, 1.03), depth * random.uniform(0.97, 1.03), fat) for _ in range(count))


def _scene(
    random: np.random.Generator,
    rows: int,
    columns: int,
    spacing: float,
    knees: tuple[KneeShape, ...],
    poses: tuple[Pose, ...],
    legs: tuple[Leg, ...],
    fine: int,
) -> Scene:
    """The knees with random exposure, text and collimation."""
    exposure = Exposure(
        photons=float(10 ** random.uniform(2.6, 5.2)),
        noise=1.0,
        scatter=random.uniform(0.1, 1.6),
        blur_mm=random.uniform(0.1, 1.0),
        contrast=float(np.exp(random.normal(0, 0.35))),
        brightness=random.normal(0, 0.12),
        gamma=float(np.exp(random.normal(0, 0.35))),
        edges=random.uniform(0, 1.2),
    )
    return Scene(
        rows, columns, spacing, knees, poses, legs, exposure,
        lead=_lead(random, rows, columns, spacing),
        printed=_printed(random, rows, columns),
        window=_window(random, rows, columns, spacing, knees, poses),
        fine=fine,
        seed=int(random.integers(1 << 31)),
    )  # fmt: skip


def _lead(random: np.random.Generator, rows: int, columns: int, spacing: float) -> tuple[markers.TextMark, ...]:
    """No, one or two lead letters anywhere, right or wrong: a detector must not learn the side from them."""
    return tuple(
        markers.TextMark(
            str(random.choice(["R", "L", "RE", "LI", "D", "G", "I"])), random.uniform(0.03, 0.97) * columns,
            random.uniform(0.03, 0.97) * rows, random.uniform(6, 18) / spacing, random.normal(0, 12),
            mirrored=random.uniform() < 0.05, frame=random.uniform() < 0.3,
        )
        for _ in range(int(random.integers(0, 3)))
    )  # fmt: skip


def _printed(random: np.random.Generator, rows: int, columns: int) -> tuple[markers.TextMark, ...]:
    """Text burnt in near the edges, on some films."""
    if random.uniform() < 0.65:
        return ()
    return tuple(
        markers.TextMark(
            " ".join(random.choice(WORDS, int(random.integers(1, 3)))), random.uniform(0.1, 0.9) * columns,
            float(random.choice([random.uniform(0.02, 0.12), random.uniform(0.88, 0.98)])) * rows,
            max(4.0, random.uniform(0.015, 0.04) * rows),
        )
        for _ in range(int(random.integers(1, 4)))
    )  # fmt: skip


def _window(
    random: np.random.Generator,
    rows: int,
    columns: int,
    spacing: float,
    knees: tuple[KneeShape, ...],
    poses: tuple[Pose, ...],
) -> markers.CollimatorWindow | None:
    """A collimator's window about the joints, or none."""
    if random.uniform() < 0.35:
        return None
    reach = [(pose.x, pose.y, 0.5 * BOX_MM * knee.scale / spacing) for knee, pose in zip(knees, poses, strict=True)]
    left = min((x - side for x, _, side in reach), default=columns * 0.3)
    right = max((x + side for x, _, side in reach), default=columns * 0.7)
    top = min((y - 1.25 * side for _, y, side in reach), default=rows * 0.3)
    bottom = max((y + 0.75 * side for _, y, side in reach), default=rows * 0.7)
    # Between the joint and the film's edge, nearer the edge more often.
    wide = 1 - random.uniform(0, 1, 4) ** 2
    x0, y0 = max(left, 0) * (1 - wide[0]), max(top, 0) * (1 - wide[1])
    x1 = columns - max(columns - right, 0) * (1 - wide[2])
    y1 = rows - max(rows - bottom, 0) * (1 - wide[3])
    shutter = random.choice([0.0, 0.0, 0.0, 1.0, 0.5, -1.0])
    return markers.CollimatorWindow(x0, y0, x1, y1, random.normal(0, 1.5), None if shutter < 0 else float(shutter))
