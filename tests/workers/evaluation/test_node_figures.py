"""`genu evaluate --gate` and `--films`: the node's figures on labelled knees, as it meets them."""

import csv
import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from node.__main__ import genu
from tests.samples.labelled import HEADER
from tests.samples.real_knees import KNEES, needs_knees


@pytest.fixture
def knees(tmp_path: Path) -> Path:
    """Four upright knees and two negatives of train, and two pictures of noise that call themselves knees."""
    with (KNEES / "labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    negatives = {row["patient"] for row in rows if row["inverted"] == "1" and row["split"] == "train"}
    few = [*sorted(negatives)[:1], rows[0]["patient"], rows[400]["patient"]]
    chosen, lines = [row for row in rows if row["patient"] in few], [HEADER]
    for row in chosen:
        name = Path(row["path"]).name
        shutil.copy(KNEES / row["path"], tmp_path / name)
        lines.append(",".join([name, row["patient"], row["side"], row["kl"], "val", row["inverted"]]))
    for side in "RL":
        cv2.imwrite(str(tmp_path / f"noise{side}.png"), np.random.default_rng(0).integers(0, 255, (299, 299)))
        lines.append(f"noise{side}.png,noise,{side},0,val,0")
    (tmp_path / "labels.csv").write_text("\n".join(lines) + "\n")
    return tmp_path


def figures(*words: str) -> dict[str, float]:
    answer = CliRunner().invoke(genu, ["evaluate", *words, "--json"])
    assert answer.exit_code == 0, answer.output
    result: dict[str, float] = json.loads(answer.stdout)
    return result


@needs_knees
def test_refusals_sides_and_polarity_of_knees_on_disk(knees: Path) -> None:
    """Noise is refused, knees are not; negatives are turned, others are not; the image alone tells sides."""
    result = figures("--data", str(knees), "--gate")
    negatives = sum(line.endswith(",1") for line in (knees / "labels.csv").read_text().splitlines())
    assert negatives > 0
    assert (result["n"], result["refused"], result["refused_as"]) == (8, 0.25, {"NOT_A_KNEE": 2})
    assert (result["negatives"], result["negatives_turned"], result["others_turned"]) == (negatives, negatives, 0)
    assert result["side_right"] >= 5
    assert result["side_right"] + result["side_wrong"] + result["side_unknown"] == 8
    words = CliRunner().invoke(genu, ["evaluate", "--data", str(knees), "--gate"]).stdout
    assert "refused    25.0 % (NOT_A_KNEE 2)" in words


@needs_knees
def test_films_are_the_same_at_every_run(knees: Path) -> None:
    """A fixed seed; every figure that is promised; joints of real knees are found."""
    (knees / "labels.csv").write_text(
        "\n".join(line for line in (knees / "labels.csv").read_text().splitlines() if "noise" not in line) + "\n"
    )
    result = figures("--data", str(knees), "--films", "--count", "4")
    assert result == figures("--data", str(knees), "--films", "--count", "4")
    assert result["found"] >= 0.7
    promised = {"found", "false_joints", "centre_error", "size_error", "grade_equal", "grade_within_one", "side_right"}
    assert promised <= set(result)


@pytest.mark.parametrize("words", [["--gate", "--films"], ["--gate", "--stress"], ["--films", "--report", "page.html"]])
def test_mutually_exclusive_options_are_refused(words: list[str], tmp_path: Path) -> None:
    """None is dropped in silence."""
    answer = CliRunner().invoke(genu, ["evaluate", "--data", str(tmp_path), *words])
    assert answer.exit_code == 2
    assert "give one of them" in answer.output
