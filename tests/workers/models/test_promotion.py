"""`genu models`: what there is, how two models differ, and how one takes over from another."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from node.__main__ import main
from node.ledger import Ledger, PairedReadings
from node.settings import Settings
from tests.samples.real_knees import KNEES, needs_knees, some_knees
from tests.samples.site_models import BASE_WEIGHTS, add_card, add_model, receive, spoil
from workers.evaluation.comparison import compare_on_films, compare_on_knees, format_comparison
from workers.models.registry import DEFAULT
from workers.phantom import samples
from workers.tasks import grade
from workers.worker import set_up


class Answer:
    """How a call of `genu` ended, and what it said."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Genu = Callable[..., Answer]


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Of an empty working folder, without a settings file."""
    monkeypatch.chdir(tmp_path)
    return Settings()


@pytest.fixture
def genu(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Genu:
    """Calls `genu` as its entry point does, in this process."""

    def call(*words: object, **variables: str) -> Answer:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(sys, "argv", ["genu", *map(str, words)])
        capsys.readouterr()
        code = 0
        try:
            main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        for name in variables:
            monkeypatch.delenv(name)
        captured = capsys.readouterr()
        assert "Traceback" not in captured.out + captured.err
        return Answer(code, captured.out, captured.err)

    return call


def changes(settings: Settings) -> list[tuple[str, str, str]]:
    ledger = Ledger(settings.database_url)
    ledger.upgrade()
    result = [(entry.what, entry.card, entry.by) for entry in ledger.model_changes()]
    ledger.close()
    return result


def graded(settings: Settings, count: int, **work: str) -> list[str]:
    """So many films are received and graded by a worker with those settings."""
    seeds = samples(seed=len(changes(settings)) + 20)
    bench = set_up(settings.model_copy(update={"work": settings.work.model_copy(update=work)}), "w")
    uids = [receive(settings, film) for film in seeds[:count]]
    for uid in uids:
        grade(uid, bench)
    bench.reader.close()
    bench.ledger.close()
    return uids


# What there is


def test_every_card_is_listed_with_what_it_does_and_was_good_for(settings: Settings, genu: Genu) -> None:
    """Shipped and the site's own; one that cannot be used with its reason; and the list makes no ledger."""
    add_card(settings, "kl-next", "2.0.0")
    spoilt = add_model(settings, "kl-spoilt", "3.0.0")
    spoil(spoilt.with_name(BASE_WEIGHTS))
    spoilt.with_name("odd.toml").write_text("no card")
    result = {entry["card"]: entry for entry in genu("models", "list", "--json", GENU__WORK__SHADOW="kl-next").json}
    assert {card: entry["role"] for card, entry in result.items()}.items() >= {
        "finder": "finds",
        "look": "looks",
        "upright": "tells",
        "letters": "reads",
        "marks": "names",
        DEFAULT: "answers",
        "kl-next": "shadow",
        "kl-spoilt": "unusable",
        "odd": "unusable",
    }.items()
    assert "expected sha256" in result["kl-spoilt"]["fault"]
    assert "odd.toml is not TOML" in result["odd"]["fault"]
    shipped = result[DEFAULT]
    assert (shipped["name"], shipped["kind"], shipped["engine"]) == (DEFAULT, "grader", "openvino")
    assert shipped["answered"] == 0
    assert len(shipped["sha256"]) == 64
    assert 0.6 < shipped["accuracy"]["value"] < 0.9
    assert shipped["qwk"]["low"] < shipped["qwk"]["value"] < shipped["qwk"]["high"]
    text = genu("models").out
    assert text == genu("models", "list").out
    rows = {line.split()[0]: line for line in text.splitlines()}
    assert f"{shipped['qwk']['value']:.3f} (" in rows[DEFAULT]
    assert shipped["sha256"][:12] in rows[DEFAULT]
    assert "answers" in rows[DEFAULT]
    assert text.index("kl-spoilt") < text.index("expected sha256") < text.index("odd ")
    assert not (settings.storage.folder / "ledger.sqlite").exists()


def test_the_list_counts_the_films_that_a_model_answered(settings: Settings, genu: Genu) -> None:
    """And those that it graded in shadow; with the day of the first."""
    add_card(settings, "kl-next", "2.0.0")
    graded(settings, 2, shadow="kl-next")
    result = {entry["card"]: entry for entry in genu("models", "list", "--json").json}
    assert (result[DEFAULT]["answered"], result[DEFAULT]["shadowed"]) == (2, 0)
    assert (result["kl-next"]["answered"], result["kl-next"]["shadowed"]) == (0, 2)
    assert result[DEFAULT]["answered_since"] <= result[DEFAULT]["answered_last"]
    assert f"2 films since {result[DEFAULT]['answered_since'][:10]}" in genu("models").out


def test_a_card_is_shown_in_full_and_its_files_are_examined(settings: Settings, genu: Genu) -> None:
    """Use, failures, data with attribution, split, figures, preparation, layer, engine, files with hashes."""
    answer = genu("models", "show", DEFAULT)
    assert answer.code == 0
    for expected in (
        *("Intended use", "Not for", "Known failures", "KL 1 is missed", "10.17632/56rmx5bjcr.1", "by patient"),
        *("Preparation", "version 2", "before the global average pool", "openvino", f"{BASE_WEIGHTS}  sha256"),
        *("just now: the files in", "826 knees", "qwk", "recall of KL 1"),
    ):
        assert expected in answer.out, expected
    spoil(add_model(settings, "kl-spoilt", "3.0.0").with_name(BASE_WEIGHTS))
    answer = genu("models", "show", "kl-spoilt")
    assert (answer.code, "Verified        NO" in answer.out) == (1, True)
    assert "expected sha256" in answer.err
    answer = genu("models", "show", "kl-lost")
    assert answer.code == 2
    assert "there are: finder, " in answer.err
    assert "kl-spoilt" in answer.err


# Who answers


def test_a_promotion_and_its_rollback_are_printed_and_recorded(settings: Settings, genu: Genu) -> None:
    """Before and after are named with version and hash; the history has every step and who took it."""
    add_card(settings, "kl-next", "2.0.0")
    answer = genu("models", "promote", "kl-next", "--by", "M. Curie")
    assert answer.code == 0
    before, now = answer.out.splitlines()
    assert before.startswith(f"{DEFAULT} 1.")
    assert before.endswith("was active until now.")
    assert now.startswith("kl-next 2.0.0 (")
    assert now.endswith("is active from now on.")
    assert "is active already" in genu("models", "promote", "kl-next").out
    roles = {entry["card"]: entry["role"] for entry in genu("models", "list", "--json").json}
    assert (roles[DEFAULT], roles["kl-next"]) == ("available", "answers")
    assert genu("models", "rollback", "--by", "P. Curie").out.splitlines()[1].endswith("is active again.")
    assert changes(settings) == [
        ("shipped", DEFAULT, "genu"),
        ("promoted", "kl-next", "M. Curie"),
        ("rolled back", DEFAULT, "P. Curie"),
    ]
    result = genu("models", "history", "--json").json
    assert [entry["what"] for entry in result["changes"]] == ["shipped", "promoted", "rolled back"]
    assert all(len(entry["sha256"]) == 64 for entry in result["changes"])
    text = genu("models", "history").out
    assert "kl-next 2.0.0 (" in text
    assert "by M. Curie" in text
    answer = genu("models", "rollback")
    assert answer.code == 2
    assert "no other model was active before" in answer.err


def test_who_did_it_is_the_user_unless_another_is_named(settings: Settings, genu: Genu) -> None:
    """The name that the system knows the caller by."""
    add_card(settings, "kl-next", "2.0.0")
    genu("models", "promote", "kl-next", LOGNAME="jdoe")
    assert changes(settings)[-1] == ("promoted", "kl-next", "jdoe")


def test_the_history_counts_the_films_of_each_model(settings: Settings, genu: Genu) -> None:
    """From the answers themselves, not from what was promoted."""
    add_card(settings, "kl-next", "2.0.0")
    assert genu("models", "history").out == "Nothing was promoted yet: the shipped model is active.\n"
    graded(settings, 2)
    genu("models", "promote", "kl-next")
    graded(settings, 1)
    result = genu("models", "history", "--json").json["answers"]
    assert [(entry["name"], entry["films"]) for entry in result] == [(DEFAULT, 2), ("kl-next", 1)]
    assert result[0]["since"] <= result[0]["until"] <= result[1]["since"]


@pytest.mark.parametrize(
    ("card", "why"),
    [
        ("finder", "the card finder is a finder, not a grader"),
        ("kl-lost", "there is no model card 'kl-lost'"),
        ("kl-spoilt", "is not the file that its card describes: expected sha256"),
        ("kl-old", "needs preparation 99"),
        ("kl-twin", f"are both {DEFAULT} 1."),
    ],
)
def test_what_cannot_answer_is_not_promoted(settings: Settings, genu: Genu, card: str, why: str) -> None:
    """The reason is one line, and neither the ledger nor the answering model changes."""
    spoil(add_model(settings, "kl-spoilt", "3.0.0").with_name(BASE_WEIGHTS))
    old = add_card(settings, "kl-old", "0.1.0")
    old.write_text(old.read_text().replace("preparation = 2", "preparation = 99"))
    twin = add_card(settings, "kl-twin", "1.0.0")
    shipped = genu("models", "list", "--json").json
    version = next(entry["version"] for entry in shipped if entry["card"] == DEFAULT)
    twin.write_text(twin.read_text().replace('"kl-twin"', f'"{DEFAULT}"').replace('"1.0.0"', f'"{version}"'))
    answer = genu("models", "promote", card)
    assert answer.code == 2
    assert why in answer.err
    assert len(answer.err.splitlines()) == 1
    assert changes(settings) == []


@pytest.mark.parametrize("words", [("promote", "kl-next"), ("rollback",)])
def test_a_model_that_the_settings_pin_stays(settings: Settings, genu: Genu, words: tuple[str, ...]) -> None:
    """The error names the setting and its variable; nothing is written down that would not happen."""
    add_card(settings, "kl-next", "2.0.0")
    genu("models", "promote", "kl-next", "--by", "mary")
    answer = genu("models", *words, GENU__WORK__MODEL=DEFAULT)
    assert answer.code == 2
    assert f'[work] model = "{DEFAULT}"' in answer.err
    assert "GENU__WORK__MODEL" in answer.err
    assert len(changes(settings)) == 2


def test_a_rollback_to_what_has_changed_meanwhile_is_refused(settings: Settings, genu: Genu) -> None:
    """What answered before was another version of that card; it cannot be had back, and that is said."""
    for number, stem in enumerate(("kl-next", "kl-last"), start=2):
        add_card(settings, stem, f"{number}.0.0")
        assert genu("models", "promote", stem, "--by", "mary").code == 0
    add_card(settings, "kl-next", "2.0.1")
    answer = genu("models", "rollback")
    assert answer.code == 2
    assert "kl-next 2.0.0" in answer.err
    assert "was active before" in answer.err
    assert len(changes(settings)) == 3


def test_commands_on_files_use_the_model_that_answers_in_the_node(settings: Settings, genu: Genu) -> None:
    """`genu grade` follows what was promoted, --model still overrides, and the status says what workers say."""
    add_model(settings, "kl-next", "2.0.0")
    samples()[0].save_as("film.dcm", enforce_file_format=True)
    assert genu("grade", "film.dcm", "--json").json["model"]["name"] == DEFAULT
    assert not settings.storage.folder.joinpath("ledger.sqlite").exists()
    genu("models", "promote", "kl-next")
    assert genu("grade", "film.dcm", "--json").json["model"]["name"] == "kl-next"
    assert genu("grade", "film.dcm", "--json", "--model", DEFAULT).json["model"]["name"] == DEFAULT


# How two differ


def pair(uid: str, first: list[int], second: list[int]) -> PairedReadings:
    return PairedReadings(uid, [{"grade": grade} for grade in first], [{"grade": grade} for grade in second])


def test_agreement_is_counted_by_knee() -> None:
    """Same, within one, the mean change, the table, and the films that differ most, the furthest first."""
    result = compare_on_films([pair("1.1", [0, 2], [0, 3]), pair("1.2", [1], [4]), pair("1.3", [4], [2])])
    assert (result["films"], result["knees"], result["same"], result["within_one"]) == (3, 4, 1, 2)
    assert result["mean_change"] == pytest.approx((0 + 1 + 3 - 2) / 4)
    assert [(entry["uid"], entry["grades"]) for entry in result["differ_most"]] == [
        ("1.2", [1, 4]),
        ("1.3", [4, 2]),
        ("1.1", [2, 3]),
    ]
    assert (result["table"][1][4], result["table"][0][0], sum(map(sum, result["table"]))) == (1, 1, 4)
    assert compare_on_films([pair("1.1", [0, 3, 4], [0, 3, 4])])["kappa"] == 1
    assert compare_on_films([]) == {"films": 0, "knees": 0}


def test_a_difference_that_is_one_shows_in_its_interval_and_chance_does_not() -> None:
    """A model that is right on a fifth more knees is told apart; the same model is not, whatever the draw."""
    random = np.random.default_rng(0)
    truth = random.integers(0, 5, 400)
    better = np.where(random.random(400) < 0.8, truth, (truth + 1) % 5)
    worse = np.where(random.random(400) < 0.6, truth, (truth + 1) % 5)
    patients = [f"p{number // 2}" for number in range(400)]
    result = compare_on_knees(truth, worse, better, patients)
    assert (result["n"], result["patients"]) == (400, 200)
    assert result["changed"] == int((better != worse).sum())
    gain = result["accuracy"]["difference"]
    assert 0 < gain["low"] < gain["value"] < gain["high"] < 0.4
    assert result["accuracy"]["second"] == pytest.approx(float((truth == better).mean()), abs=1e-4)
    assert result["mae"]["difference"]["high"] < 0
    nothing = compare_on_knees(truth, better, better, patients)
    assert nothing["qwk"]["difference"] == {"value": 0, "low": 0, "high": 0}


def test_the_interval_is_over_patients_and_not_over_knees() -> None:
    """Knees that say the same eight times over are no eight witnesses: the interval stays as wide as of one each."""
    random = np.random.default_rng(1)
    truth, first, second = (random.integers(0, 5, 60) for _ in range(3))

    def width(times: int) -> float:
        patients = [str(number) for number in range(60)] * times
        result = compare_on_knees(*(np.tile(grades, times) for grades in (truth, first, second)), patients)
        return float(result["accuracy"]["difference"]["high"] - result["accuracy"]["difference"]["low"])

    assert width(8) == pytest.approx(width(1), rel=0.02)


def test_the_answering_model_and_its_shadow_are_compared(settings: Settings, genu: Genu) -> None:
    """From the ledger, for people and as JSON, in the order of the cards; without a shadow it says how to get one."""
    add_model(settings, "kl-next", "2.0.0")
    answer = genu("models", "compare")
    assert answer.code == 2
    assert "nothing runs in shadow" in answer.err
    assert "no radiograph" in genu("models", "compare", "kl-next").out.lower()
    uids = graded(settings, 3, shadow="kl-next")
    result = genu("models", "compare", "--json", GENU__WORK__SHADOW="kl-next").json
    assert [entry["name"] for entry in result["models"]] == [DEFAULT, "kl-next"]
    films = result["films"]
    assert (films["films"], films["knees"], result["knees"]) == (3, 4, None)
    assert sum(row[4] for row in films["table"]) == 4  # whatever the first says, the second says KL 4
    assert {entry["uid"] for entry in films["differ_most"]} <= set(uids)
    turned = genu("models", "compare", "kl-next", DEFAULT, "--json").json["films"]
    assert turned["mean_change"] == -films["mean_change"]
    text = genu("models", "compare", "kl-next").out
    assert "On 3 radiographs that both graded, 4 knees:" in text
    assert "quadratic weighted kappa" in text


def test_two_models_are_judged_on_the_same_labelled_knees(settings: Settings, genu: Genu, tmp_path: Path) -> None:
    """Figures of both and their difference with its interval, and how many knees change; no ledger is needed."""
    add_model(settings, "kl-next", "2.0.0")
    rows = ["path,patient,side,kl,split,inverted"]
    random = np.random.default_rng(0)
    for number in range(8):
        cv2.imwrite(str(tmp_path / f"{number}.png"), random.integers(0, 255, (64, 64), dtype=np.uint8))
        rows.append(f"{number}.png,p{number // 2},R,{number % 5},val,0")
    (tmp_path / "labels.csv").write_text("\n".join(rows) + "\n")
    result = genu("models", "compare", DEFAULT, "kl-next", "--data", tmp_path, "--json").json["knees"]
    assert (result["n"], result["patients"]) == (8, 4)
    assert result["accuracy"]["second"] == pytest.approx(1 / 8)  # one knee of eight is KL 4
    assert result["changed"] == sum(row[4] for row in result["table"][:4])
    text = genu("models", "compare", DEFAULT, "kl-next", "--data", tmp_path).out
    assert "On 8 labelled knees of 4 patients" in text
    assert "95 % interval over patients" in text
    assert not settings.storage.folder.joinpath("ledger.sqlite").exists()


@needs_knees
def test_a_model_under_another_name_gives_real_knees_the_same_grades(settings: Settings, genu: Genu) -> None:
    """Of 40 knees of val none gets another grade, and no figure differs."""
    add_card(settings, "kl-twin", "2.0.0")
    rows = [[str(KNEES / row["path"]), row["patient"], row["side"], row["kl"]] for row in some_knees("val", 40)]
    lines = ["path,patient,side,kl,split", *(",".join([*row, "val"]) for row in rows)]
    Path("labels.csv").write_text("\n".join(lines) + "\n")
    result = genu("models", "compare", DEFAULT, "kl-twin", "--data", ".", "--json").json["knees"]
    assert (result["n"], result["changed"], result["qwk"]["difference"]["value"]) == (40, 0, 0)
    assert result["accuracy"]["first"] > 0.4


@pytest.mark.parametrize("words", [("a", "b", "c"), (DEFAULT,)])
def test_a_comparison_that_makes_no_sense_is_refused(settings: Settings, genu: Genu, words: tuple[str, ...]) -> None:
    """Three cards, or the answering one with itself."""
    assert genu("models", "compare", *words).code == 2


def test_an_empty_comparison_explains_how_to_get_one() -> None:
    """And the difference of labelled knees is told all the same."""
    from node.finding import ModelIdentity

    one, other = ModelIdentity("a", "1", "0" * 64), ModelIdentity("b", "2", "1" * 64)
    truth = np.array([0, 1, 2, 3, 4])
    text = format_comparison(
        one, other, compare_on_films([]), compare_on_knees(truth, truth, truth, list("abcde"), rounds=10)
    )
    assert "[work] shadow" in text
    assert "accuracy                    1.000   1.000  +0.000 (+0.000 to +0.000)" in text
