"""One film to everything that Genu says of it. No ledger, no network: `genu grade` and the task both call this."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from node.errors import Ungradable
from node.finding import Finding, Outcome, Reading
from workers.explain import HeatMap, explain
from workers.grade import Graded, grade
from workers.knees import Knee, find_knees
from workers.read import Film
from workers.registry import Model
from workers.upright import with_bright_bones, with_sides


@dataclass(frozen=True)
class Analysis:
    """A reading and, for each of its knees, the joint as it was found and the heat map of its grade."""

    reading: Reading
    heat_maps: tuple[HeatMap, ...]
    film: Film | None = None
    """The film as it was graded: a negative has been turned. None of what could not be read as one."""
    found: tuple[Knee, ...] = ()


def analyse(sop_instance_uid: str, film: Film, *, finder: Model, teller: Model, grader: Model) -> Analysis:
    """
    Find, grade and explain the knees on a film.

    A film without a knee to grade is no error: its reading says NOT_ANALYSED and the coded reason.
    """
    try:
        film, found = with_bright_bones(film, finder, teller)
        knees = with_sides(find_knees(film, finder, found), film, teller)
    except Ungradable as refusal:
        return replace(refused(sop_instance_uid, refusal, film.notes), film=film)
    return say(sop_instance_uid, film, knees, grader)


def say(sop_instance_uid: str, film: Film, knees: Sequence[Knee], grader: Model) -> Analysis:
    """What `grader` says of the knees that were found on a film."""
    graded = grade(film.pixels, knees, grader)
    heat_maps = tuple(explain(each, grader.card.heat_scale) for each in graded)
    reading = Reading(
        sop_instance_uid,
        Outcome.GRADED,
        grader.card.identity,
        knees=tuple(_finding(each, heat.empty) for each, heat in zip(graded, heat_maps, strict=True)),
        notes=tuple(film.notes),
    )
    return Analysis(reading, heat_maps, film, tuple(knees))


def refused(sop_instance_uid: str, refusal: Ungradable, notes: Sequence[str] = ()) -> Analysis:
    """The analysis of something that must not be graded: the coded reason, and no grade."""
    return Analysis(
        Reading(
            sop_instance_uid,
            Outcome.NOT_ANALYSED,
            None,
            reason=refusal.reason,
            detail=refusal.detail,
            notes=tuple(notes),
        ),
        (),
    )


def _finding(graded: Graded, empty_map: bool) -> Finding:
    knee = graded.knee
    return Finding(
        laterality=knee.laterality,
        laterality_source=knee.laterality_source,
        box=(knee.box.x0, knee.box.y0, knee.box.x1, knee.box.y1),
        grade=graded.grade,
        probabilities=tuple(float(probability) for probability in graded.probabilities),
        empty_map=empty_map,
        certainty=graded.certainty,
    )
