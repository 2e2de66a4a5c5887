"""
The grades as a Structured Report: TID 1500, one TID 1501 group for each knee.

highdicom writes the content tree; the document around it is written here, because highdicom's refuses
sources that break a rule (a sex of 'U', no Study ID) and stamps the time of day. What looks odd is owed to viewers:

- every group carries a closed polyline under its first number: OHIF crashes on a group without
  coordinates, draws the comment and the first four numbers beside it, and Stone draws polylines only;
- no probability and no count is nought: OHIF leaves a nought out and shows the unit in its place ("graded: 1");
- the comment repeats the grade and how sure it is, since OHIF shows no coded answers;
- every container is SEPARATE: with CONTINUOUS ones, dsr2html (Horos) and Weasis leave out all labels.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime

import highdicom as hd
import numpy as np
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code
from pydicom.uid import (
    UID,
    Comprehensive3DSRStorage,
    ComprehensiveSRStorage,
    MultiFrameTrueColorSecondaryCaptureImageStorage,
    ParametricMapStorage,
    SegmentationStorage,
)

from node.evidence import Certainty, KLGrade
from node.finding import Finding, Laterality, ModelIdentity, Reading
from node.reasons import Reason
from workers.report import codes
from workers.report.identity import text_of
from workers.report.provenance import MANUFACTURER, MODEL_NAME, ascii_only, device_uid, object_uid, result
from workers.report.source import in_study, reference, series_of
from workers.report.structured_report import knee_items
from workers.report.structured_report.image_library import image_library
from workers.report.structured_report.knee_items import number
from workers.report.structured_report.predecessor import Predecessor, named_as_replaced
from workers.report.tracking import film_tracking, tracking

SR_CLASSES = {"comprehensive": ComprehensiveSRStorage, "comprehensive-3d": Comprehensive3DSRStorage}
SERIES_NUMBER = 9010
SIDE_LETTERS = {Laterality.RIGHT: "R", Laterality.LEFT: "L", Laterality.UNKNOWN: "knee of unknown side"}
BESIDE: Mapping[str, Code] = {
    MultiFrameTrueColorSecondaryCaptureImageStorage: codes.PICTURES,
    SegmentationStorage: codes.SEGMENTS,
    ParametricMapStorage: codes.STRENGTHS,
}
"""Objects of the same answer that the report refers to, and as what."""

Edges = tuple[float, float, float, float]


def structured_report(
    header: Dataset,
    shape: tuple[int, int],
    reading: Reading,
    card: ModelIdentity,
    *,
    sr_class: str,
    made_at: datetime,
    replaces: Predecessor | None = None,
    beside: Sequence[Dataset] = (),
) -> Dataset:
    """
    The report on a film of `shape` (rows, columns), graded or refused: not verified, preliminary.

    `beside` are the other objects of the same answer; those of BESIDE are referred to from each graded knee.
    """
    beside = [each for each in beside if each.SOPClassUID in BESIDE]
    before = (replaces.sop_instance_uid,) if replaces else ()
    made = result(
        header,
        card,
        sop_class=SR_CLASSES[sr_class],
        sop_instance_uid=object_uid("SR", reading, card, sr_class, *before, *(each.SOPInstanceUID for each in beside)),
        made_at=made_at,
        utf8=True,
    )
    made.Modality = "SR"
    made.SeriesNumber = SERIES_NUMBER
    made.SeriesDescription = "Genu KL report (AI, NOT FOR PRIMARY DIAGNOSIS)"
    made.ReferencedPerformedProcedureStepSequence = []
    made.PerformedProcedureCodeSequence = []
    made.CompletionFlag, made.VerificationFlag, made.PreliminaryFlag = "COMPLETE", "UNVERIFIED", "PRELIMINARY"
    made.CurrentRequestedProcedureEvidenceSequence = [in_study(header)]
    made.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence.extend(map(series_of, beside))
    if replaces:
        made.PredecessorDocumentsSequence = [named_as_replaced(replaces, text_of(header, "StudyInstanceUID"))]
    made.CodingSchemeIdentificationSequence = [_scheme()]
    for element in _content(header, shape, reading, card, beside):
        made.add(element)
    return made


def _content(
    header: Dataset, shape: tuple[int, int], reading: Reading, card: ModelIdentity, beside: Sequence[Dataset]
) -> Dataset:
    device = hd.sr.DeviceObserverIdentifyingAttributes(
        uid=device_uid(card), name=MODEL_NAME, manufacturer_name=MANUFACTURER, model_name=MODEL_NAME
    )
    observer = hd.sr.ObserverContext(hd.sr.CodedConcept("121007", "DCM", "Device"), device)
    image = _Image(header, shape, card, reading.notes)
    groups = [image.knee(number, knee) for number, knee in enumerate(reading.knees, start=1)]
    for group, knee in zip(groups, reading.knees, strict=True):
        group[0].ContentSequence.extend(_pointer(each) for each in beside if knee.grade is not None)
    if not groups and reading.reason is not None:
        groups = [image.refusal(reading.reason)]
    root: Dataset = hd.sr.MeasurementReport(
        observation_context=hd.sr.ObservationContext(observer_device_context=observer),
        procedure_reported=codes.IMAGING_PROCEDURE,
        imaging_measurements=groups,
    )[0]
    root.ContentSequence.insert(-1, image_library(header, shape))
    _separate(root)
    return root


class _Image:
    """The film that a report speaks of; its methods write measurement groups (TID 1501) on it."""

    def __init__(self, header: Dataset, shape: tuple[int, int], card: ModelIdentity, notes: Sequence[str]) -> None:
        self.header = header
        self.sop_class, self.sop_instance = text_of(header, "SOPClassUID"), text_of(header, "SOPInstanceUID")
        self.rows, self.columns = shape
        self.card = card
        self.notes = notes

    def knee(self, place: int, knee: Finding) -> hd.sr.MeasurementsAndQualitativeEvaluations:
        """The group of one knee, graded or not."""
        site = hd.sr.FindingSite(codes.KNEE_JOINT, laterality=codes.SIDES.get(knee.laterality))
        if knee.grade is None or knee.probabilities is None:
            if knee.reason is None:
                raise ValueError("a knee without a grade needs a reason")
            said, evaluations = _refused(SIDE_LETTERS[knee.laterality], knee.reason)
            said, numbers = said + knee_items.warning(knee), [self._not_graded(codes.KNEES, knee.box)]
        else:
            # A red flag before the rest: viewers cut long lines at the picture's edge.
            said = f"AI {SIDE_LETTERS[knee.laterality]}: {_answer(knee)}{knee_items.warning(knee)} - not for diagnosis"
            shown = codes.MAP_EMPTY if knee.empty_map else codes.MAP_SPEAKS
            evaluations = [(codes.GRADE, codes.GRADES[knee.grade]), *_set(knee.certainty), (codes.HEAT_MAP, shown)]
            numbers = [self._probability(knee, grade) for grade in _order(knee.grade, knee.probabilities)]
            numbers += [*_extent(knee.certainty), number(codes.GRADES_GIVEN, 1, codes.COUNT, "{}")]
        numbers += knee_items.width(knee)
        evaluations += knee_items.evaluations(knee)
        followed = tracking(self.header, knee, place)
        texts = [(codes.SIDE_SOURCE, knee.laterality_source), *knee_items.texts(knee), *self._advice(knee.reason)]
        return self._group(followed, sites=[site], numbers=numbers, evaluations=evaluations, comment=said, texts=texts)

    def refusal(self, reason: Reason) -> hd.sr.MeasurementsAndQualitativeEvaluations:
        """The group of a film on which there is no knee to speak of."""
        said, evaluations = _refused("", reason)
        numbers = [self._not_graded(codes.FILMS, (0, 0, self.columns, self.rows))]
        return self._group(
            film_tracking(self.header),
            sites=[],
            numbers=numbers,
            evaluations=evaluations,
            comment=said,
            texts=self._advice(reason),
        )

    def _group(
        self,
        followed: tuple[str, UID],
        *,
        sites: list[hd.sr.FindingSite],
        numbers: list[hd.sr.Measurement],
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
            tracking_identifier=hd.sr.TrackingIdentifier(identifier=followed[0], uid=followed[1]),
            finding_type=codes.ASSESSMENT,
            algorithm_id=algorithm,
            finding_sites=sites,
            measurements=numbers,
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
        where = [self._outline(knee.box)] if grade == knee.grade else None
        name, shown = codes.PROBABILITIES[list(codes.GRADES)[grade]], f"{{:.{_decimals(percent)}f}}"
        return number(name, percent, codes.PERCENT, shown, where)

    def _not_graded(self, unit: Code, edges: Edges) -> hd.sr.Measurement:
        return number(codes.NOT_GRADED, 1, unit, "{}", [self._outline(edges)])

    def _outline(self, edges: Edges) -> hd.sr.CoordinatesForMeasurement:
        """A closed polyline; coordinates run from 0 to columns and rows (PS3.3 C.18.6)."""
        x0, x1 = (min(max(x, 0), self.columns) for x in edges[::2])
        y0, y1 = (min(max(y, 0), self.rows) for y in edges[1::2])
        corners = np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1], [x0, y0]], dtype=float)
        image = hd.sr.SourceImageForRegion(self.sop_class, self.sop_instance)
        return hd.sr.CoordinatesForMeasurement("POLYLINE", corners, image)

    @staticmethod
    def _advice(reason: Reason | None) -> list[tuple[Code, str]]:
        return [(codes.ADVICE, reason.advice)] if reason else []


def _order(given: KLGrade, shares: Sequence[float]) -> list[KLGrade]:
    """The grade that is reported, then the others by falling probability: OHIF shows four numbers."""
    return sorted(codes.GRADES, key=lambda grade: (grade != given, -shares[grade]))


def _decimals(percent: float) -> int:
    """One, or as many as it takes to show that a number is not nought."""
    return next((count for count in range(1, 13) if round(percent, count)), 1)


def _answer(knee: Finding) -> str:
    """The grade, the set of those that could not be ruled out, and how sure: few letters, for they lie on the film."""
    sure = knee.certainty
    if sure is None:
        return f"KL {knee.grade}, {knee.confidence_text}"
    only = sure.lowest == sure.highest
    grades = f"only {sure.lowest}" if only else f"{sure.lowest} to {sure.highest}"
    said = f"KL {knee.grade} ({grades}), {knee.confidence_text}"
    return said + (", KL {}/{} not told apart".format(*sure.undecided) if sure.undecided else "")


def _set(certainty: Certainty | None) -> list[tuple[Code, Code]]:
    """The ends of the set as coded answers, and each of two grades that could not be told apart."""
    if certainty is None:
        return []
    ends = [(codes.LOWEST, codes.GRADES[certainty.lowest]), (codes.HIGHEST, codes.GRADES[certainty.highest])]
    return ends + [(codes.UNDECIDED, codes.GRADES[grade]) for grade in certainty.undecided or ()]


def _extent(certainty: Certainty | None) -> list[hd.sr.Measurement]:
    """What the set promises, and how far the views lay apart."""
    if certainty is None:
        return []
    level = number(codes.LEVEL, 100 * certainty.level, codes.PERCENT, "{:.1f}")
    if certainty.spread is None:
        return [level]
    return [level, number(codes.SPREAD, certainty.spread, codes.GRADE_STEPS, "{:.3f}")]


def _refused(side: str, reason: Reason) -> tuple[str, list[tuple[Code, Code]]]:
    """What is said of a knee or film without a grade: no number that could pass for a probability."""
    evaluations = [(codes.GRADE, codes.NOT_GRADABLE), (codes.WHY_NOT, codes.REASON_CODES[reason.code])]
    quality = codes.quality_of(reason)
    if quality is not None:
        evaluations.append((codes.QUALITY, quality))
    return f"AI{' ' if side else ''}{side}: NOT GRADABLE - {reason.meaning}", evaluations


def _pointer(made: Dataset) -> hd.sr.ImageContentItem:
    """Another object of the answer, named as a whole: viewers that show single frames or segments find them there."""
    named = reference(made)
    return hd.sr.ImageContentItem(
        BESIDE[made.SOPClassUID],
        named.ReferencedSOPClassUID,
        named.ReferencedSOPInstanceUID,
        relationship_type=hd.sr.RelationshipTypeValues.CONTAINS,
    )


def _separate(item: Dataset) -> None:
    if item.ValueType == "CONTAINER":
        item.ContinuityOfContent = "SEPARATE"
    for inner in item.get("ContentSequence", ()):
        _separate(inner)


def _scheme() -> Dataset:
    item = Dataset()
    item.CodingSchemeDesignator, item.CodingSchemeUID = codes.SCHEME, UID(codes.SCHEME_UID)
    item.CodingSchemeName, item.CodingSchemeVersion = codes.SCHEME_NAME, codes.SCHEME_VERSION
    item.CodingSchemeResponsibleOrganization = codes.SCHEME_ORGANISATION
    return item
