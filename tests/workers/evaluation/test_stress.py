"""Stress tells what a change of the film does to the answers, by the node's own path."""

import json
from pathlib import Path

import numpy as np
import pytest

from node.errors import Ungradable
from node.finding import Laterality
from node.reasons import reason
from node.settings import Settings, Work
from tests.samples.labelled import call, middle, spots
from tests.samples.real_knees import KNEES, needs_knees
from workers.cli.training import evaluate as command
from workers.evaluation.evaluate import Judgement, evaluate
from workers.evaluation.labelled_films import as_film, film_of, grade_films, whole
from workers.evaluation.labelled_knees import read_labels
from workers.evaluation.stress import (
    Change,
    _graded,
    changes,
    compared,
    inverted,
    mirrored,
    moved,
    of_unknown_side,
    say,
    stress,
    through_dicom,
    verdict,
)
from workers.models.registry import ORIENTATION, REFINER, load
from workers.read import Film, Reader


@pytest.fixture
def judged(tmp_path: Path) -> Judgement:
    return evaluate(middle(), spots(tmp_path / "knees", 6), "val", load(REFINER))


def test_each_change_is_judged_and_only_the_one_that_matters_hurts(judged: Judgement) -> None:
    """A model that asks whether the middle is bright is always right, and always wrong on a negative."""
    told = {row["change"]: row for row in stress(judged, Settings())}
    assert len(told) == 12
    hurt = told.pop("inverted")
    assert (hurt["accuracy"], hurt["changed"]) == (0, 1)
    assert hurt["accuracy_change"] == {"value": -1, "low": -1, "high": -1}
    assert hurt["moved"] > 2
    for row in told.values():
        assert (row["accuracy"], row["qwk"], row["changed"], row["refused"]) == (1, 1, 0, 0)
    assert json.loads(json.dumps(told)) == told
    assert verdict([hurt]) == "Accuracy falls by more than 2 points: inverted."
    assert verdict(list(told.values())) == "No fall by more than 2 points."


def test_what_is_refused_counts_as_wrong_and_is_told(judged: Judgement) -> None:
    """A film that the node would not grade is no error of the command: it has no grade, and the table says so."""

    def refuse(film: Film, at: int) -> Film:
        if at < 3:
            raise Ungradable(reason("BLANK"))
        return film

    chunk = list(enumerate(judged.knees))
    after = _graded(Change("worn out", refuse), chunk, judged.model, load(ORIENTATION), load(REFINER))
    assert [each is None for each in after] == [True] * 3 + [False] * 9
    told = compared(judged.knees, judged.graded, after)
    assert (told["accuracy"], told["qwk"], told["changed"], told["moved"], told["refused"]) == (0.75, 1, 0.25, 0, 3)
    assert told["accuracy_change"]["value"] == -0.25
    assert "3 refused" in say([{"change": "worn out", **told}])
    nothing = compared(judged.knees, judged.graded, [None] * 12)
    assert (nothing["qwk"], nothing["moved"], nothing["refused"]) == (None, None, 12)


def test_an_interval_compares_each_patient_with_himself(judged: Judgement) -> None:
    """Where nothing changed there is no doubt that nothing did, however uncertain the accuracy itself is."""
    told = compared(judged.knees, judged.graded, judged.graded)
    assert told["accuracy_change"] == {"value": 0, "low": 0, "high": 0}


def test_the_changes_are_what_they_are_called() -> None:
    """A bright spot goes where it is sent; a negative and a mirror image undo themselves; the header keeps its side."""
    pixels = np.full((100, 100), 0.2, np.float32)
    pixels[48:53, 68:73] = 1
    film = film_of(pixels, Laterality.LEFT)

    def spot(film: Film) -> tuple[int, int]:
        row, column = np.unravel_index(film.pixels.argmax(), film.pixels.shape)
        return int(row) - 50, int(column) - 50

    sides = {spot(moved(film, at, shift=0.08)) for at in range(12)}
    assert len(sides) == 4
    assert all(abs(abs(row) + abs(column - 18) - 8) <= 4 for row, column in sides)
    assert moved(film, 3, shift=0.08).pixels.tobytes() == moved(film, 3, shift=0.08).pixels.tobytes()
    assert spot(moved(film, 0, zoom=1.5))[1] > spot(film)[1] > spot(moved(film, 0, zoom=0.6))[1]
    assert spot(moved(film, 0, turn=90))[0] < -15 < 15 < spot(moved(film, 0, turn=-90))[0]
    np.testing.assert_allclose(inverted(inverted(film, 0), 0).pixels, pixels, atol=1e-6)
    flipped, looker = mirrored(film, 0), load(REFINER)
    assert spot(flipped)[1] < -15
    assert whole(flipped, looker).laterality is Laterality.LEFT
    assert whole(of_unknown_side(film, 0), looker).laterality is Laterality.UNKNOWN


@pytest.mark.parametrize("side", list(Laterality))
def test_a_film_comes_back_from_dicom_as_it_was(tmp_path: Path, side: Laterality) -> None:
    """Twelve bits and a header that tells the side; no file is left behind."""
    pixels = np.tile(np.linspace(0.05, 0.95, 120, dtype=np.float32), (120, 1))
    reader = Reader.from_settings(Work())
    try:
        back = through_dicom(film_of(pixels, side), 0, reader=reader, folder=tmp_path)
    finally:
        reader.close()
    np.testing.assert_allclose(back.pixels, pixels, atol=1e-3)
    assert whole(back, load(REFINER)).laterality is side
    assert not list(tmp_path.iterdir())


def test_all_that_is_promised_is_tried() -> None:
    """The changes that `genu evaluate --help` speaks of, each once."""
    with changes(Work()) as todo:
        names = [change.name for change in todo]
    assert len(names) == len(set(names)) == 11


@needs_knees
def test_real_knees_keep_their_grades_in_a_dicom_of_12_bits(tmp_path: Path) -> None:
    """The real path, on thirty knees: what is read back is graded as the crop was."""
    model, looker, knees = load("kl-lite2"), load(REFINER), read_labels(KNEES, "val")[::28][:30]
    plain = [as_film(knee) for knee in knees]
    reader = Reader.from_settings(Work())
    try:
        back = [through_dicom(film, at, reader=reader, folder=tmp_path) for at, film in enumerate(plain)]
    finally:
        reader.close()
    told = compared(knees, grade_films(plain, model, looker), grade_films(back, model, looker))
    assert told["changed"] <= 0.04
    assert told["moved"] < 0.03


def test_the_command_prints_a_table_or_json(tmp_path: Path) -> None:
    """`genu evaluate --stress` on a few knees with the shipped model; both outputs hold a row for every change."""
    folder = spots(tmp_path / "knees", 2)
    shown = call(command, "--data", folder, "--stress", settings=Settings())
    assert shown.exit_code == 0, shown.output
    assert "turned left by 10°" in shown.stdout
    assert "gamma 1.6" in shown.stdout
    given = call(command, "--data", folder, "--stress", "--json", settings=Settings())
    assert [row["change"] for row in json.loads(given.stdout)["stress"]][:2] == ["as it is", "shifted by 8 %"]
