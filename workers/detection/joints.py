"""
The joints on a film: detections are refined twice, false ones removed, and at most two selected to be graded.

The first refinement starts at the detector's coarse box; from its own box the middle of the second lies a fifth nearer
(p95). A third would change nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from node.finding import ScaleSource
from workers.detection.detection_models import DetectionModels
from workers.detection.detector import Detection
from workers.detection.landmarks import Landmarks, Refinement, pose_of, refine, whole_film
from workers.models.labels import JOINT_KINDS, KNEE, LATERAL, OTHER, SKYLINE
from workers.preprocessing import Box, Pose
from workers.read import Film, SpacingKind

NO_JOINT = (LATERAL, SKYLINE, OTHER)
"""Kinds that are not reported, not even as a refused knee."""

TIGHT = 0.85
"""A box that covers so much of a nearly square image: it is itself the crop of a joint (those of val: .86 and more)."""

HALF = 0.5
"""Of a joint cut off by the film's edge at least so much lies on the film: less is a part of the other leg."""

LEAST_MM, MOST_MM = 60.0, 220.0
"""Width of the box of an adult's knee, about 100 mm (72 to 123 on the films that the grader was trained on), and what
may lie between: a small joint at one end, a large one magnified on the detector and boxed generously at the other."""

LEAST_FILM_MM, MOST_FILM_MM = 60.0, 1500.0
"""Longer side of a film. Where the detector's spacing gives another, the image was resized."""


@dataclass(frozen=True)
class Joint:
    """
    One joint on a film.

    `box` is square, in pixels of the stored image, `confidence` the detector's, 0 to 1, `kind` one of JOINT_KINDS.
    """

    box: Box
    confidence: float
    kind: str = JOINT_KINDS[KNEE]
    landmarks: Landmarks | None = None
    """None where the box was not refined."""
    tilt: float = 0.0
    """Rotation of the tibial plateau on the film, in degrees, clockwise."""
    cut_off: bool = False
    """Whether a part of the box lies beyond the film's edge."""
    width_mm: float | None = None
    """Width of the box; None where the header has no reliable spacing."""
    scale_source: ScaleSource = ScaleSource.NONE

    @property
    def pose(self) -> Pose:
        """How the joint lies on the film: its crops are straightened by this."""
        return pose_of(self.landmarks, self.box)

    @property
    def is_whole_knee(self) -> bool:
        """Whether it is a knee from in front and lies wholly on the film."""
        return self.kind == JOINT_KINDS[KNEE] and not self.cut_off


@dataclass(frozen=True)
class Localisation:
    """
    The joints of a film that may be reported, at most two, from the image's left to its right.

    `film_kind` is one of JOINT_KINDS: what the whole film shows where no joint was confirmed. `all_cut_off`: joints
    were confirmed, and every one lies partly beyond the film's edge.
    """

    joints: tuple[Joint, ...] = ()
    film_kind: str = JOINT_KINDS[KNEE]
    all_cut_off: bool = False


def localise_joints(film: Film, detections: Sequence[Detection], models: DetectionModels) -> Localisation:
    """
    The joints on a film, of which `detections` are the detector's.

    Where no detection is confirmed, the refiner classifies the whole film, to state what it shows instead.
    """
    refiner, limit = models.refiner, models.refiner.card.thresholds["knee"]
    coarse = refine(film.pixels, [detection.box for detection in detections], refiner)
    confirmed = [
        (joint.box, detection.confidence)
        for joint, detection in zip(coarse, detections, strict=True)
        if not _is_no_joint(joint, limit)
    ]
    if not confirmed:
        (whole,) = refine(film.pixels, [whole_film(film.pixels.shape)], refiner)
        kind = int(whole.kinds[1:].argmax()) + 1
        return Localisation(film_kind=JOINT_KINDS[kind if whole.kinds[kind] >= limit else OTHER])
    refined = refine(film.pixels, [box for box, _ in confirmed], refiner)
    candidates = [(joint, confidence) for joint, (_, confidence) in zip(refined, confirmed, strict=True)]
    return select_joints(film, candidates, limit=limit, visible=models.detector.card.thresholds["visible"])


def select_joints(
    film: Film, candidates: Sequence[tuple[Refinement, float]], *, limit: float, visible: float
) -> Localisation:
    """
    The joints to report of `candidates`, each with the detector's confidence, the most confident first.

    `limit` is the least probability of a knee; `visible` the least part of its box that has to lie on the film.
    """
    shape = film.pixels.shape
    parts = [visible_part(joint.box, shape) for joint, _ in candidates]
    whole = [candidate for candidate, part in zip(candidates, parts, strict=True) if part >= visible]
    if not whole:
        return Localisation(all_cut_off=True)
    # Of several candidates, those that are as large as a knee come first; the most confident of them are taken.
    whole = [candidate for candidate in whole if is_knee_sized(width_mm(film, candidate[0].box)[0])] or whole
    # One that is cut off is reported without a grade.
    partial = [candidate for candidate, part in zip(candidates, parts, strict=True) if HALF <= part < visible]
    selected = sorted([*whole, *partial][:2], key=lambda candidate: candidate[0].box.x0)
    joints = []
    for joint, confidence in selected:
        box = _tight(joint.box, shape) if len(selected) == 1 else joint.box
        mm, source = width_mm(film, box)
        cut_off = visible_part(joint.box, shape) < visible
        joints.append(Joint(box, confidence, joint.kind(limit), joint.landmarks, joint.tilt, cut_off, mm, source))
    return Localisation(tuple(joints))


def _is_no_joint(joint: Refinement, limit: float) -> bool:
    return bool(joint.kinds[KNEE] < limit and int(joint.kinds.argmax()) in NO_JOINT)


def _tight(box: Box, shape: tuple[int, ...]) -> Box:
    """The whole image where it is itself the crop of one joint, as the grader was trained on."""
    rows, columns = shape[0], shape[1]
    nearly_square = 0.8 <= columns / rows <= 1.25
    covered = visible_part(box, shape) * box.width * box.height / (rows * columns)
    return Box(0, 0, columns, rows) if nearly_square and covered >= TIGHT else box


def width_mm(film: Film, box: Box) -> tuple[float | None, ScaleSource]:
    """
    The width of a box on a film in millimetres, None where the header has no reliable spacing, and its plane.

    The patient is nearer to the tube than the detector, so a width in the detector's plane is up to a third too large.
    """
    spacing = film.spacing
    if spacing.row_mm is None or spacing.column_mm is None:
        return None, ScaleSource.NONE
    rows, columns = film.pixels.shape
    longer = max(rows * spacing.row_mm, columns * spacing.column_mm)
    if spacing.kind is SpacingKind.CALIBRATED:
        return box.width * spacing.column_mm, ScaleSource.CALIBRATED
    if spacing.kind is SpacingKind.DETECTOR and LEAST_FILM_MM <= longer <= MOST_FILM_MM:
        return box.width * spacing.column_mm, ScaleSource.DETECTOR_PLANE
    return None, ScaleSource.NONE


def is_knee_sized(mm: float | None) -> bool:
    """Whether a box of that width may be an adult's knee; one without millimetres may."""
    return mm is None or LEAST_MM <= mm <= MOST_MM


def visible_part(box: Box, shape: tuple[int, ...]) -> float:
    """The part of a box that lies on a film of that shape, 0 to 1."""
    width = min(box.x1, shape[1]) - max(box.x0, 0)
    height = min(box.y1, shape[0]) - max(box.y0, 0)
    return max(0.0, width) * max(0.0, height) / (box.width * box.height)
