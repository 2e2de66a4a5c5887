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
from node.finding import Outcome, Reading, ScaleSource
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
    dciodvfy,
    header,
    reading,
    result_list,
    results_of,
)
from tests.workers.report.test_objects_at_peers import store_at
from workers.phantom import samples
from workers.report import codes, read_result
from workers.report.structured_report.content_tree import concept_name, descendants

FLAGGED = replace(
    UNSURE,
    flags=(flag("MARKER"), flag("AGE_UNKNOWN")),
    evidence=(Evidence(LateralitySource.IMAGE_LATERALITY, "R", 3.0), Evidence(LateralitySource.IMAGE, "L", 1.5)),
    agreement=Agreement.CONFLICT,
    field_of_view_mm=131.4,
    scale_source=ScaleSource.DETECTOR_PLANE,
    tilt=-3.2,
    landmarks=tuple((100.5 + i, 200.25) for i in range(16)),
)
WHOLE = {
    **READINGS,
    "all there is": reading(FLAGGED, UNDECIDED, CUT_OFF, notes=("Turned.",)),
}


def back(ds: Dataset) -> Dataset:
    """The object as a file, read."""
    stream = io.BytesIO()
    ds.save_as(stream, enforce_file_format=True)
    return pydicom.dcmread(io.BytesIO(stream.getvalue()))


def expected_json(what: Reading) -> dict[str, object]:
    """As `genu grade` prints it: with the model, refused or not."""
    return replace(what, model=CARD).as_json()


@pytest.mark.parametrize("name", WHOLE)
def test_every_object_contains_the_whole_reading(name: str) -> None:
    """Report, pages, single pages and segmentation: the same JSON, digit for digit."""
    instances = result_list(header(), WHOLE[name], kinds=("SC", "SC1", "SR", "SEG"))
    assert instances
    for instance in instances:
        assert read_result(back(instance.dataset)).as_json() == expected_json(WHOLE[name]), instance.kind


def test_implicit_vr_gives_the_same_reading() -> None:
    """A peer that knows only Implicit VR gives private attributes back as bytes."""
    ds = results_of(header(), WHOLE["all there is"])["SR"].dataset
    ds.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    assert read_result(back(ds)).as_json() == expected_json(WHOLE["all there is"])


def stripped(ds: Dataset) -> Dataset:
    ds = back(ds)
    ds.remove_private_tags()
    return ds


@pytest.mark.parametrize("name", WHOLE)
def test_a_report_without_private_attributes_gives_the_reading_of_its_codes(name: str) -> None:
    """All but landmarks, tilt, attention and the weights of the laterality's sources."""
    what = WHOLE[name]
    read = read_result(stripped(results_of(header(), what)["SR"].dataset))
    assert read.outcome is what.outcome
    assert read.reason == what.reason
    assert read.model == CARD
    assert read.notes == what.notes
    assert len(read.knees) == len(what.knees)
    for found, knee in zip(read.knees, what.knees, strict=True):
        bare = replace(knee, evidence=(), tilt=None, landmarks=None, attention=None, flags=found.flags, box=found.box)
        assert found.as_json() == bare.as_json()
        assert {flag.code for flag in found.flags} == {flag.code for flag in knee.flags}
        assert found.box == (*knee.box[:2], min(knee.box[2], 1200), knee.box[3])


def _another_grade(ds: Dataset) -> None:
    item = next(item for item in descendants(ds) if concept_name(item) == codes.GRADE)
    item.ConceptCodeSequence[0].CodeValue = "KL0"


def _cut(ds: Dataset) -> None:
    ds[0x0099, 0x1001].value = ds[0x0099, 0x1001].value[:-40]


def _by_another(ds: Dataset) -> None:
    ds.Manufacturer = "Somebody"


REFUSED: dict[str, tuple[str, Callable[[Dataset], object], str]] = {
    "changed grade": ("SR", _another_grade, "has codes that contradict"),
    "cut answer": ("SC", _cut, "cannot be read back"),
    "another maker": ("SR", _by_another, "was not made by Genu"),
    "stripped picture": ("SC", lambda ds: ds.remove_private_tags(), "has lost its private attributes"),
    "empty report": ("SR", lambda ds: setattr(ds, "ContentSequence", []), "cannot be read back"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_relied_on_is_refused_in_words(name: str) -> None:
    """A changed, cut or foreign object is no answer."""
    kind, spoil, message = REFUSED[name]
    ds = back(results_of(header(), reading(RIGHT, LEFT))[kind].dataset)
    spoil(ds)
    with pytest.raises(GenuError, match=message):
        read_result(ds)


@needs("dciodvfy")
def test_the_validator_finds_nothing(tmp_path: Path) -> None:
    """A private attribute is no error."""
    for instance in result_list(header(), WHOLE["all there is"], kinds=("SC", "SC1", "SR", "SEG")):
        assert dciodvfy(instance, tmp_path) == []


@needs("Orthanc", "storescu")
def test_through_an_archive_and_back(tmp_path: Path) -> None:
    """Stored at Orthanc and fetched again."""
    instances = result_list(header(), WHOLE["all there is"], kinds=("SC", "SR", "SEG"))
    with orthanc(tmp_path / "orthanc") as archive:
        store_at(archive, instances, tmp_path)
        for instance in instances:
            received = pydicom.dcmread(io.BytesIO(archive.file(instance.sop_instance_uid)))
            assert read_result(received).as_json() == expected_json(WHOLE["all there is"])


def test_standard_output_is_json_alone_whatever_is_logged(genu_command: GenuCommand, tmp_path: Path) -> None:
    """A film whose header makes a log event: the event is on standard error."""
    film, ds = tmp_path / "film.dcm", samples()[0]
    ds.add_new("PatientSex", "CS", "U")
    ds.save_as(film, enforce_file_format=True)
    reply = genu_command("grade", str(film), "--json", "--out", str(tmp_path / "out"))
    assert [json.loads(line)["outcome"] for line in reply.out.splitlines()] == ["graded"]
    assert "identity_attributes_dropped" in reply.err


def test_read_prints_what_grade_printed(genu_command: GenuCommand, tmp_path: Path) -> None:
    """From a film to objects and back, through the two commands; a foreign file ends with 1."""
    film = tmp_path / "film.dcm"
    samples()[0].save_as(film, enforce_file_format=True)
    graded = json.loads(genu_command("grade", str(film), "--json", "--out", str(tmp_path / "out")).out)
    reply = genu_command("read", *graded["objects"], "--json")
    assert reply.code == 0, reply.err
    lines = [json.loads(line) for line in reply.out.splitlines()]
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
