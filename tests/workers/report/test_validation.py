"""No invalid result is sent: validation accepts every valid object and names the faults of others."""

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
from tests.samples.source_films import (
    DIRTY,
    LEFT,
    NAMES,
    READINGS,
    RIGHT,
    header,
    named,
    reading,
    result_list,
    results_of,
)
from workers import outbox
from workers.phantom import samples
from workers.report import ResultInstance, codes, report, validate
from workers.report.structured_report.content_tree import concept_name, descendants
from workers.report.validation import faults_of
from workers.tasks import grade as work_on
from workers.worker import set_up

KINDS = ("SC", "SC1", "SR", "SEG", "PR", "KO", "PM", "PDF")


@pytest.mark.parametrize("name", READINGS)
def test_valid_objects_pass(name: str) -> None:
    """Every kind of object of every kind of answer."""
    for instance in result_list(header(), READINGS[name], kinds=KINDS, is_red=lambda _: True):
        validate(instance.dataset, header())


@pytest.mark.parametrize("source", [*DIRTY.values(), *(lambda script=script: named(script) for script in NAMES)])
def test_dirty_sources_pass(source: Callable[[], Dataset]) -> None:
    """Whatever was mended on the way, patient and study are those of the source."""
    for instance in result_list(source(), reading(RIGHT, LEFT), kinds=KINDS, is_red=lambda _: True):
        assert list(faults_of(instance.dataset, source())) == []


def _groups(ds: Dataset) -> list[Dataset]:
    return [item for item in descendants(ds) if concept_name(item) == codes.MEASUREMENT_GROUP]


def _without(group: Dataset, kind: str) -> None:
    for item in (group, *descendants(group)):
        if "ContentSequence" in item:
            item.ContentSequence = [item for item in item.ContentSequence if item.ValueType != kind]


SPOILERS: dict[str, tuple[str, Callable[[Dataset], object], str]] = {
    "no modality": ("SC", lambda ds: delattr(ds, "Modality"), "Modality is missing"),
    "type 1 empty": ("SC", lambda ds: setattr(ds, "BurnedInAnnotation", ""), "BurnedInAnnotation is empty"),
    "type 2 away": ("SR", lambda ds: delattr(ds, "StudyID"), "StudyID is missing"),
    "inside a sequence": (
        "SEG",
        lambda ds: delattr(ds.SegmentSequence[0], "SegmentLabel"),
        "SegmentSequence.SegmentLabel is missing",
    ),
    "alien attribute": ("SR", lambda ds: setattr(ds, "EchoTime", "5"), "EchoTime does not belong"),
    "another's": ("SR", lambda ds: setattr(ds, "PatientID", "X9"), "PatientID is not that of the source"),
    "another study": ("SC", lambda ds: setattr(ds, "StudyInstanceUID", "1.2.3"), "StudyInstanceUID is not that"),
    "too few pixels": ("SC", lambda ds: setattr(ds, "PixelData", ds.PixelData[:-2]), "more or fewer"),
    "lossy unmarked": (
        "SC",
        lambda ds: setattr(ds.file_meta, "TransferSyntaxUID", JPEGBaseline8Bit),
        "with loss are not marked",
    ),
    "spacing": ("SC", lambda ds: setattr(ds, "PixelSpacing", [0.1, 0.1]), "has a pixel spacing"),
    "no coordinates": ("SR", lambda ds: _without(_groups(ds)[0], "SCOORD"), "group 1 has no coordinates"),
    "evidence not listed": (
        "SR",
        lambda ds: ds.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence.pop(),
        "not listed as its evidence",
    ),
    "no comment": ("SR", lambda ds: _without(_groups(ds)[1], "TEXT"), "group 2 has no comment"),
    "continuous": (
        "SR",
        lambda ds: setattr(_groups(ds)[0], "ContinuityOfContent", "CONTINUOUS"),
        "a container is not SEPARATE",
    ),
    "no orientation": (
        "SEG",
        lambda ds: delattr(ds.SharedFunctionalGroupsSequence[0], "PlaneOrientationSequence"),
        "no plane orientation",
    ),
    "another film's": (
        "SC",
        lambda ds: setattr(ds.SourceImageSequence[0], "ReferencedSOPInstanceUID", "1.2.3"),
        "does not refer to its source radiograph",
    ),
    "another object": ("SR", lambda ds: setattr(ds, "SOPClassUID", "1.2.840.10008.5.1.4.1.1.2"), "no SOP class"),
}


@pytest.mark.parametrize("name", SPOILERS)
def test_what_is_wrong_is_stopped_in_words(name: str) -> None:
    """One fault is named, and the message contains no value of the patient."""
    kind, spoil, message = SPOILERS[name]
    ds = results_of(header(), reading(RIGHT, LEFT))[kind].dataset
    spoil(ds)
    with pytest.raises(Permanent) as stopped:
        validate(ds, header())
    assert stopped.value.reason.code == "RESULT_FAULTY"
    assert message in stopped.value.detail
    assert str(header().PatientID) not in str(stopped.value)


def journey(folder: Path, source: Dataset) -> tuple[object, list[object], set[str]]:
    """A film is processed: its ledger entry, the objects to deliver, and the stored files."""
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
        {path.name for path in bench.vault.results_folder(uid).iterdir()},
    )


def test_a_faulty_result_keeps_the_whole_answer_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The report breaks a rule: the film has FAILED with the rule's name, and not even its picture is sent."""

    def spoilt(*given: object, **named: object) -> list[ResultInstance]:
        instances = report(*given, **named)  # type: ignore[arg-type]
        next(instance for instance in instances if instance.kind == "SR").dataset.PatientID = "somebody else"
        return instances

    monkeypatch.setattr(outbox, "report", spoilt)
    entry, objects, _ = journey(tmp_path, samples()[0])
    assert (entry.state, entry.reason) == (State.FAILED, "RESULT_FAULTY")  # type: ignore[attr-defined]
    assert "PatientID is not that of the source" in entry.detail  # type: ignore[attr-defined]
    assert objects == []


@pytest.mark.parametrize("empty", ["", None, "  "])
def test_a_film_of_nobody_is_held_and_shown(tmp_path: Path, empty: str | None) -> None:
    """No Patient ID: nothing is sent, the ledger has the reason, and the pictures are stored."""
    source = samples()[0]
    source.PatientID = empty
    entry, objects, files = journey(tmp_path, source)
    assert (entry.state, entry.reason) == (State.FAILED, "IDENTITY_MISSING")  # type: ignore[attr-defined]
    assert "Patient ID" in entry.detail  # type: ignore[attr-defined]
    assert objects == []
    assert {"film.png", "heat-1.png", "patient.json"} <= files


def test_reading_back_a_file_of_ours(tmp_path: Path) -> None:
    """A valid object is valid as a file too."""
    for instance in results_of(header(), reading(RIGHT)).values():
        path = tmp_path / f"{instance.kind}.dcm"
        path.write_bytes(instance.encode())
        assert list(faults_of(pydicom.dcmread(path), header())) == []
