"""One film to everything that Genu says of it. No ledger, no network: `genu grade` and the task both call this."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from node.errors import Ungradable
from node.evidence import Attention
from node.finding import Finding, Outcome, Reading
from node.reasons import flag, reason
from workers.detection.detect import Eyes, see
from workers.detection.joints import Knee
from workers.detection.orientation import TURNED
from workers.eligibility import Rules, flags_of, hints, judge, other_part
from workers.explanation.attribution import attended
from workers.explanation.grad_cam import HeatMap, explain
from workers.grading.grader import Graded, grade
from workers.models.registry import Model
from workers.read import Film


@dataclass(frozen=True)
class Analysis:
    """A reading and, for each of its knees, the joint as it was found and the heat map of its grade if it has one."""

    reading: Reading
    heat_maps: tuple[HeatMap | None, ...]
    film: Film | None = None
    """The film as it was graded: a negative has been turned. None of what could not be read as one."""
    found: tuple[Knee, ...] = ()


def analyse(sop_instance_uid: str, film: Film, *, eyes: Eyes, grader: Model, rules: Rules | None = None) -> Analysis:
    """
    Find, grade and explain the knees on a film, those that may be graded by `rules`.

    A film without a knee to grade is no error: its reading says NOT_ANALYSED and the coded reason.
    """
    try:
        film, knees = see(film, eyes)
    except Ungradable as refusal:
        return replace(refused(sop_instance_uid, other_part(refusal, film.header), film.notes), film=film)
    film = replace(film, notes=(*film.notes, *hints(film.header)))
    flags = flags_of(film, turned=TURNED in film.notes)
    knees = [replace(knee, flags=(*knee.flags, *flags)) for knee in knees]
    rules = rules or Rules()
    return say(sop_instance_uid, film, judged(film, knees, rules), grader, withhold=rules.red_flag == "withhold")


def judged(film: Film, knees: Sequence[Knee], rules: Rules) -> list[Knee]:
    """The knees, each with the reason why it must not be graded if there is one."""
    return [replace(knee, reason=judge(film, knee, rules)) for knee in knees]


def say(sop_instance_uid: str, film: Film, knees: Sequence[Knee], grader: Model, *, withhold: bool = False) -> Analysis:
    """
    What `grader` says of the knees that were found on a film; those with a reason are not graded.

    A joint that is unlike all that `grader` knows is not graded either. A grade that may hang on something beside the
    joint is flagged, and with `withhold` not told. The outcome is GRADED if one knee is. If none is, it is
    NOT_ANALYSED, for the reason of the first knee; each knee has its own.
    """
    found = tuple(knees)
    graded, knees = _known(grade(film.pixels, [knee for knee in knees if knee.reason is None], grader), knees)
    explained = iter(list(zip(graded, attended(film.pixels, graded, grader), strict=True)))
    findings, heat_maps = [], []
    for knee in knees:
        answer, attention = next(explained) if knee.reason is None else (None, None)
        heat_map = explain(answer, grader.card.heat_scale) if answer else None
        finding = _finding(knee, answer, heat_map, attention)
        if withhold and attention is not None and attention.reasons:
            finding, heat_map = withheld(finding), None
        findings.append(finding)
        heat_maps.append(heat_map)
    reasons = {each.reason.code: each.reason for each in findings if each.reason}
    refused_all = all(each.grade is None for each in findings)
    reading = Reading(
        sop_instance_uid,
        Outcome.NOT_ANALYSED if refused_all else Outcome.GRADED,
        None if refused_all else grader.card.identity,
        knees=tuple(findings),
        reason=next(iter(reasons.values())) if refused_all else None,
        detail=", ".join(reasons) if refused_all and len(reasons) > 1 else "",
        notes=tuple(film.notes),
    )
    return Analysis(reading, tuple(heat_maps), film, found)


def _known(graded: Sequence[Graded], knees: Sequence[Knee]) -> tuple[list[Graded], list[Knee]]:
    """The answers that mean something; and all knees, with a reason those that the grader knows nothing like."""
    strange = [each.knee for each in graded if each.strange]
    unlike = reason("NOT_LIKE_TRAINED")
    judged_again = [replace(knee, reason=unlike) if any(knee is each for each in strange) else knee for knee in knees]
    return [each for each in graded if not each.strange], judged_again


def withheld(finding: Finding) -> Finding:
    """The finding without its grade; flags and attention say why."""
    return replace(finding, grade=None, probabilities=None, certainty=None, empty_map=False, reason=reason("WITHHELD"))


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


def _finding(knee: Knee, graded: Graded | None, heat_map: HeatMap | None, attention: Attention | None) -> Finding:
    return Finding(
        laterality=knee.laterality,
        laterality_source=knee.laterality_source,
        box=(knee.box.x0, knee.box.y0, knee.box.x1, knee.box.y1),
        grade=graded.grade if graded else None,
        probabilities=tuple(float(probability) for probability in graded.probabilities) if graded else None,
        reason=knee.reason,
        empty_map=heat_map.empty if heat_map else False,
        certainty=graded.certainty if graded else None,
        flags=(*knee.flags, *(flag(code) for code in attention.reasons)) if attention else knee.flags,
        attention=attention,
        evidence=knee.evidence,
        agreement=knee.agreement,
        field_of_view_mm=knee.field_of_view_mm,
        tilt=None if knee.points is None else knee.tilt,
        landmarks=None if knee.points is None else tuple((float(x), float(y)) for x, y in knee.points),
        scale_source=knee.scale_source,
    )
