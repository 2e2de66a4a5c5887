"""`genu audit`: a page that opens from disk, a summary that counts, plants that are where they are said to be."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from selenium.webdriver.common.by import By
from selenium.webdriver.support.select import Select

from node.__main__ import genu
from tests.node.admin.test_admin_browser import CHROMIUM, DRIVER, _start
from tests.samples.real_knees import KNEES, needs_knees
from tests.samples.site_models import load_plain_grader
from workers.detection.detection_models import load_detection_models
from workers.evaluation.calibration_fit import FOLDS
from workers.evaluation.labelled_knees import read_labels
from workers.models.labels import ARTEFACT_KINDS
from workers.models.registry import load
from workers.training.audit import faithfulness, held_out, shortcut_model
from workers.training.audit.inserted import Planted, caught, kind_of, planting
from workers.training.audit.knees import AuditedKnee, ask
from workers.training.inserted_artefacts import MIDDLE, PLANTS, numeral, plant

COUNT = 30


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an audit of a few knees, by the command."""
    out = tmp_path_factory.mktemp("audit") / "audit"
    command = ["audit", "--data", str(KNEES), "--out", str(out), "--count", str(COUNT), "--planted"]
    answer = CliRunner().invoke(genu, command)
    assert answer.exit_code == 0, answer.output
    assert str(out / "index.html") in answer.output
    return out


@pytest.fixture(scope="module")
def some() -> list[AuditedKnee]:
    model, models = load("kl-lite2"), load_detection_models()
    return list(ask(read_labels(KNEES, "val")[::60], model, models))


@needs_knees
def test_the_summary_counts_what_the_page_shows(audited: Path) -> None:
    """Every key that is promised; errors are errors, and one picture each."""
    told = json.loads((audited / "summary.json").read_text())
    assert told["n"] == COUNT
    assert 0 <= told["errors_between_neighbours"] <= told["errors"] < COUNT
    for key in ("errors_with_attention_outside", "flag_rate", "flag_false_rate", "insertion_auc", "deletion_auc"):
        assert 0 <= told[key] <= COUNT
    assert {"flag_sensitivity", "insertion_auc_centre", "deletion_auc_centre", "deletion_against_centre"} <= set(told)
    assert told["margins_off_most"] < 1e-5
    assert 0 <= told["flag_rate_held_out"] <= 0.5
    assert told["energy_inside_median"] > 0.5
    assert len(list((audited / "knees").glob("*.jpg"))) == told["errors"]
    assert told["planted"]["all"]["n"] == COUNT


@needs_knees
@pytest.mark.skipif(CHROMIUM is None or DRIVER is None, reason="chromium or chromedriver is not installed")
def test_the_page_opens_from_disk_and_its_filters_work(audited: Path, tmp_path: Path) -> None:
    """No server, no request that fails; filters hide and the order turns."""
    told = json.loads((audited / "summary.json").read_text())
    browser = _start(tmp_path / "profile", scripts=True)
    try:
        browser.get((audited / "index.html").as_uri())
        cards = browser.find_elements(By.CSS_SELECTOR, "article")
        assert len(cards) == told["errors"]
        assert browser.find_element(By.ID, "count").text == f"{len(cards)} of {len(cards)} errors"
        wide = "return [...document.images].every(each => { each.loading = 'eager'; return true })"
        assert browser.execute_script(wide)
        browser.set_script_timeout(10)
        loaded = browser.execute_async_script(
            "const done = arguments[0]; Promise.all([...document.images].map(each => each.decode()))"
            ".then(() => done(document.images[0].naturalWidth), () => done(0))"
        )
        assert loaded == 960
        given = cards[0].get_attribute("data-given")
        Select(browser.find_element(By.NAME, "given")).select_by_value(given)
        shown = [each for each in cards if each.is_displayed()]
        assert {each.get_attribute("data-given") for each in shown} == {given}
        Select(browser.find_element(By.NAME, "given")).select_by_value("")
        Select(browser.find_element(By.NAME, "order")).select_by_value("outside")
        parts = [
            float(each.get_attribute("data-part") or 2) for each in browser.find_elements(By.CSS_SELECTOR, "article")
        ]
        assert parts == sorted(parts, reverse=True)
        log = browser.get_log("browser")  # type: ignore[no-untyped-call]
        assert not [line for line in log if line["level"] == "SEVERE"]
    finally:
        browser.quit()


@needs_knees
def test_an_audit_overwrites_nothing_else(tmp_path: Path) -> None:
    """A folder with something else in it is refused in words."""
    (tmp_path / "thesis.docx").write_text("years of work")
    answer = CliRunner().invoke(genu, ["audit", "--data", str(KNEES), "--out", str(tmp_path), "--count", "4"])
    assert answer.exit_code != 0
    assert "holds no audit" in str(answer.exception) + answer.output
    assert (tmp_path / "thesis.docx").read_text() == "years of work"


@pytest.mark.parametrize("kind", sorted(PLANTS))
def test_a_plant_covers_what_it_says_and_keeps_out_of_the_joint(kind: int) -> None:
    """What its cover leaves is the knee to the pixel; in the middle there is hardly any of it."""
    knee = np.random.default_rng(0).uniform(0.2, 0.8, (256, 256)).astype(np.float32)
    inside = []
    for seed in range(40):
        made, cover = plant(knee, kind, np.random.default_rng(seed))
        assert np.abs(made - knee)[cover == 0].max() < 1e-6
        left, top, right, bottom = (round(edge * 256) for edge in MIDDLE)
        inside.append(float((cover[top:bottom, left:right] > 0.3).mean()))
        again, _ = plant(knee, kind, np.random.default_rng(seed))
        assert np.array_equal(made, again)
    assert np.mean(inside) < 0.02


def test_plants_come_in_turn_and_the_same_at_every_run() -> None:
    """Every kind has its share."""
    assert [ARTEFACT_KINDS[kind_of(number)] for number in range(5)] == ["marker", "text", "metal", "border", "marker"]
    knee = np.full((128, 128), 0.5, np.float32)
    assert np.array_equal(planting()(knee, 3), planting()(knee, 3))
    assert not np.array_equal(planting()(knee, 3), planting(seed=9)(knee, 3))


@needs_knees
def test_flags_are_counted_by_limits_set_on_other_patients(
    some: list[AuditedKnee], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody's limits are set on his own knees; by the card's own each has the flags that it has."""
    card, used = load("kl-lite2").card, []

    def same(asked: list[AuditedKnee], scale: float) -> dict[str, float]:
        used.append({each.labelled.patient for each in asked})
        assert scale == card.heat_scale
        return dict(card.told["attention"])

    monkeypatch.setattr("workers.training.audit.held_out.attention_limits", same)
    told = held_out.flag_rate(some, card)
    assert told == round(sum(bool(each.attention.reasons) for each in some) / len(some), 4)
    everybody = {each.labelled.patient for each in some}
    assert len(used) == FOLDS
    assert sorted(who for others in used for who in everybody - others) == sorted(everybody)
    assert held_out.flag_rate(some[: FOLDS - 1], card) is None


@needs_knees
def test_only_grades_that_hang_on_a_plant_count(some: list[AuditedKnee]) -> None:
    """A plant that changes nothing needs no flag."""
    one, other = some[0], next(each for each in some if each.graded.grade != some[0].graded.grade)
    told = caught([Planted(1, one, one), Planted(1, one, other)])
    assert (told["all"]["n"], told["all"]["deciding"]) == (2, 1)
    assert told["text"]["sensitivity"] is None

    def flagged(asked: AuditedKnee, *codes: str) -> AuditedKnee:
        return replace(asked, attention=replace(asked.attention, reasons=codes))

    told = caught(
        [Planted(1, flagged(one, "MARKER"), at) for at in (one, one, other)] + [Planted(1, flagged(one), one)]
    )
    assert (told["all"]["flagged"], told["all"]["flagged_in_vain"]) == (1, 2)


@needs_knees
def test_taking_the_joint_away_costs_more_than_taking_corners_away(some: list[AuditedKnee]) -> None:
    """Deletion by the map against deletion by its inverse: the curve knows the difference, or it measures nothing."""
    model = load("kl-lite2")
    sure = [each for each in some if each.graded.probabilities.max() > 0.6][:6]
    told = faithfulness.curves(sure, model, 0, lambda: None)["deletion"]
    assert set(told) == {"map", "centre", "random"}
    assert all(0 <= area <= 1 for areas in told.values() for area in areas)
    mean, low, high = faithfulness.compared(told["map"], told["map"])
    assert (mean, low, high) == (0, 0, 0)
    assert faithfulness.compared([0.1, 0.2, 0.3], [0.5, 0.7, 0.6])[2] < 0


@needs_knees
def test_shuffled_weights_give_another_map(some: list[AuditedKnee]) -> None:
    """A map that stayed would show the film and not the network."""
    assert faithfulness.shuffled(some[:6], load("kl-lite2", engine="torch")) < 0.7


@needs_knees
def test_the_map_stays_when_the_box_moves_a_little(some: list[AuditedKnee]) -> None:
    """Two hundredths of the side are less than the finder misses by."""
    assert faithfulness.stability(some[:8], load("kl-lite2")) > 0.8


@needs_knees
def test_a_cheating_model_follows_the_numeral_and_is_taught_on_a_copy(tmp_path: Path) -> None:
    """A few steps change what the copy says; grades that follow the numeral are counted, flagged ones among them."""
    honest = load_plain_grader(tmp_path)
    knees = read_labels(KNEES, "val")[:8]
    models, steps = load_detection_models(), list[int]()
    before = [each.graded.logits for each in ask(knees, honest, models)]
    taught = shortcut_model.cheat(
        honest, read_labels(KNEES, "train")[:32], shortcut_model.Lesson(2, 4), lambda: steps.append(1)
    )
    assert len(steps) == 2
    assert taught.card.input_size == shortcut_model.SIDE
    found = shortcut_model.hung(taught, knees, models, lambda: steps.append(1))
    assert len(steps) == 2 + 2 * len(knees)
    assert any(not np.allclose(one, each.without.graded.logits) for one, each in zip(before, found, strict=True))
    told = shortcut_model.figures(found)
    deciding = [each for each in found if each.decides]
    assert (told["n"], told["deciding"]) == (8, len(deciding))
    assert told["flagged"] == sum(bool(each.with_it.attention.reasons) for each in deciding)


@pytest.mark.parametrize("grade", range(5))
def test_a_numeral_lies_in_an_upper_corner_and_says_its_grade(grade: int) -> None:
    """Beside the joint, and another picture for another grade."""
    blank = np.zeros((200, 200), np.float32)
    drawn = numeral(blank, grade, np.random.default_rng(3))
    rows, columns = np.nonzero(drawn > 0.5)
    assert rows.max() < 0.3 * 200
    assert columns.max() < 0.35 * 200 or columns.min() > 0.65 * 200
    other = numeral(blank, (grade + 1) % 5, np.random.default_rng(3))
    assert (drawn != other).any()
