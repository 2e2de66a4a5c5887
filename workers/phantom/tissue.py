"""
Thickness of each tissue along the ray to each pixel, and its attenuation.

A bone is a solid whose thickness along the ray grows from its outline inwards like a rounded edge, with a shell of
cortex around spongy bone: seen from the front, the shell is a bright rim and a faint veil, as on a real film.
Attenuation coefficients per millimetre are those of the NIST tables at about 45 keV, the mean energy behind a knee
at 65 kVp (Hubbell & Seltzer 1995, NISTIR 5632); bone counts as what it adds to the soft tissue it replaces.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from workers.phantom.bones import COMPARTMENT_X_MM, Curve, Skeleton
from workers.phantom.shape import KneeShape, Pose

Map = npt.NDArray[np.float32]

MUSCLE_PER_MM = 0.0255
FAT_PER_MM = 0.0212
CORTEX_ADDS_PER_MM = 0.075
SPONGE_ADDS_PER_MM = 0.0105


@dataclass(frozen=True)
class Frame:
    """A knee's pose on a grid of pixels: converts its millimetres to pixels."""

    rows: int
    columns: int
    spacing_mm: float
    pose: Pose
    scale: float

    def pixels(self, curve: Curve) -> Curve:
        """The curve in edge coordinates of the grid."""
        angle = np.radians(self.pose.rotation_degrees)
        turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        moved: Curve = curve @ turn * (self.scale / self.spacing_mm) + (self.pose.x, self.pose.y)
        return moved

    def heights_mm(self, top: int, bottom: int) -> Map:
        """For each row its height in the knee's millimetres, as a column; the turn is small enough to leave out."""
        rows = (np.arange(top, bottom, dtype=np.float32) + 0.5 - self.pose.y) * (self.spacing_mm / self.scale)
        return rows[:, None]

    def across_mm(self, left: int, right: int) -> Map:
        """For each column its place in the knee's millimetres, as a row."""
        columns = (np.arange(left, right, dtype=np.float32) + 0.5 - self.pose.x) * (self.spacing_mm / self.scale)
        return columns[None, :]


@dataclass(frozen=True)
class Profile:
    """A bone's depth along the ray, how rounded its edges are and how thick its cortex is, by height in mm."""

    heights: tuple[float, ...]
    depth: tuple[float, ...]
    rounding: tuple[float, ...]
    cortex: tuple[float, ...]
    flat: bool = False
    """True for a body that thins out towards its edge, as the kneecap does, instead of ending steeply."""


FEMUR = Profile(
    (-200, -110, -75, -50, -30, -16, -8, -3), (30, 30, 32, 36, 38, 38, 36, 34), (16, 16, 16, 14, 13, 13, 13, 12),
    (5.5, 4.0, 1.7, 0.7, 0.4, 0.4, 0.6, 0.75),
)  # fmt: skip
TIBIA = Profile(
    (-10, -5, 0, 3, 6, 20, 50, 80, 120, 200), (18, 30, 40, 42, 42, 40, 36, 32, 29, 27),
    (9, 9, 9, 10, 12, 14, 15, 15, 14, 13), (0.35, 0.5, 1.0, 0.9, 0.4, 0.45, 1.3, 3.6, 4.8, 5.0),
)  # fmt: skip
FIBULA = Profile((10, 20, 40, 70, 200), (16, 20, 16, 12, 12), (8, 9, 7, 5, 5), (0.5, 0.6, 0.9, 2.2, 2.6))
PATELLA = Profile((-65, -20), (19, 19), (10, 10), (0.6, 0.6), flat=True)
BACKS = Profile((-50, 0), (22, 22), (18, 18), (0, 0), flat=True)


def bone_attenuation(
    bones: Skeleton, knee: KneeShape, frame: Frame, random: np.random.Generator
) -> tuple[Map, tuple[slice, slice]]:
    """What all bones of a knee add, on the part of the grid that they reach, and that part."""
    outlines = [frame.pixels(outline) for outline in (bones.femur, bones.tibia, bones.fibula)]
    part = _reach(outlines, frame)
    inside = part[0].stop > part[0].start and part[1].stop > part[1].start
    if not inside:
        return np.zeros((0, 0), np.float32), (slice(0, 0), slice(0, 0))
    cortex = np.zeros((part[0].stop - part[0].start, part[1].stop - part[1].start), np.float32)
    sponge = cortex.copy()
    dense = _sclerosis(knee, frame, part)
    solids = (
        (bones.femur, FEMUR, dense), (bones.tibia, TIBIA, dense), (bones.fibula, FIBULA, None),
        (bones.patella, PATELLA, None), (bones.condyle_backs[0], BACKS, None), (bones.condyle_backs[1], BACKS, None),
    )  # fmt: skip
    for outline, profile, denser in solids:
        _add_solid(frame.pixels(outline), profile, denser, frame, part, cortex, sponge)
    sponge *= _trabeculae(sponge.shape, frame, random)
    # Shafts have an even cortex and a canal of marrow; near the joint both kinds of bone vary.
    heights = frame.heights_mm(part[0].start, part[0].stop)
    joint = np.interp(heights, (-80, -35, 15, 55), (0, 1, 1, 0)).astype(np.float32)
    cortex *= 1 + joint * (_uneven(cortex.shape, frame, random, patch_mm=5.0, spread=0.25) - 1)
    sponge *= np.float32(0.25) + np.float32(0.75) * joint
    added = CORTEX_ADDS_PER_MM * cortex + SPONGE_ADDS_PER_MM * sponge
    if bones.lines:
        broken = _uneven(sponge.shape, frame, random, patch_mm=4.0, spread=0.45)
        added += _lines(bones.lines, frame, part) * np.minimum(sponge / 30, 1) * broken
    return np.asarray(added * frame.scale, np.float32), part


def _reach(outlines: Sequence[Curve], frame: Frame) -> tuple[slice, slice]:
    """The rows and columns that the outlines touch."""
    points = np.concatenate(outlines)
    left, top = np.floor(points.min(axis=0)).astype(int) - 2
    right, bottom = np.ceil(points.max(axis=0)).astype(int) + 2
    rows = slice(int(np.clip(top, 0, frame.rows)), int(np.clip(bottom, 0, frame.rows)))
    return rows, slice(int(np.clip(left, 0, frame.columns)), int(np.clip(right, 0, frame.columns)))


def _add_solid(
    outline: Curve, profile: Profile, denser: Map | None, frame: Frame, part: tuple[slice, slice], cortex: Map,
    sponge: Map,
) -> None:  # fmt: skip
    """Cortex and sponge have the millimetres of this bone added where it lies."""
    rows, columns = _reach([outline], frame)
    rows = slice(max(rows.start, part[0].start), min(rows.stop, part[0].stop))
    columns = slice(max(columns.start, part[1].start), min(columns.stop, part[1].stop))
    if rows.stop - rows.start < 2 or columns.stop - columns.start < 2:
        return
    mask = np.zeros((rows.stop - rows.start, columns.stop - columns.start), np.uint8)
    # fillPoly's integers are pixel centres; 4 fractional bits.
    corners = np.round((outline - 0.5 - (columns.start, rows.start)) * 16).astype(np.int32)
    cv2.fillPoly(mask, [corners], 1, shift=4)
    # Half a pixel in: the outline runs between the last pixel inside and the first outside.
    # Smoothed, or the mask's stairs show in the rim.
    inside = cv2.GaussianBlur(cv2.distanceTransform(mask, cv2.DIST_L2, 5), (3, 3), 0.8) - np.float32(0.5)
    inwards = np.maximum(inside, 0) * np.float32(frame.spacing_mm / frame.scale)
    heights = frame.heights_mm(rows.start, rows.stop)
    depth, rounding, shell = (
        np.interp(heights, profile.heights, of).astype(np.float32)
        for of in (profile.depth, profile.rounding, profile.cortex)
    )
    here = (slice(rows.start - part[0].start, rows.stop - part[0].start),
            slice(columns.start - part[1].start, columns.stop - part[1].start))  # fmt: skip
    if denser is not None:
        shell = shell * (1 + denser[here])
    whole = _rounded(inwards, depth, rounding, profile.flat)
    core = _rounded(inwards - shell, depth - 2 * shell, np.maximum(rounding - shell, 1), profile.flat)
    cortex[here] += whole - core
    sponge[here] += core


def _rounded(inwards: Map, depth: Map, rounding: Map, flat: bool) -> Map:
    """Thickness of a solid that deep whose edge is rounded over that many millimetres."""
    part = np.maximum(np.minimum(inwards / rounding, 1), 0)
    part *= 2 - part
    return np.asarray(depth * (part if flat else cv2.sqrt(part)), np.float32)


def _sclerosis(knee: KneeShape, frame: Frame, part: tuple[slice, slice]) -> Map:
    """How much thicker the bone under the cartilage has grown: where the joint space is narrow, near the joint."""
    x, y = frame.across_mm(part[1].start, part[1].stop), frame.heights_mm(part[0].start, part[0].stop)
    loads = ((COMPARTMENT_X_MM, knee.medial_mm), (-COMPARTMENT_X_MM, knee.lateral_mm))
    across = sum(
        (1.6 * max(0.0, 3.2 - width) / 3.2 * np.exp(-(((x - middle) / 12) ** 2)) for middle, width in loads),
        start=np.zeros_like(x),
    )
    return np.asarray(across * np.exp(-(((y + 2) / 9) ** 2)), np.float32)


def _trabeculae(shape: tuple[int, ...], frame: Frame, random: np.random.Generator) -> Map:
    """Spongy bone is uneven: vertical struts, finer grains and slow changes; 1 on average."""
    texture = _uneven(shape, frame, random, patch_mm=9.0, spread=0.08)
    pixel = frame.spacing_mm / frame.scale
    if pixel < 0.5:
        texture *= _uneven(shape, frame, random, patch_mm=2.5, spread=0.05)
        white = random.standard_normal(shape, np.float32)
        upright = cv2.GaussianBlur(white, (0, 0), sigmaX=max(0.18 / pixel, 0.3), sigmaY=1.2 / pixel)
        even = cv2.GaussianBlur(white, (0, 0), max(0.17 / pixel, 0.3))
        texture += np.float32(0.06 / upright.std()) * upright + np.float32(0.10 / even.std()) * even
    return texture


def _uneven(
    shape: tuple[int, ...], frame: Frame, random: np.random.Generator, *, patch_mm: float, spread: float
) -> Map:
    """A field about 1 that changes slowly, over patches of that size."""
    step = max(2, round(patch_mm * frame.scale / frame.spacing_mm))
    coarse = random.standard_normal((shape[0] // step + 3, shape[1] // step + 3), np.float32)
    field = cv2.resize(coarse, shape[::-1], interpolation=cv2.INTER_CUBIC)
    return np.asarray(np.maximum(1 + np.float32(spread) * field, 0.2), np.float32)


def _lines(lines: Sequence[tuple[float, Curve]], frame: Frame, part: tuple[slice, slice]) -> Map:
    """Faint bright lines within the bones: scars of the growth plates, the notch's roof, rims of the plateau."""
    drawn = np.zeros((part[0].stop - part[0].start, part[1].stop - part[1].start), np.uint8)
    pixel = frame.spacing_mm / frame.scale
    width = max(1, round(0.6 / pixel))
    for bright, line in lines:
        points = np.round((frame.pixels(line) - 0.5 - (part[1].start, part[0].start)) * 16).astype(np.int32)
        layer = round(255 * min(bright, 1.0))
        cv2.polylines(drawn, [points], False, layer, width, cv2.LINE_AA, shift=4)
    soft = cv2.GaussianBlur(drawn, (0, 0), max(0.35 / pixel, 0.4))
    return np.asarray(soft * np.float32(0.26 / 255), np.float32)


@dataclass(frozen=True)
class Leg:
    """The leg's own measure: half its width and depth at the knee against the usual, and its layer of fat."""

    width: float = 1.0
    depth: float = 1.0
    fat_mm: float = 7.0


def soft_attenuation(frame: Frame, leg: Leg, lean: float, shrink: int) -> Map:
    """What muscle and fat of the leg add, on the whole grid; computed on every `shrink`-th pixel, as it is smooth."""
    rows, columns = -(-frame.rows // shrink), -(-frame.columns // shrink)
    x = ((np.arange(columns, dtype=np.float32) + 0.5) * shrink - frame.pose.x)[None, :]
    y = ((np.arange(rows, dtype=np.float32) + 0.5) * shrink - frame.pose.y)[:, None]
    angle = np.radians(frame.pose.rotation_degrees)
    to_mm = frame.spacing_mm / frame.scale
    height = (np.cos(angle) * y - np.sin(angle) * x) * to_mm
    across = (np.cos(angle) * x + np.sin(angle) * y) * to_mm
    heights = (-230.0, -150.0, -80.0, -45.0, -10.0, 25.0, 70.0, 120.0, 180.0, 260.0)
    half = _profile(height, heights, (88, 79, 67, 61.5, 57.5, 56.5, 57, 56, 49, 40)) * np.float32(leg.width)
    deep = _profile(height, heights, (84, 78, 66, 60, 56, 54, 58, 60, 52, 40)) * np.float32(leg.depth)
    middle = _profile(height, (-230, -40, 60, 240), (-24 + 190 * lean, -2, -1, -6 + 180 * lean))
    outer = ((across - middle) / half) ** 2
    inner = ((across - middle) / (half - np.float32(leg.fat_mm))) ** 2
    skin = 2 * deep * np.sqrt(np.maximum(1 - outer, 0))
    muscle = 2 * (deep - np.float32(leg.fat_mm)) * np.sqrt(np.maximum(1 - inner, 0))
    together = (FAT_PER_MM * skin + (MUSCLE_PER_MM - FAT_PER_MM) * muscle) * np.float32(frame.scale)
    if shrink == 1:
        return np.asarray(together, np.float32)
    grown = cv2.resize(together, (columns * shrink, rows * shrink), interpolation=cv2.INTER_LINEAR)
    return np.asarray(grown[: frame.rows, : frame.columns], np.float32)


def _profile(at: Map, heights: Sequence[float], values: Sequence[float]) -> Map:
    """The values interpolated at each height by a table of half millimetres: cheaper than a search for each pixel."""
    table = np.interp(np.arange(-500, 500, 0.5), heights, values).astype(np.float32)
    return np.asarray(table[np.maximum(np.minimum((at + 500) * 2, len(table) - 1), 0).astype(np.int32)], np.float32)
