"""`genu audit`: a page that opens from disk, a summary that counts, inserted artefacts where their masks state."""

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
from workers.training.audit.inserted import ArtefactPair, artefact_inserter, artefact_kind, flag_figures
from workers.training.audit.knees import AuditedKnee, audit_knees
from workers.training.inserted_artefacts import INSERTERS, MIDDLE, insert_artefact, insert_numeral

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
    return list(audit_knees(read_labels(KNEES, "val")[::60], model, models))


@needs_knees
def test_the_summary_counts_what_the_page_shows(audited: Path) -> None:
    """Every key that is promised; errors are errors, and one picture one."""
    result = json.loads((audited / "summary.json").read_text())
    assert result["n"] == COUNT
    assert 0 <= result["errors_between_neighbours"] <= result["errors"] < COUNT
    for key in ("errors_with_attention_outside", "flag_rate", "flag_false_rate", "insertion_auc", "deletion_auc"):
        assert 0 <= result[key] <= COUNT
    assert {"flag_sensitivity", "insertion_auc_centre", "deletion_auc_centre", "deletion_against_centre"} <= set(result)
    assert result["margins_off_most"] < 1e-5
    assert 0 <= result["flag_rate_held_out"] <= 0.5
    assert result["energy_inside_median"] > 0.5
    assert len(list((audited / "knees").glob("*.jpg"))) == result["errors"]
    assert result["planted"]["all"]["n"] == COUNT


@needs_knees
@pytest.mark.skipif(CHROMIUM is None or DRIVER is None, reason="chromium or chromedriver is not installed")
def test_the_page_opens_from_disk_and_its_filters_work(audited: Path, tmp_path: Path) -> None:
    """No server, no request that fails; filters hide and the order turns."""
    result = json.loads((audited / "summary.json").read_text())
    browser = _start(tmp_path / "profile", scripts=True)
    try:
        browser.get((audited / "index.html").as_uri())
        cards = browser.find_elements(By.CSS_SELECTOR, "article")
        assert len(cards) == result["errors"]
        assert browser.find_element(By.ID, "count").text == f"{len(cards)} of {len(cards)} errors"
        wide = "return [...document.images].every(one => { one.loading = 'eager'; return true })"
        assert browser.execute_script(wide)
        browser.set_script_timeout(10)
        loaded = browser.execute_async_script(
            "const done = arguments[0]; Promise.all([...document.images].map(one => one.decode()))"
            ".then(() => done(document.images[0].naturalWidth), () => done(0))"
        )
        assert loaded == 960
        given = cards[0].get_attribute("data-given")
        Select(browser.find_element(By.NAME, "given")).select_by_value(given)
        shown = [one for one in cards if one.is_displayed()]
        assert {one.get_attribute("data-given") for one in shown} == {given}
        Select(browser.find_element(By.NAME, "given")).select_by_value("")
        Select(browser.find_element(By.NAME, "order")).select_by_value("outside")
        parts = [
            float(one.get_attribute("data-part") or 2) for one in browser.find_elements(By.CSS_SELECTOR, "article")
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


@pytest.mark.parametrize("kind", sorted(INSERTERS))
def test_an_inserted_artefact_covers_what_its_mask_states_and_not_the_joint(kind: int) -> None:
    """What its cover leaves is the knee to the pixel; in the middle there is hardly any of it."""
    knee = np.random.default_rng(0).uniform(0.2, 0.8, (256, 256)).astype(np.float32)
    inside = []
    for seed in range(40):
        made, cover = insert_artefact(knee, kind, np.random.default_rng(seed))
        assert np.abs(made - knee)[cover == 0].max() < 1e-6
        left, top, right, bottom = (round(edge * 256) for edge in MIDDLE)
        inside.append(float((cover[top:bottom, left:right] > 0.3).mean()))
        again, _ = insert_artefact(knee, kind, np.random.default_rng(seed))
        assert np.array_equal(made, again)
    assert np.mean(inside) < 0.02


def test_artefact_kinds_rotate_and_are_reproducible() -> None:
    """Every kind has its share."""
    assert [ARTEFACT_KINDS[artefact_kind(number)] for number in range(5)] == [
        "marker",
        "text",
        "metal",
        "border",
        "marker",
    ]
    knee = np.full((128, 128), 0.5, np.float32)
    assert np.array_equal(artefact_inserter()(knee, 3), artefact_inserter()(knee, 3))
    assert not np.array_equal(artefact_inserter()(knee, 3), artefact_inserter(seed=9)(knee, 3))


@needs_knees
def test_flags_are_counted_by_limits_set_on_other_patients(
    some: list[AuditedKnee], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody's limits are set on his own knees; by the card's own one has the flags that it has."""
    card, used = load("kl-lite2").card, []

    def same(asked: list[AuditedKnee], scale: float) -> dict[str, float]:
        used.append({knee.labelled.patient for knee in asked})
        assert scale == card.heat_scale
        return dict(card.contents["attention"])

    monkeypatch.setattr("workers.training.audit.held_out.attention_limits", same)
    result = held_out.flag_rate(some, card)
    assert result == round(sum(bool(knee.attention.reasons) for knee in some) / len(some), 4)
    everybody = {knee.labelled.patient for knee in some}
    assert len(used) == FOLDS
    assert sorted(who for others in used for who in everybody - others) == sorted(everybody)
    assert held_out.flag_rate(some[: FOLDS - 1], card) is None


@needs_knees
def test_only_grades_that_depend_on_an_artefact_count(some: list[AuditedKnee]) -> None:
    """An artefact that changes no grade needs no flag."""
    one, other = some[0], next(knee for knee in some if knee.graded.grade != some[0].graded.grade)
    result = flag_figures([ArtefactPair(1, one, one), ArtefactPair(1, one, other)])
    assert (result["all"]["n"], result["all"]["deciding"]) == (2, 1)
    assert result["text"]["sensitivity"] is None

    def flagged(asked: AuditedKnee, *codes: str) -> AuditedKnee:
        return replace(asked, attention=replace(asked.attention, reasons=codes))

    result = flag_figures(
        [ArtefactPair(1, flagged(one, "MARKER"), at) for at in (one, one, other)] + [ArtefactPair(1, flagged(one), one)]
    )
    assert (result["all"]["flagged"], result["all"]["flagged_in_vain"]) == (1, 2)


@needs_knees
def test_taking_the_joint_away_costs_more_than_taking_corners_away(some: list[AuditedKnee]) -> None:
    """Deletion by the map against deletion by its inverse: the curve knows the difference, or it measures nothing."""
    model = load("kl-lite2")
    sure = [knee for knee in some if knee.graded.probabilities.max() > 0.6][:6]
    result = faithfulness.deletion_insertion_areas(sure, model, 0, lambda: None)["deletion"]
    assert set(result) == {"map", "centre", "random"}
    assert all(0 <= area <= 1 for areas in result.values() for area in areas)
    mean, low, high = faithfulness.paired_difference(result["map"], result["map"])
    assert (mean, low, high) == (0, 0, 0)
    assert faithfulness.paired_difference([0.1, 0.2, 0.3], [0.5, 0.7, 0.6])[2] < 0


@needs_knees
def test_shuffled_weights_give_another_map(some: list[AuditedKnee]) -> None:
    """A map that stayed would show the film and not the network."""
    assert faithfulness.shuffled_weight_correlation(some[:6], load("kl-lite2", engine="torch")) < 0.7


@needs_knees
def test_the_map_stays_when_the_box_moves_a_little(some: list[AuditedKnee]) -> None:
    """Two hundredths of the side are less than the finder misses by."""
    assert faithfulness.stability(some[:8], load("kl-lite2")) > 0.8


@needs_knees
def test_a_shortcut_model_follows_the_numeral_and_is_a_copy(tmp_path: Path) -> None:
    """A few steps change what the copy predicts; grades that follow the numeral are counted, and flagged ones."""
    copied = load_plain_grader(tmp_path)
    knees = read_labels(KNEES, "val")[:8]
    models, steps = load_detection_models(), list[int]()
    before = [knee.graded.logits for knee in audit_knees(knees, copied, models)]
    trained = shortcut_model.train_shortcut(
        copied, read_labels(KNEES, "train")[:32], shortcut_model.ShortcutRecipe(2, 4), lambda: steps.append(1)
    )
    assert len(steps) == 2
    assert trained.card.input_size == shortcut_model.SIDE
    found = shortcut_model.audit_with_numerals(trained, knees, models, lambda: steps.append(1))
    assert len(steps) == 2 + 2 * len(knees)
    after = [pair.without.graded.logits for pair in found]
    assert any(not np.allclose(one, other) for one, other in zip(before, after, strict=True))
    result = shortcut_model.shortcut_figures(found)
    deciding = [one for one in found if one.changes_grade]
    assert (result["n"], result["deciding"]) == (8, len(deciding))
    assert result["flagged"] == sum(bool(one.with_artefact.attention.reasons) for one in deciding)


@pytest.mark.parametrize("grade", range(5))
def test_a_numeral_lies_in_an_upper_corner_and_shows_its_grade(grade: int) -> None:
    """Beside the joint, and another picture for another grade."""
    blank = np.zeros((200, 200), np.float32)
    drawn = insert_numeral(blank, grade, np.random.default_rng(3))
    rows, columns = np.nonzero(drawn > 0.5)
    assert rows.max() < 0.3 * 200
    assert columns.max() < 0.35 * 200 or columns.min() > 0.65 * 200
    other = insert_numeral(blank, (grade + 1) % 5, np.random.default_rng(3))
    assert (drawn != other).any()
