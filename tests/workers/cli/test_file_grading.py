"""`genu grade` and `genu evaluate` on files: the words of their JSON stay, and the figures are what was promised."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pydicom
import pytest

from node.finding import Finding
from tests.samples.real_knees import KNEES, needs_knees, some_knees, wrapped
from tests.samples.source_films import RIGHT, SURE, UNDECIDED, UNKNOWN, UNSURE, reading
from workers.cli.file_grading import reading_text
from workers.phantom import samples


def genu(*words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, "-m", "node", *words], capture_output=True, text=True, check=False)


def graded(*words: str) -> list[dict[str, Any]]:
    done = genu("grade", *words, "--json")
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_bilateral_film_gives_two_knees_and_two_objects(tmp_path: Path) -> None:
    """One JSON object, with the words that were promised, and the objects written are those it names."""
    samples()[2].save_as(tmp_path / "film.dcm", enforce_file_format=True)
    (graded_file,) = graded(str(tmp_path / "film.dcm"), "--out", str(tmp_path / "out"))
    assert {"file", "sop_instance_uid", "outcome", "reason", "model", "knees"} <= graded_file.keys()
    assert (graded_file["outcome"], graded_file["reason"]) == ("graded", None)
    assert {"name", "version", "sha256"} <= graded_file["model"].keys()
    assert [knee["laterality"] for knee in graded_file["knees"]] == ["R", "L"]
    for knee in graded_file["knees"]:
        assert {"laterality", "laterality_source", "box", "grade", "probabilities"} <= knee.keys()
        assert len(knee["probabilities"]) == 5
        assert sum(knee["probabilities"]) == pytest.approx(1, abs=1e-3)
        assert len(knee["box"]) == 4
        assert knee["confidence"] == knee["probabilities"][knee["grade"]]
        assert {"set", "level", "undecided", "spread"} == knee["certainty"].keys()
        assert knee["certainty"]["set"][0] <= knee["grade"] <= knee["certainty"]["set"][1]
    written = [pydicom.dcmread(path) for path in graded_file["objects"]]
    assert sorted(dataset.Modality for dataset in written) == ["OT", "SEG", "SR"]
    assert {str(dataset.StudyInstanceUID) for dataset in written} == {str(samples()[2].StudyInstanceUID)}


def test_what_is_not_analysed_has_a_reason_and_is_no_failure(tmp_path: Path) -> None:
    """A film without a knee: a coded reason with a sentence, and exit status 0."""
    samples()[5].save_as(tmp_path / "wedge.dcm", enforce_file_format=True)
    (graded_file,) = graded(str(tmp_path / "wedge.dcm"))
    assert graded_file["outcome"] == "not_analysed"
    assert graded_file["reason"]["code"] == "NOT_A_KNEE"
    assert graded_file["reason"]["text"]
    assert graded_file["knees"] == []


def test_an_invalid_file_is_reported_and_the_rest_is_graded(tmp_path: Path) -> None:
    """A folder is searched; a file that is nothing gets its reason; the others are graded all the same."""
    (tmp_path / "a-notes.txt").write_text("no DICOM")
    samples()[0].save_as(tmp_path / "b.dcm", enforce_file_format=True)
    notes, film = graded(str(tmp_path))
    assert notes["outcome"] in ("not_analysed", "failed")
    assert notes["reason"]["code"]
    assert film["outcome"] == "graded"


@pytest.mark.parametrize(
    ("knee", "expected"),
    [
        (UNSURE, "right KL 3 (71 %, KL 1 to 3)"),
        (SURE, "right KL 3 (71 %, only KL 3)"),
        (UNDECIDED, "left KL 2 (41 %, KL 0 to 4, KL 1 and KL 2 could not be told apart)"),
        (RIGHT, "right KL 3 (71 %)"),
        (UNKNOWN, "side unknown KL 0 (90 %)"),
    ],
)
def test_the_text_of_a_reading_has_its_confidence(knee: Finding, expected: str) -> None:
    """Confidence, set and doubt behind each grade; of an answer of before there was such a thing its confidence."""
    graded_file = {"file": "film.dcm", "objects": ["out/sr.dcm"], **reading(knee).as_json()}
    assert reading_text(graded_file) == f"film.dcm: {expected}\n  wrote out/sr.dcm"


@needs_knees
def test_a_jpeg_is_graded_without_objects(tmp_path: Path) -> None:
    """With the side told by the caller; nothing is written for a file that belongs to no study."""
    row = some_knees("val", 1, kl=4)[0]
    (graded_file,) = graded(str(KNEES / row["path"]), "--side", row["side"], "--out", str(tmp_path / "out"))
    assert graded_file["outcome"] == "graded"
    assert graded_file["knees"][0]["laterality"] == row["side"]
    assert graded_file["objects"] == []
    assert not (tmp_path / "out").exists()


@needs_knees
def test_a_real_knee_as_dicom_is_graded_as_its_jpeg(tmp_path: Path) -> None:
    """12-bit DX or 8-bit JPEG, the same knee gets the same grade."""
    rows = some_knees("val", 6)
    for number, row in enumerate(rows):
        wrapped(row, uid=f"2.25.77{number}").save_as(tmp_path / f"{number}.dcm", enforce_file_format=True)
    as_dicom = graded(str(tmp_path))
    for side in sorted({row["side"] for row in rows}):
        mine = [at for at, row in enumerate(rows) if row["side"] == side]
        as_jpeg = graded(*(str(KNEES / rows[at]["path"]) for at in mine), "--side", side)
        for at, jpeg in zip(mine, as_jpeg, strict=True):
            assert as_dicom[at]["knees"][0]["grade"] == jpeg["knees"][0]["grade"]


@needs_knees
def test_the_shipped_model_is_as_good_as_it_must_be() -> None:
    """On the 826 knees of val: accuracy at least .67 and quadratic weighted kappa at least .81."""
    done = genu("evaluate", "--data", str(KNEES), "--split", "val", "--json")
    assert done.returncode == 0, done.stderr
    graded_file = json.loads(done.stdout)
    assert graded_file["n"] == 826
    assert graded_file["accuracy"]["value"] >= 0.67
    assert graded_file["qwk"]["value"] >= 0.81
    for name in ("accuracy", "balanced_accuracy", "macro_f1", "qwk", "mae"):
        assert graded_file[name]["low"] < graded_file[name]["value"] < graded_file[name]["high"]
    assert len(graded_file["recall"]) == 5


def test_a_folder_without_labels_is_one_clear_line(tmp_path: Path) -> None:
    """`genu evaluate` on the wrong folder says what is missing."""
    done = genu("evaluate", "--data", str(tmp_path))
    assert done.returncode == 2
    assert "labels.csv does not exist" in done.stderr
    assert "Traceback" not in done.stderr
