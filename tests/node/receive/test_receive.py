"""What the Storage SCP acknowledges is safe, what it refuses has a status, and nothing is left in the spool."""

import os
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pydicom
import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import uid as dicom
from pydicom.uid import ComprehensiveSRStorage, ComputedRadiographyImageStorage, generate_uid
from pynetdicom import PYNETDICOM_IMPLEMENTATION_UID

from node.errors import GenuError, Refused, Transient
from node.ledger import IntakeOutcome, Ledger, ResultObject, State
from node.radiograph import STORAGE_CLASSES, TRANSFER_SYNTAXES, Radiograph
from node.receive import statuses
from node.receive.identity import check_identity
from tests.paths import DATA
from tests.peers.archives import needs, wait_until
from tests.peers.senders import (
    CANARY,
    DX,
    EXPLICIT,
    HOST,
    FakePublisher,
    RawScu,
    RunningScp,
    ScpProcess,
    command_set,
    data,
    data_set,
    data_set_of,
    encoded,
    film,
    part10,
    running_scp,
    sha256,
)

SR = str(ComprehensiveSRStorage)
CR = str(ComputedRadiographyImageStorage)
MALFORMED = DATA / "malformed"

IMPLICIT, BIG, DEFLATED = (
    str(uid) for uid in (dicom.ImplicitVRLittleEndian, dicom.ExplicitVRBigEndian, dicom.DeflatedExplicitVRLittleEndian)
)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """One SCP for all tests that leave it unchanged; each sends objects of its own."""
    with running_scp(tmp_path_factory.mktemp("receive") / "node") as running:
        yield running


# What is stored


@pytest.mark.parametrize("syntax", [str(uid) for uid in TRANSFER_SYNTAXES])
def test_every_transfer_syntax_is_stored_byte_for_byte(node: RunningScp, syntax: str) -> None:
    """Whatever the encoding, the data set is on the disk unchanged, under its hash, with its syntax beside it."""
    ds = film()
    content = encoded(ds, implicit=syntax == IMPLICIT, big=syntax == BIG)
    with node.connect(contexts=[(1, DX, [syntax])]) as caller:
        assert caller.store(content, ds.SOPInstanceUID) == 0x0000
    entry = node.ledger.find(ds.SOPInstanceUID)
    assert entry is not None
    assert (entry.state, entry.transfer_syntax_uid, entry.sha256) == (State.RECEIVED, syntax, sha256(content))
    path = node.vault.radiograph_path(entry.sha256)
    assert data_set_of(path) == content
    assert path.stat().st_size == entry.size
    meta = pydicom.filereader.read_file_meta_info(path)
    assert (meta.TransferSyntaxUID, meta.MediaStorageSOPInstanceUID) == (syntax, ds.SOPInstanceUID)
    assert (meta.MediaStorageSOPClassUID, meta.ImplementationClassUID) == (DX, PYNETDICOM_IMPLEMENTATION_UID)
    assert node.spool_files() == []


@pytest.mark.parametrize("sop_class", [str(uid) for uid in STORAGE_CLASSES])
def test_every_storage_class_is_stored(node: RunningScp, sop_class: str) -> None:
    """All SOP classes that may hold a knee, and the reports that a PACS routes back, are stored."""
    ds = film(SOPClassUID=sop_class)
    with node.connect(contexts=[(1, sop_class, [EXPLICIT])]) as caller:
        assert caller.store(encoded(ds), ds.SOPInstanceUID, sop_class=sop_class) == 0x0000
    assert node.ledger.find(ds.SOPInstanceUID) is not None


CODED = {
    "explicit": (["dcmconv", "+te"], "-xe", dicom.ExplicitVRLittleEndian),
    "implicit": (["dcmconv", "+ti"], "-xi", dicom.ImplicitVRLittleEndian),
    "big endian": (["dcmconv", "+tb"], "-xb", dicom.ExplicitVRBigEndian),
    "deflated": (["dcmconv", "+td"], "-xd", dicom.DeflatedExplicitVRLittleEndian),
    "rle": (["dcmcrle"], "-xr", dicom.RLELossless),
    "jpeg baseline": (["dcmcjpeg", "+eb"], "-xy", dicom.JPEGBaseline8Bit),
    "jpeg extended": (["dcmcjpeg", "+ee"], "-xx", dicom.JPEGExtended12Bit),
    "jpeg lossless": (["dcmcjpeg", "+e1"], "-xs", dicom.JPEGLosslessSV1),
    "jpeg-ls": (["dcmcjpls", "+el"], "-xt", dicom.JPEGLSLossless),
    "jpeg-ls near": (["dcmcjpls", "+en"], "-xu", dicom.JPEGLSNearLossless),
}


@needs("storescu", "dcmconv", "dcmcrle", "dcmcjpeg", "dcmcjpls")
def test_dcmtk_sends_in_every_syntax_that_it_can_write(node: RunningScp, tmp_path: Path) -> None:
    """A real sender's compressed objects have the same pixels, in the syntax that it used."""
    for name, (coder, option, syntax) in CODED.items():
        ds = film()
        plain, coded = part10(ds, tmp_path / "plain.dcm"), tmp_path / "coded.dcm"
        subprocess.run([*coder, plain, coded], check=True, capture_output=True)
        uid = pydicom.dcmread(coded, stop_before_pixels=True).SOPInstanceUID  # lossy coding makes a new one
        sent = subprocess.run(
            ["storescu", "-aec", "GENU", option, HOST, str(node.port), coded],
            capture_output=True,
            text=True,
            check=False,
        )
        assert sent.returncode == 0, f"{name}: {sent.stderr}"
        entry = node.ledger.find(uid)
        assert entry is not None, name
        assert entry.transfer_syntax_uid == syntax, name
        stored = pydicom.dcmread(node.vault.radiograph_path(entry.sha256))
        assert stored.PixelData == pydicom.dcmread(coded).PixelData, name


@needs("echoscu")
def test_a_real_echo_is_answered(node: RunningScp) -> None:
    """C-ECHO of DCMTK succeeds."""
    assert echoscu(node.port).returncode == 0


def echoscu(port: int, *options: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ["echoscu", "-v", "-aec", "GENU", "-aet", "ROOM1", "-to", "10", *options, HOST, str(port)],
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_new_object_is_published_once(node: RunningScp) -> None:
    """The same object again, from another sender too, is acknowledged and neither stored nor published twice."""
    ds, before = film(), set(node.stored_files())
    for calling in ("ROOM1", "ROOM1", "PACS"):
        with node.connect(calling=calling) as caller:
            assert caller.store(encoded(ds), ds.SOPInstanceUID) == 0x0000
    other = film(seed=1)
    with node.connect() as caller:
        caller.store(encoded(other), other.SOPInstanceUID)
    assert wait_until(lambda: other.SOPInstanceUID in node.publisher.published)
    assert (
        node.publisher.published.count(ds.SOPInstanceUID) == node.publisher.published.count(other.SOPInstanceUID) == 1
    )
    assert sorted(path.stem for path in set(node.stored_files()) - before) == sorted(
        sha256(encoded(instance)) for instance in (ds, other)
    )


def test_other_bytes_under_a_known_uid_are_stored_beside_the_first(node: RunningScp) -> None:
    """They are acknowledged, flagged and never graded; the first object stays unchanged."""
    first, second = film(), film(seed=1)
    second.SOPInstanceUID = first.SOPInstanceUID
    with node.connect() as caller:
        assert caller.store(encoded(first), first.SOPInstanceUID) == 0x0000
        assert caller.store(encoded(second), first.SOPInstanceUID) == 0x0000
    entry = node.ledger.find(first.SOPInstanceUID)
    assert entry is not None
    assert entry.sha256 == sha256(encoded(first))
    assert entry.flags
    assert data_set_of(node.vault.radiograph_path(entry.sha256)) == encoded(first)
    assert data_set_of(node.vault.radiograph_path(sha256(encoded(second)))) == encoded(second)
    assert [conflict.sha256 for conflict in node.ledger.conflicts(first.SOPInstanceUID)] == [sha256(encoded(second))]
    assert published_until_now(node).count(first.SOPInstanceUID) == 1


def test_a_report_is_put_aside(node: RunningScp) -> None:
    """A Structured Report is acknowledged, and in the ledger it is NOT_ANALYSED because it is no image."""
    ds = film(SOPClassUID=SR)
    with node.connect(contexts=[(1, SR, [EXPLICIT])]) as caller:
        assert caller.store(encoded(ds), ds.SOPInstanceUID, sop_class=SR) == 0x0000
    entry = node.ledger.find(ds.SOPInstanceUID)
    assert entry is not None
    assert (entry.state, entry.reason) == (State.NOT_ANALYSED, "NOT_AN_IMAGE")
    assert ds.SOPInstanceUID not in published_until_now(node)


def published_until_now(node: RunningScp) -> list[str]:
    """What was published, up to an object that is sent to find the end of it."""
    last = film()
    with node.connect() as caller:
        assert caller.store(encoded(last), last.SOPInstanceUID) == 0x0000
    assert wait_until(lambda: last.SOPInstanceUID in node.publisher.published)
    return node.publisher.published


@pytest.mark.parametrize("sop_class", [SR, str(dicom.SecondaryCaptureImageStorage)])
def test_what_genu_made_itself_is_put_aside(node: RunningScp, sop_class: str) -> None:
    """A result that a PACS routes back makes no loop."""
    ds, own = film(), film(SOPClassUID=sop_class)
    with node.connect(contexts=[(1, DX, [EXPLICIT]), (3, sop_class, [EXPLICIT])]) as caller:
        caller.store(encoded(ds), ds.SOPInstanceUID)
        node.ledger.claim(ds.SOPInstanceUID, "w", lease_seconds=60, attempts=3)
        result = ResultObject("SC", sop_class, own.SOPInstanceUID, EXPLICIT, "sc.dcm", sha256(b""))
        assert node.ledger.report(ds.SOPInstanceUID, "w", {}, [result], {})
        assert caller.store(encoded(own), own.SOPInstanceUID, sop_class=sop_class, context=3) == 0x0000
    entry = node.ledger.find(own.SOPInstanceUID)
    assert entry is not None
    assert (entry.state, entry.reason) == (State.NOT_ANALYSED, "OWN_OBJECT")
    assert own.SOPInstanceUID not in published_until_now(node)


# What is refused


def refuses(node: RunningScp, status: int, content: bytes, uid: str, **command: Any) -> None:
    contexts, before = [(1, DX, [command.pop("syntax", EXPLICIT)])], set(node.stored_files())
    with node.connect(contexts=contexts) as caller:
        assert caller.store(content, uid, **command) == status
        good = film(SOPClassUID=DX)
        implicit, big = contexts[0][2] == [IMPLICIT], contexts[0][2] == [BIG]
        assert caller.store(encoded(good, implicit=implicit, big=big), good.SOPInstanceUID) == 0x0000
    assert len(set(node.stored_files()) - before) == 1
    assert node.spool_files() == []


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, BIG, str(dicom.JPEG2000)])
@pytest.mark.parametrize("wrong", ["SOPInstanceUID", "SOPClassUID"])
@pytest.mark.parametrize("how", ["other", "absent"])
def test_a_data_set_of_another_instance_is_refused(node: RunningScp, syntax: str, wrong: str, how: str) -> None:
    """0xA900 when the data set's UIDs are not those of the command; the association goes on."""
    uid = generate_uid()
    ds = film(SOPInstanceUID=uid)
    if how == "absent":
        delattr(ds, wrong)
    else:
        setattr(ds, wrong, CR if wrong == "SOPClassUID" else generate_uid())
    content = encoded(ds, implicit=syntax == IMPLICIT, big=syntax == BIG)
    refuses(node, 0xA900, content, uid, syntax=syntax)
    assert node.ledger.find(uid) is None


@pytest.mark.parametrize("content", [b"", b"\xff" * 400, b"no data set at all", encoded(film())[:11]])
def test_bytes_that_are_no_data_set_are_refused(node: RunningScp, content: bytes) -> None:
    """0xC000 for an empty, a nonsensical and a torn object."""
    refuses(node, 0xC000, content, generate_uid())


def test_the_other_vr_form_is_stored(node: RunningScp) -> None:
    """Implicit VR on an explicit context is a known error of real senders; the worker reads it or reports it."""
    ds = film()
    with node.connect() as caller:
        assert caller.store(encoded(ds, implicit=True), ds.SOPInstanceUID) == 0x0000


@pytest.mark.parametrize(
    "uid",
    [
        "../../../../etc/evil",
        "/etc/passwd",
        "1.2.3/../4",
        "1." * 33 + "1",
        "1.2%n%n",
        "1\\2",
        "1.2.\0.3",
        "",
        "1..2",
        "é.1",
    ],
)
def test_an_invalid_uid_is_refused_and_never_a_path(node: RunningScp, uid: str) -> None:
    """0x0117, and no file anywhere but the good object's."""
    around = node.vault.folder.parent
    before = {path for path in around.rglob("*") if path.is_file()}
    refuses(node, 0x0117, encoded(film()), uid)
    new = {path for path in around.rglob("*") if path.is_file()} - before
    assert [path.parent.parent.name for path in new] == ["radiographs"]


@pytest.mark.parametrize("sop_class", ["1.2.840.10008.1.1", CR, "1.2.3", ""])
def test_a_class_other_than_the_contexts_is_refused(node: RunningScp, sop_class: str) -> None:
    """0x0122, where pynetdicom alone would answer 0x0000 and store nothing."""
    ds = film(SOPClassUID=sop_class or "1.2")
    refuses(node, 0x0122, encoded(ds), ds.SOPInstanceUID, sop_class=sop_class)


def test_a_store_without_data_set_is_refused(node: RunningScp) -> None:
    """0xC000 when the command set announces no data set."""
    with node.connect() as caller:
        caller.send(data(command_set(field=1, uid=generate_uid())))
        assert caller.status() == 0xC000
        ds = film()
        assert caller.store(encoded(ds), ds.SOPInstanceUID) == 0x0000


def test_an_echo_on_a_storage_context_is_refused(node: RunningScp) -> None:
    """0x0122 for C-ECHO where Verification was not negotiated; the association goes on."""
    with node.connect() as caller:
        assert caller.echo() == 0x0122
        assert caller.echo() == 0x0122


def test_a_full_disk_is_answered_before_the_object_is_written(tmp_path: Path) -> None:
    """0xA700 below min_free_mb, with nothing in the spool."""
    with running_scp(tmp_path / "node", storage={"min_free_mb": 10**9}) as node, node.connect() as caller:
        ds = film()
        assert caller.store(encoded(ds), ds.SOPInstanceUID) == 0xA700
        assert node.spool_files() == node.stored_files() == []
        assert node.ledger.find(ds.SOPInstanceUID) is None


def test_an_object_over_the_limit_is_refused_and_its_bytes_are_dropped(tmp_path: Path) -> None:
    """0xA700 for an object larger than max_object_mb; one that does not end is aborted."""
    with running_scp(tmp_path / "node", max_object_mb=1) as node:
        ds = film(side=1100)
        with node.connect() as caller:
            assert caller.store(encoded(ds), ds.SOPInstanceUID) == 0xA700
            assert node.spool_files() == []
            small = film()
            assert caller.store(encoded(small), small.SOPInstanceUID) == 0x0000
        with node.connect() as caller:
            caller.announce(ds.SOPInstanceUID)
            with pytest.raises(OSError):
                for _ in range(1000):
                    caller.send(data(bytes(65536), header=0))
        assert wait_until(lambda: node.spool_files() == [])


def test_a_file_that_the_system_refuses_is_answered_with_a700(tmp_path: Path) -> None:
    """A write that fails in the middle of an object leaves no file; the next object is stored."""
    with ScpProcess(tmp_path / "node", limits={"RLIMIT_FSIZE": 600_000}) as served, RawScu(served.port) as caller:
        large, small = film(side=1000), film()
        for _ in range(3):
            assert caller.store(encoded(large), large.SOPInstanceUID) == 0xA700
            assert list((tmp_path / "node" / "spool").iterdir()) == []
        caller.announce(large.SOPInstanceUID)
        caller.send(data(bytes(50_000), header=0))
        assert wait_until(lambda: list((tmp_path / "node" / "spool").iterdir()))
        for _ in range(12):
            caller.send(data(bytes(50_000), header=0))
        assert wait_until(lambda: list((tmp_path / "node" / "spool").iterdir()) == []), (
            "it is deleted before the object ends"
        )
        caller.send(data(b"", header=2))
        assert caller.status() == 0xA700
        assert caller.store(encoded(small), small.SOPInstanceUID) == 0x0000
    assert [path.stem for path in (tmp_path / "node" / "radiographs").rglob("*.dcm")] == [sha256(encoded(small))]


def test_nothing_is_in_the_ledger_that_is_not_in_the_vault(node: RunningScp, tmp_path: Path) -> None:
    """When the file cannot be put in its place there is no success and no row; afterwards the same object is stored."""
    ds, place = film(), node.vault.folder / "radiographs"
    with node.connect() as caller:
        place.rename(tmp_path / "away")
        try:
            assert caller.store(encoded(ds), ds.SOPInstanceUID) == 0x0110
            assert node.ledger.find(ds.SOPInstanceUID) is None
            assert node.spool_files() == []
        finally:
            (tmp_path / "away").rename(place)
        assert caller.store(encoded(ds), ds.SOPInstanceUID) == 0x0000


class FailingLedger(Ledger):
    """A ledger that raises `error`."""

    error: Exception | None = None

    def record_received(self, radiograph: Radiograph, *, not_analysed_reason: str | None = None) -> IntakeOutcome:
        if self.error is not None:
            raise self.error
        return super().record_received(radiograph, not_analysed_reason=not_analysed_reason)


@pytest.mark.parametrize(
    ("error", "status"),
    [(Transient("locked"), 0xA700), (OSError(28, "full"), 0xA700), (OSError(5, "io"), 0x0110), (KeyError("x"), 0x0110)],
)
def test_nothing_is_acknowledged_that_is_not_in_the_ledger(tmp_path: Path, error: Exception, status: int) -> None:
    """An error of the ledger becomes its status, no success; afterwards the same object is stored."""
    with running_scp(tmp_path / "node", ledger=FailingLedger) as node, node.connect() as caller:
        ds = film()
        FailingLedger.error = error
        try:
            assert caller.store(encoded(ds), ds.SOPInstanceUID) == status
        finally:
            FailingLedger.error = None
        assert node.spool_files() == []
        assert caller.store(encoded(ds), ds.SOPInstanceUID) == 0x0000


class FailingPublisher(FakePublisher):
    """A broker that is away: each message takes long, and then raises."""

    def publish(self, uid: str) -> bool:
        super().publish(uid)
        time.sleep(0.5)
        raise ConnectionError("away")


def test_a_failing_publisher_changes_no_status_and_delays_none(tmp_path: Path) -> None:
    """0x0000 is answered while the publisher is still trying, and for the next object too."""
    with running_scp(tmp_path / "node", publisher=FailingPublisher()) as node, node.connect() as caller:
        objects = [film(seed=seed) for seed in range(8)]
        for ds in objects:
            assert caller.store(encoded(ds), ds.SOPInstanceUID) == 0x0000
        assert len(node.publisher.published) < len(objects)
        assert wait_until(lambda: len(node.publisher.published) == len(objects))


@given(st.binary(max_size=300), st.sampled_from([str(uid) for uid in TRANSFER_SYNTAXES]))
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_accepted_or_refused_by_the_identity_check(head: bytes, syntax: str) -> None:
    """Whatever a data set begins with, no other error is raised."""
    try:
        check_identity(head, transfer_syntax_uid=syntax, sop_class_uid=DX, sop_instance_uid="1.2.3")
    except Refused as refusal:
        assert refusal.status in (statuses.MISMATCH, statuses.CANNOT_UNDERSTAND)


def test_an_identity_beyond_the_head_is_left_to_the_worker() -> None:
    """Elements of undefined length before the UIDs, and a beginning that is very long, are no reason to refuse."""
    sequence = b"\x08\0\x06\0SQ\0\0\xff\xff\xff\xff" + b"\xfe\xff\xdd\xe0\0\0\0\0"
    long = b"\x08\0\x05\0CS\x0a\0ISO_IR 100" + b"\x08\0\x08\0CS\xf0\xff"
    for head in (sequence, (long + bytes(70000))[:16384]):
        check_identity(head, transfer_syntax_uid=EXPLICIT, sop_class_uid=DX, sop_instance_uid="1.2.3")


# Admission


def test_only_known_sources_are_accepted_when_so_set(tmp_path: Path) -> None:
    """AE title and address must both be a source's; the refusal is logged with both titles and the host."""
    sources = (
        {"name": "room", "ae_title": "ROOM1", "host": "localhost"},
        {"name": "far", "ae_title": "FAR", "host": "192.0.2.1"},
    )
    with (
        running_scp(tmp_path / "node", known_sources_only=True, source=sources) as node,
        structlog.testing.capture_logs() as logs,
    ):
        assert RawScu(node.port, calling="ROOM1").associate()[0] == 2
        for unknown in ("ROOM2", "FAR", "room1"):
            assert RawScu(node.port, calling=unknown).associate() == (3, bytes([0, 1, 1, 3]))
    refusals = [line for line in logs if line["event"] == "association_refused"]
    assert [line["calling_ae_title"] for line in refusals] == ["ROOM2", "FAR", "room1"]
    assert {(line["called_ae_title"], line["host"], line["reason"]) for line in refusals} == {
        ("GENU", HOST, "unknown_source")
    }


def test_another_called_ae_title_is_refused_when_so_set(tmp_path: Path) -> None:
    """Called AE title not recognised; without the setting any title is accepted."""
    with running_scp(tmp_path / "node", check_called_ae_title=True) as node:
        assert RawScu(node.port, called="OTHER").associate() == (3, bytes([0, 1, 1, 7]))
        assert RawScu(node.port).associate()[0] == 2
    with running_scp(tmp_path / "other") as node:
        assert RawScu(node.port, called="OTHER").associate()[0] == 2


def test_an_association_without_accepted_context_is_logged(node: RunningScp) -> None:
    """The log line names the sender and the SOP classes that it proposed."""
    ct = "1.2.840.10008.5.1.4.1.1.2"
    with structlog.testing.capture_logs() as logs:
        caller = node.connect(contexts=[(1, ct, [EXPLICIT])], calling="CTROOM")
        assert caller.associate()[0] == 2
        assert wait_until(lambda: any(line["event"] == "association_refused" for line in logs))
        caller.close()
    (line,) = [line for line in logs if line["event"] == "association_refused"]
    assert (line["calling_ae_title"], line["reason"], line["detail"]) == ("CTROOM", "no_context", ct)


def test_over_the_limit_an_association_is_refused_for_now(tmp_path: Path) -> None:
    """Transient, local limit exceeded; as soon as one ends another is accepted."""
    with running_scp(tmp_path / "node", max_associations=2) as node:
        first, second, third = (node.connect() for _ in range(3))
        assert first.associate()[0] == second.associate()[0] == 2
        assert third.associate() == (3, bytes([0, 2, 3, 2]))
        first.release()
        assert wait_until(lambda: node.connect().associate()[0] == 2)


def test_a_port_in_use_is_a_clear_error(node: RunningScp, tmp_path: Path) -> None:
    """A second SCP on the port does not start, and its error names the port."""
    with pytest.raises(GenuError, match=f"port {node.port}"), running_scp(tmp_path / "second", port=node.port):
        pass


# What is reported


def test_the_heartbeat_reports_the_counters(tmp_path: Path) -> None:
    """The ledger's parts have the counters of the SCP: stored, refused, bytes, associations."""
    ds = film()
    with running_scp(tmp_path / "node") as node, node.connect() as caller:
        caller.store(encoded(ds), ds.SOPInstanceUID)
        caller.store(b"", ds.SOPInstanceUID)
        node.scp._stopped.set()
        node.scp._heartbeat_thread.join()
        node.scp._run_heartbeat()
        (beat,) = node.ledger.heartbeats()
    assert beat.process == "receive"
    assert beat.detail["received"] == {"new": 1}
    assert beat.detail["statuses"] == {"0000": 1, "C000": 1}
    assert beat.detail["received_bytes"] == node.stored_files()[0].stat().st_size
    assert beat.detail["associations_active"] == beat.detail["associations_accepted"] == 1


def test_no_log_line_names_a_patient(tmp_path: Path) -> None:
    """Stores that succeed, fail and are aborted leave UIDs in the log and no patient data."""
    with structlog.testing.capture_logs() as logs, running_scp(tmp_path / "node") as node:
        ds = film()
        with node.connect() as caller:
            caller.store(encoded(ds), ds.SOPInstanceUID)
            caller.store(encoded(ds), generate_uid())
            caller.store(encoded(ds), CANARY)
            caller.announce(generate_uid())
            caller.send(data(encoded(ds), header=0))
        assert wait_until(lambda: node.spool_files() == [])
    assert {line["event"] for line in logs} >= {"received", "store_refused"}
    assert CANARY not in repr(logs) and "P-CANARY" not in repr(logs)


# Start and end


def test_files_of_a_crash_are_swept_at_the_start(tmp_path: Path) -> None:
    """An old temporary file in the spool is deleted at the start; a young one may be in use and stays."""
    with running_scp(tmp_path / "node") as node:
        old, young = node.vault.spool / "arrival-old.part", node.vault.spool / "arrival-young.part"
        for path in (old, young):
            path.write_bytes(b"x")
        os.utime(old, (1, 1))
    with running_scp(tmp_path / "node") as node:
        assert node.spool_files() == [young]


def test_a_store_in_progress_is_finished_before_the_end(tmp_path: Path) -> None:
    """stop() waits for the rest of an object, stores and acknowledges it, and then accepts no more."""
    with running_scp(tmp_path / "node") as node:
        ds, idle = film(), node.connect()
        content = encoded(ds)
        assert idle.associate()[0] == 2
        with node.connect() as caller:
            caller.announce(ds.SOPInstanceUID)
            caller.send(data(content[:1000], header=0))
            assert wait_until(node.spool_files)
            stopping = threading.Thread(target=node.scp.stop)
            stopping.start()
            assert idle.is_aborted()
            caller.send(data_set(content[1000:]))
            assert caller.status() == 0x0000
            assert caller.is_aborted()
            stopping.join()
        assert node.ledger.find(ds.SOPInstanceUID) is not None
        with pytest.raises(ConnectionRefusedError):
            node.connect()


def test_a_slow_sender_does_not_delay_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the grace period its object is discarded, and nothing of it is left."""
    monkeypatch.setattr("node.receive.scp._GRACE_SECONDS", 0.5)
    with running_scp(tmp_path / "node") as node, node.connect() as caller:
        caller.announce(generate_uid())
        caller.send(data(bytes(1000), header=0))
        assert wait_until(node.spool_files)
        node.scp.stop()
        assert node.spool_files() == []
        assert caller.is_aborted()


def test_what_was_acknowledged_survives_kill_9(tmp_path: Path) -> None:
    """At whatever moment the SCP dies: every acknowledged object and every stored file is complete."""
    served = ScpProcess(tmp_path / "node")
    acknowledged: dict[str, bytes] = {}
    for round_ in range(5):
        served.start()
        senders = [threading.Thread(target=send_until_closed, args=(served.port, acknowledged)) for _ in range(2)]
        for sender in senders:
            sender.start()
        goal = len(acknowledged) + 3 + 5 * round_
        assert wait_until(lambda goal=goal: len(acknowledged) >= goal)
        served.kill()
        for sender in senders:
            sender.join()
    with running_scp(tmp_path / "node") as node:
        for uid, content in acknowledged.items():
            entry = node.ledger.find(uid)
            assert entry is not None
            assert data_set_of(node.vault.radiograph_path(entry.sha256)) == content
        for path in node.stored_files():
            assert sha256(data_set_of(path)) == path.stem


def send_until_closed(port: int, acknowledged: dict[str, bytes]) -> None:
    try:
        with RawScu(port) as caller:
            while True:
                ds = film(side=300)
                content = encoded(ds)
                if caller.store(content, ds.SOPInstanceUID) == 0x0000:
                    acknowledged[ds.SOPInstanceUID] = content
    except (OSError, AssertionError):
        return


@pytest.mark.skipif(not MALFORMED.is_dir(), reason="no ../shared/data/malformed beside the checkout")
def test_no_malformed_object_ends_the_scp(node: RunningScp) -> None:
    """Every object of the corpus gets a response or an abort, and the SCP serves on."""
    files = [path for path in sorted(MALFORMED.rglob("*")) if path.is_file()]
    assert len(files) > 300
    answered, caller = [], None
    for path in files:
        # They are CT; as CR (the UIDs have the same length) they pass more checks.
        content = path.read_bytes().replace(b"1.2.840.10008.5.1.4.1.1.2\0", b"1.2.840.10008.5.1.4.1.1.1\0")
        begin = max(content.find(b"\x08\0", 132), 0) if content[128:132] == b"DICM" else 0
        for _ in range(2):
            try:
                caller = caller or node.connect(contexts=[(1, CR, [EXPLICIT])]).__enter__()
                answered.append(caller.store(content[begin:], own_uid(content), sop_class=CR))
                break
            except (OSError, AssertionError):
                caller = None
    assert len(answered) > len(files) / 2
    assert answered.count(0x0000) > 100
    assert node.answers_echo()
    assert node.spool_files() == []


def own_uid(content: bytes) -> str:
    """The SOP Instance UID at its tag in explicit VR, or a new one."""
    at = content.find(b"\x08\0\x18\0UI")
    return content[at + 8 : at + 8 + content[at + 6]].rstrip(b"\0 ").decode("latin-1") if at >= 0 else generate_uid()
