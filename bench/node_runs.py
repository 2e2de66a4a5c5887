"""A running node to measure: its destination, its receiver, and the times of events in the ledger's journal."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from node.demo import DemoPacs
from node.ledger import Ledger
from node.settings import DEFAULT_OBJECTS, Destination
from tests.peers.archives import HOST, program_path, storescp
from tests.peers.running_node import Node, running

TIMEOUT_SECONDS = 120.0
"""For one film."""


@contextmanager
def node(folder: Path, *, workers: int = 1) -> Iterator[Node]:
    """`genu run` with `workers` workers, and a destination that answers at once."""
    folder.mkdir()
    with (
        destination(folder / "pacs") as pacs,
        running(folder, pacs, extra=f"[work]\nprocesses = {workers}\n") as running_node,
    ):
        yield running_node


@contextmanager
def destination(folder: Path) -> Iterator[Destination]:
    """DCMTK's storescp if it is installed, otherwise the demo PACS: both answer at once."""
    folder.mkdir()
    if program_path("storescp"):
        with storescp(folder) as peer:
            yield Destination(name="pacs", ae_title=peer.ae_title, host=HOST, port=peer.port)
    else:
        with DemoPacs(folder) as pacs:
            yield Destination(name="pacs", ae_title=pacs.ae_title, host=HOST, port=pacs.port)


def receiver(running_node: Node) -> Destination:
    """The receiver of the node, as a destination."""
    receive = running_node.settings.receive
    return Destination(name="-", ae_title=receive.ae_title, host=HOST, port=receive.port, calling_ae_title="BENCH")


def await_delivered(ledger: Ledger, uids: Sequence[str]) -> None:
    """Wait until all results are acknowledged. Raises RuntimeError if a film ends otherwise, or takes too long."""
    deadline = time.monotonic() + TIMEOUT_SECONDS * max(1, len(uids) / 10)
    open_uids = list(uids)
    while open_uids:
        entry = ledger.find(open_uids[-1])
        state = entry.state.value if entry else "unknown"
        if state in ("DELIVERED", "CONFIRMED"):
            open_uids.pop()
        elif state in ("FAILED", "NOT_ANALYSED") or time.monotonic() > deadline:
            raise RuntimeError(f"a film of the bench is {state}: {entry.reason if entry else 'never received'}")
        else:
            time.sleep(0.1)


def event_times(ledger: Ledger, uid: str) -> dict[str, list[datetime]]:
    """Times of the events of a radiograph: received, claimed, reported, sent (of each object), delivered."""
    times: dict[str, list[datetime]] = {}
    for event in ledger.journal(uid):
        times.setdefault(event.what, []).append(event.at)
    if len(times.get("sent", ())) != len(DEFAULT_OBJECTS):
        expected = " and ".join(DEFAULT_OBJECTS)
        raise RuntimeError(f"{len(times.get('sent', ()))} results of a film were sent, not one {expected} each")
    return times
