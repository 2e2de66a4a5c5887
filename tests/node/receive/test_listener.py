"""Whatever some peers send, the port serves the others, and no peer costs more than its limits."""

import contextlib
import gc
import os
import resource
import socket
import ssl
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.uid import generate_uid

from node.errors import SettingsError
from node.receive.dimse import DimseProtocolError, decode_command_set
from node.receive.listener import PendingLimits, plain_address
from node.receive.tls import server_context
from node.receive.upper_layer import MonotonicTimer
from node.settings import Tls
from tests.peers.archives import needs, wait_until
from tests.peers.senders import (
    DX,
    EXPLICIT,
    HOST,
    VERIFICATION,
    RawScu,
    RunningScp,
    ScpProcess,
    associate_rq,
    command_set,
    data,
    data_set,
    encoded,
    film,
    pdu,
    running_scp,
)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningScp]:
    """One SCP for all tests: no peer may end it. Its deadlines are shorter than in a hospital."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("node.receive.scp.ASSOCIATE_SECONDS", 1.5)
        with running_scp(tmp_path_factory.mktemp("listener") / "node", stall_seconds=1.5, idle_seconds=20) as running:
            yield running


@pytest.fixture(autouse=True)
def serves_afterwards(node: RunningScp) -> Iterator[None]:
    """After every test the SCP answers, its spool is empty, and the associations have ended."""
    yield
    assert node.answers_echo()
    assert wait_until(lambda: node.spool_files() == [])
    assert wait_until(lambda: not node.scp._associations), "an association has not ended"


def tcp_connect(port: int) -> socket.socket:
    return socket.create_connection((HOST, port), timeout=20)


def is_closed(sock: socket.socket) -> bool:
    """Whether the peer closes the connection; what it sends before is ignored."""
    try:
        while sock.recv(65536):
            pass
    except ConnectionError:
        pass
    return True


# Before an association


@pytest.mark.parametrize("content", [b"", b"\x01", b"\x01\0\0\0\1\0", associate_rq([(1, DX, [EXPLICIT])])[:-1]])
def test_peers_that_stop_in_the_middle_do_not_delay_others(node: RunningScp, content: bytes) -> None:
    """Sixty connections that send nothing, a byte or nearly all: others are served meanwhile, then they are closed."""
    callers = [tcp_connect(node.port) for _ in range(60)]
    for caller in callers:
        caller.sendall(content)
    assert wait_until(lambda: node.scp._listener is not None and node.scp._listener.pending_count >= 50)
    threads = threading.active_count()
    assert node.answers_echo()
    assert threads < 30, "a connection without association has no thread"
    assert all(is_closed(caller) for caller in callers)


def test_a_byte_now_and_then_does_not_extend_the_deadline(node: RunningScp) -> None:
    """Neither for the request nor for data."""
    associated = node.connect()
    assert associated.associate()[0] == 2
    for sock in (tcp_connect(node.port), associated.sock):
        content = associate_rq([(1, DX, [EXPLICIT])]) if sock is not associated.sock else data(bytes(1000), header=0)
        with pytest.raises(OSError):
            for byte in content:
                sock.sendall(bytes([byte]))
                time.sleep(0.1)


def test_many_idle_connections_do_not_exclude_others(node: RunningScp) -> None:
    """At the limit the oldest pending connections are rejected; a real sender is served at once."""
    idle = []
    for _ in range(300):
        idle.append(tcp_connect(node.port))
    assert node.answers_echo()
    assert node.scp._listener is not None
    assert node.scp._listener.pending_count <= PendingLimits().per_host
    for caller in idle:
        caller.close()


@pytest.mark.parametrize(
    "content", [b"GET / HTTP/1.1\r\n\r\n", pdu(4, b"x" * 20), b"\xff" * 100, pdu(7, bytes(4)), bytes(10)]
)
def test_what_is_no_associate_request_is_rejected(node: RunningScp, content: bytes) -> None:
    """Anything but an A-ASSOCIATE-RQ ends the connection at once."""
    caller = tcp_connect(node.port)
    caller.sendall(content)
    assert is_closed(caller)


@pytest.mark.parametrize("length", [2**32 - 1, 2**31, 200_000])
@pytest.mark.parametrize("associated", [False, True])
def test_a_pdu_of_huge_length_is_not_read(node: RunningScp, length: int, associated: bool) -> None:
    """The connection is closed at the header, and memory does not grow by what follows."""
    caller = node.connect()
    if associated:
        assert caller.associate()[0] == 2
    before = resident_mb()
    with pytest.raises(OSError):
        caller.send(struct.pack(">BBI", 4 if associated else 1, 0, length))
        for _ in range(2000):
            caller.send(bytes(65536))
    assert resident_mb() - before < 16


def resident_mb() -> float:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


# In an association


def test_an_object_that_stops_in_the_middle_is_discarded(node: RunningScp) -> None:
    """Half a PDU of an object, then silence: the association is aborted and its file is deleted."""
    caller = node.connect()
    assert caller.associate()[0] == 2
    caller.announce(generate_uid())
    caller.send(data(bytes(5000), header=0))
    assert wait_until(node.spool_files)
    caller.send(data(bytes(5000), header=0)[:3000])
    assert caller.is_aborted()
    assert wait_until(lambda: node.spool_files() == [])


def test_a_sender_that_goes_away_leaves_nothing(node: RunningScp) -> None:
    """The connection closes, or the peer aborts, in the middle of an object: its file is deleted."""
    for leave in (lambda caller: caller.close(), lambda caller: caller.send(pdu(7, bytes(4)))):
        caller = node.connect()
        assert caller.associate()[0] == 2
        caller.announce(generate_uid())
        caller.send(data(bytes(5000), header=0))
        assert wait_until(node.spool_files)
        leave(caller)
        assert wait_until(lambda: node.spool_files() == [])


def test_an_idle_association_is_ended(tmp_path: Path) -> None:
    """One that sends nothing for idle_seconds is aborted, and no longer counts."""
    with running_scp(tmp_path / "node", idle_seconds=0.5, max_associations=1) as node:
        first = node.connect()
        assert first.associate()[0] == 2
        assert first.is_aborted()
        assert wait_until(node.answers_echo)
        assert node.scp.counts.as_detail()["associations_broken"]["idle"] >= 1


def test_an_endless_command_set_is_aborted(node: RunningScp) -> None:
    """Command fragments end at 64 KiB, whatever their content."""
    caller = node.connect()
    assert caller.associate()[0] == 2
    before = resident_mb()
    with pytest.raises(OSError):
        for _ in range(2000):
            caller.send(data(bytes(60000), header=1))
    assert resident_mb() - before < 16


WRONG = {
    "context never accepted": data(command_set(field=1, uid="1.2.3", with_data=True), context=99),
    "data without a command": data(b"abc", header=2),
    "unknown command": data(command_set(field=0x7777)),
    "find": data(command_set(field=0x20, with_data=True)),
    "response": data(command_set(field=0x8001)),
    "echo with data": data(command_set(field=0x30, with_data=True)),
    "random command": data(bytes(range(200))),
    "torn command": data(command_set(field=1, uid="1.2.3")[:-3]),
    "empty command": data(b""),
    "no fragment header": pdu(4, struct.pack(">IB", 1, 1)),
    "no value length": pdu(4, struct.pack(">I", 0)),
    "value longer than its PDU": pdu(4, struct.pack(">IBB", 5000, 1, 3) + b"abc"),
    "torn value length": pdu(4, b"\0\0"),
    "second request": associate_rq([(1, DX, [EXPLICIT])]),
    "unknown PDU": pdu(9, b"abcd"),
    "command inside an object": data(command_set(field=1, uid="1.2.3", with_data=True)) * 2,
    "other context's data": data(command_set(field=1, uid="1.2.3", with_data=True)) + data(b"a", context=3, header=2),
}


@pytest.mark.parametrize("violation", WRONG.values(), ids=WRONG.keys())
def test_a_protocol_error_ends_only_its_own_association(node: RunningScp, violation: bytes) -> None:
    """It is aborted; another association that is in the middle of an object goes on."""
    ds = film()
    content = encoded(ds)
    contexts = [(1, DX, [EXPLICIT]), (3, VERIFICATION, [EXPLICIT])]
    with node.connect() as good, node.connect(contexts=contexts) as bad:
        good.announce(ds.SOPInstanceUID)
        good.send(data(content[:1000], header=0))
        bad.send(violation)
        assert bad.is_aborted()
        good.send(data_set(content[1000:]))
        assert good.status() == 0x0000


def test_requests_whose_responses_are_not_read_are_aborted(node: RunningScp) -> None:
    """A flood of requests whose responses are not read does not accumulate."""
    caller = node.connect(contexts=[(1, VERIFICATION, [EXPLICIT])])
    assert caller.associate()[0] == 2
    with pytest.raises(OSError):
        for _ in range(100_000):
            caller.send(data(command_set(field=0x30, sop_class=VERIFICATION)) * 50)


def test_a_cancel_request_is_ignored(node: RunningScp) -> None:
    """There is nothing to cancel, and no response; the association goes on."""
    with node.connect(contexts=[(1, VERIFICATION, [EXPLICIT])]) as caller:
        cancel = command_set(field=0x0FFF, message_id=7)
        caller.send(data(cancel))
        assert caller.echo() == 0x0000


def test_ended_associations_leave_no_descriptor_and_no_thread(node: RunningScp) -> None:
    """After two hundred associations of all kinds as much is open as before."""
    assert node.answers_echo() and wait_until(lambda: not node.scp._associations)
    before, threads = len(os.listdir("/proc/self/fd")), threading.active_count()  # noqa: PTH208
    for number in range(200):
        caller = node.connect()
        if number % 4:
            assert caller.associate()[0] == 2
        if number % 4 == 2:
            caller.send(pdu(7, bytes(4)))
        if number % 4 == 3:
            caller.release()
        caller.close()
    assert wait_until(lambda: len(os.listdir("/proc/self/fd")) <= before)  # noqa: PTH208
    assert wait_until(lambda: threading.active_count() <= threads)


def test_without_descriptors_left_it_recovers(tmp_path: Path) -> None:
    """More connections than descriptors: some are dropped, and then it serves as before."""
    with ScpProcess(tmp_path / "node", limits={"RLIMIT_NOFILE": 48}) as served:
        idle = [tcp_connect(served.port) for _ in range(80)]
        time.sleep(0.5)
        for caller in idle:
            caller.close()
        assert wait_until(lambda: stores(served.port))


def stores(port: int) -> bool:
    """Whether an object is stored."""
    ds = film()
    try:
        with RawScu(port) as caller:
            return caller.store(encoded(ds), ds.SOPInstanceUID) == 0x0000
    except (OSError, AssertionError):
        return False


# Any bytes at all


@given(st.lists(st.binary(max_size=200), max_size=6))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_before_an_association_are_survived(node: RunningScp, content: list[bytes]) -> None:
    """Raw bytes to the port, in any pieces."""
    with tcp_connect(node.port) as caller:
        try:
            for piece in content:
                caller.sendall(piece)
        except OSError:
            pass
    assert node.answers_echo()


def mutated(valid: bytes) -> st.SearchStrategy[bytes]:
    """The bytes with a few of them changed, cut or doubled."""
    places = st.lists(st.tuples(st.integers(0, len(valid) - 1), st.integers(0, 255)), max_size=5)
    ends = st.integers(1, len(valid))

    def change(changes: list[tuple[int, int]], end: int) -> bytes:
        copy = bytearray(valid)
        for at, value in changes:
            copy[at] = value
        return bytes(copy[:end])

    return st.builds(change, places, st.one_of(st.just(len(valid)), ends))


REQUEST = associate_rq([(1, DX, [EXPLICIT]), (3, VERIFICATION, [EXPLICIT])])
STORE = data(command_set(field=1, uid="1.2.3", with_data=True)) + data_set(encoded(film(side=8)))
ECHO = data(command_set(field=0x30, sop_class=VERIFICATION), context=3)


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
@given(mutated(REQUEST), mutated(STORE + ECHO))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_near_the_protocol_are_survived(node: RunningScp, request_: bytes, messages: bytes) -> None:
    """Requests and messages that are nearly valid."""
    with tcp_connect(node.port) as caller:
        try:
            caller.sendall(request_ + messages)
            caller.shutdown(socket.SHUT_WR)
            is_closed(caller)
        except OSError:
            pass
    assert node.answers_echo()


@given(st.binary(max_size=120))
@settings(max_examples=300, deadline=None)
def test_any_command_set_is_decoded_or_refused(encoded_: bytes) -> None:
    """The decoder of command sets raises DimseProtocolError only."""
    with contextlib.suppress(DimseProtocolError):
        decode_command_set(encoded_, None)  # type: ignore[arg-type]


# Clocks and addresses


def test_a_step_of_the_wall_clock_changes_no_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    """An hour back or forth: the timer has as long to run as before."""
    timer = MonotonicTimer(10)
    timer.start()
    for step in (-3600, 3600):
        monkeypatch.setattr(time, "time", lambda step=step: step)
        assert not timer.expired
        assert 0 < timer.remaining <= 10
    timer.timeout = -1
    assert timer.expired
    timer.timeout = None
    assert not timer.expired


def test_an_address_is_normalised() -> None:
    """IPv4 through an IPv6 socket is IPv4, and a zone is no part of it."""
    assert [plain_address(address) for address in ("::ffff:10.0.0.7", "fe80::1%eth0", "10.0.0.7")] == [
        "10.0.0.7",
        "fe80::1",
        "10.0.0.7",
    ]


# TLS


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two authorities; certificates of the node, of a client, of the other authority's client, and an expired one."""
    folder = tmp_path_factory.mktemp("certificates")

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    (folder / "names").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    for authority in ("ca", "otherca"):
        openssl(
            *(
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:prime256v1",
                "-nodes",
                "-days",
                "9",
                "-subj",
                f"/CN={authority}",
            ),
            *("-keyout", f"{authority}.key", "-out", f"{authority}.pem"),
        )
    for name, authority, days in (
        ("node", "ca", "9"),
        ("client", "ca", "9"),
        ("other", "otherca", "9"),
        ("expired", "ca", "-1"),
    ):
        openssl(
            "req",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-subj",
            f"/CN={name}",
            "-keyout",
            f"{name}.key",
            "-out",
            f"{name}.csr",
        )
        openssl(
            *("x509", "-req", "-in", f"{name}.csr", "-CA", f"{authority}.pem", "-CAkey", f"{authority}.key"),
            *("-CAcreateserial", "-days", days, "-extfile", "names", "-out", f"{name}.pem"),
        )
    return folder


@pytest.fixture(scope="module")
def tls_node(certificates: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningScp]:
    tls = {"certificate": certificates / "node.pem", "key": certificates / "node.key", "ca": certificates / "ca.pem"}
    with running_scp(tmp_path_factory.mktemp("tls") / "node", tls=tls, stall_seconds=1.5) as running:
        yield running


def client(certificates: Path, name: str | None, version: ssl.TLSVersion | None = None) -> Any:
    context = ssl.create_default_context(cafile=str(certificates / "ca.pem"))
    if name is not None:
        context.load_cert_chain(certificates / f"{name}.pem", certificates / f"{name}.key")
    if version is not None:
        context.set_ciphers("ALL:@SECLEVEL=0")
        context.minimum_version = context.maximum_version = version
    return lambda sock: context.wrap_socket(sock, server_hostname=HOST)


def answers_tls_echo(node: RunningScp, wrap: Any) -> bool:
    """Whether an echo through TLS is answered."""
    try:
        with RawScu(node.port, contexts=[(1, VERIFICATION, [EXPLICIT])], wrap=wrap) as caller:
            return caller.echo() == 0
    except (OSError, AssertionError):
        return False


@needs("openssl")
def test_tls_accepts_certificates_of_the_authority(tls_node: RunningScp, certificates: Path) -> None:
    """A certificate of the right authority, TLS 1.2 and 1.3; an object is stored."""
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        assert answers_tls_echo(tls_node, client(certificates, "client", version))
    ds = film(side=700)
    with RawScu(tls_node.port, wrap=client(certificates, "client")) as caller:
        assert caller.store(encoded(ds), ds.SOPInstanceUID) == 0x0000


@needs("openssl")
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
@pytest.mark.parametrize(
    ("name", "version"),
    [
        (None, None),
        ("other", None),
        ("expired", None),
        ("client", ssl.TLSVersion.TLSv1_1),
        ("client", ssl.TLSVersion.TLSv1),
    ],
)
def test_tls_rejects_all_others(tls_node: RunningScp, certificates: Path, name: str | None, version: Any) -> None:
    """No certificate, another authority's, an expired one, an old TLS: rejected, counted, and the next is served."""
    assert not answers_tls_echo(tls_node, client(certificates, name, version))
    assert wait_until(lambda: tls_node.scp.counts.as_detail()["associations_refused"].get("tls"))
    assert answers_tls_echo(tls_node, client(certificates, "client"))


@needs("openssl")
def test_a_stalled_handshake_does_not_block_others(tls_node: RunningScp, certificates: Path) -> None:
    """Nothing, half a ClientHello or plain DICOM on the TLS port: other handshakes succeed meanwhile."""
    content = (b"", b"\x16\x03\x01", associate_rq([(1, DX, [EXPLICIT])]))
    callers = [tcp_connect(tls_node.port) for _ in range(30)]
    for number, caller in enumerate(callers):
        caller.sendall(content[number % 3])
    assert answers_tls_echo(tls_node, client(certificates, "client"))
    for caller in callers:
        caller.close()


@needs("openssl", "echoscu")
def test_dcmtk_connects_with_tls(tls_node: RunningScp, certificates: Path) -> None:
    """echoscu with a certificate is answered, without one it is not."""
    echo = ["echoscu", "-aec", "GENU", "-to", "10", "+cf", str(certificates / "ca.pem"), HOST, str(tls_node.port)]
    known = [*echo, "+tls", str(certificates / "client.key"), str(certificates / "client.pem")]
    assert subprocess.run(known, capture_output=True, check=False).returncode == 0
    assert subprocess.run([*echo, "+tla"], capture_output=True, check=False).returncode != 0


@needs("openssl")
def test_tls_settings_that_cannot_be_used_are_errors(certificates: Path) -> None:
    """A missing file, a wrong key, an authority not named: SettingsError at the start."""
    good = {"certificate": certificates / "node.pem", "key": certificates / "node.key", "ca": certificates / "ca.pem"}
    server_context(Tls(**good))
    server_context(Tls(certificate=good["certificate"], key=good["key"], require_peer_certificate=False))
    for wrong in (
        {"ca": None},
        {"key": certificates / "client.key"},
        {"certificate": certificates / "absent"},
        {"ca": certificates / "names"},
    ):
        with pytest.raises(SettingsError):
            server_context(Tls(**{**good, **wrong}))
