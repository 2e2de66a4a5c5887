"""No result leaves that breaks a rule: the gate passes all that is right and names what is wrong."""

from collections.abc import Callable
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import JPEGBaseline8Bit

from node.errors import Permanent
from node.ledger import State
from node.settings import Settings
from tests.samples.site_models import receive
from tests.samples.source_films import DIRTY, LEFT, NAMES, READINGS, RIGHT, all_made, header, made_of, named, reading
from workers import outbox
from workers.phantom import samples
from workers.report import MadeObject, codes, release, report
from workers.report.structured_report.content_tree import content_of, name_of
from workers.report.validation import faults_of
from workers.tasks import grade as work_on
from workers.worker import set_up

KINDS = ("SC", "SC1", "SR", "SEG", "PR", "KO", "PM", "PDF")


@pytest.mark.parametrize("name", READINGS)
def test_what_is_right_passes(name: str) -> None:
    """Every kind of object of every kind of answer."""
    for made in all_made(header(), READINGS[name], kinds=KINDS, is_red=lambda _: True):
        release(made.dataset, header())


@pytest.mark.parametrize("source", [*DIRTY.values(), *(lambda each=each: named(each) for each in NAMES)])
def test_dirty_sources_pass(source: Callable[[], Dataset]) -> None:
    """Whatever was mended on the way, patient and study are those of the source."""
    for made in all_made(source(), reading(RIGHT, LEFT), kinds=KINDS, is_red=lambda _: True):
        assert list(faults_of(made.dataset, source())) == []


def _groups(made: Dataset) -> list[Dataset]:
    return [item for item in content_of(made) if name_of(item) == codes.MEASUREMENT_GROUP]


def _without(group: Dataset, kind: str) -> None:
    for item in (group, *content_of(group)):
        if "ContentSequence" in item:
            item.ContentSequence = [each for each in item.ContentSequence if each.ValueType != kind]


SPOILERS: dict[str, tuple[str, Callable[[Dataset], object], str]] = {
    "no modality": ("SC", lambda made: delattr(made, "Modality"), "Modality is missing"),
    "type 1 empty": ("SC", lambda made: setattr(made, "BurnedInAnnotation", ""), "BurnedInAnnotation is empty"),
    "type 2 away": ("SR", lambda made: delattr(made, "StudyID"), "StudyID is missing"),
    "inside a sequence": (
        "SEG",
        lambda made: delattr(made.SegmentSequence[0], "SegmentLabel"),
        "SegmentSequence.SegmentLabel is missing",
    ),
    "alien attribute": ("SR", lambda made: setattr(made, "EchoTime", "5"), "EchoTime does not belong"),
    "another's": ("SR", lambda made: setattr(made, "PatientID", "X9"), "PatientID is not that of the source"),
    "another study": ("SC", lambda made: setattr(made, "StudyInstanceUID", "1.2.3"), "StudyInstanceUID is not that"),
    "too few pixels": ("SC", lambda made: setattr(made, "PixelData", made.PixelData[:-2]), "more or fewer"),
    "lossy unmarked": (
        "SC",
        lambda made: setattr(made.file_meta, "TransferSyntaxUID", JPEGBaseline8Bit),
        "with loss are not marked",
    ),
    "spacing": ("SC", lambda made: setattr(made, "PixelSpacing", [0.1, 0.1]), "has a pixel spacing"),
    "no coordinates": ("SR", lambda made: _without(_groups(made)[0], "SCOORD"), "group 1 has no coordinates"),
    "evidence not listed": (
        "SR",
        lambda made: made.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence.pop(),
        "not listed as its evidence",
    ),
    "no comment": ("SR", lambda made: _without(_groups(made)[1], "TEXT"), "group 2 has no comment"),
    "continuous": (
        "SR",
        lambda made: setattr(_groups(made)[0], "ContinuityOfContent", "CONTINUOUS"),
        "a container is not SEPARATE",
    ),
    "no orientation": (
        "SEG",
        lambda made: delattr(made.SharedFunctionalGroupsSequence[0], "PlaneOrientationSequence"),
        "no plane orientation",
    ),
    "another film's": (
        "SC",
        lambda made: setattr(made.SourceImageSequence[0], "ReferencedSOPInstanceUID", "1.2.3"),
        "of which radiograph it speaks",
    ),
    "another object": ("SR", lambda made: setattr(made, "SOPClassUID", "1.2.840.10008.5.1.4.1.1.2"), "no SOP class"),
}


@pytest.mark.parametrize("name", SPOILERS)
def test_what_is_wrong_is_stopped_in_words(name: str) -> None:
    """One thing is wrong; it is named, and nothing of the patient is in the words."""
    kind, spoil, said = SPOILERS[name]
    made = made_of(header(), reading(RIGHT, LEFT))[kind].dataset
    spoil(made)
    with pytest.raises(Permanent) as stopped:
        release(made, header())
    assert stopped.value.reason.code == "RESULT_FAULTY"
    assert said in stopped.value.detail
    assert str(header().PatientID) not in str(stopped.value)


def journey(folder: Path, source: Dataset) -> tuple[object, list[object], set[str]]:
    """A film is worked on: its entry, the objects that are owed, and the files that show it."""
    settings = Settings(storage={"folder": folder})
    bench = set_up(settings, "w")
    uid = receive(settings, source)
    try:
        work_on(uid, bench)
    finally:
        bench.reader.close()
    return (
        bench.ledger.find(uid),
        bench.ledger.result_objects(uid),
        {each.name for each in bench.vault.results_folder(uid).iterdir()},
    )


def test_a_faulty_result_keeps_the_whole_answer_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The report breaks a rule: the film has FAILED with the rule's name, and not even its picture is sent."""

    def spoilt(*given: object, **named: object) -> list[MadeObject]:
        made = report(*given, **named)  # type: ignore[arg-type]
        next(each for each in made if each.kind == "SR").dataset.PatientID = "somebody else"
        return made

    monkeypatch.setattr(outbox, "report", spoilt)
    entry, objects, _ = journey(tmp_path, samples()[0])
    assert (entry.state, entry.reason) == (State.FAILED, "RESULT_FAULTY")  # type: ignore[attr-defined]
    assert "PatientID is not that of the source" in entry.detail  # type: ignore[attr-defined]
    assert objects == []


@pytest.mark.parametrize("empty", ["", None, "  "])
def test_a_film_of_nobody_is_held_and_shown(tmp_path: Path, empty: str | None) -> None:
    """No Patient ID: nothing is sent, the administrator sees why, and the pictures are there to look at."""
    source = samples()[0]
    source.PatientID = empty
    entry, objects, files = journey(tmp_path, source)
    assert (entry.state, entry.reason) == (State.FAILED, "IDENTITY_MISSING")  # type: ignore[attr-defined]
    assert "Patient ID" in entry.detail  # type: ignore[attr-defined]
    assert objects == []
    assert {"film.png", "heat-1.png", "patient.json"} <= files


def test_reading_back_a_file_of_ours(tmp_path: Path) -> None:
    """What passes the gate passes it as a file too."""
    for made in made_of(header(), reading(RIGHT)).values():
        path = tmp_path / f"{made.kind}.dcm"
        path.write_bytes(made.encode())
        assert list(faults_of(pydicom.dcmread(path), header())) == []
