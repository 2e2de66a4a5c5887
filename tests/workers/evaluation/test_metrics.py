"""The figures are what their names say, held against values worked out by hand and against known definitions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as reference

from workers.evaluation.calibration_fit import fit_heat_scale, fit_temperature
from workers.evaluation.metrics import (
    Predictions,
    auc,
    balanced_accuracy,
    confusion,
    expected_calibration_error,
    macro_f1,
    mean_absolute_error,
    quadratic_weighted_kappa,
    recall,
    with_intervals,
)
from workers.models.calibration import Calibration

TRUTH = np.array([0, 0, 1, 1, 2, 2, 3, 3, 4, 4])
FOUND = np.array([0, 1, 1, 1, 2, 1, 3, 2, 4, 0])


def test_the_figures_of_a_small_table() -> None:
    """Worked out by hand from ten knees."""
    assert confusion(TRUTH, FOUND)[4].tolist() == [1, 0, 0, 0, 1]
    assert recall(TRUTH, FOUND).tolist() == [0.5, 1, 0.5, 0.5, 0.5]
    assert balanced_accuracy(TRUTH, FOUND) == pytest.approx(0.6)
    assert mean_absolute_error(TRUTH, FOUND) == pytest.approx(0.7)
    # F1: KL0 2*1/(2+2), KL1 2*2/(2+4), KL2 2*1/(2+2), KL3 2*1/(2+1), KL4 2*1/(2+1)
    assert macro_f1(TRUTH, FOUND) == pytest.approx((0.5 + 2 / 3 + 0.5 + 2 / 3 + 2 / 3) / 5)
    # squared distances: 1 + 1 + 1 + 16 = 19 of 10 knees; by chance: sum over all pairs of marginals / 10
    chance = np.mean([(t - f) ** 2 for t in TRUTH for f in FOUND])
    assert quadratic_weighted_kappa(TRUTH, FOUND) == pytest.approx(1 - 1.9 / chance)


def test_kappa_at_its_corners() -> None:
    """1 for full agreement, 0 for one constant answer, and no division by nothing."""
    assert quadratic_weighted_kappa(TRUTH, TRUTH) == 1
    assert quadratic_weighted_kappa(TRUTH, np.full(10, 2)) == pytest.approx(0)
    assert quadratic_weighted_kappa(np.full(4, 3), np.full(4, 3)) == 1


def certain(found: np.ndarray) -> Predictions:
    """Grades that leave no doubt."""
    return Predictions.calibrated(Calibration(), np.eye(5, dtype=np.float32)[found])


def test_the_area_under_the_curve_is_the_chance_to_rank_two_knees_right() -> None:
    """Over all pairs of a knee with KL 2 or more and one with less; a tie counts half."""
    random = np.random.default_rng(2)
    truth = random.integers(0, 5, 60)
    shares = random.dirichlet(np.ones(5), 60).round(1).astype(np.float32)
    score = shares[:, 2:].sum(1)
    pairs = [(a > b) + (a == b) / 2 for a in score[truth >= 2] for b in score[truth < 2]]
    assert auc(truth, shares) == pytest.approx(np.mean(pairs), abs=1e-6)
    assert np.isnan(auc(np.zeros(3, int), shares[:3]))


@pytest.mark.filterwarnings("ignore:y_pred contains classes", "ignore:A single label was found")
@given(st.integers(0, 2**32 - 1), st.sets(st.integers(0, 4), min_size=2), st.integers(2, 80))
def test_the_figures_are_those_of_scikit_learn(seed: int, occurring: set[int], count: int) -> None:
    """To 1e-9, with classes that do not occur too. Its calls take 1 to 3 ms each, too long for 1,000 draws of six."""
    random = np.random.default_rng(seed)
    truth = random.choice(sorted(occurring), count)
    probabilities = random.dirichlet(np.ones(5), count).round(2).astype(np.float32)
    found = probabilities.argmax(1)
    grades, score, positive = list(range(5)), probabilities[:, 2:].sum(1), truth >= 2
    table = reference.confusion_matrix(truth, found, labels=grades)
    np.testing.assert_array_equal(confusion(truth, found), table)
    expected = {
        balanced_accuracy: reference.balanced_accuracy_score(truth, found),
        macro_f1: reference.f1_score(truth, found, average="macro"),
        mean_absolute_error: reference.mean_absolute_error(truth, found),
    }
    if len({*truth, *found}) > 1:
        expected[quadratic_weighted_kappa] = reference.cohen_kappa_score(
            truth, found, weights="quadratic", labels=grades
        )
    for figure, value in expected.items():
        assert figure(truth, found) == pytest.approx(value, abs=1e-9)
    np.testing.assert_allclose(
        recall(truth, found),
        reference.recall_score(truth, found, labels=grades, average=None, zero_division=np.nan),
        atol=1e-9,
    )
    if positive.any() and not positive.all():
        assert auc(truth, probabilities) == pytest.approx(reference.roc_auc_score(positive, score), abs=1e-9)


def test_the_calibration_error_is_the_gap_between_confidence_and_truth() -> None:
    """Eight of ten right at a confidence of .8 is no gap; at a confidence of .95 it is one of .15."""
    truth, found = np.array([0] * 8 + [1] * 2), np.zeros(10, int)
    for confidence, gap in ((0.8, 0.0), (0.95, 0.15)):
        shares = np.full((10, 5), (1 - confidence) / 4)
        shares[:, 0] = confidence
        assert expected_calibration_error(truth, found, shares) == pytest.approx(gap)


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=2, max_size=60))
def test_every_interval_holds_finite_numbers(pairs: list[tuple[int, int]]) -> None:
    """Whatever the answers are, a figure is a number within its meaning, or None where there is no such knee."""
    truth, found = np.array(pairs).T
    figures = with_intervals(truth, certain(found), [str(at // 2) for at in range(len(pairs))], rounds=20)
    assert figures["n"] == len(pairs)
    for grade, figure in enumerate(figures["recall"]):
        assert (figure["value"] is None) == (grade not in truth)
    assert 0 <= figures["accuracy"]["value"] <= 1


def test_the_interval_is_wider_when_knees_come_in_pairs() -> None:
    """It draws patients, not knees: two knees that always agree count as one."""
    random = np.random.default_rng(0)
    truth = np.repeat(random.integers(0, 5, 200), 2)
    found = np.where(np.repeat(random.random(200) < 0.7, 2), truth, (truth + 1) % 5)

    def width(patients: list[str]) -> float:
        accuracy = with_intervals(truth, certain(found), patients)["accuracy"]
        return float(accuracy["high"] - accuracy["low"])

    assert width([str(at // 2) for at in range(400)]) > 1.25 * width([str(at) for at in range(400)])


def test_temperature_finds_how_boastful_the_logits_are() -> None:
    """Labels drawn from softmax(logits) and logits doubled: the temperature that mends it is two."""
    random = np.random.default_rng(1)
    honest = random.normal(0, 1.5, (6000, 5)).astype(np.float32)
    chances = np.exp(honest) / np.exp(honest).sum(1, keepdims=True)
    truth = np.array([random.choice(5, p=row / row.sum()) for row in chances.astype(float)])
    assert fit_temperature(honest * 2, truth) == pytest.approx(2, rel=0.1)
    assert fit_heat_scale(np.arange(101, dtype=np.float32)) == 90
