"""Rendering of a radiograph of knees: beam, scatter, noise, collimation, markers and grey scale."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from node.finding import Laterality
from workers.phantom import markers
from workers.phantom.bones import COMPARTMENT_X_MM, JOINT_LINE_MM, Skeleton, skeleton
from workers.phantom.framing import PLATEAU_WIDTH_MM, joint_box
from workers.phantom.shape import JointSpace, KneeShape, Pose, RenderedFilm
from workers.phantom.tissue import Frame, Leg, Map, bone_attenuation, soft_attenuation
from workers.preprocessing import Box


@dataclass(frozen=True)
class Exposure:
    """Parameters of exposure, detector and console."""

    photons: float = 4e4
    """Quanta a square of 0.15 mm counts in the open beam; noise follows from it."""
    noise: float = 1.0
    scatter: float = 0.45
    """Scattered over primary radiation behind the thickest part of the leg (a grid leaves about half of it)."""
    blur_mm: float = 0.12
    """Detector and focal spot together."""
    contrast: float = 1.05
    """Above 1 steeper: the window is narrower."""
    brightness: float = 0.02
    gamma: float = 0.8
    edges: float = 0.35
    """Edge enhancement, as every console applies some."""
    evenness: float = 0.3
    """How much of the slow changes over the film the console takes out (dynamic range compression)."""
    bits: int = 12


@dataclass(frozen=True)
class Scene:
    """Everything that lies in the beam, in pixels of the film."""

    rows: int
    columns: int
    spacing_mm: float
    knees: tuple[KneeShape, ...]
    poses: tuple[Pose, ...]
    legs: tuple[Leg, ...]
    exposure: Exposure
    lead: tuple[markers.TextMark, ...] = ()
    printed: tuple[markers.TextMark, ...] = ()
    """Text burnt into the image by the console."""
    window: markers.CollimatorWindow | None = None
    """The opening of the collimator; None: the whole detector was exposed."""
    fine: int = 1
    """Rays per pixel along each side: small films are rendered finer and averaged."""
    seed: int = 0


def render(
    knees: Sequence[KneeShape],
    *,
    rows: int = 2500,
    columns: int = 2048,
    spacing_mm: float = 0.15,
    seed: int = 0,
    marker: bool = True,
    collimation: bool = True,
    noise: float = 1.0,
) -> RenderedFilm:
    """
    Render one or two knees on one film, the right knee on the image's left, their joint lines about the middle.

    A film of one left knee is the exact mirror of the film of the same right knee, its marker's letter aside.
    """
    if not 1 <= len(knees) <= 2 or len({knee.laterality for knee in knees}) != len(knees):
        raise ValueError("one knee, or a right and a left one")
    random = np.random.default_rng([seed, 1])
    only_left = len(knees) == 1 and knees[0].laterality is Laterality.LEFT
    shown = tuple(sorted(knees, key=lambda knee: knee.laterality is Laterality.LEFT))
    posed = tuple(knee.right() for knee in shown) if only_left else shown
    jitter = random.normal(0, 1.5, 4) / spacing_mm
    apart = float(np.clip(0.52 * columns, 130 / spacing_mm, 190 / spacing_mm)) if len(shown) == 2 else 0.0
    centres = (columns / 2 - apart / 2, columns / 2 + apart / 2)[: len(shown)]
    scene = Scene(
        rows, columns, spacing_mm, posed,
        poses=tuple(Pose(x + jitter[i], rows / 2 + jitter[2 + i]) for i, x in enumerate(centres)),
        legs=tuple(Leg() for _ in shown),
        exposure=Exposure(noise=noise),
        lead=markers.side_markers(shown, rows, columns, spacing_mm, random, mirrored=only_left) if marker else (),
        window=markers.CollimatorWindow.about(rows, columns, random) if collimation else None,
        fine=2 if spacing_mm > 0.6 else 1,
        seed=seed,
    )  # fmt: skip
    film = expose(scene, np.random.default_rng([seed, 0]))
    return _mirrored(film, shown) if only_left else film


def expose(scene: Scene, random: np.random.Generator) -> RenderedFilm:
    """The radiograph of a scene."""
    rows, columns, e = scene.rows, scene.columns, scene.exposure
    attenuation = np.zeros((rows * scene.fine, columns * scene.fine), np.float32)
    spaces = tuple(
        _add_knee(scene, index, attenuation, np.random.default_rng([scene.seed, 2 + index]))
        for index in range(len(scene.knees))
    )
    primary = np.exp(-attenuation)
    if scene.fine > 1:
        primary = np.asarray(cv2.resize(primary, (columns, rows), interpolation=cv2.INTER_AREA), np.float32)
    for text in scene.lead:
        primary *= np.exp(np.float32(-2.5) * text.cover(rows, columns))
    arrived = _detector_signal(primary, scene, random)
    grey = _console_image(arrived, scene)
    for text in scene.printed:
        cover = text.cover(rows, columns)
        grey += cover * (1 - grey)
    top = (1 << e.bits) - 1
    pixels = np.rint(np.clip(grey, 0, 1) * top).astype(np.uint16)
    boxes = tuple(_box(scene, knee, pose) for knee, pose in zip(scene.knees, scene.poses, strict=True))
    opening = scene.window.inner_box(rows, columns) if scene.window else None
    return RenderedFilm(pixels, scene.spacing_mm, boxes, scene.knees, spaces, opening, e.bits)


def _add_knee(scene: Scene, index: int, attenuation: Map, random: np.random.Generator) -> tuple[JointSpace, ...]:
    """Add the knee's attenuation to the film's, in place; return its joint spaces."""
    knee, pose, leg = scene.knees[index], scene.poses[index], scene.legs[index]
    left = knee.laterality is Laterality.LEFT
    rows, columns = attenuation.shape
    fine = scene.fine
    # A left knee is built as a right one on the mirrored film.
    x, turn = (scene.columns - pose.x, -pose.rotation_degrees) if left else (pose.x, pose.rotation_degrees)
    frame = Frame(rows, columns, scene.spacing_mm / fine, Pose(x * fine, pose.y * fine, turn), knee.scale)
    bones = skeleton(knee, random)
    target = attenuation[:, ::-1] if left else attenuation
    target += soft_attenuation(frame, leg, np.tan(np.radians(knee.tilt_degrees / 2)), max(1, min(4, rows // 200)))
    added, part = bone_attenuation(bones, knee, frame, random)
    if added.size:
        target[part] += added
    return _joint_spaces(bones, knee, frame, scene, left)


def _joint_spaces(bones: Skeleton, knee: KneeShape, frame: Frame, scene: Scene, left: bool) -> tuple[JointSpace, ...]:
    """The true joint spaces with their end points in pixels of the film."""
    spaces = []
    named = (("medial", COMPARTMENT_X_MM, knee.medial_mm), ("lateral", -COMPARTMENT_X_MM, knee.lateral_mm))
    for (name, x, width), ends in zip(named, bones.plateau_ends, strict=True):
        points = frame.pixels(np.array([(x, ends[0]), (x, ends[1])])) / scene.fine
        if left:
            points[:, 0] = scene.columns - points[:, 0]
        femur, tibia = ((float(px), float(py)) for px, py in points)
        spaces.append(JointSpace(name, width, femur, tibia))
    return tuple(spaces)


def _detector_signal(primary: Map, scene: Scene, random: np.random.Generator) -> Map:
    """The signal of the detector: collimated, blurred, with scatter and quantum noise."""
    rows, columns, e = scene.rows, scene.columns, scene.exposure
    blur = e.blur_mm / scene.spacing_mm
    if blur > 0.25:
        primary = np.asarray(cv2.GaussianBlur(primary, (0, 0), blur), np.float32)
    # The heel effect: a few percent less towards the anode.
    primary *= np.linspace(1.04, 0.96, rows, dtype=np.float32)[:, None]
    if scene.window is not None:
        penumbra = cv2.GaussianBlur(scene.window.open(rows, columns), (0, 0), max(0.5 / scene.spacing_mm, 0.3))
        primary *= penumbra * np.float32(0.998 / 255) + np.float32(0.002)
    coarse = max(1, round(3 / scene.spacing_mm))
    small = cv2.resize(primary, (max(columns // coarse, 8), max(rows // coarse, 8)), interpolation=cv2.INTER_AREA)
    source = -small * np.log(np.maximum(small, 1e-4)) * (small > 0.003)
    haze = cv2.GaussianBlur(source, (0, 0), 20 / (scene.spacing_mm * coarse), borderType=cv2.BORDER_REPLICATE)
    arrived = primary + cv2.resize(haze * np.float32(0.22 * e.scatter), (columns, rows))
    if e.noise > 0:
        quanta = e.photons * (scene.spacing_mm / 0.15) ** 2
        arrived += (
            cv2.sqrt(arrived / np.float32(quanta))
            * random.standard_normal(arrived.shape, np.float32)
            * np.float32(e.noise)
        )
    return np.asarray(arrived, np.float32)


def _console_image(arrived: Map, scene: Scene) -> Map:
    """The grey image, 0 to 1: logarithm, edge enhancement, window and shutter, as a console does."""
    e = scene.exposure
    rows, columns = arrived.shape
    dense = -np.log(np.maximum(arrived, np.float32(1e-4)))
    small = cv2.resize(dense, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
    near = cv2.GaussianBlur(small, (0, 0), max(2.5 / (4 * scene.spacing_mm), 0.5))
    far = cv2.resize(small, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
    far = cv2.GaussianBlur(np.minimum(far, 5.0), (0, 0), max(22 / (16 * scene.spacing_mm), 0.5))
    slow = np.float32(e.edges) * near + np.float32(e.evenness) * (cv2.resize(far, small.shape[::-1]) - far.mean())
    dense *= np.float32(1 + e.edges)
    dense -= np.asarray(cv2.resize(slow, (columns, rows), interpolation=cv2.INTER_LINEAR), np.float32)
    step = max(1, rows // 200)
    sample = dense[::step, ::step]
    if scene.window is not None:
        opened = scene.window.open(rows, columns)
        sample = sample[opened[::step, ::step] == 255]
    high = float(np.percentile(sample, 99.7)) + 0.15
    low = min(0.9, high - 1.0)
    grey = (dense - np.float32(low)) * np.float32(1 / (high - low))
    if e.contrast != 1 or e.brightness != 0:
        grey = (grey - np.float32(0.5)) * np.float32(e.contrast) + np.float32(0.5 + e.brightness)
    grey = np.clip(grey, 0, 1)
    if e.gamma != 1:
        grey = np.power(grey, np.float32(e.gamma))
    if scene.window is not None and scene.window.shutter is not None:
        grey[opened < 128] = scene.window.shutter
    return np.asarray(grey, np.float32)


def _box(scene: Scene, knee: KneeShape, pose: Pose) -> Box:
    """The joint box of the knee as it lies on the film."""
    mm = knee.scale / scene.spacing_mm
    line = float(pose.y + JOINT_LINE_MM * mm)
    return joint_box(knee.laterality, middle_x=float(pose.x), joint_line_y=line, plateau_width=PLATEAU_WIDTH_MM * mm)


def _mirrored(film: RenderedFilm, knees: tuple[KneeShape, ...]) -> RenderedFilm:
    """The mirrored film: right knees become left ones."""
    columns = film.pixels.shape[1]

    def mirrored(box: Box) -> Box:
        return Box(columns - box.x1, box.y0, columns - box.x0, box.y1)

    spaces = tuple(
        tuple(
            replace(s, femur=(columns - s.femur[0], s.femur[1]), tibia=(columns - s.tibia[0], s.tibia[1])) for s in pair
        )
        for pair in film.joint_spaces
    )
    return replace(
        film,
        pixels=np.ascontiguousarray(film.pixels[:, ::-1]),
        boxes=tuple(mirrored(box) for box in film.boxes),
        knees=knees,
        joint_spaces=spaces,
        opening=mirrored(film.opening) if film.opening else None,
    )
