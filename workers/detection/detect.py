"""
What there is to grade on a film: the small networks before the grader, asked one after the other.

The finder says where joints are, the look what each of them is, the teller how they hang, the reader what lead letters
say, the marker what lies beside the bones. A film may be graded for one knee and refused for the other.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from node.errors import Ungradable
from node.reasons import Reason, flag, reason
from workers.detection.artefacts import find_marks
from workers.detection.joints import Found, Knee, find_knees
from workers.detection.landmarks import Look, look, whole_film
from workers.detection.orientation import with_bright_bones, with_sides
from workers.laterality.lead_markers import read_markers
from workers.models.labels import HARDWARE, JOINT_KINDS, KNEE, LATERAL, OTHER, SKYLINE
from workers.models.registry import ARTEFACTS, DETECTOR, LEAD_MARKERS, ORIENTATION, REFINER, SHIPPED, Model, load
from workers.preprocessing import cut
from workers.read import Film

NO_JOINT = (LATERAL, SKYLINE, OTHER)
"""Of these there is nothing on the film that could be called a refused knee."""

REFUSED_AS = {
    "total replacement": "TOTAL_REPLACED", "part replacement": "PART_REPLACED", "metal": "METAL", "cast": "CAST",
    "lateral": "NOT_AP", "skyline": "SKYLINE", "other": "NOT_A_KNEE",
}  # fmt: skip


@dataclass(frozen=True)
class Eyes:
    """The networks that see a film before the grader does."""

    finder: Model
    looker: Model
    teller: Model
    reader: Model
    marker: Model


def open_eyes(*, engine: str = "", threads: int = 0, within: Sequence[Path] = SHIPPED) -> Eyes:
    """The five networks, checked and loaded; raises SettingsError as `load` does."""
    cards = (DETECTOR, REFINER, ORIENTATION, LEAD_MARKERS, ARTEFACTS)
    return Eyes(*(load(name, engine=engine, threads=threads, within=within) for name in cards))


def see(film: Film, eyes: Eyes) -> tuple[Film, list[Knee]]:
    """
    The film as it is graded (a negative has been turned), and its knees; what is no knee to grade has its reason.

    Raises
    ------
    Ungradable
        With the reason, if there is no joint on it that could be a knee.
    """
    film, found = with_bright_bones(film, eyes.finder, eyes.teller)
    limit = eyes.looker.card.thresholds["knee"]
    looks = _looks(film, found, eyes, limit)
    knees = find_knees(film, eyes.finder, [(each.box, sure) for each, sure in looks])
    knees = [_looked_at(knee, [each for each, _ in looks], limit) for knee in knees]
    letters = read_markers(film.pixels, [knee.box for knee in knees], eyes.reader)
    return film, with_marks(with_sides(knees, film, eyes.teller, letters), film, eyes.marker)


def with_marks(knees: Sequence[Knee], film: Film, marker: Model) -> list[Knee]:
    """The knees with what lies beside their bones, and a remark on metal; those that are refused are not looked at."""
    return [knee if knee.reason else _marked(knee, film, marker) for knee in knees]


def _marked(knee: Knee, film: Film, marker: Model) -> Knee:
    marks = find_marks(cut(film.pixels, knee.pose, marker.card.input_size), marker)
    remarks = (flag("HARDWARE_NEAR"),) if (marks == HARDWARE).any() else ()
    return replace(knee, marks=marks, flags=(*knee.flags, *remarks))


def _looked_at(knee: Knee, looks: Sequence[Look], limit: float) -> Knee:
    """The knee with what the look at it told; a tight crop is one whole, wherever the look saw the box."""
    seen = max(looks, key=lambda each: each.box.shared(knee.box))
    return replace(knee, tilt=seen.tilt, points=seen.points, reason=knee.reason or _why(seen, limit))


def _looks(film: Film, found: Found, eyes: Eyes, limit: float) -> list[tuple[Look, float]]:
    """
    The joints that a closer look confirms, each as a second look from there sees it, and how sure the finder is.

    The first look starts at the finder's coarse box; from its own the middle lies a fifth nearer (p95), and a third
    would say nothing new. Raises Ungradable where there is no joint.
    """
    looks = look(film.pixels, [box for box, _ in found], eyes.looker)
    kept = [(each.box, sure) for each, (_, sure) in zip(looks, found, strict=True) if not _is_no_joint(each, limit)]
    if kept:
        again = look(film.pixels, [box for box, _ in kept], eyes.looker)
        return [(each, sure) for each, (_, sure) in zip(again, kept, strict=True)]
    # Nothing was found, or it was no knee: the whole film says best what it shows instead.
    (whole,) = look(film.pixels, [whole_film(film.pixels.shape)], eyes.looker)
    kind = int(whole.kinds[1:].argmax()) + 1
    raise Ungradable(reason(REFUSED_AS[JOINT_KINDS[kind]] if whole.kinds[kind] >= limit else "NOT_A_KNEE"))


def _is_no_joint(seen: Look, limit: float) -> bool:
    return bool(seen.kinds[KNEE] < limit and int(seen.kinds.argmax()) in NO_JOINT)


def _why(seen: Look, limit: float) -> Reason | None:
    """Why what was looked at is no knee to grade; None if it is one."""
    if seen.kinds[KNEE] >= limit:
        return None
    return reason(REFUSED_AS[JOINT_KINDS[int(seen.kinds[1:].argmax()) + 1]])
