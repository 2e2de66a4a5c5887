"""
The outlines of a right knee's bones in the coronal plane, in millimetres.

x runs to the image's right (medial of a right knee), y down; the origin is the middle of the tibial plateau. The
joint surfaces follow the median of the KNEEL landmarks (Tiulpin et al. 2019) on real films; shafts are drawn from
the usual adult proportions. Every outline is a closed smooth curve through its control points.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from workers.phantom.shape import KneeShape

Curve = npt.NDArray[np.float64]
"""Points (n, 2) in millimetres, or in pixels once posed."""

COMPARTMENT_X_MM = 26.6
"""Where the joint space is set and measured: the middle of each compartment, this far from the middle."""

FAR_MM = 700.0
"""How far the shafts run: beyond any film."""

JOINT_LINE_MM = 1.0
"""Height of the plateaus' middles."""

# Lateral to medial: the tibial plateau with both spines, and the femoral condyles with the notch between.
PLATEAU = ((-39.0, 1.8), (-26.6, 0.9), (-14.7, -1.6), (-6.2, -9.2), (-0.5, -7.5), (6.2, -10.6), (12.6, -2.2),
           (19.0, 0.9), (26.6, 1.1), (39.0, -0.2))  # fmt: skip
CONDYLES = ((-39.6, -9.0), (-35.0, -2.2), (-26.6, 0.0), (-19.5, -1.2), (-13.1, -4.6), (-7.5, -11.6), (-0.2, -15.2),
            (7.5, -11.8), (13.4, -5.2), (19.5, -1.2), (26.6, 0.0), (35.5, -1.6), (41.0, -8.4))  # fmt: skip
"""Heights relative to the lowest point of each condyle, which the joint space sets above the plateau."""

FEMUR_MEDIAL = ((42.6, -15.0), (43.0, -24.0), (45.2, -34.0), (44.0, -43.0), (38.5, -52.0), (32.5, -64.0),
                (26.5, -80.0), (21.0, -104.0), (18.0, -140.0), (17.0, -200.0), (17.0, -FAR_MM))  # fmt: skip
FEMUR_LATERAL = ((-17.0, -FAR_MM), (-17.0, -200.0), (-17.5, -140.0), (-20.0, -104.0), (-25.0, -80.0), (-31.0, -64.0),
                 (-37.5, -50.0), (-42.0, -40.0), (-42.6, -31.0), (-40.6, -22.5), (-41.0, -15.5))  # fmt: skip
TIBIA_MEDIAL = ((40.0, 4.5), (39.0, 11.0), (36.4, 21.0), (31.5, 35.0), (25.0, 52.0), (19.5, 74.0), (16.0, 108.0),
                (14.5, 160.0), (14.0, FAR_MM))  # fmt: skip
TIBIA_LATERAL = ((-13.5, FAR_MM), (-13.5, 160.0), (-15.0, 108.0), (-18.0, 76.0), (-23.5, 52.0), (-30.0, 35.0),
                 (-36.4, 20.0), (-39.2, 12.0), (-40.2, 6.0))  # fmt: skip
FIBULA = ((-41.0, 10.5), (-35.0, 15.5), (-31.0, 23.0), (-31.5, 33.0), (-34.5, 46.0), (-35.5, 70.0), (-34.5, 130.0),
          (-33.5, FAR_MM), (-43.0, FAR_MM), (-43.5, 130.0), (-44.0, 70.0), (-45.0, 48.0), (-48.5, 37.0),
          (-51.5, 27.0), (-48.5, 17.0))  # fmt: skip
PATELLA = ((-2.0, -21.5), (8.5, -27.0), (17.0, -37.0), (20.0, -49.0), (14.5, -60.0), (2.0, -64.5), (-12.0, -62.0),
           (-22.0, -52.0), (-22.0, -40.0), (-13.0, -28.0))  # fmt: skip
CONDYLE_BACKS = (
    ((-30.0, -3.5), (-17.0, -4.5), (-11.0, -13.0), (-9.5, -28.0), (-13.0, -41.0), (-24.0, -47.0), (-35.0, -41.0),
     (-38.5, -26.0), (-38.0, -11.0)),
    ((30.0, -3.5), (18.0, -4.0), (11.5, -12.0), (10.0, -26.0), (13.0, -40.0), (24.0, -47.0), (36.0, -42.0),
     (40.0, -27.0), (39.5, -11.0)),
)  # fmt: skip
"""The posterior parts of the condyles: their inner walls show as faint vertical lines beside the notch."""

# Open curves that show as faint bright lines, with their brightness (0 to 1).
LINES = (
    (0.75, ((-34.0, 18.0), (-22.0, 15.0), (-8.0, 17.5), (6.0, 18.5), (20.0, 15.5), (34.0, 17.0))),
    (0.55, ((-36.0, -41.0), (-22.0, -37.5), (-8.0, -39.0), (6.0, -38.0), (22.0, -37.0), (38.0, -43.0))),
    (0.80, ((-11.5, -12.0), (-10.5, -22.0), (-8.0, -29.0), (0.0, -32.5), (7.5, -30.0), (11.0, -22.0), (12.0, -12.0))),
    (0.60, ((-10.5, -20.0), (-9.5, -34.0), (-11.0, -46.0))),
    (0.70, ((11.3, -18.0), (11.0, -36.0), (13.5, -48.0))),
    (0.45, ((-41.0, -22.0), (-35.0, -26.0), (-31.0, -34.0), (-30.0, -44.0))),
    (0.60, ((-37.0, 4.6), (-26.6, 4.2), (-15.0, 3.0), (-7.0, 0.5))),
    (0.45, ((36.0, 3.2), (26.6, 4.4), (16.0, 3.6), (9.0, 1.0))),
    (0.40, ((-8.0, 2.0), (-4.0, -1.5), (1.0, 0.5), (5.0, -2.5), (9.0, 1.5))),
)


@dataclass(frozen=True)
class Skeleton:
    """The bones of a right knee as closed outlines, and faint inner lines as (brightness, curve)."""

    femur: Curve
    tibia: Curve
    fibula: Curve
    patella: Curve
    condyle_backs: tuple[Curve, Curve]
    lines: tuple[tuple[float, Curve], ...]
    plateau_ends: tuple[tuple[float, float], tuple[float, float]]
    """(femoral y, tibial y) at the measured place of the medial and of the lateral compartment."""


def skeleton(knee: KneeShape, random: np.random.Generator) -> Skeleton:
    """The bones of `knee` with the small differences between people that `random` draws; not yet scaled."""
    spread = knee.osteophytes * random.uniform(0.6, 1.0, 4)
    plateau = _plateau(random, spread, knee.osteophytes)
    condyles = _condyles(knee, plateau, random, spread)
    femur = np.concatenate([condyles, _varied(FEMUR_MEDIAL, random), _varied(FEMUR_LATERAL, random)])
    tibia = np.concatenate([plateau, _varied(TIBIA_MEDIAL, random), _varied(TIBIA_LATERAL, random)])
    lift = np.array([0.0, (condyles[2, 1] + condyles[10, 1]) / 2])
    backs = tuple(_bent(smooth(np.array(back) + lift), knee) for back in CONDYLE_BACKS)
    kneecap = np.array(PATELLA) * random.uniform(0.92, 1.06) + random.normal(0, (2.0, 3.0)) + (0, -3)
    medial, lateral = (float(condyles[10, 1]), float(plateau[8, 1])), (float(condyles[2, 1]), float(plateau[1, 1]))
    return Skeleton(
        femur=_bent(smooth(femur), knee),
        tibia=_bent(smooth(tibia), knee),
        fibula=_bent(smooth(_varied(FIBULA, random, 0.5) + random.normal(0, (1.2, 1.8))), knee),
        patella=smooth(kneecap),
        condyle_backs=(backs[0], backs[1]),
        lines=tuple((bright * random.uniform(0.4, 1.1), _bent(smooth(_varied(line, random, 0.9), closed=False), knee))
                    for bright, line in LINES),
        plateau_ends=(medial, lateral),
    )  # fmt: skip


def _plateau(random: np.random.Generator, spread: npt.NDArray[np.float64], osteophytes: float) -> Curve:
    """The joint surface of the tibia; osteophytes draw its margins out and sharpen its spines."""
    plateau = np.array(PLATEAU)
    plateau[3:6, 1] += 0.8 + random.normal(0, 1.0) + random.normal(0, 0.6, 3) - 1.8 * osteophytes
    plateau[(0, 9), 0] += (-4.5 * spread[0], 4.5 * spread[1])
    plateau[(0, 9), 1] -= 2.2 * spread[:2]
    return plateau


def _condyles(knee: KneeShape, plateau: Curve, random: np.random.Generator, spread: npt.NDArray[np.float64]) -> Curve:
    """The joint surface of the femur, each condyle as high above its plateau as its joint space is wide."""
    condyles = np.array(CONDYLES)
    # The joint space is that on the film, whatever the size of the knee.
    lateral = plateau[1, 1] - knee.lateral_mm / knee.scale
    medial = plateau[8, 1] - knee.medial_mm / knee.scale
    lowest = np.interp(condyles[:, 0], (-COMPARTMENT_X_MM, COMPARTMENT_X_MM), (lateral, medial))
    condyles[:, 1] += lowest
    condyles[5:8, 1] += random.normal(0, 2.0) * np.array([0.7, 1.0, 0.7])
    condyles[(0, 12), 0] += (-3.5 * spread[2], 3.5 * spread[3])
    condyles[(0, 12), 1] += 3.0 * spread[2:]
    return condyles


def _varied(points: Sequence[tuple[float, float]], random: np.random.Generator, spread_mm: float = 0.6) -> Curve:
    """The control points, each moved a little."""
    return np.array(points) + random.normal(0, spread_mm, (len(points), 2))


def _bent(curve: Curve, knee: KneeShape) -> Curve:
    """Shafts leaning for varus or valgus; the joint itself, within 14 mm of the plateau, keeps its shape."""
    above = np.minimum(curve[:, 1] + 22, 0)
    below = np.maximum(curve[:, 1] - 14, 0)
    half = np.tan(np.radians(knee.tilt_degrees / 2))
    # An unbent knee has its femur about 6 degrees valgus and its tibia vertical (anatomical axes).
    lean = -above * (half - np.tan(np.radians(6.0))) + below * half
    return np.column_stack([curve[:, 0] + lean, curve[:, 1]])


def smooth(points: Curve, *, closed: bool = True, steps: int = 8) -> Curve:
    """A smooth curve through the points: cubic Hermite pieces with centripetal Catmull-Rom tangents."""
    padded = np.concatenate([points[-2:], points, points[:3]]) if closed else np.concatenate(
        [2 * points[:1] - points[1:2], points, 2 * points[-1:] - points[-2:-1]]
    )  # fmt: skip
    knots = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(padded, axis=0), axis=1) ** 0.5 + 1e-9)])
    slopes = np.diff(padded, axis=0) / np.diff(knots)[:, None]
    before, after = np.diff(knots)[:-1, None], np.diff(knots)[1:, None]
    tangents = (after * slopes[:-1] + before * slopes[1:]) / (before + after)
    inner = padded[1:-1]
    width = np.diff(knots)[1:-1, None, None]
    t = np.linspace(0, 1, steps, endpoint=False)[None, :, None]
    start, end, leave, arrive = inner[:-1, None], inner[1:, None], tangents[:-1, None], tangents[1:, None]
    curve = (
        (2 * t**3 - 3 * t**2 + 1) * start
        + (t**3 - 2 * t**2 + t) * width * leave
        + (3 * t**2 - 2 * t**3) * end
        + (t**3 - t**2) * width * arrive
    ).reshape(-1, 2)
    # Closed: the padding repeats the seam's pieces; keep each piece of the outline once.
    return curve[steps : (len(points) + 1) * steps] if closed else np.concatenate([curve, points[-1:]])
