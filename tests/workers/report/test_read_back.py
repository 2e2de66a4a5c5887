"""Results read back into the JSON that `genu grade` printed: without loss, or as far as codes go, or not at all."""

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import ImplicitVRLittleEndian

from node.errors import GenuError
from node.evidence import Agreement, Evidence, LateralitySource
from node.finding import Outcome, Reading
from node.reasons import flag
from tests.peers.archives import needs, orthanc
from tests.peers.genu_command import GenuCommand
from tests.samples.source_films import (
    CARD,
    CUT_OFF,
    LEFT,
    READINGS,
    RIGHT,
    UNDECIDED,
    UNSURE,
    all_made,
    dciodvfy,
    header,
    made_of,
    reading,
)
from tests.workers.report.test_objects_at_peers import sent
from workers.phantom import samples
from workers.report import codes, read_result
from workers.report.structured_report.content_tree import content_of, name_of

FLAGGED = replace(
    UNSURE,
    flags=(flag("MARKER"), flag("AGE_UNKNOWN")),
    evidence=(Evidence(LateralitySource("ImageLaterality"), "R", 3.0), Evidence(LateralitySource("image"), "L", 1.5)),
    agreement=Agreement.CONFLICT,
    field_of_view_mm=131.4,
    scale_source="detector plane",
    tilt=-3.2,
    landmarks=tuple((100.5 + i, 200.25) for i in range(16)),
)
WHOLE = {
    **READINGS,
    "all there is": reading(FLAGGED, UNDECIDED, CUT_OFF, notes=("Turned.",)),
}


def back(made: Dataset) -> Dataset:
    """The object as a file, read."""
    stream = io.BytesIO()
    made.save_as(stream, enforce_file_format=True)
    return pydicom.dcmread(io.BytesIO(stream.getvalue()))


def as_told(what: Reading) -> dict[str, object]:
    """As `genu grade` prints it: with the model, refused or not."""
    return replace(what, model=CARD).as_json()


@pytest.mark.parametrize("name", WHOLE)
def test_every_carrier_says_all_that_was_said(name: str) -> None:
    """Report, pages, single pages and segmentation: the same JSON, digit for digit."""
    made = all_made(header(), WHOLE[name], kinds=("SC", "SC1", "SR", "SEG"))
    assert made
    for each in made:
        assert read_result(back(each.dataset)).as_json() == as_told(WHOLE[name]), each.kind


def test_implicit_vr_says_the_same() -> None:
    """A peer that knows only Implicit VR gives private attributes back as bytes."""
    made = made_of(header(), WHOLE["all there is"])["SR"].dataset
    made.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    assert read_result(back(made)).as_json() == as_told(WHOLE["all there is"])


def stripped(made: Dataset) -> Dataset:
    made = back(made)
    made.remove_private_tags()
    return made


@pytest.mark.parametrize("name", WHOLE)
def test_a_report_without_private_attributes_says_what_its_codes_say(name: str) -> None:
    """All but landmarks, tilt, attention and what each witness of the side weighs."""
    what = WHOLE[name]
    told = read_result(stripped(made_of(header(), what)["SR"].dataset))
    assert told.outcome is what.outcome
    assert told.reason == what.reason
    assert told.model == CARD
    assert told.notes == what.notes
    assert len(told.knees) == len(what.knees)
    for found, knee in zip(told.knees, what.knees, strict=True):
        bare = replace(knee, evidence=(), tilt=None, landmarks=None, attention=None, flags=found.flags, box=found.box)
        assert found.as_json() == bare.as_json()
        assert {each.code for each in found.flags} == {each.code for each in knee.flags}
        assert found.box == (*knee.box[:2], min(knee.box[2], 1200), knee.box[3])


def _another_grade(made: Dataset) -> None:
    item = next(each for each in content_of(made) if name_of(each) == codes.GRADE)
    item.ConceptCodeSequence[0].CodeValue = "KL0"


def _cut(made: Dataset) -> None:
    made[0x0099, 0x1001].value = made[0x0099, 0x1001].value[:-40]


def _by_another(made: Dataset) -> None:
    made.Manufacturer = "Somebody"


REFUSED: dict[str, tuple[str, Callable[[Dataset], object], str]] = {
    "changed grade": ("SR", _another_grade, "says one thing in its codes and another"),
    "cut answer": ("SC", _cut, "cannot be read back"),
    "another maker": ("SR", _by_another, "was not made by Genu"),
    "stripped picture": ("SC", lambda made: made.remove_private_tags(), "has lost its private attributes"),
    "empty report": ("SR", lambda made: setattr(made, "ContentSequence", []), "cannot be read back"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_relied_on_is_refused_in_words(name: str) -> None:
    """A changed, cut or foreign object is no answer."""
    kind, spoil, said = REFUSED[name]
    made = back(made_of(header(), reading(RIGHT, LEFT))[kind].dataset)
    spoil(made)
    with pytest.raises(GenuError, match=said):
        read_result(made)


@needs("dciodvfy")
def test_the_validator_has_nothing_against_it(tmp_path: Path) -> None:
    """A private attribute is no error."""
    for made in all_made(header(), WHOLE["all there is"], kinds=("SC", "SC1", "SR", "SEG")):
        assert dciodvfy(made, tmp_path) == []


@needs("Orthanc", "storescu")
def test_through_an_archive_and_back(tmp_path: Path) -> None:
    """Stored at Orthanc and fetched again."""
    made = all_made(header(), WHOLE["all there is"], kinds=("SC", "SR", "SEG"))
    with orthanc(tmp_path / "orthanc") as archive:
        sent(archive, made, tmp_path)
        for each in made:
            came = pydicom.dcmread(io.BytesIO(archive.file(each.sop_instance_uid)))
            assert read_result(came).as_json() == as_told(WHOLE["all there is"])


def test_read_prints_what_grade_printed(genu_command: GenuCommand, tmp_path: Path) -> None:
    """From a film to objects and back, through the two commands; a file that is none of ours ends with 1."""
    film = tmp_path / "film.dcm"
    samples()[0].save_as(film, enforce_file_format=True)
    graded = json.loads(genu_command("grade", str(film), "--json", "--out", str(tmp_path / "out")).out)
    answer = genu_command("read", *graded["objects"], "--json")
    assert answer.code == 0, answer.err
    lines = [json.loads(line) for line in answer.out.splitlines()]
    assert len(lines) == len(graded["objects"]) == 3
    for line in lines:
        assert line.pop("file") in graded["objects"]
        assert line == {key: value for key, value in graded.items() if key not in ("file", "objects")}
    words = genu_command("read", graded["objects"][0])
    assert f"KL {graded['knees'][0]['grade']}" in words.out
    wrong = genu_command("read", str(film), graded["objects"][0])
    assert wrong.code == 1
    assert "was not made by Genu" in wrong.err
    assert Outcome.GRADED.value not in wrong.err
