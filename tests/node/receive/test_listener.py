"""However rude the callers are, the port serves those with manners, and no caller costs more than it may."""

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
from node.receive.dimse import ProtocolFault, read_command
from node.receive.listener import Room, plain_address
from node.receive.tls import server_context
from node.receive.upper_layer import MonotonicTimer
from node.settings import Tls
from tests.peers.archives import needs, wait_until
from tests.peers.senders import (
    DX,
    EXPLICIT,
    HOST,
    VERIFICATION,
    Caller,
    Intake,
    Served,
    associate_rq,
    command_set,
    data,
    data_set,
    encoded,
    film,
    intake,
    pdu,
)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Intake]:
    """One receiver for all of them: it has to outlive every caller. It waits less long than it would in a hospital."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("node.receive.scp.ASSOCIATE_SECONDS", 1.5)
        with intake(tmp_path_factory.mktemp("listener") / "node", stall_seconds=1.5, idle_seconds=20) as running:
            yield running


@pytest.fixture(autouse=True)
def still_serves(node: Intake) -> Iterator[None]:
    """After every test the receiver answers, has nothing in the spool, and the associations are gone."""
    yield
    assert node.greets()
    assert wait_until(lambda: node.spooled() == [])
    assert wait_until(lambda: not node.receiver._alive), "an association was left behind"


def dial(port: int) -> socket.socket:
    return socket.create_connection((HOST, port), timeout=20)


def is_closed(sock: socket.socket) -> bool:
    """Whether the other side hangs up; what it says before is let pass."""
    try:
        while sock.recv(65536):
            pass
    except ConnectionError:
        pass
    return True


# Before an association


@pytest.mark.parametrize("said", [b"", b"\x01", b"\x01\0\0\0\1\0", associate_rq([(1, DX, [EXPLICIT])])[:-1]])
def test_callers_that_stop_in_the_middle_hold_nobody_up(node: Intake, said: bytes) -> None:
    """Sixty connections that say nothing, a byte or nearly all: others are served meanwhile, then they are closed."""
    callers = [dial(node.port) for _ in range(60)]
    for caller in callers:
        caller.sendall(said)
    assert wait_until(lambda: node.receiver._listener is not None and node.receiver._listener.waiting >= 50)
    threads = threading.active_count()
    assert node.greets()
    assert threads < 30, "a caller that is not associated has no thread"
    assert all(is_closed(caller) for caller in callers)


def test_a_trickle_is_no_way_to_stay(node: Intake) -> None:
    """A byte now and then does not extend the time, neither for the request nor for data."""
    associated = node.call()
    assert associated.associate()[0] == 2
    for sock in (dial(node.port), associated.sock):
        said = associate_rq([(1, DX, [EXPLICIT])]) if sock is not associated.sock else data(bytes(1000), header=0)
        with pytest.raises(OSError):
            for byte in said:
                sock.sendall(bytes([byte]))
                time.sleep(0.1)


def test_a_crowd_of_idle_callers_does_not_keep_others_out(node: Intake) -> None:
    """With the room full the oldest are sent away: who means it is served at once."""
    idle = []
    for _ in range(300):
        idle.append(dial(node.port))
    assert node.greets()
    assert node.receiver._listener is not None
    assert node.receiver._listener.waiting <= Room().of_one_host
    for caller in idle:
        caller.close()


@pytest.mark.parametrize(
    "said", [b"GET / HTTP/1.1\r\n\r\n", pdu(4, b"x" * 20), b"\xff" * 100, pdu(7, bytes(4)), bytes(10)]
)
def test_what_is_no_request_is_turned_away(node: Intake, said: bytes) -> None:
    """Anything but an A-ASSOCIATE-RQ ends the connection at once."""
    caller = dial(node.port)
    caller.sendall(said)
    assert is_closed(caller)


@pytest.mark.parametrize("length", [2**32 - 1, 2**31, 200_000])
@pytest.mark.parametrize("associated", [False, True])
def test_a_pdu_that_claims_to_be_huge_is_not_waited_for(node: Intake, length: int, associated: bool) -> None:
    """The line is cut at the header, and memory does not grow by what comes after."""
    caller = node.call()
    if associated:
        assert caller.associate()[0] == 2
    before = resident_mb()
    with pytest.raises(OSError):
        caller.say(struct.pack(">BBI", 4 if associated else 1, 0, length))
        for _ in range(2000):
            caller.say(bytes(65536))
    assert resident_mb() - before < 16


def resident_mb() -> float:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


# In an association


def test_an_object_that_stops_in_the_middle_is_given_up(node: Intake) -> None:
    """Half a PDU of an object, then silence: the association is broken off and its file is gone."""
    caller = node.call()
    assert caller.associate()[0] == 2
    caller.announce(generate_uid())
    caller.say(data(bytes(5000), header=0))
    assert wait_until(node.spooled)
    caller.say(data(bytes(5000), header=0)[:3000])
    assert caller.is_cut_off()
    assert wait_until(lambda: node.spooled() == [])


def test_a_sender_that_goes_away_leaves_nothing(node: Intake) -> None:
    """The line breaks, or it aborts, in the middle of an object: its file is gone."""
    for goodbye in (lambda caller: caller.hang_up(), lambda caller: caller.say(pdu(7, bytes(4)))):
        caller = node.call()
        assert caller.associate()[0] == 2
        caller.announce(generate_uid())
        caller.say(data(bytes(5000), header=0))
        assert wait_until(node.spooled)
        goodbye(caller)
        assert wait_until(lambda: node.spooled() == [])


def test_an_idle_association_is_ended(tmp_path: Path) -> None:
    """One that says nothing for idle_seconds is aborted, and its place is free."""
    with intake(tmp_path / "node", idle_seconds=0.5, max_associations=1) as node:
        first = node.call()
        assert first.associate()[0] == 2
        assert first.is_cut_off()
        assert wait_until(node.greets)
        assert node.receiver.counts.as_detail()["associations_broken"]["idle"] >= 1


def test_an_endless_command_is_cut_off(node: Intake) -> None:
    """Command fragments end at 64 KiB, whatever they hold."""
    caller = node.call()
    assert caller.associate()[0] == 2
    before = resident_mb()
    with pytest.raises(OSError):
        for _ in range(2000):
            caller.say(data(bytes(60000), header=1))
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


@pytest.mark.parametrize("said", WRONG.values(), ids=WRONG.keys())
def test_a_breach_of_protocol_ends_only_its_own_association(node: Intake, said: bytes) -> None:
    """It is aborted; another association that is in the middle of an object does not notice."""
    made = film()
    content = encoded(made)
    contexts = [(1, DX, [EXPLICIT]), (3, VERIFICATION, [EXPLICIT])]
    with node.call() as good, node.call(contexts=contexts) as bad:
        good.announce(made.SOPInstanceUID)
        good.say(data(content[:1000], header=0))
        bad.say(said)
        assert bad.is_cut_off()
        good.say(data_set(content[1000:]))
        assert good.status() == 0x0000


def test_requests_that_nobody_waits_for_are_cut_off(node: Intake) -> None:
    """A flood of requests without a look at the answers does not pile up."""
    caller = node.call(contexts=[(1, VERIFICATION, [EXPLICIT])])
    assert caller.associate()[0] == 2
    with pytest.raises(OSError):
        for _ in range(100_000):
            caller.say(data(command_set(field=0x30, sop_class=VERIFICATION)) * 50)


def test_a_cancel_request_is_let_pass(node: Intake) -> None:
    """There is nothing to cancel, and no answer to it; the association goes on."""
    with node.call(contexts=[(1, VERIFICATION, [EXPLICIT])]) as caller:
        cancel = command_set(field=0x0FFF, message_id=7)
        caller.say(data(cancel))
        assert caller.echo() == 0x0000


def test_comings_and_goings_leave_no_descriptor_and_no_thread(node: Intake) -> None:
    """After two hundred associations of all sorts there is as much open as before."""
    assert node.greets() and wait_until(lambda: not node.receiver._alive)
    before, threads = len(os.listdir("/proc/self/fd")), threading.active_count()  # noqa: PTH208
    for number in range(200):
        caller = node.call()
        if number % 4:
            assert caller.associate()[0] == 2
        if number % 4 == 2:
            caller.say(pdu(7, bytes(4)))
        if number % 4 == 3:
            caller.release()
        caller.hang_up()
    assert wait_until(lambda: len(os.listdir("/proc/self/fd")) <= before)  # noqa: PTH208
    assert wait_until(lambda: threading.active_count() <= threads)


def test_without_descriptors_left_it_recovers(tmp_path: Path) -> None:
    """More connections than the process may have: some are dropped, and then it serves as before."""
    with Served(tmp_path / "node", limits={"RLIMIT_NOFILE": 48}) as served:
        crowd = [dial(served.port) for _ in range(80)]
        time.sleep(0.5)
        for caller in crowd:
            caller.close()
        assert wait_until(lambda: stores(served.port))


def stores(port: int) -> bool:
    """Whether an object is taken."""
    made = film()
    try:
        with Caller(port) as caller:
            return caller.store(encoded(made), made.SOPInstanceUID) == 0x0000
    except (OSError, AssertionError):
        return False


# Any bytes at all


@given(st.lists(st.binary(max_size=200), max_size=6))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_before_an_association_are_survived(node: Intake, said: list[bytes]) -> None:
    """Raw bytes to the port, in any pieces."""
    with dial(node.port) as caller:
        try:
            for piece in said:
                caller.sendall(piece)
        except OSError:
            pass
    assert node.greets()


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
def test_any_bytes_near_the_protocol_are_survived(node: Intake, request_: bytes, messages: bytes) -> None:
    """Requests and messages that are nearly right."""
    with dial(node.port) as caller:
        try:
            caller.sendall(request_ + messages)
            caller.shutdown(socket.SHUT_WR)
            is_closed(caller)
        except OSError:
            pass
    assert node.greets()


@given(st.binary(max_size=120))
@settings(max_examples=300, deadline=None)
def test_any_command_set_is_read_or_refused(encoded_: bytes) -> None:
    """The reader of command sets raises one thing only."""
    with contextlib.suppress(ProtocolFault):
        read_command(encoded_, None)  # type: ignore[arg-type]


# Clocks and addresses


def test_a_step_of_the_wall_clock_moves_no_timer(monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_an_address_is_written_as_people_write_it() -> None:
    """IPv4 through an IPv6 socket is IPv4, and a zone is no part of it."""
    assert [plain_address(each) for each in ("::ffff:10.0.0.7", "fe80::1%eth0", "10.0.0.7")] == [
        "10.0.0.7",
        "fe80::1",
        "10.0.0.7",
    ]


# TLS


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two authorities, a certificate of the node's, of a client's, of a stranger's, and one that is over."""
    folder = tmp_path_factory.mktemp("papers")

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
        ("stranger", "otherca", "9"),
        ("old", "ca", "-1"),
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
def tls_node(papers: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Intake]:
    tls = {"certificate": papers / "node.pem", "key": papers / "node.key", "ca": papers / "ca.pem"}
    with intake(tmp_path_factory.mktemp("tls") / "node", tls=tls, stall_seconds=1.5) as running:
        yield running


def client(papers: Path, name: str | None, version: ssl.TLSVersion | None = None) -> Any:
    context = ssl.create_default_context(cafile=str(papers / "ca.pem"))
    if name is not None:
        context.load_cert_chain(papers / f"{name}.pem", papers / f"{name}.key")
    if version is not None:
        context.set_ciphers("ALL:@SECLEVEL=0")
        context.minimum_version = context.maximum_version = version
    return lambda sock: context.wrap_socket(sock, server_hostname=HOST)


def greets(node: Intake, wrap: Any) -> bool:
    """Whether an echo through TLS is answered."""
    try:
        with Caller(node.port, contexts=[(1, VERIFICATION, [EXPLICIT])], wrap=wrap) as caller:
            return caller.echo() == 0
    except (OSError, AssertionError):
        return False


@needs("openssl")
def test_tls_lets_in_whom_the_authority_knows(tls_node: Intake, papers: Path) -> None:
    """A certificate of the right authority, TLS 1.2 and 1.3; an object goes through whole."""
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        assert greets(tls_node, client(papers, "client", version))
    made = film(side=700)
    with Caller(tls_node.port, wrap=client(papers, "client")) as caller:
        assert caller.store(encoded(made), made.SOPInstanceUID) == 0x0000


@needs("openssl")
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
@pytest.mark.parametrize(
    ("name", "version"),
    [
        (None, None),
        ("stranger", None),
        ("old", None),
        ("client", ssl.TLSVersion.TLSv1_1),
        ("client", ssl.TLSVersion.TLSv1),
    ],
)
def test_tls_keeps_out_all_others(tls_node: Intake, papers: Path, name: str | None, version: Any) -> None:
    """No certificate, another authority's, an old one, an old TLS: refused, counted, and the next one is served."""
    assert not greets(tls_node, client(papers, name, version))
    assert wait_until(lambda: tls_node.receiver.counts.as_detail()["associations_refused"].get("tls"))
    assert greets(tls_node, client(papers, "client"))


@needs("openssl")
def test_a_handshake_that_stalls_blocks_nobody(tls_node: Intake, papers: Path) -> None:
    """Callers that say nothing, half a hello or plain DICOM on the TLS port: others shake hands meanwhile."""
    said = (b"", b"\x16\x03\x01", associate_rq([(1, DX, [EXPLICIT])]))
    callers = [dial(tls_node.port) for _ in range(30)]
    for number, caller in enumerate(callers):
        caller.sendall(said[number % 3])
    assert greets(tls_node, client(papers, "client"))
    for caller in callers:
        caller.close()


@needs("openssl", "echoscu")
def test_dcmtk_speaks_tls_with_it(tls_node: Intake, papers: Path) -> None:
    """echoscu with a certificate is answered, without one it is not."""
    echo = ["echoscu", "-aec", "GENU", "-to", "10", "+cf", str(papers / "ca.pem"), HOST, str(tls_node.port)]
    known = [*echo, "+tls", str(papers / "client.key"), str(papers / "client.pem")]
    assert subprocess.run(known, capture_output=True, check=False).returncode == 0
    assert subprocess.run([*echo, "+tla"], capture_output=True, check=False).returncode != 0


@needs("openssl")
def test_tls_settings_that_cannot_work_are_told(papers: Path) -> None:
    """A missing file, a wrong key, an authority not named: the person who starts the node is told."""
    good = {"certificate": papers / "node.pem", "key": papers / "node.key", "ca": papers / "ca.pem"}
    server_context(Tls(**good))
    server_context(Tls(certificate=good["certificate"], key=good["key"], require_peer_certificate=False))
    for wrong in (
        {"ca": None},
        {"key": papers / "client.key"},
        {"certificate": papers / "absent"},
        {"ca": papers / "names"},
    ):
        with pytest.raises(SettingsError):
            server_context(Tls(**{**good, **wrong}))
