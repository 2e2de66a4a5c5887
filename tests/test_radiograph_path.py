"""A radiograph goes in by C-STORE from a real sender; one SC and one SR come back to real peers."""

import io
import json
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.uid import JPEG2000Lossless, RLELossless, generate_uid

from node.ledger import State
from node.radiograph import SOP_CLASS_OF_KIND
from node.reasons import reason
from node.settings import Destination
from tests.peers.archives import HOST, Orthanc, StoreSCP, needs, orthanc, program_path, storescp, wait_until
from tests.peers.running_node import Node, running, until_settled
from tests.samples.real_knees import DATA, needs_knees, needs_not_knees, some_knees, wrapped
from workers.phantom import samples
from workers.report import read_result

SC, SR, SEG = (SOP_CLASS_OF_KIND[kind] for kind in ("SC", "SR", "SEG"))


def storescu(node: Node, *files: Path, options: tuple[str, ...] = ()) -> None:
    """Send files as a modality would, with DCMTK."""
    receive = node.settings.receive
    command = ["storescu", "-aec", receive.ae_title, *options, HOST, str(receive.port), *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def compressed(source: pydicom.Dataset, path: Path, how: str) -> tuple[str, ...]:
    """Write the film under one transfer syntax; return the options that storescu sends it with."""
    if how == "uncompressed":
        source.save_as(path, enforce_file_format=True)
        return ()
    if how == "JPEG lossless":
        plain = path.with_suffix(".plain")
        source.save_as(plain, enforce_file_format=True)
        subprocess.run(["dcmcjpeg", "+e1", str(plain), str(path)], check=True)
        return ("-xs",)
    syntax, option = {"JPEG 2000": (JPEG2000Lossless, "-xv"), "RLE": (RLELossless, "-xr")}[how]
    source.compress(syntax, generate_instance_uid=False)
    source.save_as(path, enforce_file_format=True)
    return (option,)


House = tuple[Node, StoreSCP, Orthanc]


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A node that delivers to a storescp and to an Orthanc."""
    if not (program_path("storescp") and program_path("storescu") and program_path("Orthanc")):
        pytest.skip("not installed: dcmtk or Orthanc")
    folder = tmp_path_factory.mktemp("journey")
    with storescp(folder / "scp") as scp, orthanc(folder / "orthanc") as archive:
        destinations = (
            Destination(name="scp", ae_title=scp.ae_title, host=scp.host, port=scp.port),
            Destination(name="orthanc", ae_title=archive.ae_title, host=archive.host, port=archive.port),
        )
        with running(folder, *destinations) as node:
            yield node, scp, archive


def results_of(study_uid: str, peer: StoreSCP | Orthanc) -> list[pydicom.Dataset]:
    """What the peer holds of one study."""
    if isinstance(peer, Orthanc):
        read = [pydicom.dcmread(io.BytesIO(peer.file(uid))) for uid in peer.received()]
    else:
        read = [pydicom.dcmread(path) for path in peer.received().values()]
    return [dataset for dataset in read if dataset.StudyInstanceUID == study_uid]


@needs_knees
@pytest.mark.parametrize("how", ["uncompressed", "JPEG 2000", "JPEG lossless", "RLE"])
def test_a_real_knee_comes_back_as_one_sc_one_sr_and_one_seg(house: House, tmp_path: Path, how: str) -> None:
    """However it was compressed, both peers hold one SC, SR and SEG of it, and sending it again doubles nothing."""
    node, scp, archive = house
    source = wrapped(some_knees("val", 1, kl=3)[0], uid=generate_uid())
    source.StudyInstanceUID = generate_uid()
    file = tmp_path / "knee.dcm"
    options = compressed(source, file, how)
    for _ in range(2):
        storescu(node, file, options=options)
        until_settled(node, [str(source.SOPInstanceUID)])
    came = results_of(str(source.StudyInstanceUID), scp)
    assert sorted(str(dataset.SOPClassUID) for dataset in came) == sorted((SC, SR, SEG))
    in_orthanc = results_of(str(source.StudyInstanceUID), archive)
    assert sorted(str(dataset.SOPClassUID) for dataset in in_orthanc) == sorted((SC, SR, SEG))
    for dataset in came:
        assert dataset.PatientID == source.PatientID
        assert dataset.SeriesInstanceUID != source.SeriesInstanceUID
    entry = node.ledger.find(str(source.SOPInstanceUID))
    assert entry is not None
    assert (entry.state, entry.attempts) == (State.DELIVERED, 1)


@needs("storescu")
def test_every_sample_comes_to_an_end_that_says_why(house: House, tmp_path: Path) -> None:
    """Knees are graded with their side, and what is no knee is refused with its reason."""
    node, scp, _ = house
    sent = samples(seed=7)
    for number, sample in enumerate(sent):
        sample.save_as(tmp_path / f"{number}.dcm", enforce_file_format=True)
    storescu(node, *sorted(tmp_path.glob("*.dcm")))
    uids = [str(sample.SOPInstanceUID) for sample in sent]
    until_settled(node, uids)
    entries = [node.ledger.find(uid) for uid in uids]
    told = [
        (entry.state.value, [knee["laterality"] for knee in entry.reading["knees"]])
        for entry in entries
        if entry and entry.reading
    ]
    assert told == [
        ("DELIVERED", ["R"]),
        ("DELIVERED", ["L"]),
        ("DELIVERED", ["R", "L"]),
        ("DELIVERED", ["U"]),  # nobody says so, and the rendered fibula is not clear enough
        ("DELIVERED", ["L"]),
        ("NOT_ANALYSED", []),
    ]
    assert entries[-1] is not None
    assert entries[-1].reason == "NOT_A_KNEE"
    refusal = results_of(str(sent[-1].StudyInstanceUID), scp)
    assert [dataset.Modality for dataset in refusal] == ["SR"]


@needs("storescu")
def test_a_film_whose_header_says_the_other_side_is_flagged_everywhere(house: House, tmp_path: Path) -> None:
    """The fibula contradicts Image Laterality: JSON, report, ledger, filter and metrics say so, and it is graded."""
    node, scp, _ = house
    source = samples(seed=9)[0]
    assert source.ImageLaterality == "R"
    source.ImageLaterality = "L"
    source.SOPInstanceUID = source.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    source.StudyInstanceUID = generate_uid()
    file = tmp_path / "film.dcm"
    source.save_as(file, enforce_file_format=True)
    storescu(node, file)
    uid = str(source.SOPInstanceUID)
    until_settled(node, [uid])
    entry = node.ledger.find(uid)
    assert entry is not None
    assert entry.reading is not None
    (knee,) = entry.reading["knees"]
    assert knee["grade"] is not None
    assert knee["laterality_agreement"] == "conflict"
    said = {each["witness"]: each["says"] for each in knee["laterality_evidence"]}
    assert (said["ImageLaterality"], said["image"]) == ("L", "R")
    assert "SIDE_CONFLICT" in [flag["code"] for flag in knee["flags"]]
    assert "SIDE_CONFLICT" in entry.flags
    assert uid in [each.sop_instance_uid for each in node.ledger.listing(flag="SIDE_CONFLICT")]
    came = results_of(str(source.StudyInstanceUID), scp)
    assert sorted(dataset.Modality for dataset in came) == ["OT", "SEG", "SR"]
    (report,) = (dataset for dataset in came if dataset.Modality == "SR")
    assert "SIDE_CONFLICT" in report.to_json()
    with urllib.request.urlopen(node.url("/metrics"), timeout=5) as answer:
        counted = [line for line in answer.read().decode().splitlines() if "genu_flags_total" in line]
    assert any('flag="SIDE_CONFLICT"' in line and not line.endswith(" 0.0") for line in counted)


@needs("storescu", "dciodvfy", "dsr2html")
def test_what_came_back_is_valid_and_can_be_read(house: House, tmp_path: Path) -> None:
    """dciodvfy finds no error in any object that the peer received, and dsr2html shows the grade."""
    _, scp, _ = house
    assert scp.received(), "an earlier test of this file sends"
    for path in scp.received().values():
        verdict = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, check=False)
        errors = [line for line in (verdict.stdout + verdict.stderr).splitlines() if line.startswith("Error")]
        assert not errors, errors
    reports = [path for path in scp.received().values() if pydicom.dcmread(path).Modality == "SR"]
    shown = [
        subprocess.run(["dsr2html", str(path)], capture_output=True, text=True, check=True).stdout for path in reports
    ]
    assert any("Kellgren-Lawrence" in html for html in shown)


@needs("storescu")
def test_own_results_that_come_back_are_set_aside(house: House, tmp_path: Path) -> None:
    """A PACS that routes Genu's results back to Genu starts no loop."""
    node, scp, _ = house
    before = len(scp.received())
    storescu(node, *scp.received().values(), options=("-R",))  # or it proposes no Segmentation
    time.sleep(3)  # longer than the sweep and the deliverer need to start something
    assert len(scp.received()) == before
    assert node.ledger.counts_by_state().get(State.RECEIVED, 0) == 0


def test_the_same_bytes_in_other_transfer_syntax_are_kept_and_flagged(house: House, tmp_path: Path) -> None:
    """A UID that comes again with other bytes overwrites nothing and is shown as a conflict."""
    node, _, _ = house
    sample = samples(seed=8)[0]
    file = tmp_path / "film.dcm"
    sample.save_as(file, enforce_file_format=True)
    node.genu("send", str(file))
    sample.PixelData = np.roll(sample.pixel_array, 7, axis=0).tobytes()
    sample.save_as(file, enforce_file_format=True)
    node.genu("send", str(file))
    uid = str(sample.SOPInstanceUID)
    until_settled(node, [uid])
    entry = node.ledger.find(uid)
    assert entry is not None
    assert "CONFLICT" in entry.flags
    assert len(node.ledger.conflicts(uid)) == 1


def test_the_command_line_shows_and_examines_the_running_node(house: House) -> None:
    """`genu status`, `genu echo` and `genu check` speak with the node that runs."""
    node, _, _ = house
    told = json.loads(node.genu("status", "--json").stdout)
    assert told["radiographs"]["DELIVERED"]["count"] >= 1
    assert {part["part"] for part in told["parts"]} >= {"receive", "work", "deliver", "sweep", "admin"}
    assert "scp" in node.genu("echo").stdout
    assert "model: finder" in node.genu("check").stdout


def test_the_node_ends_cleanly_when_told(tmp_path: Path) -> None:
    """SIGTERM ends every part, with exit status 0 and no process left behind."""
    with running(tmp_path) as node:
        children = node.process_ids()
        node.process.terminate()
        assert node.process.wait(30) == 0
    gone: Callable[[], bool] = lambda: not any(Path(f"/proc/{pid}/exe").exists() for pid in children.values())  # noqa: E731
    assert wait_until(gone, 5), children


@needs_not_knees
@needs("dcmsend", "storescp")
def test_films_of_other_parts_come_back_as_reports_that_say_why(tmp_path: Path) -> None:
    """Over the network, in every transfer syntax: no grade, the right reason, the same for all editions of a film."""
    (tmp_path / "films").mkdir()
    films, parts = {}, {}
    for path in sorted((DATA / "not_knees").glob("*.dcm")):
        film = pydicom.dcmread(path)  # the editions of a film share their UIDs
        film.SOPInstanceUID = film.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        film.save_as(tmp_path / "films" / path.name)
        films[path.name] = str(film.SOPInstanceUID)
        parts[path.name] = film.get("BodyPartExamined")
    with storescp(tmp_path / "scp") as scp:
        destination = Destination(name="scp", ae_title=scp.ae_title, host=scp.host, port=scp.port)
        with running(tmp_path, destination) as node:
            port = str(node.settings.receive.port)
            command = ["dcmsend", "-aec", "GENU", "+sd", HOST, port, str(tmp_path / "films")]
            sent = subprocess.run(command, capture_output=True, timeout=120)
            assert sent.returncode == 0, sent.stderr
            until_settled(node, list(films.values()))
            entries = {name: node.ledger.find(uid) for name, uid in films.items()}
        reports = [pydicom.dcmread(path) for path in scp.received().values()]
    told = {name: entry.reason for name, entry in entries.items() if entry}
    assert told.pop("XA1_JPLL.dcm") == "NOT_A_RADIOGRAPH"
    # Where the header names another part as well, the code says so; an extremity may have a knee.
    expected = {name: "NOT_A_KNEE" if parts[name] == "EXTREMITY" else "OTHER_PART" for name in told}
    assert told == expected
    assert len(told) == len(films) - 1
    assert {str(report.Modality) for report in reports} == {"SR"}
    assert len(reports) == len(told)  # what is no radiograph is answered by none
    assert {read_result(report).reason for report in reports} == {reason("NOT_A_KNEE"), reason("OTHER_PART")}
