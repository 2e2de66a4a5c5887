"""Receivers that can be measured: Genu, DCMTK's storescp and Orthanc, each a process of its own."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from node.broker import EmbeddedBroker
from node.settings import load
from tests.peers.archives import free_port, listens, orthanc, program_path, wait_until
from tests.peers.running_node import stop, write_settings

PDU = 131072


@dataclass(frozen=True)
class RunningReceiver:
    """A running receiver."""

    ae_title: str
    port: int
    stored: Callable[[], int]
    """Returns the number of objects that it has stored."""
    clear: Callable[[], None]
    """Deletes its objects, so that no measurement writes back what another left in the page cache."""


@dataclass(frozen=True)
class ReceiverType:
    """A receiver that can be started in a folder."""

    name: str
    durable: str
    """Where the object is when it answers 0x0000: on the disk, or in the page cache, which a power cut loses."""
    requires: str
    """The program that must be installed; empty if none."""
    start: Callable[[Path], AbstractContextManager[RunningReceiver]]


@contextmanager
def genu(folder: Path) -> Iterator[RunningReceiver]:
    """`genu receive`, with its ledger, vault and embedded broker, as in production."""
    file = write_settings(folder, [])
    port = load(file).receive.port
    command = [sys.executable, "-m", "node", "--settings", str(file), "receive"]
    (folder / "data").mkdir()
    stored = folder / "data" / "radiographs"
    with EmbeddedBroker(folder / "data") as broker, _process(folder, command, {"GENU__BROKER__URL": broker.url}, port):
        yield _on_disk("GENU", port, stored, "*/*.dcm")


def storescp(*options: str, nodelay: bool = False) -> Callable[[Path], AbstractContextManager[RunningReceiver]]:
    """DCMTK's storescp with these options; `nodelay` is the variable that switches Nagle's algorithm off."""

    @contextmanager
    def start(folder: Path) -> Iterator[RunningReceiver]:
        port, received = free_port(), folder / "received"
        received.mkdir()
        command = [program_path("storescp") or "storescp", "-od", str(received), *options, str(port)]
        environment = {"TCP_NODELAY": "1"} if nodelay else {}
        with _process(folder, command, environment, port):
            yield _on_disk("STORESCP", port, received, "*")

    return start


@contextmanager
def orthanc_fsync(folder: Path) -> Iterator[RunningReceiver]:
    """Orthanc that writes every object through to the disk before it answers (its default)."""
    with orthanc(folder, configuration={"SyncStorageArea": True, "MaximumPduLength": PDU}) as peer:

        def clear() -> None:
            for patient in peer.request("/patients"):
                peer.request(f"/patients/{patient}", method="DELETE")

        yield RunningReceiver("ORTHANC", peer.port, lambda: int(peer.request("/statistics")["CountInstances"]), clear)


DISK, CACHE = "disk", "cache"
RECEIVERS = (
    ReceiverType("Genu", DISK, "", genu),
    ReceiverType("Orthanc, fsync", DISK, "Orthanc", orthanc_fsync),
    ReceiverType("storescp, defaults", CACHE, "storescp", storescp()),
    ReceiverType("storescp, tuned", CACHE, "storescp", storescp("--max-pdu", str(PDU), nodelay=True)),
    ReceiverType(
        "storescp, tuned, +B --fork", CACHE, "storescp", storescp("--max-pdu", str(PDU), "+B", "--fork", nodelay=True)
    ),
)


def installed() -> tuple[list[ReceiverType], list[str]]:
    """The receivers that can be started here, and the programs that the others require."""
    found = [receiver for receiver in RECEIVERS if not receiver.requires or program_path(receiver.requires)]
    return found, sorted({receiver.requires for receiver in RECEIVERS if receiver not in found})


def _on_disk(ae_title: str, port: int, folder: Path, pattern: str) -> RunningReceiver:
    """A receiver that stores each object as a file in `folder`."""

    def clear() -> None:
        for path in folder.glob(pattern):
            path.unlink()

    return RunningReceiver(ae_title, port, lambda: sum(1 for _ in folder.glob(pattern)), clear)


@contextmanager
def _process(folder: Path, command: Sequence[str], variables: dict[str, str], port: int) -> Iterator[None]:
    """A server process that listens on `port`; it is stopped when the block is left."""
    environment = {name: value for name, value in os.environ.items() if name != "TCP_NODELAY"}
    log = folder / "server.log"
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, cwd=folder, env={**environment, **variables})
    try:
        wait_until(lambda: listens(port) or process.poll() is not None, 60)
        if process.poll() is not None or not listens(port):
            raise RuntimeError(f"{command[0]} did not start:\n{log.read_text(errors='replace')[-2000:]}")
        yield
    finally:
        stop(process)
