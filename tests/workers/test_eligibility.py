"""Each knee is judged for itself: too young, too small, too dark or of the wrong size, it is refused and says so."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset

from node.evidence import Agreement
from node.finding import Laterality, Outcome
from node.reasons import reason
from node.settings import Work
from tests.samples.real_knees import needs_knees, pixels, some_knees
from tests.workers.detection.test_joints import as_film, rendered
from workers import eligibility
from workers.analysis import Analysis, analyse, judged, say
from workers.detection.detect import Eyes, open_eyes
from workers.detection.joints import Knee
from workers.eligibility import Rules, age_of, exposure, hints, judge
from workers.models.registry import Model, load
from workers.phantom import KneeShape, render
from workers.preprocessing import Box
from workers.read import Spacing, SpacingKind

R, L = Laterality.RIGHT, Laterality.LEFT
BOX = Box(100, 100, 500, 500)
KNEE = Knee(BOX, R, "ImageLaterality", 0.9, field_of_view_mm=100.0, scale_source="calibrated")
PICTURE = np.random.default_rng(1).random((600, 600)).astype(np.float32)


@pytest.fixture(scope="module")
def eyes() -> Eyes:
    return open_eyes()


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
    ({"PatientAge": "45"}, None),
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
    told = age_of(header(**attributes))
    assert told == (None if age is None else pytest.approx(age))
    refused = eligibility.child(header(**attributes), 18)
    assert (refused is not None) == (age is not None and age < 18)


@given(st.text(max_size=8), st.text(max_size=10), st.text(max_size=10))
def test_any_header_has_an_age_or_none(age: str, born: str, when: str) -> None:
    """What a header holds comes from outside."""
    made = Dataset()
    for keyword, value in (("PatientAge", age), ("PatientBirthDate", born), ("StudyDate", when)):
        made.add_new(keyword, "LO", value)
    told = age_of(made)
    assert told is None or 0 <= told <= 120


JUDGED: list[tuple[str, dict[str, Any], dict[str, Any], Rules, str]] = [
    ("a knee", {}, {}, Rules(), ""),
    ("a child", {"PatientAge": "012Y"}, {}, Rules(), "CHILD"),
    ("a child where children are graded", {"PatientAge": "012Y"}, {}, Rules(youngest=10), ""),
    ("a conflict", {}, {"agreement": Agreement.CONFLICT}, Rules(), ""),
    ("a conflict, refused", {}, {"agreement": Agreement.CONFLICT}, Rules(side_conflict="refuse"), "CONFLICTING_SIDE"),
    ("30 mm", {}, {"field_of_view_mm": 30.0}, Rules(), "WRONG_SIZE"),
    ("300 mm", {}, {"field_of_view_mm": 300.0}, Rules(), "WRONG_SIZE"),
    ("72 mm", {}, {"field_of_view_mm": 72.0}, Rules(), ""),
    ("no millimetres", {}, {"field_of_view_mm": None, "scale_source": "none"}, Rules(), ""),
    ("few pixels", {}, {"box": Box(100, 100, 160, 160)}, Rules(), "JOINT_TOO_SMALL"),
    ("a reason already", {}, {"reason": reason("METAL")}, Rules(), "METAL"),
]


@pytest.mark.parametrize(("attributes", "knee", "rules", "code"), [c[1:] for c in JUDGED], ids=[c[0] for c in JUDGED])
def test_a_knee_is_refused_for_its_reason(
    attributes: dict[str, Any], knee: dict[str, Any], rules: Rules, code: str
) -> None:
    """And graded where there is none."""
    told = judge(as_film(PICTURE, **attributes), replace(KNEE, **knee), rules)
    assert (told.code if told else "") == code


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
    told = judge(film, KNEE, Rules())
    assert (told.code if told else "") == code


@pytest.mark.parametrize(
    ("hidden", "shade"),
    [
        (np.s_[:, :145], None),  # a collimator's edge in the header, and the picture goes on behind it
        (np.s_[300:340, 100:145], 0.0),  # air that was stored as the padding value, with bone about it
    ],
)
def test_a_joint_whose_rims_are_seen_is_not_cut_off(hidden: Any, shade: float | None) -> None:
    """Whatever the header says of its field."""
    film = as_film(PICTURE.copy())
    film.field[hidden] = False
    if shade is not None:
        film.pixels[hidden] = shade
    assert judge(film, KNEE, Rules()) is None


@needs_knees
def test_a_real_knee_is_refused_once_its_rim_is_cut_off(eyes: Eyes, grader: Model) -> None:
    """As it is, it is graded; without an eighth of its width at either side it is not, whatever else is seen of it."""
    told: list[list[str]] = [[], [], []]
    for row in some_knees("val", 16):
        knee = pixels(row) / 255
        for at, part in enumerate((knee, knee[:, 37:], knee[:, :-37])):
            reading = analyse("1.2", as_film(part, ImageLaterality=row["side"]), eyes=eyes, grader=grader).reading
            told[at].append(reading.reason.code if reading.reason else "")
    assert told[0].count("") >= 15
    for cut in told[1:]:
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
    told = exposure(make(shape).astype(np.float32), BOX)
    assert (told.code if told else "") == code


@needs_knees
def test_real_knees_are_not_refused_for_their_light() -> None:
    """Some are nearly white and some nearly flat; they were read all the same."""
    whole = Box(0, 0, 299, 299)
    assert not [row["path"] for row in some_knees("val", 400) if exposure(pixels(row).astype(np.float32) / 255, whole)]


def bilateral(**attributes: Any) -> Any:
    return rendered(render([KneeShape(R), KneeShape(L)], rows=1500, columns=1800, seed=5), **attributes)


def test_one_refused_knee_does_not_silence_the_other(eyes: Eyes, grader: Model) -> None:
    """The left one has its reason and no grade, the right one its grade; the film is graded."""
    film = bilateral(PatientAge="060Y")
    analysis = analyse("1.2.3", film, eyes=eyes, grader=grader)
    right, left = analysis.found
    told = say("1.2.3", film, [right, replace(left, reason=reason("TOTAL_REPLACED"))], grader)
    assert told.reading.outcome is Outcome.GRADED
    assert [knee.reason.code if knee.reason else "" for knee in told.reading.knees] == ["", "TOTAL_REPLACED"]
    assert told.reading.knees[0] == analysis.reading.knees[0]
    assert told.reading.knees[1].grade is None
    assert [each is None for each in told.heat_maps] == [False, True]


def test_a_film_whose_knees_are_all_refused_says_why_of_each(eyes: Eyes, grader: Model) -> None:
    """The film's reason is theirs; where they differ, the first one's, and the detail names all."""
    same = analyse("1.2.3", bilateral(PatientAge="009Y"), eyes=eyes, grader=grader)
    assert (same.reading.outcome, same.reading.model) == (Outcome.NOT_ANALYSED, None)
    assert codes_of(same) == ["CHILD", "CHILD"]
    assert same.reading.reason == reason("CHILD")
    assert same.reading.detail == ""
    right, left = (replace(knee, reason=None) for knee in same.found)
    film = bilateral()
    mixed = judged(film, [replace(right, field_of_view_mm=30.0), replace(left, reason=reason("METAL"))], Rules())
    told = say("1.2.3", film, mixed, grader)
    assert codes_of(told) == ["WRONG_SIZE", "METAL"]
    assert (told.reading.reason, told.reading.detail) == (reason("WRONG_SIZE"), "WRONG_SIZE, METAL")


def codes_of(analysis: Analysis) -> list[str]:
    return [knee.reason.code if knee.reason else "" for knee in analysis.reading.knees]


def test_flags_and_millimetres_reach_the_reading(eyes: Eyes, grader: Model) -> None:
    """A negative without an age, with a detector's spacing: two remarks on each knee, and its width."""
    film = bilateral(BodyPartExamined="HIP")
    film = replace(film, pixels=1 - film.pixels, spacing=Spacing(0.15, 0.15, SpacingKind.DETECTOR))
    reading = analyse("1.2.3", film, eyes=eyes, grader=grader).reading
    assert reading.outcome is Outcome.GRADED
    for knee in reading.knees:
        # Red ones are about the map, and a rendered knee's is what it is.
        assert {flag.code for flag in knee.flags if not flag.red} == {"AGE_UNKNOWN", "POLARITY"}
        assert knee.scale_source == "detector plane"
        assert knee.field_of_view_mm == pytest.approx(0.15 * (knee.box[2] - knee.box[0]), abs=0.01)
    assert {"AGE_UNKNOWN", "POLARITY"} <= set(reading.flags)
    assert any("HIP" in note for note in reading.notes)


@pytest.mark.parametrize(("part", "noted"), [("KNEE", 0), ("", 0), ("HIP", 1), ("leg", 0), ("^^x<y>", 0)])
def test_a_header_s_body_part_is_a_hint(part: str, noted: int) -> None:
    """It is noted where it says another part, and never refuses."""
    assert len(hints(header(BodyPartExamined=part))) == noted


@pytest.mark.parametrize(
    ("part", "code"), [("CHEST", "OTHER_PART"), ("KNEE", "NOT_A_KNEE"), ("", "NOT_A_KNEE"), ("T-12", "NOT_A_KNEE")]
)
def test_a_film_without_a_joint_whose_header_agrees_is_of_another_part(
    part: str, code: str, eyes: Eyes, grader: Model
) -> None:
    """Two witnesses say more than one: somebody has routed another part."""
    film = replace(as_film(PICTURE), header=header(BodyPartExamined=part))
    told = analyse("1.2.3", film, eyes=eyes, grader=grader).reading
    assert told.reason == reason(code)


def test_a_joint_unlike_all_that_the_grader_knows_is_not_graded(grader: Model) -> None:
    """Noise in a box beside a knee in another: the knee keeps its grade, and the noise has no map."""
    rendered_knee = render([KneeShape(R)], rows=800, columns=800)
    knee = rendered_knee.pixels.astype(np.float32) / np.float32(4095)
    film = as_film(np.hstack([knee, np.random.default_rng(2).random((800, 800)).astype(np.float32)]))
    found = [replace(KNEE, box=rendered_knee.boxes[0]), replace(KNEE, box=Box(900, 200, 1300, 600), laterality=L)]
    told = say("1.2.3", film, found, grader)
    right, left = told.reading.knees
    assert (told.reading.outcome, right.reason, left.reason) == (Outcome.GRADED, None, reason("NOT_LIKE_TRAINED"))
    assert (left.grade, left.attention, told.heat_maps[1]) == (None, None, None)
    assert told.heat_maps[0] is not None
    assert [knee.reason for knee in told.found] == [None, None]  # another model may know it
