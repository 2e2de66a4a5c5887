"""What logits mean: grades by cost, contiguous sets that keep their promise, neighbours that look alike."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.evidence import Certainty, KLGrade, LateralitySource
from node.finding import Finding, Laterality, Reading
from node.ledger import State
from node.settings import Settings
from tests.samples.site_models import receive
from workers.evaluation.calibration_fit import fit_calibration, fit_set_thresholds, sample_size_warnings
from workers.models.calibration import Calibration, softmax
from workers.models.registry import Model
from workers.phantom import samples
from workers.tasks import grade as work_on
from workers.worker import set_up

shares = st.lists(st.floats(0.001, 1), min_size=5, max_size=5).map(
    lambda raw: (np.array(raw) / np.sum(raw)).astype(np.float32)
)


@given(shares, st.lists(st.floats(0, 1), min_size=5, max_size=5), st.sampled_from([0.0, 0.5, 1.0, 2.0]))
def test_a_set_is_contiguous_and_holds_the_grade(given_shares: np.ndarray, limits: list[float], cost: float) -> None:
    """Whatever the thresholds: lowest <= grade <= highest, and each grade that passes its threshold is inside."""
    calibration = Calibration(cost=cost, thresholds=tuple(limits))
    grade = int(calibration.grades(given_shares))
    lowest, highest = (int(ends[0]) for ends in calibration.sets(given_shares[None]))
    assert 0 <= lowest <= grade <= highest <= 4
    for other in range(5):
        if 1 - given_shares[other] <= np.array(limits)[other]:
            assert lowest <= other <= highest


@given(shares)
def test_without_a_cost_the_grade_is_the_most_probable(given_shares: np.ndarray) -> None:
    """And with the squared distance as cost it is the one nearest to the expected grade."""
    assert given_shares[Calibration().grades(given_shares)] == pytest.approx(given_shares.max(), abs=1e-6)
    expected = float(given_shares @ np.arange(5))
    squared = int(Calibration(cost=2.0).grades(given_shares))
    assert abs(squared - expected) <= min(abs(other - expected) for other in range(5)) + 1e-5


def test_a_cost_of_one_gives_the_median() -> None:
    """KL 0 and KL 2 likelier than KL 1, which lies between: the middle is the smaller mistake."""
    split = np.array([0.4, 0.25, 0.35, 0, 0], np.float32)
    assert Calibration().grades(split) == 0
    assert Calibration(cost=1.0).grades(split) == 1


def test_sets_hold_the_grade_as_often_as_promised_for_every_grade() -> None:
    """Thresholds from one half of knees, held on the other half: 90 % of each grade's, whatever its share."""
    random = np.random.default_rng(4)
    truth = random.choice(5, 8000, p=[0.4, 0.18, 0.26, 0.12, 0.04])
    logits = random.normal(0, 1.2, (8000, 5)) - 0.8 * np.abs(np.arange(5) - truth[:, None])
    given_shares = softmax(logits.astype(np.float32))
    limits = fit_set_thresholds(given_shares[:4000], truth[:4000], 0.9)
    lowest, highest = Calibration(thresholds=tuple(limits)).sets(given_shares[4000:])
    held = (lowest <= truth[4000:]) & (truth[4000:] <= highest)
    for grade in range(5):
        assert held[truth[4000:] == grade].mean() > 0.86
    assert 0.88 < held.mean() < 0.97
    assert (highest - lowest + 1).mean() < 4.5


def test_a_grade_with_too_few_knees_is_never_ruled_out_and_named() -> None:
    """Eight knees cannot promise ninety per cent: the threshold of their grade lets everything pass."""
    truth = np.array([0] * 60 + [1] * 30 + [4] * 8)
    given_shares = np.full((98, 5), 0.2, np.float32)
    limits = fit_set_thresholds(given_shares, truth, 0.9)
    assert limits == pytest.approx([0.8, 0.8, 1, 1, 1])
    warnings = sample_size_warnings(truth, 0.9)
    assert [line[:4] for line in warnings] == ["KL 1", "KL 2", "KL 3", "KL 4"]
    assert "few" in warnings[0] and "8 knees are too few" in warnings[3]


def test_a_calibration_keeps_what_was_chosen() -> None:
    """Cost, level and limit stand in the card; only what is measured on the knees is new."""
    truth = np.repeat(np.arange(5), 40)
    logits = 3 * np.eye(5, dtype=np.float32)[truth]
    before = Calibration(cost=0.5, level=0.8, apart=0.7)
    fitted = fit_calibration(logits, truth, before)
    assert (fitted["cost"], fitted["level"], fitted["apart"], fitted["knees"]) == (0.5, 0.8, 0.7, [40] * 5)
    assert Calibration.from_card(fitted).temperature == fitted["temperature"] < 1


def test_neighbouring_grades_that_are_undecided() -> None:
    """The two most probable grades, if they lie side by side and nearly level."""
    undecided = Calibration(apart=0.6).undecided
    assert undecided(np.array([0.05, 0.42, 0.45, 0.05, 0.03])) == (KLGrade.KL1, KLGrade.KL2)
    assert undecided(np.array([0.05, 0.25, 0.6, 0.05, 0.05])) is None
    assert undecided(np.array([0.42, 0.06, 0.45, 0.04, 0.03])) is None


@pytest.mark.parametrize("undecided", [None, (KLGrade.KL1, KLGrade.KL2)])
def test_certainty_survives_json(undecided: tuple[KLGrade, KLGrade] | None) -> None:
    """Written and read again it says the same; an answer of before there was certainty is read too."""
    sure = Certainty(KLGrade.KL1, KLGrade.KL2, 0.9, undecided=undecided, spread=0.125)
    probabilities = (0.1, 0.6, 0.2, 0.1, 0.0)
    source = LateralitySource.POSITION
    finding = Finding(Laterality.LEFT, source, (0, 0, 9, 9), KLGrade.KL1, probabilities, certainty=sure)
    finding_json = finding.as_json()
    assert finding_json["confidence"] == 0.6
    assert Finding.from_json(finding_json) == finding
    assert sure.words == "KL 1 to 2"
    del finding_json["certainty"], finding_json["confidence"]
    assert Finding.from_json(finding_json).certainty is None


class Between:
    """An engine that finds KL 1 and KL 2 about as likely in every knee, and nothing else."""

    name = "test"

    def __call__(self, knees: np.ndarray) -> tuple[np.ndarray, ...]:
        logits = np.tile(np.array([0, 3, 3.1, 0, 0], np.float32), (len(knees), 1))
        return logits, np.repeat(logits, 64, axis=1).reshape(-1, 5, 8, 8)


@pytest.mark.parametrize("undecided", [True, False])
def test_what_a_model_is_sure_of_reaches_ledger_and_results(
    undecided: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the card's numbers to the flag, the reading and the report: one journey, in one process."""
    settings = Settings(storage={"folder": tmp_path})
    bench = set_up(settings, "w")
    calibration = Calibration(thresholds=(0.9,) * 5, level=0.8, apart=0.6 if undecided else 0.5)
    card = replace(bench.active_model.current().card, calibration=calibration)
    monkeypatch.setattr(bench.active_model, "current", lambda: Model(card, Between()))
    uid = receive(settings, samples()[0])
    try:
        work_on(uid, bench)
    finally:
        bench.reader.close()
    entry = bench.ledger.find(uid)
    assert entry is not None
    assert entry.state is State.REPORTED
    assert ("UNDECIDED" in entry.flags) is undecided
    assert "DIFFUSE" in entry.flags  # a map that is the same everywhere
    assert entry.reading is not None
    (knee,) = Reading.from_json(entry.reading).knees
    assert knee.certainty is not None
    assert knee.certainty.remaining == "KL 1 to 2 cannot be ruled out (80 % set)"
    assert (knee.grade, bool(knee.certainty.doubt)) == (KLGrade.KL2, undecided)
    made = {result.kind: bench.vault.read_result(uid, result.file) for result in bench.ledger.result_objects(uid)}
    assert made.keys() == {"SC", "SR"}  # no evidence in this map, so no segments
    report = str(pydicom.dcmread(io.BytesIO(made["SR"])))
    for word, there in (("SETLEVEL", True), ("KL1", True), ("KL0", False), ("UNDECIDED", undecided)):
        assert (f"'{word}'" in report) is there
    bench.ledger.close()
