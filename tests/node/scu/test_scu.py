"""What `genu echo` and `genu send` do, and say: every failure is a sentence with what, where and what to do."""

import gc
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pydicom
import pytest
from pydicom.uid import (
    Comprehensive3DSRStorage,
    ExplicitVRBigEndian,
    RLELossless,
    SecondaryCaptureImageStorage,
)
from pynetdicom import AE, _config, evt
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from node.scu import VERIFICATION, Declined, Lost, Unreachable, echo, linked, parcel, peer, send
from node.scu.errors import no_connection, not_stored, rejected
from node.settings import Deliver, Destination, Tls
from tests.peers.archives import HOST, Certificates, certificates, free_port, needs, orthanc, storescp, wait_until
from tests.peers.faulty import archive, relay, silence
from tests.samples.pending_deliveries import encoded, instance

QUICK = Deliver(connect_seconds=2, response_seconds=2)


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """An SC and an SR on disk."""
    paths = [tmp_path / "sc.dcm", tmp_path / "sr.dcm"]
    for kind, path in zip(("SC", "SR"), paths, strict=True):
        path.write_bytes(encoded(instance(kind)))
    return paths


def uid_of(path: Path) -> str:
    return str(pydicom.dcmread(path).SOPInstanceUID)


def named(port: int, ae_title: str = "ORTHANC") -> Destination:
    return Destination(name="pacs", host=HOST, port=port, ae_title=ae_title)


@needs("storescp", "Orthanc")
def test_real_peers_answer_an_echo_and_take_files(tmp_path: Path, files: list[Path]) -> None:
    """Both peers answer; every file is stored with status 0000, unchanged, and said to be."""
    with storescp(tmp_path / "a") as one, orthanc(tmp_path / "b") as other:
        for each in (one, other):
            echo(peer(each.host, each.port, each.ae_title))
            rows = list(send(files, peer(each.host, each.port, each.ae_title)))
            assert [(row.file, row.status, row.stored, row.error) for row in rows] == [(f, 0, True, "") for f in files]
            assert [row.sop_instance_uid for row in rows] == [uid_of(file) for file in files]
            assert each.received().keys() == {uid_of(file) for file in files}
        assert pydicom.dcmread(one.received()[uid_of(files[0])]) == pydicom.dcmread(files[0])


@needs("storescp")
def test_files_go_out_in_the_transfer_syntax_they_lie_in(tmp_path: Path) -> None:
    """RLE and big endian arrive as such, the bytes of their pixels untouched."""
    paths = []
    for syntax in (RLELossless, ExplicitVRBigEndian):
        dataset = instance("SC")
        if syntax == RLELossless:
            dataset.compress(RLELossless)
        else:
            dataset.file_meta.TransferSyntaxUID = syntax
        paths.append(tmp_path / f"{syntax}.dcm")
        dataset.save_as(paths[-1], enforce_file_format=True, **_encoding(syntax))
    with storescp(tmp_path / "peer", "+xa") as there:
        assert all(row.stored for row in send(paths, peer(there.host, there.port, there.ae_title)))
        for path in paths:
            received = pydicom.dcmread(there.received()[uid_of(path)])
            assert received.file_meta.TransferSyntaxUID == pydicom.dcmread(path).file_meta.TransferSyntaxUID
            assert received.PixelData == pydicom.dcmread(path).PixelData


def _encoding(syntax: str) -> dict[str, bool]:
    return {} if syntax == RLELossless else {"implicit_vr": False, "little_endian": False}


def test_more_kinds_than_one_association_can_carry_are_sent_in_several(tmp_path: Path) -> None:
    """130 SOP classes need two associations; all 130 files are stored."""
    classes = [f"1.2.826.0.1.3680043.8.498.1.{number}" for number in range(1, 131)]
    paths = []
    for sop_class in classes:
        paths.append(tmp_path / f"{sop_class}.dcm")
        paths[-1].write_bytes(encoded(instance("SR", sop_class=sop_class)))
    stored: list[str] = []
    with archive() as there, relay(there.port) as line:
        # The archive itself can list only 128 kinds, so it takes whatever is proposed.
        with _takes_everything():
            stored = [row.sop_instance_uid for row in send(paths, peer(HOST, line.port, "ARCHIVE")) if row.stored]
        assert line.connections == 2
        assert sorted(there.stored) == sorted(stored) == sorted(uid_of(path) for path in paths)


@contextmanager
def _takes_everything() -> Iterator[None]:
    _config.UNRESTRICTED_STORAGE_SERVICE = True
    try:
        yield
    finally:
        _config.UNRESTRICTED_STORAGE_SERVICE = False


def test_nobody_listens(files: list[Path]) -> None:
    """Echo raises and every file is told: refused, where, and what to check."""
    there = named(free_port())
    with pytest.raises(Unreachable) as raised:
        echo(there)
    assert str(raised.value) == (
        f"destination pacs (ORTHANC at {HOST}:{there.port}) refuses the connection"
        " (nothing listens there: start it, or check [[destination]] port)"
    )
    rows = list(send(files, there))
    assert [row.stored for row in rows] == [False, False]
    assert {row.error for row in rows} == {str(raised.value)}


def test_an_unknown_host_is_called_so() -> None:
    """A host name that does not exist is told as that, not as a dead archive."""
    with pytest.raises(Unreachable, match=r"unknown host name.*check \[\[destination\]\] host, and the DNS"):
        echo(peer("no-such-host.invalid", 104, "ORTHANC"))


def test_a_port_that_takes_connections_and_says_nothing() -> None:
    """Somebody listens who talks no DICOM, or hangs."""
    with silence() as port, pytest.raises(Unreachable, match=r"did not answer the association within 0.3 s"):
        echo(named(port), Deliver(connect_seconds=0.3))


def test_a_host_that_swallows_packets() -> None:
    """A connection that is never taken is given up after connect_seconds."""
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        crowd = [socket.socket() for _ in range(4)]
        for each in crowd:
            each.setblocking(False)
            each.connect_ex((HOST, port))  # the backlog is full now: further packets are dropped
        with pytest.raises(Unreachable, match=r"does not answer the connection within 0.5 s.*firewall"):
            echo(named(port), Deliver(connect_seconds=0.5))
        for each in crowd:
            each.close()


@needs("Orthanc")
def test_a_real_peer_that_does_not_know_its_called_ae_title(tmp_path: Path, files: list[Path]) -> None:
    """Orthanc, told to check, rejects; the sentence names the title that was called and the setting."""
    with orthanc(tmp_path, configuration={"DicomCheckCalledAet": True}) as there:
        wrong = Destination(name="pacs", host=HOST, port=there.port, ae_title="WRONG")
        with pytest.raises(Unreachable) as raised:
            echo(wrong)
        assert str(raised.value).startswith(
            f"destination pacs (WRONG at {HOST}:{there.port}) rejected the association: "
        )
        assert "called AE title not recognised" in str(raised.value)
        assert "check [[destination]] ae_title" in str(raised.value)
        assert all("rejected the association" in row.error for row in send(files, wrong))


@needs("Orthanc")
def test_a_real_peer_that_does_not_know_us(tmp_path: Path) -> None:
    """Orthanc that serves only its own modalities rejects a stranger; the sentence names the title to add there."""
    closed = {"DicomAlwaysAllowStore": False, "DicomAlwaysAllowEcho": False}
    with orthanc(tmp_path, configuration=closed) as there, pytest.raises(Unreachable) as raised:
        echo(named(there.port))
    assert "calling AE title not recognised" in str(raised.value)
    assert "add GENU there" in str(raised.value)


@needs("storescp")
def test_a_rejection_is_never_taken_for_silence(tmp_path: Path) -> None:
    """However quickly the peer hangs up after its no, the no is what is told."""
    with storescp(tmp_path, "--refuse") as there:
        for _ in range(100):
            with pytest.raises(Unreachable, match="rejected the association"):
                echo(peer(there.host, there.port, there.ae_title), QUICK)


def test_the_table_of_rejections_says_what_to_do() -> None:
    """PS3.8 table 9-21: calling title, congestion, limit; and an unknown reason is no crash."""
    there = Destination(name="pacs", host="h", port=104, ae_title="PACS", calling_ae_title="KNEES")
    assert "add KNEES there" in str(rejected(there, 1, 1, 3))
    assert "temporary congestion (transient" in str(rejected(there, 2, 3, 1))
    assert "local limit exceeded" in str(rejected(there, 2, 3, 2))
    assert "reserved reason" in str(rejected(there, 1, 9, 9))


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (0xA702, "A702H, out of resources"),
        (0xA9FF, "A9FFH, data set does not match SOP class"),
        (0xC001, "C001H, cannot understand"),
        (0x0111, "0111H, it has an object of this UID already"),
        (0x0124, "0124H, not authorised"),
        (0x4711, "4711H, a status that no table of DICOM has"),
    ],
)
def test_every_status_is_told_in_words(status: int, said: str) -> None:
    """The number is there for the archive's people, the meaning for everyone."""
    complaint = not_stored(named(104), status)
    assert said in str(complaint)
    assert complaint.status == status
    assert complaint.hint


def test_a_failing_file_does_not_end_the_others(files: list[Path]) -> None:
    """The first is declined with A700; the second is stored in the same association."""
    refused = uid_of(files[0])
    with archive(lambda uid: 0xA700 if uid == refused else 0) as there, relay(there.port) as line:
        rows = list(send(files, peer(HOST, line.port, "ARCHIVE")))
        assert [(row.status, row.stored) for row in rows] == [(0xA700, False), (0, True)]
        assert line.connections == 1


def test_a_broken_association_is_replaced_for_what_is_left(files: list[Path]) -> None:
    """The first file breaks the association; the second goes over a new one, and both are told."""
    poisoned = uid_of(files[0])
    with archive(lambda uid: -1 if uid == poisoned else 0) as there:
        rows = list(send(files, peer(HOST, there.port, "ARCHIVE"), QUICK))
    assert [(row.file, row.stored) for row in rows] == [(files[0], False), (files[1], True)]
    assert "broke the association off while an object was on the wire" in rows[0].error


def test_a_kind_that_is_not_taken_is_named(tmp_path: Path, files: list[Path]) -> None:
    """A refused Comprehensive 3D SR is told with its name and with the setting that avoids it."""
    report = tmp_path / "3d.dcm"
    report.write_bytes(encoded(instance("SR", sop_class=Comprehensive3DSRStorage)))
    with archive(classes=[SecondaryCaptureImageStorage]) as there:
        rows = list(send([report, files[0]], peer(HOST, there.port, "ARCHIVE")))
    assert [row.stored for row in rows] == [False, True]
    assert "does not take Comprehensive 3D SR Storage" in rows[0].error
    assert '[work] sr_class = "comprehensive"' in rows[0].error


def test_a_file_that_is_no_dicom_is_told_and_the_others_go(tmp_path: Path, files: list[Path]) -> None:
    """Text, an empty file, a half preamble, an absent one and a folder: each is told, none raises."""
    bad = [tmp_path / name for name in ("text", "empty", "half", "absent", "folder")]
    bad[0].write_text("no DICOM " * 100)
    bad[1].write_bytes(b"")
    bad[2].write_bytes(b"\0" * 128 + b"DICM")
    bad[4].mkdir()
    with archive() as there:
        rows = list(send([*bad, *files], peer(HOST, there.port, "ARCHIVE")))
    assert [row.file for row in rows if not row.stored] == bad
    assert [row.file for row in rows if row.stored] == files
    assert all(row.error for row in rows if not row.stored)


def test_a_peer_without_verification_is_told_so() -> None:
    """An echo that is not taken is no dead destination: Declined."""
    ae = AE(ae_title="ARCHIVE")
    ae.add_supported_context(SecondaryCaptureImageStorage)
    server = ae.start_server((HOST, 0), block=False)
    assert server is not None
    try:
        with pytest.raises(Declined, match=r"does not take Verification"):
            echo(peer(HOST, server.socket.getsockname()[1], "ARCHIVE"))
    finally:
        server.shutdown()


def test_an_echo_that_is_answered_with_an_error_is_told() -> None:
    """A C-ECHO status other than success is not taken for success."""
    ae = AE(ae_title="ARCHIVE")
    ae.add_supported_context(Verification)
    server = ae.start_server((HOST, 0), block=False, evt_handlers=[(evt.EVT_C_ECHO, lambda event: 0x0122)])
    assert server is not None
    try:
        with pytest.raises(Declined, match=r"0122H"):
            echo(peer(HOST, server.socket.getsockname()[1], "ARCHIVE"))
    finally:
        server.shutdown()


def test_the_wire_does_not_wait_for_more_to_send() -> None:
    """TCP_NODELAY is set and the socket has a deadline, on a connection that really stands."""
    with archive() as there, linked(peer(HOST, there.port, "ARCHIVE"), [VERIFICATION], QUICK) as link:
        assert link._caller.wire is not None
        wire = link._caller.wire.socket
        assert wire is not None
        assert wire.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert wire.gettimeout() == QUICK.response_seconds


def test_nobody_else_takes_the_answer_away(files: list[Path]) -> None:
    """The thread of pynetdicom that may read an answer before `send_c_store` does is not there."""
    with archive() as there, linked(peer(HOST, there.port, "ARCHIVE"), [parcel(files[0]).context], QUICK) as link:
        assert link.store(parcel(files[0])) == 0
        assert link._association is not None
        assert not link._association.is_alive()
        assert link._association.dul.daemon


@pytest.mark.parametrize("end", ["abort", "release", "cut"])
def test_a_peer_that_ends_the_association_between_two_objects_is_noticed(end: str, files: list[Path]) -> None:
    """The next object is Lost at once, and may go over a new association."""
    patient = Deliver(connect_seconds=300, response_seconds=300)
    one, other = (parcel(file) for file in files)
    with archive() as there, relay(there.port) as line:
        with linked(peer(HOST, line.port, "ARCHIVE"), [one.context, other.context], patient) as link:
            assert link.store(one) == 0
            assert there.association is not None
            if end == "cut":
                line.close()
            else:
                threading.Thread(target=getattr(there.association, end), daemon=True).start()
            assert link._association is not None
            assert wait_until(lambda: link._association.dul.peek_next_pdu() is not None)
            with pytest.raises(Lost):
                link.store(other)
        assert list(send(files, peer(HOST, line.port, "ARCHIVE")))[1].stored


@needs("storescp")
@pytest.mark.parametrize("answer", ["refused connection", "closes at once", "silence", "rejects"])
def test_days_of_failures_leave_no_socket_and_no_thread(answer: str, files: list[Path], tmp_path: Path) -> None:
    """A destination that is away for days is called thousands of times; each call cleans up after itself."""
    with ExitStack() as peers:
        port = {
            "refused connection": free_port,
            "closes at once": lambda: peers.enter_context(relay(free_port())).port,
            "silence": lambda: peers.enter_context(silence()),
            "rejects": lambda: peers.enter_context(storescp(tmp_path / "peer", "--refuse")).port,
        }[answer]()
        gc.collect()
        gc.disable()  # what only the garbage collector would close counts as left open
        try:
            before = None
            for _ in range(6):
                list(send(files, peer(HOST, port, "ARCHIVE"), Deliver(connect_seconds=0.1, response_seconds=0.1)))
                assert wait_until(lambda: before is None or _held() <= before)  # noqa: B023
                before = before or _held()
        finally:
            gc.enable()


def _held() -> tuple[int, int]:
    return threading.active_count(), len(list(Path("/proc/self/fd").iterdir()))


# TLS


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return certificates(tmp_path_factory.mktemp("tls"), "genu")


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return certificates(tmp_path_factory.mktemp("tls"), "pacs")


def secured(port: int, shown: Certificates, trusted: Path | None) -> Destination:
    tls = Tls(certificate=shown.certificate, key=shown.key, ca=trusted)
    return Destination(name="pacs", host=HOST, port=port, ae_title="STORESCP", tls=tls)


def speaks_tls(their: Certificates, trusted: Path) -> tuple[str, ...]:
    return ("+tls", str(their.key), str(their.certificate), "+cf", str(trusted))


@needs("storescp", "openssl")
def test_tls_with_certificates_on_both_sides(
    tmp_path: Path, files: list[Path], ours: Certificates, theirs: Certificates
) -> None:
    """storescp asks for our certificate and shows its own; both are checked and the files arrive."""
    with storescp(tmp_path, *speaks_tls(theirs, ours.ca)) as there:
        echo(secured(there.port, ours, theirs.ca))
        assert all(row.stored for row in send(files, secured(there.port, ours, theirs.ca)))
        assert there.received().keys() == {uid_of(file) for file in files}


@needs("storescp", "openssl")
def test_tls_failures_are_told_apart(tmp_path: Path, ours: Certificates, theirs: Certificates) -> None:
    """A certificate we do not trust, one of ours that they do not trust, and TLS against a plain port."""
    with storescp(tmp_path / "a", *speaks_tls(theirs, ours.ca)) as there:
        with pytest.raises(Unreachable, match=r"certificate that is not trusted.*check \[\[destination\]\] tls.ca"):
            echo(secured(there.port, ours, ours.ca), QUICK)
        with pytest.raises(Unreachable, match=r"certificate that is not trusted"):
            echo(secured(there.port, ours, None), QUICK)
        with pytest.raises(Unreachable, match=r"not trust Genu's certificate|certificates of both sides|speak TLS"):
            echo(secured(there.port, theirs, theirs.ca), QUICK)
        with silence() as port, pytest.raises(Unreachable, match=r"does not answer the connection within 0.3 s"):
            echo(secured(port, ours, theirs.ca), Deliver(connect_seconds=0.3))
        with pytest.raises(Unreachable, match=r"may want TLS"):
            echo(Destination(name="pacs", host=HOST, port=there.port, ae_title="STORESCP"), QUICK)
    with storescp(tmp_path / "b") as there, pytest.raises(Unreachable, match=r"speak TLS"):
        echo(secured(there.port, ours, theirs.ca), QUICK)


@needs("openssl")
def test_a_certificate_that_cannot_be_read_is_told(tmp_path: Path, ours: Certificates) -> None:
    """A wrong path in the settings is a sentence, not a trace."""
    tls = Tls(certificate=tmp_path / "absent.pem", key=ours.key)
    with pytest.raises(Unreachable, match=r"No such file"):
        echo(Destination(name="pacs", host=HOST, port=free_port(), ae_title="X", tls=tls))


def test_every_socket_error_becomes_a_sentence() -> None:
    """Also those that no test can make on loopback."""
    for error in (OSError(113, "No route to host"), ConnectionResetError(), ssl.SSLEOFError(), TimeoutError()):
        told = str(no_connection(named(104), error, 10))
        assert told.startswith("destination pacs (ORTHANC at 127.0.0.1:104) ")
        assert told.endswith(")")
    assert issubclass(Lost, Unreachable)
