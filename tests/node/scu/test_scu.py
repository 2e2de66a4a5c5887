"""What `genu echo` and `genu send` do: every failure has a message with what happened, where and what to do."""

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

from node.scu import (
    VERIFICATION,
    DestinationUnavailable,
    NoResponse,
    RequestRejected,
    adhoc_destination,
    echo,
    open_association,
    send,
    sendable_instance,
)
from node.scu.errors import association_rejected, connection_failed, failure_status
from node.settings import Deliver, Destination, Tls
from tests.peers.archives import HOST, Certificates, certificates, free_port, needs, orthanc, storescp, wait_until
from tests.peers.faulty import archive, relay, silent_port
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


def pacs(port: int, ae_title: str = "ORTHANC") -> Destination:
    return Destination(name="pacs", host=HOST, port=port, ae_title=ae_title)


@needs("storescp", "Orthanc")
def test_real_peers_answer_an_echo_and_take_files(tmp_path: Path, files: list[Path]) -> None:
    """Both peers answer; every file is stored with status 0000, unchanged, and its result says so."""
    with storescp(tmp_path / "a") as one, orthanc(tmp_path / "b") as other:
        for scp in (one, other):
            echo(adhoc_destination(scp.host, scp.port, scp.ae_title))
            rows = list(send(files, adhoc_destination(scp.host, scp.port, scp.ae_title)))
            assert [(row.file, row.status, row.stored, row.error) for row in rows] == [(f, 0, True, "") for f in files]
            assert [row.sop_instance_uid for row in rows] == [uid_of(file) for file in files]
            assert scp.received().keys() == {uid_of(file) for file in files}
        assert pydicom.dcmread(one.received()[uid_of(files[0])]) == pydicom.dcmread(files[0])


@needs("storescp")
def test_files_are_sent_in_the_transfer_syntax_that_they_have_on_disk(tmp_path: Path) -> None:
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
        assert all(row.stored for row in send(paths, adhoc_destination(there.host, there.port, there.ae_title)))
        for path in paths:
            received = pydicom.dcmread(there.received()[uid_of(path)])
            assert received.file_meta.TransferSyntaxUID == pydicom.dcmread(path).file_meta.TransferSyntaxUID
            assert received.PixelData == pydicom.dcmread(path).PixelData


def _encoding(syntax: str) -> dict[str, bool]:
    return {} if syntax == RLELossless else {"implicit_vr": False, "little_endian": False}


def test_more_contexts_than_one_association_can_have_are_sent_over_several(tmp_path: Path) -> None:
    """130 SOP classes need two associations; all 130 files are stored."""
    classes = [f"1.2.826.0.1.3680043.8.498.1.{number}" for number in range(1, 131)]
    paths = []
    for sop_class in classes:
        paths.append(tmp_path / f"{sop_class}.dcm")
        paths[-1].write_bytes(encoded(instance("SR", sop_class=sop_class)))
    stored: list[str] = []
    with archive() as there, relay(there.port) as proxy:
        # The archive itself can list only 128 kinds, so it accepts whatever is proposed.
        with _accepts_every_context():
            stored = [
                row.sop_instance_uid
                for row in send(paths, adhoc_destination(HOST, proxy.port, "ARCHIVE"))
                if row.stored
            ]
        assert proxy.connections == 2
        assert sorted(there.stored) == sorted(stored) == sorted(uid_of(path) for path in paths)


@contextmanager
def _accepts_every_context() -> Iterator[None]:
    _config.UNRESTRICTED_STORAGE_SERVICE = True
    try:
        yield
    finally:
        _config.UNRESTRICTED_STORAGE_SERVICE = False


def test_a_closed_port_is_reported(files: list[Path]) -> None:
    """Echo raises and every file has the error: refused, where, and what to check."""
    there = pacs(free_port())
    with pytest.raises(DestinationUnavailable) as raised:
        echo(there)
    assert str(raised.value) == (
        f"destination pacs (ORTHANC at {HOST}:{there.port}) refuses the connection"
        " (nothing listens there: start it, or check [[destination]] port)"
    )
    rows = list(send(files, there))
    assert [row.stored for row in rows] == [False, False]
    assert {row.error for row in rows} == {str(raised.value)}


def test_an_unknown_host_is_reported() -> None:
    """A host name that does not exist is reported as that, not as an archive that is down."""
    with pytest.raises(DestinationUnavailable, match=r"unknown host name.*check \[\[destination\]\] host, and the DNS"):
        echo(adhoc_destination("no-such-host.invalid", 104, "ORTHANC"))


def test_a_port_that_accepts_connections_and_sends_nothing() -> None:
    """A program listens that does not use DICOM, or hangs."""
    with (
        silent_port() as port,
        pytest.raises(DestinationUnavailable, match=r"did not answer the association request within 0.3 s"),
    ):
        echo(pacs(port), Deliver(connect_seconds=0.3))


def test_a_host_that_drops_packets() -> None:
    """A connection that is never accepted fails after connect_seconds."""
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        backlog = [socket.socket() for _ in range(4)]
        for connection in backlog:
            connection.setblocking(False)
            connection.connect_ex((HOST, port))  # the backlog is full now: further packets are dropped
        with pytest.raises(DestinationUnavailable, match=r"does not answer the connection within 0.5 s.*firewall"):
            echo(pacs(port), Deliver(connect_seconds=0.5))
        for connection in backlog:
            connection.close()


@needs("Orthanc")
def test_a_real_peer_rejects_an_unknown_called_ae_title(tmp_path: Path, files: list[Path]) -> None:
    """Orthanc, configured to check, rejects; the message names the called title and the setting."""
    with orthanc(tmp_path, configuration={"DicomCheckCalledAet": True}) as there:
        wrong = Destination(name="pacs", host=HOST, port=there.port, ae_title="WRONG")
        with pytest.raises(DestinationUnavailable) as raised:
            echo(wrong)
        assert str(raised.value).startswith(
            f"destination pacs (WRONG at {HOST}:{there.port}) rejected the association: "
        )
        assert "called AE title not recognised" in str(raised.value)
        assert "check [[destination]] ae_title" in str(raised.value)
        assert all("rejected the association" in row.error for row in send(files, wrong))


@needs("Orthanc")
def test_a_real_peer_rejects_an_unknown_calling_ae_title(tmp_path: Path) -> None:
    """Orthanc that serves only its own modalities rejects others; the message names the title to add there."""
    closed = {"DicomAlwaysAllowStore": False, "DicomAlwaysAllowEcho": False}
    with orthanc(tmp_path, configuration=closed) as there, pytest.raises(DestinationUnavailable) as raised:
        echo(pacs(there.port))
    assert "calling AE title not recognised" in str(raised.value)
    assert "add GENU there" in str(raised.value)


@needs("storescp")
def test_a_rejection_is_never_reported_as_a_timeout(tmp_path: Path) -> None:
    """However quickly the peer closes the connection after its rejection, the rejection is reported."""
    with storescp(tmp_path, "--refuse") as there:
        for _ in range(100):
            with pytest.raises(DestinationUnavailable, match="rejected the association"):
                echo(adhoc_destination(there.host, there.port, there.ae_title), QUICK)


def test_every_rejection_has_advice() -> None:
    """PS3.8 table 9-21: calling title, congestion, limit; and an unknown reason is no crash."""
    there = Destination(name="pacs", host="h", port=104, ae_title="PACS", calling_ae_title="KNEES")
    assert "add KNEES there" in str(association_rejected(there, 1, 1, 3))
    assert "temporary congestion (transient" in str(association_rejected(there, 2, 3, 1))
    assert "local limit exceeded" in str(association_rejected(there, 2, 3, 2))
    assert "reserved reason" in str(association_rejected(there, 1, 9, 9))


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (0xA702, "A702H, out of resources"),
        (0xA9FF, "A9FFH, data set does not match SOP class"),
        (0xC001, "C001H, cannot understand"),
        (0x0111, "0111H, it already has an object with this UID"),
        (0x0124, "0124H, not authorised"),
        (0x4711, "4711H, a status that DICOM does not define"),
    ],
)
def test_every_status_has_its_meaning_in_the_message(status: int, message: str) -> None:
    """The number is for the archive's administrators, the meaning for everyone."""
    error = failure_status(pacs(104), status)
    assert message in str(error)
    assert error.status == status
    assert error.hint


def test_a_failing_file_does_not_stop_the_others(files: list[Path]) -> None:
    """The first is answered with A700; the second is stored in the same association."""
    refused = uid_of(files[0])
    with archive(lambda uid: 0xA700 if uid == refused else 0) as there, relay(there.port) as proxy:
        rows = list(send(files, adhoc_destination(HOST, proxy.port, "ARCHIVE")))
        assert [(row.status, row.stored) for row in rows] == [(0xA700, False), (0, True)]
        assert proxy.connections == 1


def test_a_broken_association_is_replaced_for_the_remaining_files(files: list[Path]) -> None:
    """The first file breaks the association; the second is sent over a new one, and both have a result."""
    breaking = uid_of(files[0])
    with archive(lambda uid: -1 if uid == breaking else 0) as there:
        rows = list(send(files, adhoc_destination(HOST, there.port, "ARCHIVE"), QUICK))
    assert [(row.file, row.stored) for row in rows] == [(files[0], False), (files[1], True)]
    assert "closed the connection without a response" in rows[0].error


def test_a_rejected_sop_class_is_named(tmp_path: Path, files: list[Path]) -> None:
    """The message for a rejected Comprehensive 3D SR has its name and the setting that avoids it."""
    report = tmp_path / "3d.dcm"
    report.write_bytes(encoded(instance("SR", sop_class=Comprehensive3DSRStorage)))
    with archive(classes=[SecondaryCaptureImageStorage]) as there:
        rows = list(send([report, files[0]], adhoc_destination(HOST, there.port, "ARCHIVE")))
    assert [row.stored for row in rows] == [False, True]
    assert "does not accept Comprehensive 3D SR Storage" in rows[0].error
    assert '[work] sr_class = "comprehensive"' in rows[0].error


def test_a_file_that_is_not_dicom_is_reported_and_the_others_are_sent(tmp_path: Path, files: list[Path]) -> None:
    """Text, an empty file, a half preamble, an absent one and a folder: each has an error, none raises."""
    bad = [tmp_path / name for name in ("text", "empty", "half", "absent", "folder")]
    bad[0].write_text("no DICOM " * 100)
    bad[1].write_bytes(b"")
    bad[2].write_bytes(b"\0" * 128 + b"DICM")
    bad[4].mkdir()
    with archive() as there:
        rows = list(send([*bad, *files], adhoc_destination(HOST, there.port, "ARCHIVE")))
    assert [row.file for row in rows if not row.stored] == bad
    assert [row.file for row in rows if row.stored] == files
    assert all(row.error for row in rows if not row.stored)


def test_a_peer_without_verification_is_reported() -> None:
    """A destination that does not accept an echo is not down: RequestRejected."""
    ae = AE(ae_title="ARCHIVE")
    ae.add_supported_context(SecondaryCaptureImageStorage)
    server = ae.start_server((HOST, 0), block=False)
    assert server is not None
    try:
        with pytest.raises(RequestRejected, match=r"does not accept Verification"):
            echo(adhoc_destination(HOST, server.socket.getsockname()[1], "ARCHIVE"))
    finally:
        server.shutdown()


def test_an_echo_that_is_answered_with_an_error_is_reported() -> None:
    """A C-ECHO status other than success is an error."""
    ae = AE(ae_title="ARCHIVE")
    ae.add_supported_context(Verification)
    server = ae.start_server((HOST, 0), block=False, evt_handlers=[(evt.EVT_C_ECHO, lambda event: 0x0122)])
    assert server is not None
    try:
        with pytest.raises(RequestRejected, match=r"0122H"):
            echo(adhoc_destination(HOST, server.socket.getsockname()[1], "ARCHIVE"))
    finally:
        server.shutdown()


def test_the_connection_sends_at_once_and_has_a_timeout() -> None:
    """TCP_NODELAY and a timeout are set on the socket of an established connection."""
    with (
        archive() as there,
        open_association(adhoc_destination(HOST, there.port, "ARCHIVE"), [VERIFICATION], QUICK) as association,
    ):
        assert association._ae.client_socket is not None
        connection = association._ae.client_socket.socket
        assert connection is not None
        assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert connection.gettimeout() == QUICK.response_seconds


def test_no_other_thread_takes_the_response(files: list[Path]) -> None:
    """The thread of pynetdicom that may read an answer before `send_c_store` does is not there."""
    with (
        archive() as there,
        open_association(
            adhoc_destination(HOST, there.port, "ARCHIVE"), [sendable_instance(files[0]).context], QUICK
        ) as association,
    ):
        assert association.store(sendable_instance(files[0])) == 0
        assert association._association is not None
        assert not association._association.is_alive()
        assert association._association.dul.daemon


@pytest.mark.parametrize("end", ["abort", "release", "closed connection"])
def test_a_peer_that_ends_the_association_between_two_objects_is_noticed(end: str, files: list[Path]) -> None:
    """The next object raises NoResponse at once, and can be sent over a new association."""
    patient = Deliver(connect_seconds=300, response_seconds=300)
    one, other = (sendable_instance(file) for file in files)
    with archive() as there, relay(there.port) as proxy:
        with open_association(
            adhoc_destination(HOST, proxy.port, "ARCHIVE"), [one.context, other.context], patient
        ) as association:
            assert association.store(one) == 0
            assert there.association is not None
            if end == "closed connection":
                proxy.close()
            else:
                threading.Thread(target=getattr(there.association, end), daemon=True).start()
            assert association._association is not None
            assert wait_until(lambda: association._association.dul.peek_next_pdu() is not None)
            with pytest.raises(NoResponse):
                association.store(other)
        assert list(send(files, adhoc_destination(HOST, proxy.port, "ARCHIVE")))[1].stored


@needs("storescp")
@pytest.mark.parametrize("answer", ["refused connection", "closes at once", "no answer", "rejects"])
def test_days_of_failures_leave_no_socket_and_no_thread(answer: str, files: list[Path], tmp_path: Path) -> None:
    """A destination that is down for days is called thousands of times; each call releases its resources."""
    with ExitStack() as peers:
        port = {
            "refused connection": free_port,
            "closes at once": lambda: peers.enter_context(relay(free_port())).port,
            "no answer": lambda: peers.enter_context(silent_port()),
            "rejects": lambda: peers.enter_context(storescp(tmp_path / "peer", "--refuse")).port,
        }[answer]()
        gc.collect()
        gc.disable()  # what only the garbage collector would close counts as left open
        try:
            before = None
            for _ in range(6):
                list(
                    send(
                        files,
                        adhoc_destination(HOST, port, "ARCHIVE"),
                        Deliver(connect_seconds=0.1, response_seconds=0.1),
                    )
                )
                assert wait_until(lambda: before is None or _open_resources() <= before)  # noqa: B023
                before = before or _open_resources()
        finally:
            gc.enable()


def _open_resources() -> tuple[int, int]:
    return threading.active_count(), len(list(Path("/proc/self/fd").iterdir()))


# TLS


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return certificates(tmp_path_factory.mktemp("tls"), "genu")


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return certificates(tmp_path_factory.mktemp("tls"), "pacs")


def tls_destination(port: int, own: Certificates, trusted: Path | None) -> Destination:
    tls = Tls(certificate=own.certificate, key=own.key, ca=trusted)
    return Destination(name="pacs", host=HOST, port=port, ae_title="STORESCP", tls=tls)


def tls_options(peer: Certificates, trusted: Path) -> tuple[str, ...]:
    return ("+tls", str(peer.key), str(peer.certificate), "+cf", str(trusted))


@needs("storescp", "openssl")
def test_tls_with_certificates_on_both_sides(
    tmp_path: Path, files: list[Path], ours: Certificates, theirs: Certificates
) -> None:
    """storescp requests our certificate and presents its own; both are checked and the files arrive."""
    with storescp(tmp_path, *tls_options(theirs, ours.ca)) as there:
        echo(tls_destination(there.port, ours, theirs.ca))
        assert all(row.stored for row in send(files, tls_destination(there.port, ours, theirs.ca)))
        assert there.received().keys() == {uid_of(file) for file in files}


@needs("storescp", "openssl")
def test_tls_failures_are_distinguished(tmp_path: Path, ours: Certificates, theirs: Certificates) -> None:
    """A certificate that we do not trust, one that the peer does not trust, and TLS against a plain port."""
    with storescp(tmp_path / "a", *tls_options(theirs, ours.ca)) as there:
        with pytest.raises(
            DestinationUnavailable, match=r"certificate that is not trusted.*check \[\[destination\]\] tls.ca"
        ):
            echo(tls_destination(there.port, ours, ours.ca), QUICK)
        with pytest.raises(DestinationUnavailable, match=r"certificate that is not trusted"):
            echo(tls_destination(there.port, ours, None), QUICK)
        with pytest.raises(
            DestinationUnavailable, match=r"not trust Genu's certificate|certificates of both sides|a TLS port"
        ):
            echo(tls_destination(there.port, theirs, theirs.ca), QUICK)
        with (
            silent_port() as port,
            pytest.raises(DestinationUnavailable, match=r"does not answer the connection within 0.3 s"),
        ):
            echo(tls_destination(port, ours, theirs.ca), Deliver(connect_seconds=0.3))
        with pytest.raises(DestinationUnavailable, match=r"may require TLS"):
            echo(Destination(name="pacs", host=HOST, port=there.port, ae_title="STORESCP"), QUICK)
    with storescp(tmp_path / "b") as there, pytest.raises(DestinationUnavailable, match=r"a TLS port"):
        echo(tls_destination(there.port, ours, theirs.ca), QUICK)


@needs("openssl")
def test_a_certificate_that_cannot_be_read_is_reported(tmp_path: Path, ours: Certificates) -> None:
    """A wrong path in the settings is an error message, not a traceback."""
    tls = Tls(certificate=tmp_path / "absent.pem", key=ours.key)
    with pytest.raises(DestinationUnavailable, match=r"No such file"):
        echo(Destination(name="pacs", host=HOST, port=free_port(), ae_title="X", tls=tls))


def test_every_socket_error_becomes_a_message() -> None:
    """Also those that no test can make on loopback."""
    for error in (OSError(113, "No route to host"), ConnectionResetError(), ssl.SSLEOFError(), TimeoutError()):
        message = str(connection_failed(pacs(104), error, 10))
        assert message.startswith("destination pacs (ORTHANC at 127.0.0.1:104) ")
        assert message.endswith(")")
