"""One film to everything that Genu says of it. No ledger, no network: `genu grade` and the task both call this."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from node.errors import Ungradable
from node.finding import Finding, Outcome, Reading
from node.reasons import Reason
from node.settings import Work
from workers.explain import HeatMap, explain
from workers.eyes import Eyes, Seen, conflict_note, see
from workers.grade import Graded, grade
from workers.knees import Knee
from workers.read import Film
from workers.registry import Model


@dataclass(frozen=True)
class Analysis:
    """A reading and, for each of its knees, the heat map of its grade; None for a knee that was refused."""

    reading: Reading
    heat_maps: tuple[HeatMap | None, ...]
    film: Film | None = None
    """The film as it was graded: a negative has been turned. None of what could not be read as one."""
    found: tuple[Knee, ...] = ()
    """The joints that were graded."""


def analyse(sop_instance_uid: str, film: Film, *, eyes: Eyes, grader: Model, work: Work) -> Analysis:
    """
    Find, grade and explain the knees on a film.

    A film without a knee to grade is no error: its reading says NOT_ANALYSED and the coded reason.
    """
    try:
        seen = see(film, eyes, work)
    except Ungradable as refusal:
        return replace(refused(sop_instance_uid, refusal, film.notes), film=film)
    doubts = tuple(conflict_note(knee) for knee in seen.knees if knee.side_conflict)
    seen = replace(seen, film=replace(seen.film, notes=(*seen.film.notes, *doubts)))
    return _with_refused(say(sop_instance_uid, seen.film, seen.gradable, grader), seen)


def _with_refused(analysis: Analysis, seen: Seen) -> Analysis:
    """The analysis of the knees that were graded, and between them those that were not, in the film's order."""
    graded = iter(zip(analysis.reading.knees, analysis.heat_maps, strict=True))
    said = [
        next(graded) if why is None else (_refused_knee(knee, why), None)
        for knee, why in zip(seen.knees, seen.refused, strict=True)
    ]
    knees, maps = zip(*said, strict=True)
    reading = replace(analysis.reading, knees=knees)
    reasons = [why for why in seen.refused if why is not None]
    if len(reasons) == len(knees):
        reading = replace(reading, outcome=Outcome.NOT_ANALYSED, model=None, reason=reasons[0])
    return replace(analysis, reading=reading, heat_maps=maps)


def _refused_knee(knee: Knee, why: Reason) -> Finding:
    return replace(_placed(knee), reason=why)


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
    return replace(
        _placed(graded.knee),
        grade=graded.grade,
        probabilities=tuple(float(probability) for probability in graded.probabilities),
        empty_map=empty_map,
        certainty=graded.certainty,
    )


def _placed(knee: Knee) -> Finding:
    """What is said of a knee whether it is graded or not."""
    return Finding(
        laterality=knee.laterality,
        laterality_source=knee.laterality_source,
        box=(knee.box.x0, knee.box.y0, knee.box.x1, knee.box.y1),
        side_evidence=knee.evidence,
        tilt=knee.tilt,
        landmarks=None if knee.points is None else tuple((float(x), float(y)) for x, y in knee.points),
    )
