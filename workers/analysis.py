"""
The path of one film, step by step: from pixels to a reading with a grade and a heat map for each knee.

No ledger, no network: `genu grade` and the Celery task both call `analyse`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from node.errors import Ungradable
from node.evidence import Agreement, Attention
from node.finding import Finding, Outcome, Reading
from node.reasons import Flag, Reason, flag
from workers.detection.artefacts import segment_artefacts
from workers.detection.detection_models import DetectionModels
from workers.detection.joints import localise_joints
from workers.detection.polarity import INVERTED, correct_polarity
from workers.eligibility import Rules, film_refusal, grade_refusal, knee_refusal
from workers.explanation.attribution import attention_of, joint_only, regions_of
from workers.explanation.grad_cam import HeatMap, explain
from workers.grading.grader import Graded, grade_crops
from workers.knee import Knee
from workers.laterality.determine import determine_laterality
from workers.laterality.lead_markers import read_lead_markers
from workers.models.labels import HARDWARE
from workers.models.registry import Model
from workers.preprocessing import Grey, cut
from workers.read import Film


@dataclass(frozen=True)
class Candidate:
    """A knee on a film, and why it must not be graded; None if it may."""

    knee: Knee
    refusal: Reason | None


@dataclass(frozen=True)
class PreparedFilm:
    """
    A film ready to be graded: a positive, with its knees from the image's left to its right.

    `refusal` is the reason why there is no knee on it, None where there is one; the film is then as it was received.
    """

    film: Film
    candidates: tuple[Candidate, ...] = ()
    refusal: Reason | None = None


@dataclass(frozen=True)
class Analysis:
    """A reading and, for each of its knees, the heat map of its grade if it has one; and what was graded."""

    reading: Reading
    heat_maps: tuple[HeatMap | None, ...] = ()
    prepared: PreparedFilm | None = None
    """None if the file could not be read as a film."""

    @property
    def film(self) -> Film | None:
        """The film as it was graded; as it was received where no knee was found."""
        return self.prepared.film if self.prepared else None


def analyse(
    sop_instance_uid: str, film: Film, *, models: DetectionModels, grader: Model, rules: Rules | None = None
) -> Analysis:
    """
    Find, grade and explain the knees on a film that `rules` allow.

    A film without a knee to grade is not an error: its reading is NOT_ANALYSED, with the coded reason.
    """
    rules = rules or Rules()
    prepared = prepare_film(film, models, rules)
    return grade_film(sop_instance_uid, prepared, grader, rules)


def prepare_film(film: Film, models: DetectionModels, rules: Rules) -> PreparedFilm:
    """The steps before the grade: polarity, joints, laterality, artefacts, and what must not be graded."""
    positive, detections = correct_polarity(film, models)
    found = localise_joints(positive, detections, models)
    refusal = film_refusal(positive, found)
    if refusal:
        return PreparedFilm(film, refusal=refusal)
    positive = replace(positive, notes=(*positive.notes, *header_notes(positive.other_body_part)))
    markers = read_lead_markers(positive.pixels, [joint.box for joint in found.joints], models.lead_markers)
    sides = determine_laterality(positive, found.joints, markers, models.orientation)
    artefacts = [segment_artefacts(positive.pixels, joint, models.artefacts) for joint in found.joints]
    knees = [Knee(*parts) for parts in zip(found.joints, sides, artefacts, strict=True)]
    return PreparedFilm(positive, tuple(Candidate(knee, knee_refusal(positive, knee, rules)) for knee in knees))


def grade_film(sop_instance_uid: str, prepared: PreparedFilm, grader: Model, rules: Rules) -> Analysis:
    """The steps from the grade on: `grader` grades and explains the knees that have no refusal."""
    if prepared.refusal:
        return Analysis(_not_analysed(sop_instance_uid, prepared.refusal, notes=prepared.film.notes), (), prepared)
    film, candidates = prepared.film, prepared.candidates
    eligible = [candidate.knee for candidate in candidates if candidate.refusal is None]
    graded = iter(grade_knees(film.pixels, eligible, grader, rules))
    results = [KneeResult(candidate.refusal) if candidate.refusal else next(graded) for candidate in candidates]
    findings = [_finding(film, candidate.knee, result) for candidate, result in zip(candidates, results, strict=True)]
    reading = _reading(sop_instance_uid, findings, film.notes, grader)
    return Analysis(reading, tuple(result.heat_map for result in results), prepared)


@dataclass(frozen=True)
class KneeResult:
    """What is reported of a knee: a grade with its map and its attribution, or the reason why there is none."""

    refusal: Reason | None = None
    graded: Graded | None = None
    heat_map: HeatMap | None = None
    attention: Attention | None = None


def grade_knees(pixels: Grey, knees: Sequence[Knee], grader: Model, rules: Rules) -> list[KneeResult]:
    """Grades, attribution and maps of knees on a film; a grade that must not be reported is left out."""
    crops = [cut(pixels, knee.pose, grader.card.input_size) for knee in knees]
    graded = grade_crops(crops, knees, grader)
    known = [number for number, one in enumerate(graded) if not one.out_of_distribution]
    attentions = attribute([graded[number] for number in known], [crops[number] for number in known], grader)
    attention_of_knee = dict(zip(known, attentions, strict=True))
    results = []
    for number, one in enumerate(graded):
        attention = attention_of_knee.get(number)
        refusal = grade_refusal(out_of_distribution=one.out_of_distribution, attention=attention, rules=rules)
        if refusal:
            results.append(KneeResult(refusal, attention=attention))
        else:
            results.append(KneeResult(None, one, explain(one, grader.card.heat_scale), attention))
    return results


def attribute(graded: Sequence[Graded], crops: Sequence[Grey], grader: Model) -> list[Attention]:
    """Where the grades of knees came from: one more forward pass for all of them, on the joints alone."""
    regions = [regions_of(crop, one.knee) for one, crop in zip(graded, crops, strict=True)]
    bare = [joint_only(crop, of, one.knee.labels) for one, crop, of in zip(graded, crops, regions, strict=True)]
    without = grade_crops(bare, [one.knee for one in graded], grader)
    return [
        attention_of(one, of, other.logits, grader.card)
        for one, of, other in zip(graded, regions, without, strict=True)
    ]


def refused(sop_instance_uid: str, refusal: Ungradable) -> Analysis:
    """The analysis of what could not be read as a film: the coded reason, and no grade."""
    return Analysis(_not_analysed(sop_instance_uid, refusal.reason, refusal.detail))


def header_notes(part: str) -> Sequence[str]:
    """The note on another body part in the header: it is wrong in one of seven films, so it refuses nothing."""
    return (f"The header calls the body part {part}; what the image shows was believed.",) if part else ()


def _reading(uid: str, findings: Sequence[Finding], notes: Sequence[str], grader: Model) -> Reading:
    """
    GRADED if one knee has a grade.

    Otherwise NOT_ANALYSED for the reason of the first knee; each knee has its own.
    """
    if any(finding.grade is not None for finding in findings):
        return Reading(uid, Outcome.GRADED, grader.card.identity, knees=tuple(findings), notes=tuple(notes))
    reasons = {finding.reason.code: finding.reason for finding in findings if finding.reason}
    detail = ", ".join(reasons) if len(reasons) > 1 else ""
    return _not_analysed(uid, next(iter(reasons.values())), detail, notes, findings)


def _not_analysed(
    uid: str, reason: Reason, detail: str = "", notes: Sequence[str] = (), findings: Sequence[Finding] = ()
) -> Reading:
    return Reading(uid, Outcome.NOT_ANALYSED, None, tuple(findings), reason, detail, tuple(notes))


def _finding(film: Film, knee: Knee, result: KneeResult) -> Finding:
    joint, side, graded = knee.joint, knee.side, result.graded
    return Finding(
        laterality=side.laterality,
        laterality_source=side.source,
        box=(joint.box.x0, joint.box.y0, joint.box.x1, joint.box.y1),
        grade=graded.grade if graded else None,
        probabilities=tuple(float(probability) for probability in graded.probabilities) if graded else None,
        reason=result.refusal,
        empty_map=result.heat_map.empty if result.heat_map else False,
        certainty=graded.certainty if graded else None,
        flags=tuple(_flags(film, knee, result.attention)),
        attention=result.attention,
        evidence=side.evidence,
        agreement=side.agreement,
        field_of_view_mm=joint.width_mm,
        tilt=None if joint.landmarks is None else joint.tilt,
        landmarks=None if joint.landmarks is None else tuple((float(x), float(y)) for x, y in joint.landmarks),
        scale_source=joint.scale_source,
    )


def _flags(film: Film, knee: Knee, attention: Attention | None) -> Iterator[Flag]:
    """The flags of a knee."""
    if knee.side.agreement is Agreement.CONFLICT:
        yield flag("SIDE_CONFLICT")
    if (knee.labels == HARDWARE).any():
        yield flag("HARDWARE_NEAR")
    if film.age is None:
        yield flag("AGE_UNKNOWN")
    if INVERTED in film.notes:
        yield flag("POLARITY")
    yield from (flag(code) for code in (attention.reasons if attention else ()))
