"""The stress test measures what a change of the film does to the grades, by the node's own path."""

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
from workers.evaluation.evaluate import Evaluation, evaluate
from workers.evaluation.labelled_films import as_film, film_from_pixels, grade_films, knee_of_crop
from workers.evaluation.labelled_knees import read_labels
from workers.evaluation.stress import (
    Perturbation,
    _graded,
    compare_outcomes,
    displaced,
    format_rows,
    inverted,
    mirrored,
    perturbations,
    run_stress_test,
    through_dicom,
    verdict,
    without_side,
)
from workers.models.registry import ORIENTATION, REFINER, load
from workers.read import Film, Reader


@pytest.fixture
def evaluation(tmp_path: Path) -> Evaluation:
    return evaluate(middle(), spots(tmp_path / "knees", 6), "val", load(REFINER))


def test_only_the_perturbation_that_matters_lowers_accuracy(evaluation: Evaluation) -> None:
    """A model that asks whether the middle is bright is always right, and always wrong on a negative."""
    result = {row["change"]: row for row in run_stress_test(evaluation, Settings())}
    assert len(result) == 12
    hurt = result.pop("inverted")
    assert (hurt["accuracy"], hurt["changed"]) == (0, 1)
    assert hurt["accuracy_change"] == {"value": -1, "low": -1, "high": -1}
    assert hurt["moved"] > 2
    for row in result.values():
        assert (row["accuracy"], row["qwk"], row["changed"], row["refused"]) == (1, 1, 0, 0)
    assert json.loads(json.dumps(result)) == result
    assert verdict([hurt]) == "Accuracy falls by more than 2 points: inverted."
    assert verdict(list(result.values())) == "No fall by more than 2 points."


def test_a_refused_film_counts_as_wrong_and_is_reported(evaluation: Evaluation) -> None:
    """A film that the node would not grade is no error of the command: it has no grade, and the table says so."""

    def refuse(film: Film, at: int) -> Film:
        if at < 3:
            raise Ungradable(reason("BLANK"))
        return film

    chunk = list(enumerate(evaluation.knees))
    after = _graded(Perturbation("worn out", refuse), chunk, evaluation.model, load(ORIENTATION), load(REFINER))
    assert [one is None for one in after] == [True] * 3 + [False] * 9
    result = compare_outcomes(evaluation.knees, evaluation.graded, after)
    assert (result["accuracy"], result["qwk"], result["changed"], result["moved"], result["refused"]) == (
        0.75,
        1,
        0.25,
        0,
        3,
    )
    assert result["accuracy_change"]["value"] == -0.25
    assert "3 refused" in format_rows([{"change": "worn out", **result}])
    nothing = compare_outcomes(evaluation.knees, evaluation.graded, [None] * 12)
    assert (nothing["qwk"], nothing["moved"], nothing["refused"]) == (None, None, 12)


def test_the_interval_is_paired_by_patient(evaluation: Evaluation) -> None:
    """Where nothing changed there is no doubt that nothing did, however uncertain the accuracy itself is."""
    result = compare_outcomes(evaluation.knees, evaluation.graded, evaluation.graded)
    assert result["accuracy_change"] == {"value": 0, "low": 0, "high": 0}


def test_perturbations_do_what_their_names_state() -> None:
    """A bright spot goes where it is sent; a negative and a mirror image undo themselves; the header keeps its side."""
    pixels = np.full((100, 100), 0.2, np.float32)
    pixels[48:53, 68:73] = 1
    film = film_from_pixels(pixels, Laterality.LEFT)

    def spot(film: Film) -> tuple[int, int]:
        row, column = np.unravel_index(film.pixels.argmax(), film.pixels.shape)
        return int(row) - 50, int(column) - 50

    sides = {spot(displaced(film, at, shift=0.08)) for at in range(12)}
    assert len(sides) == 4
    assert all(abs(abs(row) + abs(column - 18) - 8) <= 4 for row, column in sides)
    assert displaced(film, 3, shift=0.08).pixels.tobytes() == displaced(film, 3, shift=0.08).pixels.tobytes()
    assert spot(displaced(film, 0, zoom=1.5))[1] > spot(film)[1] > spot(displaced(film, 0, zoom=0.6))[1]
    assert spot(displaced(film, 0, turn=90))[0] < -15 < 15 < spot(displaced(film, 0, turn=-90))[0]
    np.testing.assert_allclose(inverted(inverted(film, 0), 0).pixels, pixels, atol=1e-6)
    flipped, refiner = mirrored(film, 0), load(REFINER)
    assert spot(flipped)[1] < -15
    assert knee_of_crop(flipped, refiner).laterality is Laterality.LEFT
    assert knee_of_crop(without_side(film, 0), refiner).laterality is Laterality.UNKNOWN


@pytest.mark.parametrize("side", list(Laterality))
def test_a_film_comes_back_from_dicom_as_it_was(tmp_path: Path, side: Laterality) -> None:
    """Twelve bits and a header that tells the side; no file is left behind."""
    pixels = np.tile(np.linspace(0.05, 0.95, 120, dtype=np.float32), (120, 1))
    reader = Reader.from_settings(Work())
    try:
        back = through_dicom(film_from_pixels(pixels, side), 0, reader=reader, folder=tmp_path)
    finally:
        reader.close()
    np.testing.assert_allclose(back.pixels, pixels, atol=1e-3)
    assert knee_of_crop(back, load(REFINER)).laterality is side
    assert not list(tmp_path.iterdir())


def test_all_documented_perturbations_are_there() -> None:
    """The changes that `genu evaluate --help` speaks of, each once."""
    with perturbations(Work()) as todo:
        names = [change.name for change in todo]
    assert len(names) == len(set(names)) == 11


@needs_knees
def test_real_knees_keep_their_grades_in_a_dicom_of_12_bits(tmp_path: Path) -> None:
    """The real path, on thirty knees: what is read back is graded as the crop was."""
    model, refiner, knees = load("kl-lite2"), load(REFINER), read_labels(KNEES, "val")[::28][:30]
    plain = [as_film(knee) for knee in knees]
    reader = Reader.from_settings(Work())
    try:
        back = [through_dicom(film, at, reader=reader, folder=tmp_path) for at, film in enumerate(plain)]
    finally:
        reader.close()
    result = compare_outcomes(knees, grade_films(plain, model, refiner), grade_films(back, model, refiner))
    assert result["changed"] <= 0.04
    assert result["moved"] < 0.03


def test_the_command_prints_a_table_or_json(tmp_path: Path) -> None:
    """`genu evaluate --stress` on a few knees with the shipped model; both outputs hold a row for every change."""
    folder = spots(tmp_path / "knees", 2)
    shown = call(command, "--data", folder, "--stress", settings=Settings())
    assert shown.exit_code == 0, shown.output
    assert "turned left by 10°" in shown.stdout
    assert "gamma 1.6" in shown.stdout
    given = call(command, "--data", folder, "--stress", "--json", settings=Settings())
    assert [row["change"] for row in json.loads(given.stdout)["stress"]][:2] == ["as it is", "shifted by 8 %"]
