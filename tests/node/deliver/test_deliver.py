"""Every destination gets every result once, whatever happens to destinations, connections and the node."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.deliver.circuit_breaker import backoff_seconds
from node.ledger import Ledger
from node.settings import Deliver, Destination
from tests.paths import ROOT
from tests.peers.archives import HOST, free_port, needs, orthanc, storescp, wait_until
from tests.peers.delivering_node import SHORT_TIMING, Node
from tests.peers.faulty import archive, relay, silent_port
from tests.samples.pending_deliveries import delivered, file_of


def to(port: int, name: str = "pacs", ae_title: str = "ARCHIVE") -> Destination:
    return Destination(name=name, ae_title=ae_title, host=HOST, port=port)


def refuses(*uids: str, status: int) -> Callable[[str], int]:
    return lambda uid: status if uid in uids else 0


@needs("storescp", "Orthanc")
def test_results_reach_storescp_and_orthanc_as_they_are_stored(node: Node, tmp_path: Path) -> None:
    """Both real peers end up with both objects, unchanged, and the radiograph is DELIVERED, not more."""
    owed = node.owe("storescp", "orthanc")
    with storescp(tmp_path / "a") as one, orthanc(tmp_path / "b") as other:
        destinations = to(one.port, "storescp", one.ae_title), to(other.port, "orthanc", other.ae_title)
        with node.delivering(*destinations):
            assert wait_until(lambda: delivered(node.ledger, owed), 30)
        assert one.received().keys() == other.received().keys() == {owed.sc, owed.sr}
        for kind, uid in (("SC", owed.sc), ("SR", owed.sr)):
            stored = pydicom.dcmread(file_of(node.vault, owed, kind))
            assert pydicom.dcmread(one.received()[uid]) == stored


@needs("storescp")
def test_what_waits_while_a_destination_is_down_is_sent_when_it_is_up_again(node: Node, tmp_path: Path) -> None:
    """The destination is shown as down with its error, nothing is lost or given up, and all arrives on its return."""
    port, owed = free_port(), [node.owe() for _ in range(5)]
    with node.delivering(to(port, ae_title="STORESCP")):
        assert wait_until(lambda: node.status().get("state") == "down")
        assert "refuses the connection" in str(node.status()["last_error"])
        assert node.status()["waiting"] == 10
        owed.append(node.owe())
        with storescp(tmp_path, port=port) as peer:
            assert peer.wait_for(12, 30)
            assert wait_until(lambda: delivered(node.ledger, *owed))
            assert wait_until(lambda: node.status().get("state") == "up")
            assert wait_until(lambda: node.status()["waiting"] == 0)
            assert len(peer.received()) == 12


@needs("storescp")
def test_a_recovered_destination_gets_at_once_what_was_postponed_for_long(node: Node, tmp_path: Path) -> None:
    """Long pauses from the time when it was down end when it is up again."""
    port, late = free_port(), node.owe()
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    node.ledger.postpone([delivery.id for delivery in node.ledger.deliveries(late.source_uid)], tomorrow, "away")
    with node.delivering(to(port, ae_title="STORESCP")):
        assert wait_until(lambda: node.status().get("failures"))
        assert node.delivery(late, "SC").due_at == tomorrow
        with storescp(tmp_path, port=port):
            assert wait_until(lambda: delivered(node.ledger, late))


@needs("storescp")
def test_an_unavailable_destination_does_not_delay_another(node: Node, tmp_path: Path) -> None:
    """The timeouts of a closed port and of a silent peer are far longer than the healthy one takes."""
    slow = Deliver(connect_seconds=300, response_seconds=300, first_pause_seconds=300)
    with silent_port() as silent, storescp(tmp_path) as peer:
        owed = [node.owe("closed", "silent", "pacs") for _ in range(3)]
        destinations = to(free_port(), "closed"), to(silent, "silent"), to(peer.port, "pacs", peer.ae_title)
        with node.delivering(*destinations, timing=slow):
            assert peer.wait_for(6, 30)
            assert wait_until(
                lambda: (
                    {row.destination: row.count for row in node.ledger.pending_deliveries()}
                    == {"closed": 6, "silent": 6}
                )
            )
        assert not delivered(node.ledger, owed[0])


def test_an_unavailable_destination_is_called_once_a_pause_however_much_waits(node: Node) -> None:
    """Thirty objects and new ones make one call, not thirty: the circuit breaker is open."""
    for _ in range(15):
        node.owe()
    patient = Deliver(first_pause_seconds=300, connect_seconds=3)
    with relay(free_port()) as proxy, node.delivering(to(proxy.port), timing=patient):
        assert wait_until(lambda: proxy.connections == 1)
        assert wait_until(lambda: node.status().get("failures") == 1)
        node.owe()
        time.sleep(1)  # four polls
        assert proxy.connections == 1


@needs("storescp")
def test_a_rejected_association_is_reported_and_retried(node: Node, tmp_path: Path) -> None:
    """The reason of the rejection is stored with each delivery, and they are sent once the peer accepts."""
    owed, port = node.owe(), free_port()
    with node.delivering(to(port, ae_title="STORESCP")):
        with storescp(tmp_path / "a", "--refuse", port=port):
            assert wait_until(lambda: "rejected the association" in node.delivery(owed, "SC").last_error)
        with storescp(tmp_path / "b", port=port):
            assert wait_until(lambda: delivered(node.ledger, owed), 30)


def test_a_rejected_sop_class_delays_no_other_object(node: Node) -> None:
    """The archive accepts no SR: the SC is stored, and the SR waits with an error that names it."""
    owed = node.owe()
    with archive(classes=[pydicom.uid.SecondaryCaptureImageStorage]) as peer, node.delivering(to(peer.port)):
        assert wait_until(lambda: node.delivery(owed, "SR").attempts >= 2)
        assert node.delivery(owed, "SC").state == "SENT"
        assert node.delivery(owed, "SR").state == "WAITING"
        assert "does not accept Comprehensive SR Storage" in node.delivery(owed, "SR").last_error
        assert node.status()["state"] == "up"
        assert set(peer.stored) == {owed.sc}


def test_rejected_extras_do_not_keep_a_radiograph_from_being_delivered(node: Node) -> None:
    """Picture and report are stored; the segmentation is given up with an error, and not sent again."""
    owed = node.owe(kinds=("SEG", "SC", "SR"))
    classes = [pydicom.uid.SecondaryCaptureImageStorage, pydicom.uid.ComprehensiveSRStorage]
    with archive(classes=classes) as peer, node.delivering(to(peer.port)):
        assert wait_until(lambda: delivered(node.ledger, owed))
        rejected = node.delivery(owed, "SEG")
        assert (rejected.state, rejected.attempts) == ("GIVEN_UP", 1)
        assert "does not accept Segmentation Storage" in rejected.last_error
        assert len(peer.stored) == 2


def test_extras_alone_prove_no_delivery(node: Node) -> None:
    """Where the report waits, the radiograph is not DELIVERED, whatever became of the rest."""
    owed = node.owe(kinds=("SC", "SR", "SEG"))
    with archive(classes=[pydicom.uid.SecondaryCaptureImageStorage]) as peer, node.delivering(to(peer.port)):
        assert wait_until(lambda: node.delivery(owed, "SEG").state == "GIVEN_UP")
        assert wait_until(lambda: node.delivery(owed, "SR").attempts >= 2)
        assert not delivered(node.ledger, owed)


def test_an_archive_that_accepts_no_context_is_not_down(node: Node) -> None:
    """A rejection of all contexts is an answer about the objects; the destination itself is up."""
    owed = node.owe()
    with archive(classes=[]) as peer, node.delivering(to(peer.port)):
        assert wait_until(lambda: node.delivery(owed, "SC").attempts >= 2 and node.delivery(owed, "SR").attempts >= 2)
        assert wait_until(lambda: node.status().get("state") == "up")
        assert "SOP class not supported" in node.delivery(owed, "SC").last_error


@pytest.mark.parametrize("status", [0xA700, 0xA900, 0xC123, 0x0110, 0x0122])
def test_one_object_that_fails_delays_no_other(node: Node, status: int) -> None:
    """A failure status postpones that object alone, in the same association; later it is stored."""
    first, second = node.owe(), node.owe()
    failing = {first.sc}
    with (
        archive(lambda uid: status if uid in failing else 0) as peer,
        relay(peer.port) as proxy,
        node.delivering(to(proxy.port)),
    ):
        assert wait_until(lambda: delivered(node.ledger, second))
        assert peer.stored[:4] == [first.sc, first.sr, second.sc, second.sr]
        assert proxy.connections <= 2 + peer.stored.count(first.sc)
        assert f"{status:04X}H" in node.delivery(first, "SC").last_error
        assert not delivered(node.ledger, first)
        failing.clear()
        assert wait_until(lambda: delivered(node.ledger, first))


@pytest.mark.parametrize("status", [0xB000, 0xB006, 0xB007])
def test_the_three_warnings_mean_stored(node: Node, status: int) -> None:
    """Coerced, discarded elements, other SOP class: stored all the same, and never sent again."""
    owed = node.owe()
    with archive(lambda uid: status) as peer, node.delivering(to(peer.port)):
        assert wait_until(lambda: delivered(node.ledger, owed))
        time.sleep(1)  # four polls
        assert sorted(peer.stored) == sorted((owed.sc, owed.sr))


def test_any_other_status_means_not_stored(node: Node) -> None:
    """Another warning, a cancel and a number that DICOM does not know leave the object waiting."""
    for status in (0xB001, 0xFE00, 0x1234, 0x0001):
        owed = node.owe()
        with archive(refuses(owed.sc, status=status)) as peer, node.delivering(to(peer.port)):
            assert wait_until(lambda owed=owed: node.delivery(owed, "SC").attempts >= 1)  # type: ignore[misc]
            assert node.delivery(owed, "SC").state == "WAITING"


def test_an_object_on_which_the_archive_aborts_delays_no_other(node: Node) -> None:
    """The breaking object comes first and ends every association; all others arrive, and it still waits."""
    breaking = node.owe()
    others = [node.owe() for _ in range(4)]
    with archive(refuses(breaking.sc, status=-1)) as peer, node.delivering(to(peer.port)):
        assert wait_until(lambda: delivered(node.ledger, *others), 30)
        assert wait_until(lambda: node.delivery(breaking, "SC").attempts >= 3, 30)
        late = node.owe()
        assert wait_until(lambda: delivered(node.ledger, late), 30)
        assert node.delivery(breaking, "SC").state == "WAITING"
        assert node.delivery(breaking, "SR").state == "SENT"
        assert "closed the connection without a response" in node.delivery(breaking, "SC").last_error


def test_others_do_not_wait_for_the_pause_of_an_object_on_which_the_archive_aborts(node: Node) -> None:
    """An echo shows that the archive is up, so the others are sent at once over a new association."""
    breaking, others = node.owe(), [node.owe() for _ in range(3)]
    with (
        archive(refuses(breaking.sc, status=-1)) as peer,
        node.delivering(to(peer.port), timing=Deliver(first_pause_seconds=300)),
    ):
        assert wait_until(lambda: delivered(node.ledger, *others))
        assert node.delivery(breaking, "SC").attempts == 1


def test_an_archive_that_answers_echoes_and_aborts_on_every_object_is_down(node: Node) -> None:
    """An echo proves nothing if no object is answered; once one is, everything that waits is sent."""
    owed, answer = [node.owe() for _ in range(3)], -1
    with archive(lambda uid: answer) as peer, node.delivering(to(peer.port)):
        assert wait_until(lambda: node.status().get("state") == "down", 30)
        answer = 0
        assert wait_until(lambda: delivered(node.ledger, *owed), 30)
        assert wait_until(lambda: node.status().get("state") == "up")


@needs("storescp")
def test_a_peer_that_aborts_during_a_transfer_gets_the_object_again(node: Node, tmp_path: Path) -> None:
    """storescp aborts during the data set; a healthy one at the same port then has both objects."""
    owed, port = node.owe(side=1500), free_port()
    with node.delivering(to(port, ae_title="STORESCP")):
        with storescp(tmp_path / "a", "--abort-during", port=port):
            assert wait_until(
                lambda: "closed the connection without a response" in node.delivery(owed, "SC").last_error, 30
            )
        with storescp(tmp_path / "b", port=port) as peer:
            assert wait_until(lambda: delivered(node.ledger, owed), 30)
            assert peer.received().keys() == {owed.sc, owed.sr}


@needs("Orthanc")
def test_a_connection_that_breaks_or_stalls_anywhere_loses_nothing(node: Node, tmp_path: Path) -> None:
    """Broken or stalled after any number of bytes: when the network works again, each object is there once."""
    chance = random.Random(7)
    with orthanc(tmp_path) as peer:
        everything = []
        for stall in (False, True):
            owed = node.owe(side=150)
            everything.append(owed)
            with relay(peer.port, limit=chance.randrange(100, 67_000), stall=stall) as proxy:
                quick = SHORT_TIMING.model_copy(update={"response_seconds": 1, "connect_seconds": 1})
                with node.delivering(to(proxy.port, ae_title="ORTHANC"), timing=quick):
                    for _ in range(3):
                        before = proxy.connections
                        assert wait_until(lambda before=before, proxy=proxy: proxy.connections > before, 30)  # type: ignore[misc]
                        proxy.limit = chance.randrange(100, 67_000)
                    assert not delivered(node.ledger, owed)
                    proxy.limit = None
                    assert wait_until(lambda owed=owed: delivered(node.ledger, owed), 30)  # type: ignore[misc]
        assert sorted(peer.received()) == sorted(uid for owed in everything for uid in (owed.sc, owed.sr))
        assert len(peer.instances()) == 4


@needs("storescp")
def test_a_stopped_peer_delays_no_other_and_gets_its_objects_when_it_continues(node: Node, tmp_path: Path) -> None:
    """A peer that is stopped by a signal accepts connections and sends nothing: down, then up, without a restart."""
    with storescp(tmp_path) as peer:
        quick = SHORT_TIMING.model_copy(
            update={"connect_seconds": 0.5, "response_seconds": 0.5, "failures_until_down": 2}
        )
        with node.delivering(to(peer.port, ae_title=peer.ae_title), timing=quick):
            assert wait_until(lambda: node.status().get("state") == "up")
            peer.pause()
            owed = node.owe(side=1500)
            assert wait_until(lambda: node.status().get("state") == "down", 30)
            peer.resume()
            assert wait_until(lambda: delivered(node.ledger, owed), 30)


def test_a_lost_result_is_given_up_and_delays_no_other(node: Node) -> None:
    """A file that is gone, or not the one that was made, is not sent; the delivery is given up."""
    lost, damaged, intact = node.owe(), node.owe(), node.owe()
    file_of(node.vault, lost, "SC").unlink()
    path = file_of(node.vault, damaged, "SR")
    path.write_bytes(path.read_bytes()[:-2] + b"xx")
    with archive() as peer, node.delivering(to(peer.port)):
        assert wait_until(lambda: delivered(node.ledger, intact))
        assert wait_until(lambda: node.delivery(damaged, "SR").state == node.delivery(lost, "SC").state == "GIVEN_UP")
        assert wait_until(lambda: {lost.sr, damaged.sc} <= set(peer.stored))
        assert not {lost.sc, damaged.sr} & set(peer.stored)


def test_an_archive_that_accepts_only_implicit_vr_gets_everything(node: Node) -> None:
    """The default transfer syntax is enough: the data set is encoded again, its content the same."""
    owed = node.owe()
    with archive(syntaxes=[pydicom.uid.ImplicitVRLittleEndian]) as peer, node.delivering(to(peer.port)):
        assert wait_until(lambda: delivered(node.ledger, owed))
        assert set(peer.syntaxes) == {pydicom.uid.ImplicitVRLittleEndian}


def test_the_node_stops_at_once_although_a_peer_never_answers(node: Node) -> None:
    """Stopping does not wait for connect or response times; the object being sent gets no failed attempt."""
    patient = Deliver(connect_seconds=300, response_seconds=300)
    owed = node.owe(side=1500)
    with silent_port() as silent, node.delivering(to(silent), timing=patient):
        assert wait_until(lambda: threading.active_count() > 3)
        time.sleep(0.5)
    assert node.delivery(owed, "SC").attempts == 0
    with archive() as peer, relay(peer.port, limit=200_000, stall=True) as proxy:
        with node.delivering(to(proxy.port), timing=patient):
            assert wait_until(lambda: proxy.connections == 1)
            time.sleep(0.5)
        assert node.delivery(owed, "SC").attempts == 0
        proxy.limit = None
        with node.delivering(to(proxy.port), timing=patient):
            assert wait_until(lambda: delivered(node.ledger, owed), 30)


def test_a_node_without_destinations_has_a_heartbeat(node: Node) -> None:
    """So `readyz` does not wait for a process that has nothing to do."""
    with node.delivering():
        assert wait_until(lambda: node.status("-") == {"state": "no destination"})


KILLED = """
import sys, threading
from pathlib import Path
from node.deliver import Deliverer
from node.ledger import Ledger
from node.settings import Deliver, Destination, Settings
from node.storage import Vault
folder, port = Path(sys.argv[1]), int(sys.argv[2])
timing = Deliver(first_pause_seconds=0.2, longest_pause_seconds=1)
destination = Destination(name="pacs", ae_title="ORTHANC", host="127.0.0.1", port=port)
ledger = Ledger(f"sqlite:///{folder / 'ledger.sqlite'}")
Deliverer(Settings(destination=(destination,), deliver=timing), Vault(folder / "vault"), ledger).run(threading.Event())
"""


@needs("Orthanc")
def test_a_killed_deliverer_delivers_every_object_once(node: Node, tmp_path: Path) -> None:
    """kill -9 at random moments, again and again; at the end nothing is missing and nothing is there twice."""
    chance = random.Random(11)
    owed = [node.owe(side=300) for _ in range(25)]
    script = tmp_path / "killed.py"
    script.write_text(KILLED)

    def waiting() -> int:
        return sum(row.count for row in node.ledger.pending_deliveries())

    with orthanc(tmp_path / "peer") as peer:
        for until in (*sorted(chance.sample(range(2, 49), 7), reverse=True), 0):
            command = [sys.executable, str(script), str(node.folder), str(peer.port)]
            with subprocess.Popen(command, cwd=ROOT, env=_environment()) as run:
                assert wait_until(lambda until=until: waiting() <= until, 100)  # type: ignore[misc]
                time.sleep(chance.uniform(0, 0.03))  # anywhere within the next object
                run.send_signal(signal.SIGKILL)
        assert delivered(node.ledger, *owed)
        assert sorted(peer.received()) == sorted(uid for one in owed for uid in (one.sc, one.sr))
        assert len(peer.instances()) == 50


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def test_nothing_is_marked_sent_before_it_is_answered(node: Node) -> None:
    """Until the archive answers, the state in the ledger is WAITING; it is SENT only after the response."""
    owed, states, go = node.owe(), [], threading.Event()

    def answer_late(uid: str) -> int:
        states.append(node.ledger.deliveries(owed.source_uid)[len(states)].state)
        go.wait(10)
        return 0

    with archive(answer_late) as peer, node.delivering(to(peer.port), timing=Deliver()):
        assert wait_until(lambda: len(states) == 1)
        time.sleep(0.5)
        assert node.delivery(owed, "SC").state == "WAITING"
        go.set()
        assert wait_until(lambda: delivered(node.ledger, owed))
    assert states == ["WAITING", "WAITING"]


@given(failures=st.integers(0, 10_000), first=st.floats(0.01, 60), longest=st.floats(0.01, 3600))
def test_pauses_double_up_to_the_longest(failures: int, first: float, longest: float) -> None:
    """Every pause lies within a fifth below its doubled length or the longest, after any number of failures."""
    timing = Deliver(first_pause_seconds=first, longest_pause_seconds=longest)
    expected = min(first * 2.0 ** min(max(failures, 1) - 1, 100), longest)
    assert expected * 0.799 <= backoff_seconds(failures, timing) <= expected * 1.001


def test_an_unavailable_ledger_ends_no_thread(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """Delivery waits for the ledger; an object that was stored meanwhile is sent again, not lost."""
    owed, broken, sent = node.owe(), threading.Event(), Ledger.record_sent
    broken.set()

    def fail(ledger: Ledger, delivery_id: int, status: int) -> None:
        if broken.is_set():
            raise OSError("the disk is unavailable")
        sent(ledger, delivery_id, status)

    monkeypatch.setattr(Ledger, "record_sent", fail)
    with archive() as peer, node.delivering(to(peer.port)):
        assert wait_until(lambda: len(peer.stored) >= 2)
        assert node.delivery(owed, "SC").state == "WAITING"
        broken.clear()
        assert wait_until(lambda: delivered(node.ledger, owed))
        assert set(peer.stored) == {owed.sc, owed.sr}
    assert datetime.now(UTC) > node.delivery(owed, "SC").due_at
