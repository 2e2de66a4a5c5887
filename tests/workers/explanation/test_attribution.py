"""Where a grade came from: regions that add up, marks that are named, red flags that fire for their reason alone."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.evidence import Attention, Certainty, KLGrade, LateralitySource
from node.finding import Finding, Laterality
from node.reasons import FLAGS
from tests.samples.knees import knee as knee_in
from workers.detection.artefacts import Labels, labels
from workers.detection.landmarks import TYPICAL
from workers.explanation.attribution import attention_of, filled, joint_only
from workers.explanation.regions import JOINT, REGIONS, region_map, region_names, shares_of
from workers.grading.grader import Graded, expected_map
from workers.models.calibration import AttentionLimits
from workers.models.labels import ARTEFACT_KINDS, BORDER, HARDWARE, MARKER, NOTHING, TEXT
from workers.models.registry import Card, read_card
from workers.preprocessing import Box

BOX = Box(50, 80, 350, 380)
POINTS = (TYPICAL * [BOX.width, BOX.height] + [BOX.x0, BOX.y0]).astype(np.float32)
PLACED = TYPICAL.astype(np.float64)
CLEAN: Labels = np.zeros((64, 64), np.uint8)
CERTAIN = Certainty(KLGrade.KL2, KLGrade.KL2, 0.9)


@pytest.fixture(scope="module")
def card() -> Card:
    """The shipped card, its limits so wide that none of them raises a flag."""
    return replace(read_card("kl-lite2"), limits=AttentionLimits())


def bone(size: int = 128) -> npt.NDArray[np.float32]:
    return np.random.default_rng(0).uniform(0.3, 0.9, (size, size)).astype(np.float32)


def answer(maps: npt.NDArray[np.float32], *, marks: Labels = CLEAN, side: Laterality = Laterality.RIGHT) -> Graded:
    """A knee of KL 2 whose logits are what its maps say, and some bias."""
    bias = np.array([0.1, -0.2, 0.3, 0.05, -0.4], np.float32)
    logits = (maps.mean((1, 2)) + bias).astype(np.float32)
    knee = knee_in(BOX, side, landmarks=POINTS, artefacts=marks)
    shares = read_card("kl-lite2").calibration.probabilities(logits)
    lead = read_card("kl-lite2").calibration.lead(shares)
    return Graded(knee, logits, shares, KLGrade.KL2, CERTAIN, maps, lead)


def maps(seed: int = 0, cells: int = 16) -> npt.NDArray[np.float32]:
    return np.random.default_rng(seed).normal(0, 3, (5, cells, cells)).astype(np.float32)


def peaked(row: int, column: int, cells: int = 16) -> npt.NDArray[np.float32]:
    """Maps of which that of KL 2 speaks in one place alone."""
    told = np.zeros((5, cells, cells), np.float32)
    told[2, row, column] = 40
    told[2, row, column - 1] = 30
    return told


def regions(side: Laterality = Laterality.RIGHT, marks: Labels = CLEAN) -> npt.NDArray[np.uint8]:
    return region_map(bone(), PLACED, side, marks, 128)


@given(seed=st.integers(0, 2**31), cells=st.sampled_from([7, 8, 14, 16]), side=st.sampled_from(list(Laterality)))
@settings(deadline=None, max_examples=40)
def test_what_the_regions_add_is_the_margin(seed: int, cells: int, side: Laterality) -> None:
    """To 1e-5, whatever the maps, the number of cells and the side."""
    graded = answer(maps(seed, cells), side=side)
    told = attention_of(graded, regions(side), graded.logits, replace(read_card("kl-lite2"), limits=AttentionLimits()))
    assert told.margin == pytest.approx(float(graded.logits[2] - graded.logits[int(told.second)]), abs=1e-6)
    assert sum(told.regions.values()) == pytest.approx(told.margin, abs=1e-5)
    assert set(told.regions) == {*region_names(side), "constant"}
    assert told.inside is None or 0 <= told.inside <= 1
    assert Attention.from_json(told.as_json()).reasons == told.reasons


def test_every_pixel_is_of_one_region_and_every_cell_is_shared_out_whole() -> None:
    """Nothing is counted twice or lost."""
    shares = shares_of(regions(), 16)
    assert shares.shape == (len(REGIONS), 16, 16)
    assert np.allclose(shares.sum(0), 1)


@pytest.mark.parametrize(
    ("side", "left"), [(Laterality.RIGHT, "lateral compartment"), (Laterality.LEFT, "medial compartment")]
)
def test_the_compartment_on_the_fibulas_side_is_the_lateral_one(side: Laterality, left: str) -> None:
    """A film hangs as if the patient faced the reader: a right knee's fibula is on the image's left."""
    told = regions(side)
    middle = round((TYPICAL[2, 1] + TYPICAL[11, 1]) / 2 * 128)
    assert REGIONS[told[middle, 30]] == left
    assert {REGIONS[told[middle, 98]], left} == {"medial compartment", "lateral compartment"}


def test_of_a_knee_of_unknown_side_no_compartment_is_called_medial() -> None:
    """They are the image's left and right one."""
    assert region_names(Laterality.UNKNOWN)[:2] == ("left compartment", "right compartment")


def test_a_turned_joint_has_turned_regions() -> None:
    """The compartments follow the plateau: of a joint turned by 12 degrees their ends lie at other heights."""
    turn = np.radians(12)
    turned = (PLACED - 0.5) @ np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]]) + 0.5
    told = region_map(bone(), turned, Laterality.RIGHT, CLEAN, 128)
    space = np.isin(told, [0, 1])
    left, right = (float(np.nonzero(space[:, column])[0].mean()) for column in (20, 108))
    assert right - left > 10
    level = np.isin(regions(), [0, 1])
    assert abs(np.nonzero(level[:, 108])[0].mean() - np.nonzero(level[:, 20])[0].mean()) < 3


def test_marks_lie_above_all_else() -> None:
    """A marker over the joint space is a marker."""
    marks = CLEAN.copy()
    marks[30:40, 10:20] = MARKER
    told = regions(marks=marks)
    assert (told[60:80, 20:40] == REGIONS.index("marker")).all()


def test_air_beside_the_leg_is_no_soft_tissue() -> None:
    """Dark pixels that hang together with the edge are outside the body; a dark joint space in the middle is not."""
    joint = bone()
    joint[:, :14] = 0
    joint[70:76, 40:90] = 0
    told = region_map(joint, PLACED, Laterality.RIGHT, CLEAN, 128)
    assert REGIONS[told[10, 4]] == "outside the body"
    assert REGIONS[told[73, 64]] in JOINT


def test_the_runner_up_is_the_next_probable_grade_and_the_contrast_its_difference() -> None:
    """Whatever the grade is that was given."""
    graded = answer(maps())
    second = graded.second
    assert second != 2
    assert graded.logits[second] == max(graded.logits[at] for at in range(5) if at != 2)
    assert np.array_equal(graded.contrast, graded.maps[2] - graded.maps[second])


def test_the_expected_grades_map_is_its_gradient() -> None:
    """A small push of every logit along the maps moves the expected grade as the map says."""
    graded = answer(maps(3, 8))
    step, grades = 1e-4, np.arange(5)

    def mean(logits: npt.NDArray[np.float64]) -> float:
        chances = np.exp(logits - logits.max())
        return float(chances @ grades / chances.sum())

    logits = np.log(graded.probabilities.astype(np.float64))
    moved = mean(logits + step * graded.maps[:, 3, 4]) - mean(logits)
    assert expected_map(graded)[3, 4] == pytest.approx(moved / step, rel=1e-2, abs=1e-3)


def test_evidence_in_the_joint_raises_nothing_and_beside_it_a_flag(card: Card) -> None:
    """The same map, moved from the joint into the corner."""
    strict = replace(card, limits=AttentionLimits(outside=0.5))
    inside, beside = answer(peaked(8, 5)), answer(peaked(0, 15))
    assert attention_of(inside, regions(), inside.logits, strict).reasons == ()
    told = attention_of(beside, regions(), beside.logits, strict)
    assert told.inside == pytest.approx(0, abs=0.01)
    assert told.reasons == ("SOFT_TISSUE",)


@pytest.mark.parametrize(
    ("kind", "code"), [(MARKER, "MARKER"), (TEXT, "TEXT"), (HARDWARE, "HARDWARE"), (BORDER, "BORDER")]
)
def test_a_mark_under_a_peak_is_named(kind: int, code: str, card: Card) -> None:
    """And one that lies elsewhere, without bearing on the grade, is not."""
    marks = CLEAN.copy()
    marks[0:4, 54:64] = kind
    under = answer(peaked(0, 15), marks=marks)
    assert code in attention_of(under, regions(marks=marks), under.logits, card).reasons
    away = answer(peaked(8, 5), marks=marks)
    assert attention_of(away, regions(marks=marks), away.logits, card).reasons == ()


def test_a_grade_that_changes_without_the_mark_is_flagged_wherever_the_peak_lies(card: Card) -> None:
    """The knee without its marker is KL 0: the marker made the grade."""
    marks = CLEAN.copy()
    marks[0:6, 0:6] = MARKER
    graded = answer(peaked(8, 5), marks=marks)
    other = np.array([9, 0, 0, 0, 0], np.float32)
    told = attention_of(graded, regions(marks=marks), other, card)
    assert told.without == KLGrade.KL0
    assert told.reasons == ("MARKER",)
    little = graded.logits + np.array([0, 0.6, 0, 0, 0], np.float32)  # the same grade, less of it
    assert attention_of(graded, regions(marks=marks), little, card).reasons == ()
    plain = answer(peaked(8, 5))
    assert attention_of(plain, regions(), other, card).reasons == ()  # no limit is passed, and nothing was found
    assert attention_of(plain, regions(), other, replace(card, limits=AttentionLimits(shift=0.5))).reasons


@pytest.mark.parametrize(
    ("kinds", "ahead", "moved", "flagged"),
    [
        ((MARKER,), 0.05, 0.0, True),  # so close that what fills the gap tells nothing
        ((MARKER,), 0.15, 0.0, False),
        ((BORDER,), 0.2, 0.0, True),  # which hides more
        ((BORDER,), 0.3, 0.0, False),
        ((MARKER,), 0.15, 0.06, True),  # moved as far again it might be another grade
        ((MARKER,), 0.2, 0.06, False),
        ((), 0.05, 0.06, False),
        ((BORDER, MARKER), 0.2, 0.0, True),  # a marker beside a border makes up for nothing
    ],
)
def test_a_grade_near_another_is_flagged_beside_a_mark(
    card: Card, kinds: tuple[int, ...], ahead: float, moved: float, flagged: bool
) -> None:
    """Though it is the same without the mark: how far it has to lead hangs on what the mark moves, and on its kind."""
    marks = CLEAN.copy()
    for column, kind in enumerate(kinds):
        marks[0:6, 8 * column : 8 * column + 6] = kind
    plain = answer(peaked(8, 5), marks=marks)

    def between(part: float) -> npt.NDArray[np.float64]:
        return np.array([0, 0.5 - part, 0.5 + part, 0, 0])

    probabilities = between(ahead).astype(np.float32)
    graded = replace(plain, probabilities=probabilities, lead=card.calibration.lead(probabilities))
    assert graded.lead == pytest.approx(2 * ahead)
    without = (np.log(between(ahead + moved) + 1e-9) * card.calibration.temperature).astype(np.float32)
    told = attention_of(graded, regions(marks=marks), without, replace(card, limits=AttentionLimits(lead=0.2)))
    assert told.without == KLGrade.KL2
    assert told.shift == pytest.approx(moved, abs=1e-3)
    assert bool(told.reasons) == flagged


def test_a_faint_or_spread_out_map_is_diffuse(card: Card) -> None:
    """Nothing to see, or everything at once."""
    even = answer(np.ones((5, 16, 16), np.float32))
    assert attention_of(even, regions(), even.logits, replace(card, limits=AttentionLimits(spread=0.6))).reasons == (
        "DIFFUSE",
    )
    empty = answer(-np.ones((5, 16, 16), np.float32))
    assert attention_of(empty, regions(), empty.logits, replace(card, limits=AttentionLimits(faint=0.01))).reasons == (
        "DIFFUSE",
    )


def test_every_code_that_is_raised_is_a_red_flag_of_the_table() -> None:
    """What is raised reaches report, picture, page and metrics by the table."""
    for code in ("MARKER", "TEXT", "HARDWARE", "BORDER", "SOFT_TISSUE", "DIFFUSE"):
        assert FLAGS[code].red


def test_only_the_marks_are_taken_away_and_never_leave_black() -> None:
    """What is left stays to the pixel; the gap has the grey of its rim."""
    joint, marks = bone(), CLEAN.copy()
    joint[8:24, 80:100] = 1.0
    marks[4:12, 40:50] = MARKER
    bare = joint_only(joint, regions(marks=marks), marks)
    assert np.array_equal(bare[40:], joint[40:])
    assert 0.3 < bare[10:22, 84:96].mean() < 0.9
    assert bare.min() >= joint.min() - 1e-6


def test_without_artefacts_all_around_the_joint_is_removed() -> None:
    """The joint itself stays as it is."""
    joint, told = bone(), regions()
    bare = joint_only(joint, told, CLEAN)
    inside = told < len(JOINT)
    assert np.array_equal(bare[inside], joint[inside])
    assert bare[~inside].std() < joint[~inside].std()


def test_nothing_or_everything_gone_leaves_the_image() -> None:
    """There is no rim to fill from."""
    joint = bone()
    for gone in (np.zeros((128, 128), bool), np.ones((128, 128), bool)):
        assert np.array_equal(filled(joint, gone), joint)


def test_a_speck_and_a_mere_likeness_are_no_marks() -> None:
    """One cell of the answer is noise; a letter has more, and somewhere the network is sure of it."""
    logits = np.zeros((len(ARTEFACT_KINDS), 64, 64), np.float32)
    logits[NOTHING] = 8
    logits[TEXT, 3, 3] = 20
    logits[MARKER, 20:26, 20:26] = 20
    logits[MARKER, 40:46, 40:46] = 8.5
    told = labels(logits, 0.6, 0.8)
    assert told[3, 3] == NOTHING
    assert (told[20:26, 20:26] == MARKER).all()
    assert (told[40:46, 40:46] == NOTHING).all()
    assert (labels(logits, 0.6, 0.6)[40:46, 40:46] == MARKER).all()


def test_json_has_the_attention_with_flag_and_reasons() -> None:
    """The keys that `genu grade --json` promises."""
    graded = answer(maps())
    told = attention_of(graded, regions(), graded.logits, read_card("kl-lite2"))
    knee = Finding(
        Laterality.RIGHT, LateralitySource.NONE, (0, 0, 9, 9), KLGrade.KL2, tuple(map(float, graded.probabilities))
    )
    said = replace(knee, attention=told).as_json()["attention"]
    assert {"regions", "inside", "flag", "reasons", "margin", "second", "without", "shift"} == set(said)
    assert said["flag"] == bool(said["reasons"])
    assert Finding.from_json(replace(knee, attention=told).as_json()).attention is not None
    assert Finding.from_json({**knee.as_json(), "attention": None}).attention is None
