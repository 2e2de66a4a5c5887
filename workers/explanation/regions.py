"""
The regions of a knee: the joint's compartments and margins, bone and soft tissue around it, and what is no knee.

The regions come from the landmarks (workers/detection/landmarks.py), the artefacts from workers/detection/artefacts.py.
They cover the crop of the joint: every pixel is of one region, so the parts of a map in them add up to the map.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from node.finding import Laterality
from workers.detection.artefacts import Labels
from workers.detection.landmarks import TYPICAL
from workers.models.labels import ARTEFACT_KINDS
from workers.preprocessing import Grey

REGIONS = (
    "medial compartment", "lateral compartment", "femoral margin", "tibial margin",
    "bone", "soft tissue", "outside the body", *ARTEFACT_KINDS[1:],
)  # fmt: skip
"""In the order of their numbers in a region map. Of a knee of unknown side the compartments are the image's left and
right one, named "left compartment" and "right compartment"."""

JOINT = REGIONS[:4]
"""The joint: from the condyles to 2 cm below the plateau, with the rims where osteophytes grow."""

ABOVE, BELOW, BESIDE, SPACE = 0.42, 0.30, 0.14, 0.06
"""How far the joint reaches above the condyles' line, below the plateau's and beyond their ends, and how far the space
between them into either bone, in widths of the plateau (8 cm)."""
AIR = 0.06
"""Grey level, of the 99th percentile's, below which a pixel at the box's edge shows no body."""

RegionMap = npt.NDArray[np.uint8]
Axis = npt.NDArray[np.float64]


def region_map(crop: Grey, points: Axis | None, side: Laterality, artefacts: Labels, size: int) -> RegionMap:
    """
    The region of every pixel of the crop of a joint, (size, size) of indices into REGIONS.

    `points` (16, 2) are its landmarks, 0 to 1 of the crop (a typical knee's where there are none).
    """
    placed = TYPICAL.astype(np.float64) if points is None else points
    across, down = _grid(placed, size)
    curves = _curves(placed)
    width, left, right = curves.width, curves.plateau[0][0], curves.plateau[0][-1]
    femur, tibia = np.interp(across, *curves.condyles), np.interp(across, *curves.plateau)
    regions = np.full((size, size), REGIONS.index("soft tissue"), np.uint8)
    within = (across >= left - 0.03 * width) & (across <= right + 0.03 * width)
    regions[within] = REGIONS.index("bone")
    regions[_air(crop, size)] = REGIONS.index("outside the body")
    near = (across >= left - BESIDE * width) & (across <= right + BESIDE * width)
    regions[near & (down < femur) & (down >= femur - ABOVE * width)] = REGIONS.index("femoral margin")
    regions[near & (down > tibia) & (down <= tibia + BELOW * width)] = REGIONS.index("tibial margin")
    space = near & (down >= femur - SPACE * width) & (down <= tibia + SPACE * width)
    first, second = _compartments(side)
    regions[space & (across < (left + right) / 2)] = first
    regions[space & (across >= (left + right) / 2)] = second
    named = cv2.resize(artefacts, (size, size), interpolation=cv2.INTER_NEAREST)
    return np.where(named > 0, len(REGIONS) - len(ARTEFACT_KINDS) + named, regions).astype(np.uint8)


def region_names(side: Laterality) -> Sequence[str]:
    """The names of REGIONS on a knee of that side."""
    return REGIONS if side is not Laterality.UNKNOWN else ("left compartment", "right compartment", *REGIONS[2:])


def shares_of(regions: RegionMap, cells: int) -> Axis:
    """How much of each cell of a map lies in each region: (regions, cells, cells), 1 over all regions."""
    masks = [(regions == number).astype(np.float64) for number in range(len(REGIONS))]
    return np.stack([cv2.resize(mask, (cells, cells), interpolation=cv2.INTER_AREA) for mask in masks])


def _compartments(side: Laterality) -> tuple[int, int]:
    """The regions on the image's left and right: the fibula's side is lateral, on the image's left of a right knee."""
    return (1, 0) if side is Laterality.RIGHT else (0, 1)


def _grid(points: Axis, size: int) -> tuple[Axis, Axis]:
    """Where the pixels lie along and across the plateau: turned by what is left of its tilt about the middle."""
    steps = (np.arange(size) + 0.5) / size
    x, y = np.meshgrid(steps, steps)
    return _turned(x, y, _tilt(points))


@dataclass(frozen=True)
class _Curves:
    """Plateau and condyles, each across and down from left to right, and how wide the plateau is."""

    plateau: tuple[Axis, Axis]
    condyles: tuple[Axis, Axis]
    width: float


def _curves(points: Axis) -> _Curves:
    across, down = _turned(points[:, 0], points[:, 1], _tilt(points))
    plateau, condyles = (np.argsort(across[:9]), 9 + np.argsort(across[9:]))
    width = float(np.ptp(across[plateau])) or 0.8
    return _Curves((across[plateau], down[plateau]), (across[condyles], down[condyles]), width)


def _tilt(points: Axis) -> float:
    if not np.ptp(points[:9, 0]):
        return 0.0
    return float(np.arctan(np.polyfit(points[:9, 0], points[:9, 1], 1)[0]))


def _turned(x: Axis, y: Axis, tilt: float) -> tuple[Axis, Axis]:
    cos, sin = np.cos(tilt), np.sin(tilt)
    right, low = x - 0.5, y - 0.5
    return right * cos + low * sin, low * cos - right * sin


def _air(crop: Grey, size: int) -> npt.NDArray[np.bool_]:
    """Dark pixels that are connected with the edge."""
    small = cv2.GaussianBlur(cv2.resize(crop, (size, size), interpolation=cv2.INTER_AREA), (3, 3), 0)
    low, high = np.percentile(small, (0.5, 99))
    dark = (small < low + AIR * max(float(high - low), 1e-3)).astype(np.uint8)
    _, parts = cv2.connectedComponents(dark, connectivity=4)
    edge = np.unique(np.concatenate([parts[0], parts[-1], parts[:, 0], parts[:, -1]]))
    return np.isin(parts, edge[edge > 0])
