"""In a real viewer: report, segmentation and pages of every kind of answer, without an error of the page."""

import io
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom.uid import generate_uid
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from node.finding import Outcome, Reading
from node.grounds import Agreement
from node.reasons import flag, reason
from node.settings import Settings
from tests import ohif
from tests.ohif import DICOMWEB, Screen, needs_ohif
from tests.peers import HOST, Orthanc, orthanc
from tests.sources import MADE_AT
from workers.analysis import Analysis, analyse
from workers.eyes import open_eyes
from workers.phantom import samples
from workers.read import Film, Reader
from workers.registry import DEFAULT, load
from workers.report import report

pytestmark = needs_ohif

SR, SEG, SC = "Genu KL report", "Genu KL attention", "Genu KL heat map"
PICTURE = (300, 130, 1205, 740)
"""Left, top, right and bottom of what shows the film, within the viewer's own blue signs."""


@dataclass(frozen=True)
class Case:
    """An answer of which the objects lie in the archive, in a study of its own."""

    study: str
    reading: Reading
    kinds: Sequence[str]


def _changed(name: str, reading: Reading) -> Reading:
    """The reading of a film of two knees as the case wants it."""
    right, left = reading.knees
    if name == "flagged":
        red = replace(right, flags=(flag("MARKER"), flag("SIDE_CONFLICT")), agreement=Agreement.CONFLICT)
        return replace(reading, knees=(red, left))
    if name == "mixed":
        gone = replace(left, grade=None, probabilities=None, certainty=None, attention=None, flags=())
        return replace(reading, knees=(right, replace(gone, reason=reason("TOTAL_REPLACED"))))
    if name == "refused":
        return Reading(reading.sop_instance_uid, Outcome.NOT_ANALYSED, None, reason=reason("NOT_A_KNEE"))
    return reading


def _film(folder: Path, which: int) -> tuple[Film, Path]:
    source = samples()[which]
    source.StudyInstanceUID, source.SeriesInstanceUID = generate_uid(), generate_uid()
    source.SOPInstanceUID = source.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    path = folder / f"{source.SOPInstanceUID}.dcm"
    source.save_as(path, enforce_file_format=True)
    reader = Reader.within(Settings().work)
    try:
        return reader.film(path), path
    finally:
        reader.close()


def _told(name: str, film: Film) -> Analysis:
    said = analyse(str(film.header.SOPInstanceUID), film, eyes=open_eyes(), grader=load(DEFAULT))
    changed = _changed(name, said.reading) if name != "one knee" else said.reading
    maps = [each if knee.grade is not None else None for each, knee in zip(said.heat_maps, changed.knees, strict=False)]
    return replace(said, reading=changed, heat_maps=tuple(maps))


def _stored(archive: Orthanc, folder: Path, name: str) -> Case:
    """The film and all objects of its answer, sent to the archive."""
    film, path = _film(folder, 0 if name == "one knee" else 2)
    said = _told(name, film)
    shown, model = said.film or film, load(DEFAULT).card.identity
    kinds = ("SC", "SR", "SEG", "PR", "KO") if name == "flagged" else ("SC", "SR", "SEG")
    made = report(shown, said.reading, said.heat_maps, model, sr_class="comprehensive", made_at=MADE_AT, kinds=kinds)
    files = [path]
    for number, each in enumerate(made):
        files.append(folder / f"{path.stem}-{number}.dcm")
        files[-1].write_bytes(each.encode())
    command = ["storescu", "-R", "-aec", archive.ae_title, HOST, str(archive.port), *map(str, files)]
    assert subprocess.run(command, capture_output=True, timeout=120).returncode == 0
    return Case(str(film.header.StudyInstanceUID), said.reading, [each.kind for each in made])


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    assert DICOMWEB is not None
    plugins = [str(path) for path in DICOMWEB.glob("*.so") if "DicomWeb" in path.name or "Gdcm" in path.name]
    more = {"Plugins": plugins, "DicomWeb": {"Enable": True, "Root": "/dicom-web/"}}
    with orthanc(tmp_path_factory.mktemp("ohif"), configuration=more) as running:
        yield running


@pytest.fixture(scope="module")
def address(archive: Orthanc) -> Iterator[str]:
    with ohif.viewer(archive.url) as told:
        yield told


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[Chrome]:
    driver = ohif.browser(tmp_path / "profile")
    yield driver
    driver.quit()


def picture(screen: Screen) -> np.ndarray:
    """What shows the film, (rows, columns, 3)."""
    return np.asarray(Image.open(io.BytesIO(screen.picture())).convert("RGB").crop(PICTURE), np.int16)


def coloured(screen: Screen) -> int:
    """Pixels of the film's picture that are no grey."""
    shown = picture(screen)
    return int((np.ptp(shown, axis=2) > 40).sum())


@pytest.mark.parametrize("name", ["one knee", "two knees", "mixed", "flagged", "refused"])
def test_the_report_is_drawn_at_the_joint(
    name: str, archive: Orthanc, address: str, driver: Chrome, tmp_path: Path
) -> None:
    """An outline for each knee, and beside it the comment that repeats the grade, the refusal or the flag."""
    case = _stored(archive, tmp_path, name)
    screen = Screen(driver, address, case.study)
    screen.open(SR)
    said = [
        f"AI {knee.laterality.value}: " + ("NOT GRADABLE" if knee.grade is None else f"KL {knee.grade}")
        for knee in case.reading.knees
    ] or ["AI: NOT GRADABLE"]
    screen.until(lambda: all(each in screen.text() for each in said))
    if name == "flagged":
        assert "MARKER" in screen.text()
    screen.keep(f"sr-{name}")
    assert coloured(screen) > 500
    assert screen.complaints() == []


def test_segments_are_shown_switched_and_faded(archive: Orthanc, address: str, driver: Chrome, tmp_path: Path) -> None:
    """Colour over the film; none when every segment is switched off; less of it when it is faded."""
    case = _stored(archive, tmp_path, "two knees")
    screen = Screen(driver, address, case.study)
    screen.open(SEG)
    screen.until(lambda: screen.press("Yes", "Load", "Confirm") or screen.segments())
    screen.show_segments()
    screen.until(lambda: coloured(screen) > 500)
    before = coloured(screen)
    screen.keep("seg")
    assert {"Right knee, attention 25-50 %", "Left knee, attention 25-50 %"} <= set(screen.segments())
    screen.switch_segments("Hide")
    screen.keep("seg-off")
    screen.until(lambda: coloured(screen) < before / 10)
    screen.switch_segments("Show")
    screen.until(lambda: coloured(screen) > 500)
    shown = picture(screen)
    screen.fade()
    screen.until(lambda: (picture(screen) != shown).any(2).sum() > 200)
    assert screen.complaints() == []


def test_pages_scroll(archive: Orthanc, address: str, driver: Chrome, tmp_path: Path) -> None:
    """Every frame of the Secondary Capture is there, and the next one is another picture."""
    case = _stored(archive, tmp_path, "two knees")
    screen = Screen(driver, address, case.study)
    screen.open(SC)
    screen.until(lambda: "(1/14)" in screen.text())
    screen.keep("sc-1")
    first = picture(screen)
    for _ in range(2):
        driver.find_element(By.TAG_NAME, "body").send_keys(Keys.ARROW_DOWN)
    screen.until(lambda: "(3/14)" in screen.text() and (picture(screen) != first).any())
    screen.until(lambda: coloured(screen) > 2000)
    screen.keep("sc-3")
    assert screen.complaints() == []
