"""
What there is to grade on a film: the three small networks before the grader, asked one after the other.

The finder says where joints are, the look what each of them is, the teller how they hang. A film may be graded
for one knee and refused for the other.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from node.errors import Ungradable
from node.finding import Laterality
from node.reasons import Reason, reason
from node.settings import Work
from workers.gate import must_be_grown_up, trouble_of
from workers.knees import Found, Knee, find_knees
from workers.look import KINDS, KNEE, LATERAL, OTHER, SKYLINE, Look, look, whole_film
from workers.read import Film
from workers.registry import FINDER, LOOKER, SHIPPED, TELLER, Model, load
from workers.upright import with_bright_bones, with_sides

NO_JOINT = (LATERAL, SKYLINE, OTHER)
"""Of these there is nothing on the film that could be called a refused knee."""

REFUSED_AS = {
    "total replacement": "TOTAL_IMPLANT", "part replacement": "PART_IMPLANT", "metal": "METAL", "cast": "CAST",
    "lateral": "NOT_AP", "skyline": "SKYLINE", "other": "NOT_A_KNEE",
}  # fmt: skip


@dataclass(frozen=True)
class Eyes:
    """The networks that see a film before the grader does."""

    finder: Model
    looker: Model
    teller: Model


@dataclass(frozen=True)
class Seen:
    """A film as it is graded (a negative has been turned), its knees, and for each why it is not graded, if so."""

    film: Film
    knees: tuple[Knee, ...]
    refused: tuple[Reason | None, ...]

    @property
    def gradable(self) -> list[Knee]:
        """The knees that are to be graded."""
        return [knee for knee, why in zip(self.knees, self.refused, strict=True) if why is None]


def open_eyes(*, engine: str = "", threads: int = 0, within: Sequence[Path] = SHIPPED) -> Eyes:
    """The three networks, checked and loaded; raises SettingsError as `load` does."""
    return Eyes(*(load(name, engine=engine, threads=threads, within=within) for name in (FINDER, LOOKER, TELLER)))


def see(film: Film, eyes: Eyes, work: Work) -> Seen:
    """
    The knees on a film.

    Raises
    ------
    Ungradable
        With the reason, if there is no joint on it, or nobody whose joints may be graded.
    """
    must_be_grown_up(film.header, work.youngest)
    film, found = with_bright_bones(film, eyes.finder, eyes.teller)
    limit = eyes.looker.card.thresholds["knee"]
    joints = _joints(film, found, eyes, limit)
    knees = find_knees(film, eyes.finder, joints)
    looks = look(film.pixels, [knee.box for knee in knees], eyes.looker)
    knees = [replace(knee, tilt=each.tilt, points=each.points) for knee, each in zip(knees, looks, strict=True)]
    knees = with_sides(knees, film, eyes.teller)
    refused = tuple(_why(knee, each, film, limit, work) for knee, each in zip(knees, looks, strict=True))
    return Seen(film, tuple(knees), refused)


def _joints(film: Film, found: Found, eyes: Eyes, limit: float) -> Found:
    """The joints that a closer look confirms, each where it sees them; raises Ungradable where there is none."""
    looks = look(film.pixels, [box for box, _ in found], eyes.looker)
    kept = [(each.box, sure) for each, (_, sure) in zip(looks, found, strict=True) if not _is_no_joint(each, limit)]
    if kept:
        return kept
    # Nothing was found, or it was no knee: the whole film says best what it shows instead.
    (whole,) = look(film.pixels, [whole_film(film.pixels.shape)], eyes.looker)
    kind = int(whole.kinds[1:].argmax()) + 1
    raise Ungradable(reason(REFUSED_AS[KINDS[kind]] if whole.kinds[kind] >= limit else "NOT_A_KNEE"))


def _is_no_joint(seen: Look, limit: float) -> bool:
    return bool(seen.kinds[KNEE] < limit and int(seen.kinds.argmax()) in NO_JOINT)


def _why(knee: Knee, seen: Look, film: Film, limit: float, work: Work) -> Reason | None:
    """Why this knee is not to be graded; None if it is."""
    if seen.kinds[KNEE] < limit:
        return reason(REFUSED_AS[KINDS[int(seen.kinds[1:].argmax()) + 1]])
    if knee.side_conflict and work.side_conflict == "refuse":
        return reason("CONFLICTING_SIDE")
    return trouble_of(film, knee.box)


def conflict_note(knee: Knee) -> str:
    """What a reader is told of a knee whose header and image say different sides."""
    said = {Laterality.LEFT: "left", Laterality.RIGHT: "right", Laterality.UNKNOWN: "unknown"}[knee.laterality]
    return f"Side in doubt: {knee.laterality_source} says {said}, the image shows the other; check the marker."
