"""The model's page is self-contained, states what a reader must know, and identifies no patient."""

import re
import shutil
import subprocess
import sys
import tempfile
from html.parser import HTMLParser
from pathlib import Path

import pytest
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service

from node.errors import GenuError
from node.settings import Settings
from tests.samples.labelled import HEADER, call, folder_of, middle, spots
from tests.samples.real_knees import KNEES, needs_knees, some_knees
from workers.cli.training import evaluate as command
from workers.evaluation.evaluate import Evaluation, evaluate
from workers.evaluation.page import typical_confusions, worst_errors, write_model_page
from workers.evaluation.plots import model_plots
from workers.models.registry import REFINER, load

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory: pytest.TempPathFactory) -> Evaluation:
    """Eight patients' knees, three of them with labels that the model cannot but miss, by 1, by 4 and by 4."""
    folder = spots(tmp_path_factory.mktemp("page") / "knees", 8)
    table = folder / "labels.csv"
    lines = table.read_text().splitlines()
    for line, kl in ((1, 3), (3, 4), (5, 0)):
        fields = lines[line].split(",")
        lines[line] = ",".join([*fields[:3], str(kl), *fields[4:]])
    table.write_text("\n".join(lines) + "\n")
    return evaluate(middle(), folder, "val", load(REFINER))


class Outline(HTMLParser):
    """What a page is made of: tags with their attributes, and ids."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    handle_startendtag = handle_starttag


def test_the_page_is_self_contained(evaluation: Evaluation, tmp_path: Path) -> None:
    """No script, nothing from a network, every picture inside; and no id stands for two things."""
    write_model_page(evaluation, tmp_path / "model.html")
    outline = Outline((tmp_path / "model.html").read_text(encoding="utf-8"))
    names = [tag for tag, _ in outline.tags]
    assert "script" not in names
    assert "link" not in names
    for tag, attributes in outline.tags:
        for key in ("src", "href", "xlink:href"):
            assert re.match(r"data:image/png;base64,|#", attributes.get(key) or "#"), (tag, attributes)
    ids = [attributes["id"] for _, attributes in outline.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert names.count("svg") == 6
    assert names.count("img") == 2 * 3


def test_the_page_states_use_data_files_and_figures(evaluation: Evaluation, tmp_path: Path) -> None:
    """For what, not for what, failures, data, split, files and hashes, preparation, layer, calibration, figures."""
    write_model_page(evaluation, tmp_path / "model.html")
    text = (tmp_path / "model.html").read_text(encoding="utf-8")
    card = evaluation.model.card
    fields = card.contents
    use, data = fields["use"], fields["data"]
    for wanted in (
        *(use["intended"], use["not_for"], *use["known_failures"], data["attribution"], data["split"]),
        *(
            card.contents["layer"],
            card.architecture,
            "not for primary diagnosis",
            f"version {card.contents['preparation']}",
        ),
        *(card.weights[0].sha256, card.graph.sha256, str(card.calibration.temperature), "16 knees of 8 patients"),
        *("quadratic weighted kappa", "coverage of KL 4", "Knee 3: KL 3 was given KL 4"),
    ):
        assert wanted in text.replace("&#39;", "'"), wanted


def test_the_page_identifies_no_patient(evaluation: Evaluation, tmp_path: Path) -> None:
    """Neither a patient's identifier nor a file's name nor the folder."""
    write_model_page(evaluation, tmp_path / "model.html")
    text = (tmp_path / "model.html").read_text(encoding="utf-8")
    text = re.sub(r'src="data:[^"]*"', "", text)
    for knee in evaluation.knees:
        assert knee.patient not in text
        assert knee.path.name not in text
        assert str(knee.path.parent) not in text


def test_the_examples_are_the_worst_mistakes_and_a_typical_one(evaluation: Evaluation) -> None:
    """Those farthest from the truth first, the surest of them before; a neighbour's only where it is not among them."""
    shown = worst_errors(evaluation)
    assert (set(shown[:2]), shown[2:]) == ({2, 4}, [0])
    first, second = (float(evaluation.predictions.probabilities[at].max()) for at in shown[:2])
    assert first >= second
    assert typical_confusions(evaluation) == []
    assert not set(worst_errors(evaluation)) & set(typical_confusions(evaluation))


def test_the_plots_take_the_colour_of_the_page(evaluation: Evaluation) -> None:
    """Their text and lines are the page's text colour, so that they can be read on a light and on a dark one."""
    for name, svg in model_plots(evaluation).items():
        texts = re.findall(r"<text [^>]*>", svg)
        on_the_page = [text for text in texts if name != "confusion_matrix" or "currentColor" in text]
        assert len(on_the_page) >= 8, name
        assert all("fill: currentColor" in text for text in on_the_page), name
        assert "#010203" not in svg
        assert "<metadata" not in svg


def test_a_page_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    """Before the knees are graded, which takes minutes."""
    folder = spots(tmp_path / "knees", 2)
    page = tmp_path / "nowhere" / "model.html"
    done = call(command, "--data", folder, "--report", page, settings=Settings())
    assert isinstance(done.exception, GenuError)
    assert "cannot be written: there is no such folder" in str(done.exception)


def test_without_matplotlib_the_error_names_what_to_install(tmp_path: Path) -> None:
    """Before it grades a single knee; the figures alone need none."""
    folder = spots(tmp_path / "knees", 2)
    code = "import sys; sys.modules['matplotlib'] = None; sys.argv[0] = 'genu'; from node.__main__ import main; main()"
    report = tmp_path / "model.html"
    done = subprocess.run(
        [sys.executable, "-c", code, "evaluate", "--data", str(folder), "--report", str(report)],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 2
    assert done.stderr.strip() == "genu: this needs matplotlib, which is not installed (pip install 'genu[worker]')"
    assert not report.exists()


@needs_knees
def test_the_page_of_the_shipped_model(tmp_path: Path) -> None:
    """Thirty real knees through the command, with the names of files and patients kept out."""
    rows = some_knees("val", 30)
    folder = folder_of(tmp_path / "knees")
    lines = [",".join(str(KNEES / value) if key == "path" else value for key, value in row.items()) for row in rows]
    (folder / "labels.csv").write_text("\n".join([HEADER, *lines]) + "\n")
    page = tmp_path / "model.html"
    done = call(command, "--data", folder, "--report", page, settings=Settings())
    assert done.exit_code == 0, done.output
    text = page.read_text(encoding="utf-8")
    assert "Where it was wrong" in text
    for row in rows:
        assert row["patient"] not in re.sub(r'src="data:[^"]*"', "", text)


@pytest.mark.skipif(CHROMIUM is None or DRIVER is None, reason="chromium is not installed")
@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_fits_a_monitor_and_a_phone(evaluation: Evaluation, tmp_path: Path, width: int) -> None:
    """Opened from the disk in a real browser: nothing is asked of a network, nothing is wider than the window."""
    page = tmp_path / "model.html"
    write_model_page(evaluation, page)
    options = ChromeOptions()
    options.binary_location = CHROMIUM or ""
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={tempfile.mkdtemp(dir=tmp_path)}",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = Chrome(options=options, service=Service(DRIVER))
    try:
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        browser.get(page.as_uri())
        wide, seen = browser.execute_script(
            "return [document.documentElement.scrollWidth, document.documentElement.clientWidth]"
        )
        assert wide <= seen <= width
        drawn = "return [...document.images].filter(each => each.complete && each.naturalWidth > 0).length"
        assert browser.execute_script(drawn) == 6
        assert browser.get_log("browser") == []
    finally:
        browser.quit()
