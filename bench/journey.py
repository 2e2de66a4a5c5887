"""A node whose journeys are measured: what goes in, what comes back, and when, as the ledger's journal has it."""

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

PATIENCE_SECONDS = 120.0
"""For one film."""


@contextmanager
def node(folder: Path, *, workers: int = 1) -> Iterator[Node]:
    """`genu run` with so many workers, and a destination that answers at once."""
    folder.mkdir()
    with destination(folder / "pacs") as pacs, running(folder, pacs, extra=f"[work]\nprocesses = {workers}\n") as made:
        yield made


@contextmanager
def destination(folder: Path) -> Iterator[Destination]:
    """DCMTK's storescp where it is installed, otherwise the demo PACS: what a PACS takes for itself is not measured."""
    folder.mkdir()
    if program_path("storescp"):
        with storescp(folder) as peer:
            yield Destination(name="pacs", ae_title=peer.ae_title, host=HOST, port=peer.port)
    else:
        with DemoPacs(folder) as pacs:
            yield Destination(name="pacs", ae_title=pacs.ae_title, host=HOST, port=pacs.port)


def receiver(made: Node) -> Destination:
    """The node, to send to."""
    receive = made.settings.receive
    return Destination(name="-", ae_title=receive.ae_title, host=HOST, port=receive.port, calling_ae_title="BENCH")


def await_delivered(ledger: Ledger, uids: Sequence[str]) -> None:
    """The destination has acknowledged both results of every film. Raises if a film ends otherwise or not at all."""
    deadline = time.monotonic() + PATIENCE_SECONDS * max(1, len(uids) / 10)
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


def moments(ledger: Ledger, uid: str) -> dict[str, list[datetime]]:
    """When what happened to a radiograph: received, claimed, reported, sent (each of its objects), delivered."""
    found: dict[str, list[datetime]] = {}
    for line in ledger.journal(uid):
        found.setdefault(line.what, []).append(line.at)
    if len(found.get("sent", ())) != len(DEFAULT_OBJECTS):
        told = " and ".join(DEFAULT_OBJECTS)
        raise RuntimeError(f"{len(found.get('sent', ()))} results of a film were sent, not one {told} each")
    return found
