"""Films composed of crops: one or two knees, close, far, cut by an edge, or a long-leg film with hip and ankle."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt

from workers.models.labels import CAST, KNEE, LATERAL, METAL, OTHER, PARTLY_REPLACED, REPLACED, SKYLINE
from workers.preprocessing import Box, Grey
from workers.training import other_anatomy
from workers.training.films.background import add_acquisition_effects, background
from workers.training.films.joint import Crop, LabelledFilm, LabelledJoint, moved, points_of
from workers.training.films.leg import ANYWHERE, Leg, Seams, leg_of
from workers.training.films.overlay import overlay
from workers.training.implants import add_implant, add_remote_metal

METALS = {
    "total_replacement": REPLACED, "partial_replacement": PARTLY_REPLACED, "nail": METAL, "plate": METAL,
    "screws": METAL, "staples": METAL, "wires": METAL, "fixator": METAL, "cast": CAST,
}  # fmt: skip
"""What is put on a joint, and the kind of the joint then."""

ALMOST_SQUARE = (0.8, 1.25)
LARGEST = 1.04
"""Side of a joint's box on a film, of the layout's."""


@dataclass(frozen=True)
class Layout:
    """A film's rows and columns, the joint boxes' side, and their middles (x, y), all in pixels."""

    rows: int
    columns: int
    side: float
    middles: tuple[tuple[float, float], ...]
    long: bool = False


def compose(
    crops: Sequence[Crop],
    random: np.random.Generator,
    *,
    joint: tuple[float, float] = (90, 170),
    longest: int = 640,
    metal: float = 0.0,
    grain: float = 1.0,
    with_markers: bool = True,
    seams: Seams = ANYWHERE,
) -> LabelledFilm:
    """
    A film of one knee, or of two as displayed (the patient's right knee first, on the image's left).

    `joint` is how many pixels wide a joint's box may be, `longest` the film's long side at most, `metal` the share of
    joints that are replaced, plated or in a cast, and `grain` how coarse noise and blur are. Without `with_markers`
    there is neither lead nor text on it. `seams` are where the crops may end: OUTSIDE the joint if it is to be graded.
    """
    layout = _layout(len(crops), random, joint, longest)
    film = background(layout.rows, layout.columns, random)
    joints = []
    beside, max_beside = layout.side * random.uniform(0.05, 0.7), _max_width_beside(layout, seams)
    for crop, middle in zip(crops, layout.middles, strict=True):
        crop, kind = with_metal(crop, random) if random.random() < metal else (crop, KNEE)
        size = layout.side * random.uniform(0.96, LARGEST)
        leg = _leg(crop, layout, middle, size, min(max_beside, beside * random.uniform(0.9, 1.1)), seams, random)
        turn = float(np.clip(random.normal(0, 5), -15, 15))
        joints.append(replace(place_leg(film, leg, middle, turn), kind=kind))
    return LabelledFilm(
        add_acquisition_effects(film, joints, random, grain=grain, with_markers=with_markers), tuple(joints), KNEE
    )


def with_metal(crop: Crop, random: np.random.Generator) -> tuple[Crop, int]:
    """The crop with an implant or a cast on its joint, and the kind of the joint then."""
    names, weights = list(METALS), np.array([6, 3, 1, 1.5, 1.5, 1, 0.7, 0.7, 1.2])
    name = str(random.choice(names, p=weights / weights.sum()))
    pixels, _ = add_implant(crop.pixels, points_of(crop), name, random)
    return replace(crop, pixels=pixels), METALS[name]


def with_remote_metal(crop: Crop, random: np.random.Generator) -> Crop:
    """The crop with a screw or a staple away from the joint: still a knee to grade."""
    pixels, _ = add_remote_metal(crop.pixels, points_of(crop), random)
    return replace(crop, pixels=pixels)


def place_leg(film: Grey, leg: Leg, middle: tuple[float, float], degrees: float) -> LabelledJoint:
    """Blend a leg into the film, in place, turned and its joint's middle at `middle`; the joint on the film."""
    centre = leg.joint.box.middle
    move = np.asarray(cv2.getRotationMatrix2D(centre, -degrees, 1.0), np.float64)
    move[:, 2] += np.array(middle) - centre
    rows, columns = film.shape
    # Pixel centres lie at halves in boxes and at whole numbers in OpenCV's maps.
    shift = move[:, 2] + move[:, :2] @ [0.5, 0.5] - 0.5
    onto: npt.NDArray[np.float64] = np.column_stack([move[:, :2], shift])
    pixels = cv2.warpAffine(leg.pixels, onto, (columns, rows), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    cover = cv2.warpAffine(leg.cover, onto, (columns, rows), flags=cv2.INTER_LINEAR)
    overlay(film, cover, pixels)
    return moved(leg.joint, move)


def _layout(count: int, random: np.random.Generator, joint: tuple[float, float], longest: int) -> Layout:
    """Where joints lie on a film, in sides of a joint first and in pixels then."""
    long = random.random() < 0.14
    apart = random.uniform(1.0, 2.0) if count == 2 else 0.0
    if long:
        high, wide = random.uniform(5.5, 10.5), apart + random.uniform(1.1, 2.4)
        level = high * random.uniform(0.4, 0.62)
    elif random.random() < 0.25:  # a crop of the joint, a little wider, narrower or beside it
        high = wide = apart + random.uniform(0.85, 1.4)
        wide *= random.uniform(*ALMOST_SQUARE)
        level = high * 0.5 + random.normal(0, 0.04)
    else:
        high, wide = random.uniform(1.0, 3.6), apart + random.uniform(0.95, 2.6 if count == 1 else 1.9)
        level = _random_level(high, random)
    side = min(random.uniform(*joint), longest / max(high, wide))
    slack = max(0.0, wide - apart - 1)
    first = (wide - apart) / 2 + random.uniform(-0.5, 0.5) * slack + random.normal(0, 0.03)
    middles = tuple((side * (first + at * apart), side * (level + random.normal(0, 0.05))) for at in range(count))
    return Layout(max(24, round(high * side)), max(24, round(wide * side)), side, middles, long)


def _random_level(high: float, random: np.random.Generator) -> float:
    """A level where the joint lies on the film, sometimes cut a little by its edge."""
    if high <= 1.1:
        return high / 2
    if random.random() < 0.15:
        return float(random.choice([random.uniform(0.38, 0.55), high - random.uniform(0.38, 0.55)]))
    return float(np.clip(high * random.uniform(0.3, 0.7), 0.5, high - 0.5))


def _max_width_beside(layout: Layout, seams: Seams) -> float:
    """How many pixels of leg may lie beside a joint, so that parallel legs do not cover each other's joints."""
    if not seams.uncovered or len(layout.middles) < 2:
        return float("inf")
    apart = layout.middles[1][0] - layout.middles[0][0]
    return max(1.0, apart - (0.5 + seams.uncovered) * LARGEST * layout.side)


def _leg(
    crop: Crop,
    layout: Layout,
    middle: tuple[float, float],
    size: float,
    beside: float,
    seams: Seams,
    random: np.random.Generator,
) -> Leg:
    """A leg that reaches beyond the film's edges however it is turned; of a long one also hip and ankle."""
    spare = 0.3 * layout.columns
    up, down = middle[1] - size / 2 + spare, layout.rows - middle[1] - size / 2 + spare
    leg = leg_of(crop, random, size=size, up=up, down=down, beside=beside, seams=seams)
    if layout.long:
        top = leg.joint.box.y0 - random.uniform(2.6, 4.2) * size
        bottom = leg.joint.box.y1 + random.uniform(2.4, 3.8) * size
        _add_other_joint(leg, str(random.choice(["hip", "pelvis"])), top, size * random.uniform(1.1, 1.6), random)
        _add_other_joint(leg, "ankle_ap", bottom, size * random.uniform(0.8, 1.1), random)
    return leg


def _add_other_joint(leg: Leg, part: str, level: float, size: float, random: np.random.Generator) -> None:
    """Blend another joint of the same leg in, its middle at `level`: where the film shows it."""
    rows, columns = leg.pixels.shape
    side = max(24, min(round(size), columns))
    top, left = round(level - side / 2), (columns - side) // 2
    y0, y1 = max(0, top), min(rows, top + side)
    if y1 - y0 < side // 3:
        return
    drawn = other_anatomy.draw(part, random, (side, side))[y0 - top : y1 - top]
    ramp = np.abs(np.linspace(-1, 1, side, dtype=np.float32))
    fade = np.clip(3 * (1 - ramp), 0, 1)
    weight = (fade[:, None] * fade[None, :])[y0 - top : y1 - top]
    overlay(leg.pixels[y0:y1, left : left + side], weight, drawn)


def film_without_joint(crop: Crop, random: np.random.Generator, *, size: tuple[int, int] = (256, 256)) -> LabelledFilm:
    """A film without an AP or PA knee: another part, another view, the texture of a knee without its joint."""
    kind = OTHER
    if random.random() < 0.25:
        film = other_anatomy.real_textured(crop.pixels, random)
        film = np.asarray(cv2.resize(film, size[::-1], interpolation=cv2.INTER_AREA), np.float32)
    else:
        part = str(random.choice(other_anatomy.BODY_PARTS))
        film = other_anatomy.draw(part, random, size)
        kind = {"knee_lateral": LATERAL, "knee_skyline": SKYLINE}.get(part, OTHER)
    return LabelledFilm(add_acquisition_effects(film, [], random, drawn=True), (), kind)


def tight_film(crop: Crop, random: np.random.Generator, *, side: int = 256) -> LabelledFilm:
    """A film that is itself the crop of one joint, a little wider, narrower or beside it."""
    zoom = float(np.exp(np.clip(random.normal(0, 0.08), -0.25, 0.25)))
    size = side * zoom
    middle = side / 2 + random.normal(0, 0.03, 2) * side
    scale = size / crop.pixels.shape[0]
    move = np.array([[scale, 0, middle[0] - size / 2], [0, scale, middle[1] - size / 2]])
    onto = move + np.array([0, 0, scale / 2 - 0.5])
    film = cv2.warpAffine(crop.pixels, onto, (side, side), flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REPLICATE)
    points = None if crop.points is None else (crop.points * scale + onto[:, 2]).astype(np.float32) + np.float32(0.5)
    joint = LabelledJoint(Box.about((float(middle[0]), float(middle[1])), size), points=points)
    return LabelledFilm(add_acquisition_effects(np.asarray(film, np.float32), [joint], random), (joint,), KNEE)
