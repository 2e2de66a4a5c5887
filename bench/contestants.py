"""Receivers that can be measured: Genu's as it is shipped, DCMTK's storescp and Orthanc, each a process of its own."""

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
class Receiving:
    """A receiver that runs."""

    ae_title: str
    port: int
    stored: Callable[[], int]
    """How many objects it has."""
    forget: Callable[[], None]
    """What it has is gone from the disk, so that no measurement writes back what another left in the cache."""


@dataclass(frozen=True)
class Contestant:
    """A receiver that can be started in a folder."""

    name: str
    durable: str
    """When it answers 0x0000: with the object on the disk, or in the kernel's cache, gone in a power cut."""
    needs: str
    start: Callable[[Path], AbstractContextManager[Receiving]]


@contextmanager
def genu(folder: Path) -> Iterator[Receiving]:
    """`genu receive`, with the ledger, the vault and the embedded broker that it has in a hospital."""
    file = write_settings(folder, [])
    port = load(file).receive.port
    command = [sys.executable, "-m", "node", "--settings", str(file), "receive"]
    (folder / "data").mkdir()
    kept = folder / "data" / "radiographs"
    with EmbeddedBroker(folder / "data") as broker, _process(folder, command, {"GENU__BROKER__URL": broker.url}, port):
        yield _on_disk("GENU", port, kept, "*/*.dcm")


def storescp(*options: str, nodelay: bool = False) -> Callable[[Path], AbstractContextManager[Receiving]]:
    """DCMTK's storescp with these options; `nodelay` is the variable that switches Nagle's algorithm off."""

    @contextmanager
    def start(folder: Path) -> Iterator[Receiving]:
        port, received = free_port(), folder / "received"
        received.mkdir()
        command = [program_path("storescp") or "storescp", "-od", str(received), *options, str(port)]
        environment = {"TCP_NODELAY": "1"} if nodelay else {}
        with _process(folder, command, environment, port):
            yield _on_disk("STORESCP", port, received, "*")

    return start


@contextmanager
def orthanc_fsync(folder: Path) -> Iterator[Receiving]:
    """Orthanc that writes every object through to the disk before it answers (its default)."""
    with orthanc(folder, configuration={"SyncStorageArea": True, "MaximumPduLength": PDU}) as peer:

        def forget() -> None:
            for patient in peer.request("/patients"):
                peer.request(f"/patients/{patient}", method="DELETE")

        yield Receiving("ORTHANC", peer.port, lambda: int(peer.request("/statistics")["CountInstances"]), forget)


DISK, CACHE = "disk", "cache"
ALL = (
    Contestant("Genu", DISK, "", genu),
    Contestant("Orthanc, fsync", DISK, "Orthanc", orthanc_fsync),
    Contestant("storescp, defaults", CACHE, "storescp", storescp()),
    Contestant("storescp, tuned", CACHE, "storescp", storescp("--max-pdu", str(PDU), nodelay=True)),
    Contestant(
        "storescp, tuned, +B --fork", CACHE, "storescp", storescp("--max-pdu", str(PDU), "+B", "--fork", nodelay=True)
    ),
)


def installed() -> tuple[list[Contestant], list[str]]:
    """Those that can be started here, and the names of the programs that the others lack."""
    here = [each for each in ALL if not each.needs or program_path(each.needs)]
    return here, sorted({each.needs for each in ALL if each not in here})


def _on_disk(ae_title: str, port: int, folder: Path, pattern: str) -> Receiving:
    """A receiver that keeps each object as a file of `folder`."""

    def forget() -> None:
        for path in folder.glob(pattern):
            path.unlink()

    return Receiving(ae_title, port, lambda: sum(1 for _ in folder.glob(pattern)), forget)


@contextmanager
def _process(folder: Path, command: Sequence[str], variables: dict[str, str], port: int) -> Iterator[None]:
    """A server that listens on `port`; it is ended by its process id."""
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
