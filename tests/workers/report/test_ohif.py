"""In a real viewer: every object of every kind of answer, without an error of the page."""

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from tests.peers import ohif
from tests.peers.archives import Orthanc, orthanc
from tests.peers.ohif import DICOMWEB, Screen, needs_ohif
from tests.samples.analysed_films import FILMS, Answered, answered, store

pytestmark = needs_ohif

SR, SEG, SC, PM, PDF = (f"Genu KL {what}" for what in ("report", "attention", "heat map", "Grad-CAM", "page"))
PICTURE = (300, 130, 1205, 740)
"""Left, top, right and bottom of what shows the film, within the viewer's own blue signs."""


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    assert DICOMWEB is not None
    plugins = [str(path) for path in DICOMWEB.glob("*.so") if "DicomWeb" in path.name or "Gdcm" in path.name]
    more = {"Plugins": plugins, "DicomWeb": {"Enable": True, "Root": "/dicom-web/"}}
    with orthanc(tmp_path_factory.mktemp("ohif"), configuration=more) as running:
        yield running


@pytest.fixture(scope="module")
def address(archive: Orthanc) -> Iterator[str]:
    with ohif.viewer(archive.url) as address:
        yield address


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[Chrome]:
    driver = ohif.browser(tmp_path / "profile")
    yield driver
    driver.quit()


@pytest.fixture(scope="module", params=FILMS)
def case(request: pytest.FixtureRequest, archive: Orthanc, tmp_path_factory: pytest.TempPathFactory) -> Answered:
    return stored(archive, str(request.param), tmp_path_factory.mktemp("case"))


@pytest.fixture(scope="module")
def flagged(archive: Orthanc, tmp_path_factory: pytest.TempPathFactory) -> Answered:
    return stored(archive, "flagged", tmp_path_factory.mktemp("flagged"))


@pytest.fixture(scope="module")
def two_knees(archive: Orthanc, tmp_path_factory: pytest.TempPathFactory) -> Answered:
    return stored(archive, "two knees", tmp_path_factory.mktemp("two"))


def stored(archive: Orthanc, name: str, folder: Path) -> Answered:
    """The film of that name and all objects of its answer lie in the archive."""
    answer = answered(name, folder, ("SC", "SR", "SEG", "PR", "KO", "PM", "PDF"))
    store(archive, answer, folder)
    return answer


def expected(answer: Answered) -> list[str]:
    """What the comments beside the outlines begin with."""
    return [
        f"AI {knee.laterality.value}: " + ("NOT GRADABLE" if knee.grade is None else f"KL {knee.grade}")
        for knee in answer.reading.knees
    ] or ["AI: NOT GRADABLE"]


def on_screen(box: tuple[float, ...], answer: Answered, canvas: ohif.Edges) -> ohif.Edges:
    """Where a box of the film lies on the page, the film being as large as fits the canvas."""
    rows, columns = answer.source.Rows, answer.source.Columns
    left, top, right, bottom = canvas
    scale = min((right - left) / columns, (bottom - top) / rows)
    x, y = (left + right - columns * scale) / 2, (top + bottom - rows * scale) / 2
    x0, y0, x1, y1 = (edge * scale for edge in box)
    return x + x0, y + y0, x + x1, y + y1


def picture(screen: Screen) -> np.ndarray:
    """What shows the film, (rows, columns, 3)."""
    return np.asarray(Image.open(io.BytesIO(screen.picture())).convert("RGB").crop(PICTURE), np.int16)


def coloured(screen: Screen) -> int:
    """Pixels of the film's picture that are no grey."""
    shown = picture(screen)
    return int((np.ptp(shown, axis=2) > 40).sum())


def test_the_report_is_drawn_at_the_joint(case: Answered, address: str, driver: Chrome) -> None:
    """An outline of each knee, where it lies, and beside it the grade, the refusal or the flag in words."""
    screen = Screen(driver, address, case.study)
    screen.open(SR)
    screen.until(lambda: all(comment in screen.text() for comment in expected(case)))
    knees = case.reading.knees
    boxes = [knee.box for knee in knees] or [(0.0, 0.0, float(case.source.Columns), float(case.source.Rows))]
    screen.until(lambda: len(screen.outlines()) == len(boxes))
    places = [on_screen(box, case, screen.canvas()) for box in boxes]
    assert np.abs(np.subtract(sorted(places), sorted(screen.outlines()))).max() < 4
    text = screen.text()
    assert ("SIDE CONFLICT" in text) == any(flag.red for knee in knees for flag in knee.flags)
    assert ("Not graded: 1.00" in text) == (not knees or any(knee.grade is None for knee in knees))
    assert "Knee joints graded" not in text  # a number of nought reads as its unit
    assert ": %" not in text.replace("  ", " ")
    screen.save_screenshot(f"sr-{case.name}")
    assert screen.complaints() == []


def test_segments_are_shown_switched_and_faded(two_knees: Answered, address: str, driver: Chrome) -> None:
    """Colour over the film; none when every segment is switched off; less of it when it is faded."""
    screen = Screen(driver, address, two_knees.study)
    screen.open(SEG)
    screen.until(lambda: screen.press("Yes", "Load", "Confirm") or screen.segments())
    screen.show_segments()
    screen.until(lambda: coloured(screen) > 500)
    before = coloured(screen)
    screen.save_screenshot("seg")
    assert {"Right knee, attention 25-50 %", "Left knee, attention 25-50 %"} <= set(screen.segments())
    screen.switch_segments("Hide")
    screen.save_screenshot("seg-off")
    screen.until(lambda: coloured(screen) < before / 10)
    screen.switch_segments("Show")
    screen.until(lambda: coloured(screen) > 500)
    shown = picture(screen)
    screen.fade()
    screen.until(lambda: (picture(screen) != shown).any(2).sum() > 200)
    assert screen.complaints() == []


def test_pages_scroll(two_knees: Answered, address: str, driver: Chrome) -> None:
    """Every frame of the Secondary Capture is there, and the next one is another picture."""
    screen = Screen(driver, address, two_knees.study)
    screen.open(SC)
    screen.until(lambda: "(1/14)" in screen.text())
    screen.save_screenshot("sc-1")
    first = picture(screen)
    for _ in range(2):
        driver.find_element(By.TAG_NAME, "body").send_keys(Keys.ARROW_DOWN)
    screen.until(lambda: "(3/14)" in screen.text() and (picture(screen) != first).any())
    screen.until(lambda: coloured(screen) > 2000)
    screen.save_screenshot("sc-3")
    assert screen.complaints() == []


def test_a_map_and_a_page_open(flagged: Answered, address: str, driver: Chrome) -> None:
    """The Parametric Map lies in colour over the film, the PDF opens, and what cannot be drawn breaks nothing."""
    screen = Screen(driver, address, flagged.study)
    screen.until(lambda: len(screen.thumbnails()) == 1 + len(flagged.instances))
    screen.open(PM)
    screen.until(lambda: coloured(screen) > 2000)
    screen.save_screenshot("pm")
    for what in ("Genu KL outlines", "Genu KL red flag"):  # presentation state and key object
        screen.open(what)
        screen.until(lambda: screen.outlines() == [])
    screen.open(PDF)
    screen.until(lambda: driver.find_elements(By.CSS_SELECTOR, 'object[type="application/pdf"], iframe, embed'))
    screen.save_screenshot("pdf")
    assert screen.complaints() == []
