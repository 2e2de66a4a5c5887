"""Each knee is judged for itself: too young, too small, too dark or of the wrong size, it is refused for it."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset

from node.evidence import Agreement
from node.finding import Laterality, Outcome, ScaleSource
from node.reasons import reason
from node.settings import Work
from tests.samples.knees import knee
from tests.samples.real_knees import needs_knees, pixels, some_knees
from tests.workers.detection.test_joints import as_film, rendered
from workers import eligibility
from workers.analysis import Analysis, Candidate, PreparedFilm, analyse, grade_film, header_notes
from workers.detection.detection_models import DetectionModels, load_detection_models
from workers.eligibility import Rules, exposure, knee_refusal
from workers.models.labels import JOINT_KINDS
from workers.models.registry import Model, load
from workers.phantom import KneeShape, render
from workers.preprocessing import Box
from workers.read import Spacing, SpacingKind
from workers.read.header_facts import age_of, other_body_part

R, L = Laterality.RIGHT, Laterality.LEFT
BOX = Box(100, 100, 500, 500)
MEASURED = {"width_mm": 100.0, "scale_source": ScaleSource.CALIBRATED}
KNEE = knee(BOX, R, **MEASURED)
PICTURE = np.random.default_rng(1).random((600, 600)).astype(np.float32)


@pytest.fixture(scope="module")
def models() -> DetectionModels:
    return load_detection_models()


@pytest.fixture(scope="module")
def grader() -> Model:
    return load("kl-lite2")


def header(**attributes: Any) -> Dataset:
    made = Dataset()
    for keyword, value in attributes.items():
        setattr(made, keyword, value)
    return made


AGES: list[tuple[dict[str, str], float | None]] = [
    ({"PatientAge": "045Y"}, 45),
    ({"PatientAge": "017Y"}, 17),
    ({"PatientAge": "018M"}, 1.5),
    ({"PatientAge": "000Y"}, None),
    ({"PatientAge": "45"}, 45),
    ({"PatientAge": "8"}, 8),
    ({"PatientAge": "8 Y"}, 8),
    ({"PatientAge": "0"}, None),
    ({"PatientAge": "eight"}, None),
    ({"PatientBirthDate": "2008.03.01", "StudyDate": "2026-02-28"}, 17),
    ({"PatientBirthDate": "2008-03.01", "StudyDate": "20260301"}, None),
    ({"PatientAge": "999Y"}, None),
    ({"PatientBirthDate": "20080301", "StudyDate": "20260228"}, 17),
    ({"PatientBirthDate": "20080301", "StudyDate": "20260301"}, 18),
    ({"PatientBirthDate": "20080301", "StudyDate": "20270301", "AcquisitionDate": "20260228"}, 17),
    ({"PatientBirthDate": "20080301", "AcquisitionDate": "", "StudyDate": "20260301"}, 18),
    ({"PatientAge": "", "PatientBirthDate": "19600101", "StudyDate": "20260115"}, 66),
    ({"PatientAge": "060Y", "PatientBirthDate": "20200101", "StudyDate": "20260115"}, 60),
    ({"PatientBirthDate": "20080301"}, None),
    ({"PatientBirthDate": "00000000", "StudyDate": "20260301"}, None),
    ({"PatientBirthDate": "18000101", "StudyDate": "20260301"}, None),
    ({"PatientBirthDate": "20300101", "StudyDate": "20260301"}, None),
    ({"PatientBirthDate": "20261231", "StudyDate": "20260301"}, None),
    ({}, None),
]


@pytest.mark.parametrize(("attributes", "age"), AGES, ids=str)
def test_the_age_is_what_the_header_says(attributes: dict[str, str], age: float | None) -> None:
    """The stated age, else from birth to acquisition or study; what nobody can be is unknown and refuses nothing."""
    assert age_of(header(**attributes)) == (None if age is None else pytest.approx(age))
    refusal = eligibility.child(as_film(PICTURE, **attributes), KNEE, Rules())
    assert (refusal is not None) == (age is not None and age < 18)


@given(st.text(max_size=8), st.text(max_size=10), st.text(max_size=10))
def test_any_header_has_an_age_or_none(age: str, born: str, when: str) -> None:
    """What a header holds comes from outside."""
    made = Dataset()
    for keyword, value in (("PatientAge", age), ("PatientBirthDate", born), ("StudyDate", when)):
        made.add_new(keyword, "LO", value)
    found = age_of(made)
    assert found is None or 0 <= found <= 120


JUDGED: list[tuple[str, dict[str, Any], dict[str, Any], Rules, str]] = [
    ("a knee", {}, {}, Rules(), ""),
    ("a child", {"PatientAge": "012Y"}, {}, Rules(), "CHILD"),
    ("a child where children are graded", {"PatientAge": "012Y"}, {}, Rules(youngest=10), ""),
    ("a conflict", {}, {"agreement": Agreement.CONFLICT}, Rules(), ""),
    ("a conflict, refused", {}, {"agreement": Agreement.CONFLICT}, Rules(side_conflict="refuse"), "CONFLICTING_SIDE"),
    ("30 mm", {}, {"width_mm": 30.0}, Rules(), "WRONG_SIZE"),
    ("300 mm", {}, {"width_mm": 300.0}, Rules(), "WRONG_SIZE"),
    ("72 mm", {}, {"width_mm": 72.0}, Rules(), ""),
    ("no millimetres", {}, {"width_mm": None, "scale_source": ScaleSource.NONE}, Rules(), ""),
    ("few pixels", {}, {"box": Box(100, 100, 160, 160)}, Rules(), "JOINT_TOO_SMALL"),
    ("metal", {}, {"kind": "metal"}, Rules(), "METAL"),
    ("a child's lateral view", {"PatientAge": "012Y"}, {"kind": "lateral"}, Rules(), "NOT_AP"),
    ("beyond the edge", {}, {"kind": "metal", "cut_off": True}, Rules(), "JOINT_CUT_OFF"),
]


@pytest.mark.parametrize(("attributes", "fields", "rules", "code"), [c[1:] for c in JUDGED], ids=[c[0] for c in JUDGED])
def test_a_knee_is_refused_for_its_first_reason(
    attributes: dict[str, Any], fields: dict[str, Any], rules: Rules, code: str
) -> None:
    """And graded where there is none."""
    assert refused_as(as_film(PICTURE, **attributes), knee(**{"box": BOX, **MEASURED, **fields}), rules) == code


def refused_as(film: Any, judged: Any, rules: Rules = Rules()) -> str:  # noqa: B008 - frozen
    refusal = knee_refusal(film, judged, rules)
    return refusal.code if refusal else ""


def test_every_kind_of_joint_but_a_knee_has_its_refusal() -> None:
    """The table names each class of the refiner."""
    assert {"knee", *eligibility.KINDS_REFUSED} == set(JOINT_KINDS)


@pytest.mark.parametrize(
    ("edge", "hidden", "code"),
    [
        (600, np.s_[:0], ""),
        (480, np.s_[:0], ""),  # air beside the rim is gone, the rim is not
        (455, np.s_[:0], "JOINT_CUT_OFF"),
        (600, np.s_[:, :115], ""),
        (600, np.s_[:, :145], "JOINT_CUT_OFF"),  # a shutter over the rim of one side
        (600, np.s_[:230], ""),  # a shutter over the shaft
        (600, np.s_[:260], "JOINT_CUT_OFF"),
        (600, np.s_[400:], ""),
        (600, np.s_[:], "JOINT_CUT_OFF"),  # over everything
    ],
)
def test_a_joint_without_a_rim_is_refused(edge: int, hidden: Any, code: str) -> None:
    """Whether the film ends there or a shutter covers it; shafts and soft parts may lie outside."""
    film = as_film(PICTURE[:, :edge].copy())
    film.field[hidden], film.pixels[hidden] = False, 0.0
    assert refused_as(film, KNEE) == code


@pytest.mark.parametrize(
    ("hidden", "shade"),
    [
        (np.s_[:, :145], None),  # a collimator's edge in the header, and the picture goes on behind it
        (np.s_[300:340, 100:145], 0.0),  # air that was stored as the padding value, with bone about it
    ],
)
def test_a_joint_whose_rims_are_visible_is_not_cut_off(hidden: Any, shade: float | None) -> None:
    """Whatever the header says of its field."""
    film = as_film(PICTURE.copy())
    film.field[hidden] = False
    if shade is not None:
        film.pixels[hidden] = shade
    assert refused_as(film, KNEE) == ""


@needs_knees
def test_a_real_knee_is_refused_once_its_rim_is_cut_off(models: DetectionModels, grader: Model) -> None:
    """As it is, it is graded; without an eighth of its width at either side it is not, whatever else is seen of it."""
    refusals: list[list[str]] = [[], [], []]
    for row in some_knees("val", 16):
        image = pixels(row) / 255
        for at, part in enumerate((image, image[:, 37:], image[:, :-37])):
            reading = analyse("1.2", as_film(part, ImageLaterality=row["side"]), models=models, grader=grader).reading
            refusals[at].append(reading.reason.code if reading.reason else "")
    assert refusals[0].count("") >= 15
    for cut in refusals[1:]:
        assert cut.count("") <= 1
        assert cut.count("JOINT_CUT_OFF") >= 12


def test_the_rules_are_those_of_the_settings() -> None:
    """`[work] youngest` and `side_conflict`."""
    assert Rules.of(Work()) == Rules()
    assert Rules.of(Work(youngest=21, side_conflict="refuse")) == Rules(21, "refuse")


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (lambda x: x, ""),
        (lambda x: 0.9 + x / 10, ""),  # nearly white, and still to be read
        (lambda x: np.minimum(1, x * 50), "TOO_BRIGHT"),
        (lambda x: np.maximum(0, x - 0.95), "TOO_DARK"),
        (lambda x: 0.5 + x / 50, "TOO_FLAT"),
        (lambda x: 0.5 + np.random.default_rng(0).normal(0, 0.03, x.shape), "TOO_FLAT"),  # noise is no contrast
    ],
)
def test_only_a_joint_that_nobody_could_read_is_refused_for_its_light(make: Any, code: str) -> None:
    """A joint is dark lines on bright bone; all of it black, all white or all grey is none."""
    shape = np.tile(np.linspace(0, 1, 600, dtype=np.float32), (600, 1))
    refusal = exposure(as_film(make(shape)), KNEE, Rules())
    assert (refusal.code if refusal else "") == code


@needs_knees
def test_real_knees_are_not_refused_for_their_light() -> None:
    """Some are nearly white and some nearly flat; they were read all the same."""
    whole = knee(Box(0, 0, 299, 299))
    assert not [row["path"] for row in some_knees("val", 400) if exposure(as_film(pixels(row) / 255), whole, Rules())]


def bilateral(**attributes: Any) -> Any:
    return rendered(render([KneeShape(R), KneeShape(L)], rows=1500, columns=1800, seed=5), **attributes)


def test_one_refused_knee_leaves_the_other_its_grade(models: DetectionModels, grader: Model) -> None:
    """The left one has its reason and no grade, the right one its grade; the film is graded."""
    before = analyse("1.2.3", bilateral(PatientAge="060Y"), models=models, grader=grader)
    assert before.prepared is not None
    right, left = before.prepared.candidates
    prepared = replace(before.prepared, candidates=(right, replace(left, refusal=reason("TOTAL_REPLACED"))))
    analysis = grade_film("1.2.3", prepared, grader, Rules())
    assert analysis.reading.outcome is Outcome.GRADED
    assert codes_of(analysis) == ["", "TOTAL_REPLACED"]
    assert analysis.reading.knees[0] == before.reading.knees[0]
    assert analysis.reading.knees[1].grade is None
    assert [heat_map is None for heat_map in analysis.heat_maps] == [False, True]


def test_a_film_whose_knees_are_all_refused_has_the_reason_of_each(models: DetectionModels, grader: Model) -> None:
    """The film's reason is theirs; where they differ, the first one's, and the detail names all."""
    same = analyse("1.2.3", bilateral(PatientAge="009Y"), models=models, grader=grader)
    assert (same.reading.outcome, same.reading.model) == (Outcome.NOT_ANALYSED, None)
    assert codes_of(same) == ["CHILD", "CHILD"]
    assert same.reading.reason == reason("CHILD")
    assert same.reading.detail == ""
    assert same.prepared is not None
    codes = ("WRONG_SIZE", "METAL")
    refused = (
        Candidate(candidate.knee, reason(code)) for candidate, code in zip(same.prepared.candidates, codes, strict=True)
    )
    mixed = grade_film("1.2.3", PreparedFilm(bilateral(), tuple(refused)), grader, Rules())
    assert codes_of(mixed) == [*codes]
    assert (mixed.reading.reason, mixed.reading.detail) == (reason("WRONG_SIZE"), "WRONG_SIZE, METAL")


def codes_of(analysis: Analysis) -> list[str]:
    return [knee.reason.code if knee.reason else "" for knee in analysis.reading.knees]


def test_flags_and_millimetres_reach_the_reading(models: DetectionModels, grader: Model) -> None:
    """A negative without an age, with a detector's spacing: two remarks on each knee, and its width."""
    film = bilateral(BodyPartExamined="HIP")
    film = replace(film, pixels=1 - film.pixels, spacing=Spacing(0.15, 0.15, SpacingKind.DETECTOR))
    reading = analyse("1.2.3", film, models=models, grader=grader).reading
    assert reading.outcome is Outcome.GRADED
    for finding in reading.knees:
        # Red ones are about the map, and a rendered knee's is what it is.
        assert {flag.code for flag in finding.flags if not flag.red} == {"AGE_UNKNOWN", "POLARITY"}
        assert finding.scale_source == "detector plane"
        assert finding.field_of_view_mm == pytest.approx(0.15 * (finding.box[2] - finding.box[0]), abs=0.01)
    assert {"AGE_UNKNOWN", "POLARITY"} <= set(reading.flags)
    assert any("HIP" in note for note in reading.notes)


@pytest.mark.parametrize(("part", "noted"), [("KNEE", 0), ("", 0), ("HIP", 1), ("leg", 0), ("^^x<y>", 0)])
def test_a_header_s_body_part_is_only_noted(part: str, noted: int) -> None:
    """It is noted where it names another part, and never refuses."""
    assert len(header_notes(other_body_part(header(BodyPartExamined=part)))) == noted


@pytest.mark.parametrize(
    ("part", "code"), [("CHEST", "OTHER_PART"), ("KNEE", "NOT_A_KNEE"), ("", "NOT_A_KNEE"), ("T-12", "NOT_A_KNEE")]
)
def test_a_film_without_a_joint_whose_header_agrees_is_of_another_part(
    part: str, code: str, models: DetectionModels, grader: Model
) -> None:
    """Header and image agree: somebody has routed another part."""
    film = replace(as_film(PICTURE), header=header(BodyPartExamined=part))
    assert analyse("1.2.3", film, models=models, grader=grader).reading.reason == reason(code)


def test_a_joint_out_of_distribution_is_not_graded(grader: Model) -> None:
    """Noise in a box beside a knee in another: the knee keeps its grade, and the noise has no map."""
    right_knee = render([KneeShape(R)], rows=800, columns=800)
    pixels = right_knee.pixels.astype(np.float32) / np.float32(4095)
    film = as_film(np.hstack([pixels, np.random.default_rng(2).random((800, 800)).astype(np.float32)]))
    knees = knee(right_knee.boxes[0], R, **MEASURED), knee(Box(900, 200, 1300, 600), L, **MEASURED)
    prepared = PreparedFilm(film, tuple(Candidate(each, None) for each in knees))
    analysis = grade_film("1.2.3", prepared, grader, Rules())
    right, left = analysis.reading.knees
    assert analysis.reading.outcome is Outcome.GRADED
    assert (right.reason, left.reason) == (None, reason("NOT_LIKE_TRAINED"))
    assert (left.grade, left.attention, analysis.heat_maps[1]) == (None, None, None)
    assert analysis.heat_maps[0] is not None
    assert analysis.prepared is prepared  # another model may know it
