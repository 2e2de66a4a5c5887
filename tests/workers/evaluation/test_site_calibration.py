"""A site's calibration: fitted to its own knees, judged on patients that it has not seen, and a card of its own."""

import tomllib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from node.errors import SettingsError
from node.finding import Laterality
from node.settings import Settings, Storage
from tests.samples.knees import knee as knee_in
from tests.samples.labelled import call, middle, spots
from workers.cli.training import calibrate as command
from workers.evaluation import site_calibration
from workers.evaluation.calibration_fit import sample_size_warnings
from workers.evaluation.labelled_knees import LabelledKnee, LabelsError
from workers.evaluation.metrics import Predictions, compute_figures
from workers.evaluation.site_calibration import (
    SiteCalibration,
    calibrate,
    cross_fitted_predictions,
    format_calibration,
    matching_joint,
)
from workers.models.calibration import Calibration, softmax
from workers.models.registry import Model, folders, load, read_card
from workers.phantom import KneeShape, as_dx, render, step_wedge
from workers.preprocessing import Box

R, L, U = Laterality.RIGHT, Laterality.LEFT, Laterality.UNKNOWN


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(storage=Storage(folder=tmp_path / "node"))


@pytest.fixture
def knees(tmp_path: Path) -> Path:
    """A hundred knees of fifty patients."""
    return spots(tmp_path / "knees", 50)


Fit = Callable[..., SiteCalibration]


@pytest.fixture
def fit(settings: Settings, knees: Path, monkeypatch: pytest.MonkeyPatch) -> Fit:
    """Calibrates a model that is always right and says so with little confidence."""
    shipped = site_calibration.grader_of

    def chosen(name: str, settings: Settings, *, engine: str) -> Model:
        return middle(1.0) if name == "kl-lite2" else shipped(name, settings, engine=engine)

    monkeypatch.setattr(site_calibration, "grader_of", chosen)

    def run(
        name: str, *, data: Path = knees, split: str = "", model: str = "kl-lite2", out: Path | None = None
    ) -> SiteCalibration:
        return calibrate(settings, data, split, model, name, out)

    return run


def test_the_new_card_is_the_old_one_calibrated_anew(fit: Fit, settings: Settings) -> None:
    """Same network and files, found where they are shipped; another version, temperature, thresholds and figures."""
    fitted = fit("here")
    old, new = read_card("kl-lite2"), read_card("here", folders(settings))
    assert fitted.path == settings.storage.folder / "models" / "here.toml"
    assert [path.name for path in fitted.path.parent.iterdir()] == ["here.toml"]
    assert (new.name, new.weights, new.graph, new.architecture) == (old.name, old.weights, old.graph, old.architecture)
    assert new.version == fitted.version != old.version
    assert new.version.startswith(f"{old.version}+site.20")
    assert new.calibration.temperature < old.calibration.temperature  # it was too modest
    assert new.calibration.thresholds[0] < 0.9
    assert new.calibration.thresholds[2] == 1  # there is none of that grade
    assert new.contents["metrics"]["val"] == old.contents["metrics"]["val"]
    assert new.contents["metrics"]["site"]["accuracy"]["value"] == 1
    assert new.contents["calibration"]["knees"] == [50, 0, 0, 0, 50]
    assert (new.contents["site"]["base"], new.contents["site"]["knees"], new.contents["site"]["patients"]) == (
        old.version,
        100,
        50,
    )
    assert load("here", within=folders(settings)).card == new


def test_every_card_of_a_day_has_a_version_of_its_own(fit: Fit, settings: Settings, tmp_path: Path) -> None:
    """Results are text apart by the model's version, so no two calibrations may share one; the base is kept."""
    versions = [fit("one").version, fit("two").version, fit("three", out=tmp_path / "elsewhere").version]
    assert versions == [versions[0], f"{versions[0]}.2", f"{versions[0]}.3"]
    assert (tmp_path / "elsewhere" / "three.toml").is_file()


@pytest.mark.parametrize("name", ["kl-lite2", "here"])
def test_no_card_is_overwritten(fit: Fit, settings: Settings, name: str) -> None:
    """Neither a site's own nor, by the same name in another folder, a shipped one."""
    path = fit("here").path
    before = path.read_bytes()
    with pytest.raises(SettingsError, match=f"there is a card '{name}' already"):
        fit(name)
    assert path.read_bytes() == before
    assert [row.name for row in path.parent.iterdir()] == ["here.toml"]


@pytest.mark.parametrize("name", ["", "../here", "a/b", "A", "ward 3"])
def test_a_card_has_a_plain_name(fit: Fit, name: str) -> None:
    """It becomes the name of a file."""
    with pytest.raises(SettingsError, match="is no name of a card"):
        fit(name)


def test_too_few_knees_are_refused_with_the_least_that_is_wanted(fit: Fit, tmp_path: Path, settings: Settings) -> None:
    """And nothing is written."""
    with pytest.raises(LabelsError, match=r"98 usable knees of 49 patients.*100 knees of 50 patients"):
        fit("here", data=spots(tmp_path / "few", 49))
    assert not settings.storage.folder.exists()


def test_grades_with_too_few_knees_are_named(fit: Fit) -> None:
    """The command says which grades its sets will never rule out."""
    text = format_calibration(fit("here"))
    assert "KL 2: 0 knees are too few for a threshold (at least 9): never ruled out, so every set reaches to it" in text
    assert "KL 0: " not in text.replace("coverage of KL 0", "")
    assert sample_size_warnings(np.array([0] * 9 + [1] * 8), 0.9)[1].startswith("KL 1: 8 knees are too few")


def test_a_torn_patient_and_several_splits_are_errors(fit: Fit, knees: Path) -> None:
    """What the model was trained on must not be mixed in, and a patient stands in one split."""
    table = knees / "labels.csv"
    text = table.read_text()
    table.write_text(text.replace("0R.png,patient0,R,4,val", "0R.png,patient0,R,4,train"))
    with pytest.raises(LabelsError, match="more than one split"):
        fit("here")
    table.write_text(
        text.replace("patient0,R,4,val", "patient0,R,4,train").replace("patient0,L,4,val", "patient0,L,4,train")
    )
    with pytest.raises(LabelsError, match=r"has the splits \['train', 'val'\]"):
        fit("here")


def test_labels_need_no_split_and_may_come_from_a_spreadsheet(fit: Fit, knees: Path) -> None:
    """Path, patient, side and kl are enough, with the mark that spreadsheets put before UTF-8."""
    lines = [line.split(",")[:4] for line in (knees / "labels.csv").read_text().splitlines()]
    (knees / "labels.csv").write_text("\n".join(",".join(line) for line in lines), encoding="utf-8-sig")
    assert len(fit("here").sample.knees) == 100
    (knees / "labels.csv").write_text("path;patient;side;kl\na;b;R;1\n")
    with pytest.raises(LabelsError, match=r"no column 'side'; columns are separated by commas"):
        fit("there")


def test_only_graders_are_calibrated(fit: Fit) -> None:
    """The finder has no grades."""
    with pytest.raises(SettingsError, match="the card finder is a finder, not a grader"):
        fit("here", model="finder")


def test_the_figures_are_cross_validated() -> None:
    """SiteCalibration to the very knees that it is judged on, a calibration looks better than it is to the next one."""
    random = np.random.default_rng(3)
    truth = np.tile(np.repeat(np.arange(5), 12), 2)
    patients = [str(at) for at in range(60)] * 2
    logits = (np.eye(5)[truth] + random.normal(0, 1, (120, 5))).astype(np.float32)
    before = Calibration()
    honest = cross_fitted_predictions(logits, truth, patients, before)
    flattered = Calibration.from_card(site_calibration.fit_calibration(logits, truth, before))
    seen = Predictions.calibrated(flattered, flattered.probabilities(logits))
    chosen = np.arange(len(truth))

    def loss(predictions: Predictions) -> float:
        return float(-np.log(predictions.probabilities[chosen, truth]).mean())

    assert loss(honest) > loss(seen)
    assert compute_figures(truth, honest)["coverage"] > 0.8


def test_no_knee_is_judged_by_a_calibration_that_saw_its_patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both knees of a patient are held back together, and every knee is judged once."""
    truth = np.tile(np.arange(5), 20)
    patients = [str(at // 2) for at in range(100)]
    logits = np.arange(500, dtype=np.float32).reshape(100, 5)
    fitted_to: list[set[str]] = []

    def spy(given: np.ndarray, grades: np.ndarray, before: Calibration) -> dict[str, object]:
        fitted_to.append({patients[int(row[0]) // 5] for row in given})
        return {"temperature": float(len(fitted_to))}

    monkeypatch.setattr("workers.evaluation.calibration_fit.fit_calibration", spy)
    predictions = cross_fitted_predictions(logits, truth, patients, Calibration())
    for at, patient in enumerate(patients):
        (by,) = {
            fold
            for fold in range(5)
            if np.allclose(predictions.probabilities[at], softmax(logits[at] / (fold + 1)), atol=1e-6)
        }
        assert patient not in fitted_to[by]
    assert all(len(seen) == 40 for seen in fitted_to)


def label(side: str, name: str = "a.dcm") -> LabelledKnee:
    return LabelledKnee(Path(name), "p", side, 1, "", False)


def test_a_label_is_matched_with_the_joint_of_its_side() -> None:
    """The only joint of unknown side is the labelled one; a joint of the other side is not, and nothing is guessed."""
    right, left, unknown = (knee_in(Box(0, 0, 9, 9), side) for side in (R, L, U))
    assert matching_joint(label("L"), [label("L"), label("R")], [right, left]) is left
    assert matching_joint(label("L"), [label("L")], [unknown]) is unknown
    assert matching_joint(label("L"), [label("L")], [right]) is None
    assert matching_joint(label("L"), [label("L"), label("R")], [unknown]) is None


def test_dicom_films_are_read_found_and_graded_as_the_node_does(fit: Fit, knees: Path) -> None:
    """Both knees of a film by its two lines; a film without a knee, and a knee that is not there, are left out."""
    as_dx(render([KneeShape(R), KneeShape(L)], rows=1000, columns=1200, spacing_mm=0.3)).save_as(knees / "both.dcm")
    as_dx(render([KneeShape(R)], rows=1250, columns=950, spacing_mm=0.3)).save_as(knees / "right.dcm")
    as_dx(step_wedge()).save_as(knees / "wedge.dcm")
    lines = ["both.dcm,a,R,1,val,0", "both.dcm,a,L,2,val,0", "right.dcm,b,R,0,val,0", "right.dcm,b,L,0,val,0"]
    with (knees / "labels.csv").open("a") as table:
        table.write("\n".join([*lines, "wedge.dcm,c,R,0,val,0"]) + "\n")
    fitted = fit("here")
    used = [(knee.path.name, knee.side) for knee in fitted.sample.knees if knee.path.suffix == ".dcm"]
    assert used == [("both.dcm", "R"), ("both.dcm", "L"), ("right.dcm", "R")]
    assert len(fitted.sample.knees) == len(fitted.sample.logits) == 103
    text = format_calibration(fitted)
    assert "Left out, 2:" in text
    assert "right.dcm, L: this knee is not on the film" in text
    assert "wedge.dcm, R: NOT_A_KNEE" in text


def test_films_that_are_left_out_are_not_counted(fit: Fit, tmp_path: Path, settings: Settings) -> None:
    """Too few are left: the error lists what was left out."""
    data = spots(tmp_path / "few", 49)
    as_dx(step_wedge()).save_as(data / "wedge.dcm")
    with (data / "labels.csv").open("a") as table:
        table.write("wedge.dcm,x,R,0,val,0\nwedge.dcm,x,L,0,val,0\n")
    with pytest.raises(LabelsError, match=r"98 usable knees of 49 patients\nwedge\.dcm, R: NOT_A_KNEE"):
        fit("here", data=data)
    assert not settings.storage.folder.exists()


def test_a_file_that_is_absent_is_named(fit: Fit, knees: Path) -> None:
    """Before anything is graded."""
    (knees / "3L.png").unlink()
    with pytest.raises(LabelsError, match=r"3L\.png does not exist"):
        fit("here")


def test_the_command_shows_both_calibrations_side_by_side(knees: Path, settings: Settings) -> None:
    """With the shipped model, from the command line: figures before and after, and how to go on."""
    done = call(command, "--data", knees, "--name", "here", "--model", "kl-lite2", settings=settings)
    assert done.exit_code == 0, done.output
    assert "as it was                  calibrated" in done.stdout
    for line in ("accuracy", "calibration error", "grades in a set", "coverage of KL 4, n = 50"):
        (row,) = [row for row in done.stdout.splitlines() if row.startswith(line)]
        assert row.count(" to ") == 2
    assert done.stdout.rstrip().endswith("genu models promote here")
    written = tomllib.loads((settings.storage.folder / "models" / "here.toml").read_text())
    assert written["metrics"]["site"]["n"] == 100
