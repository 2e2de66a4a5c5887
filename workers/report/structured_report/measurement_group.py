"""
The measurement group (TID 1501) of a knee, or of a film without one.

Some content is there only for viewers:

- every group has a closed polyline under its first number: OHIF crashes on a group without
  coordinates, draws the comment and the first four numbers beside it, and Stone draws polylines only;
- no probability and no count is zero: OHIF omits a zero and shows the unit in its place ("graded: 1");
- the comment repeats the grade and its probability, since OHIF shows no coded values.
"""

from collections.abc import Sequence

import highdicom as hd
import numpy as np
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code
from pydicom.uid import UID

from node.evidence import Certainty, KLGrade
from node.finding import Finding, Laterality, ModelIdentity
from node.reasons import Reason
from workers.report import codes
from workers.report.identity import text_of
from workers.report.provenance import MANUFACTURER, ascii_only
from workers.report.structured_report import knee_items
from workers.report.structured_report.knee_items import measurement
from workers.report.tracking import film_tracking, knee_tracking

COMMENT_KNEES = {Laterality.RIGHT: "R", Laterality.LEFT: "L", Laterality.UNKNOWN: "knee of unknown side"}
Edges = tuple[float, float, float, float]


class GroupBuilder:
    """Builds the measurement groups (TID 1501) of one film."""

    def __init__(self, header: Dataset, shape: tuple[int, int], card: ModelIdentity, notes: Sequence[str]) -> None:
        self.header = header
        self.sop_class, self.sop_instance = text_of(header, "SOPClassUID"), text_of(header, "SOPInstanceUID")
        self.rows, self.columns = shape
        self.card = card
        self.notes = notes

    def knee(self, number: int, knee: Finding) -> hd.sr.MeasurementsAndQualitativeEvaluations:
        """The group of one knee, graded or not."""
        site = hd.sr.FindingSite(codes.KNEE_JOINT, laterality=codes.LATERALITIES.get(knee.laterality))
        if knee.grade is None or knee.probabilities is None:
            if knee.reason is None:
                raise ValueError("a knee without a grade needs a reason")
            comment, evaluations = _refusal_content(COMMENT_KNEES[knee.laterality], knee.reason)
            comment, measurements = comment + knee_items.red_flag_text(knee), [self._not_graded(codes.KNEES, knee.box)]
        else:
            # The red flag comes before the disclaimer: viewers cut long lines at the picture's edge.
            grade_text = _grade_text(knee) + knee_items.red_flag_text(knee)
            comment = f"AI {COMMENT_KNEES[knee.laterality]}: {grade_text} - not for diagnosis"
            map_state = codes.MAP_EMPTY if knee.empty_map else codes.MAP_POSITIVE
            evaluations = [
                (codes.GRADE, codes.GRADES[knee.grade]),
                *_grade_set(knee.certainty),
                (codes.HEAT_MAP, map_state),
            ]
            measurements = [
                self._probability(knee, grade) for grade in _grades_by_probability(knee.grade, knee.probabilities)
            ]
            measurements += [*_set_measurements(knee.certainty), measurement(codes.GRADED_KNEES, 1, codes.COUNT, "{}")]
        measurements += knee_items.field_of_view(knee)
        evaluations += knee_items.evaluations(knee)
        tracking_id = knee_tracking(self.header, knee, number)
        texts = [(codes.LATERALITY_SOURCE, knee.laterality_source), *knee_items.texts(knee), *self._advice(knee.reason)]
        return self._group(
            tracking_id,
            sites=[site],
            measurements=measurements,
            evaluations=evaluations,
            comment=comment,
            texts=texts,
        )

    def refusal(self, reason: Reason) -> hd.sr.MeasurementsAndQualitativeEvaluations:
        """The group of a refused film without a knee."""
        comment, evaluations = _refusal_content("", reason)
        measurements = [self._not_graded(codes.FILMS, (0, 0, self.columns, self.rows))]
        return self._group(
            film_tracking(self.header),
            sites=[],
            measurements=measurements,
            evaluations=evaluations,
            comment=comment,
            texts=self._advice(reason),
        )

    def _group(
        self,
        tracking_id: tuple[str, UID],
        *,
        sites: list[hd.sr.FindingSite],
        measurements: list[hd.sr.Measurement],
        evaluations: list[tuple[Code, Code]],
        comment: str,
        texts: list[tuple[Code, str]],
    ) -> hd.sr.MeasurementsAndQualitativeEvaluations:
        algorithm = hd.sr.AlgorithmIdentification(
            name=ascii_only(self.card.name),
            version=ascii_only(self.card.version),
            manufacturer=MANUFACTURER,
            family=codes.ARTIFICIAL_INTELLIGENCE,
            parameters=[f"weights sha256: {self.card.sha256}"],
        )
        group = hd.sr.MeasurementsAndQualitativeEvaluations(
            tracking_identifier=hd.sr.TrackingIdentifier(identifier=tracking_id[0], uid=tracking_id[1]),
            finding_type=codes.ASSESSMENT,
            algorithm_id=algorithm,
            finding_sites=sites,
            measurements=measurements,
            qualitative_evaluations=[hd.sr.QualitativeEvaluation(name, value) for name, value in evaluations],
            source_images=[hd.sr.SourceImageForMeasurementGroup(self.sop_class, self.sop_instance)],
        )
        notes = [(codes.READING_NOTE, note) for note in self.notes]
        for name, text in [(codes.COMMENT, comment), *texts, *notes]:
            item = hd.sr.TextContentItem(name, ascii_only(text), hd.sr.RelationshipTypeValues.CONTAINS)
            group[0].ContentSequence.append(item)
        return group

    def _probability(self, knee: Finding, grade: int) -> hd.sr.Measurement:
        percent = 100 * float((knee.probabilities or ())[grade])
        outlines = [self._outline(knee.box)] if grade == knee.grade else None
        name, number_format = codes.PROBABILITIES[list(codes.GRADES)[grade]], f"{{:.{_decimals_needed(percent)}f}}"
        return measurement(name, percent, codes.PERCENT, number_format, outlines)

    def _not_graded(self, unit: Code, box: Edges) -> hd.sr.Measurement:
        return measurement(codes.NOT_GRADED, 1, unit, "{}", [self._outline(box)])

    def _outline(self, box: Edges) -> hd.sr.CoordinatesForMeasurement:
        """The box as a closed polyline; coordinates run from 0 to columns and rows (PS3.3 C.18.6)."""
        x0, x1 = (min(max(x, 0), self.columns) for x in box[::2])
        y0, y1 = (min(max(y, 0), self.rows) for y in box[1::2])
        corners = np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1], [x0, y0]], dtype=float)
        source_image = hd.sr.SourceImageForRegion(self.sop_class, self.sop_instance)
        return hd.sr.CoordinatesForMeasurement("POLYLINE", corners, source_image)

    @staticmethod
    def _advice(reason: Reason | None) -> list[tuple[Code, str]]:
        return [(codes.ADVICE, reason.advice)] if reason else []


def _grades_by_probability(reported: KLGrade, probabilities: Sequence[float]) -> list[KLGrade]:
    """The reported grade, then the others by falling probability: OHIF shows four numbers."""
    return sorted(codes.GRADES, key=lambda grade: (grade != reported, -probabilities[grade]))


def _decimals_needed(percent: float) -> int:
    """One, or as many as a number needs to be shown as other than zero."""
    return next((count for count in range(1, 13) if round(percent, count)), 1)


def _grade_text(knee: Finding) -> str:
    """The grade, the set of grades not ruled out, and the probability; short, because viewers draw it over the film."""
    certainty = knee.certainty
    if certainty is None:
        return f"KL {knee.grade}, {knee.confidence_text}"
    single = certainty.lowest == certainty.highest
    grade_set = f"only {certainty.lowest}" if single else f"{certainty.lowest} to {certainty.highest}"
    text = f"KL {knee.grade} ({grade_set}), {knee.confidence_text}"
    return text + (", KL {}/{} not told apart".format(*certainty.undecided) if certainty.undecided else "")


def _grade_set(certainty: Certainty | None) -> list[tuple[Code, Code]]:
    """The ends of the set as coded values, and both of two grades that could not be distinguished."""
    if certainty is None:
        return []
    set_ends = [
        (codes.LOWEST_GRADE, codes.GRADES[certainty.lowest]),
        (codes.HIGHEST_GRADE, codes.GRADES[certainty.highest]),
    ]
    return set_ends + [(codes.UNDECIDED, codes.GRADES[grade]) for grade in certainty.undecided or ()]


def _set_measurements(certainty: Certainty | None) -> list[hd.sr.Measurement]:
    """The coverage level of the set, and the spread of the expected grade over the views."""
    if certainty is None:
        return []
    level = measurement(codes.SET_LEVEL, 100 * certainty.level, codes.PERCENT, "{:.1f}")
    if certainty.spread is None:
        return [level]
    return [level, measurement(codes.GRADE_SPREAD, certainty.spread, codes.GRADE_STEPS, "{:.3f}")]


def _refusal_content(knee: str, reason: Reason) -> tuple[str, list[tuple[Code, Code]]]:
    """Comment and coded values of a knee or film without a grade: no number that could be taken for a probability."""
    evaluations = [(codes.GRADE, codes.NOT_GRADABLE), (codes.NOT_GRADABLE_REASON, codes.REASON_CODES[reason.code])]
    quality = codes.quality_code(reason)
    if quality is not None:
        evaluations.append((codes.QUALITY, quality))
    return f"AI{' ' if knee else ''}{knee}: NOT GRADABLE - {reason.meaning}", evaluations
