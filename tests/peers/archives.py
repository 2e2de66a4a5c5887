"""
Real peers for the tests: DCMTK's storescp and Orthanc, on free ports of loopback, ended by their process id.

    with storescp(tmp_path) as peer:            # or orthanc(tmp_path)
        ... send to peer.ae_title at peer.host:peer.port ...
        assert peer.wait_for(2)
        assert peer.received().keys() == {...}

Put `@needs("storescp")` on a test that starts one: it is then skipped by name where the program is absent.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.errors import InvalidDicomError

HOST = "127.0.0.1"
# pynetdicom brings tools that are called as DCMTK's are; any activated environment would put those first.
os.environ["PATH"] = os.pathsep.join(
    folder for folder in os.get_exec_path() if not (Path(folder).parent / "pyvenv.cfg").is_file()
)
SEARCH_PATH = os.pathsep.join((os.environ["PATH"], "/usr/sbin", "/usr/local/sbin"))


def program_path(program: str) -> str | None:
    """Return where `program` is installed (daemons such as Orthanc are in sbin), or None."""
    return shutil.which(program, path=SEARCH_PATH)


def needs(*programs: str) -> pytest.MarkDecorator:
    """Return the mark that skips a test by name where one of the programs is not installed."""
    absent = [program for program in programs if program_path(program) is None]
    return pytest.mark.skipif(bool(absent), reason=f"not installed: {', '.join(absent)}")


def free_port() -> int:
    """Return a free TCP port of loopback."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def wait_until(condition: Callable[[], Any], seconds: float = 15.0) -> bool:
    """Return True as soon as `condition` is true, or False after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def listens(port: int) -> bool:
    """Return whether a process accepts connections on that port."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((HOST, port)) == 0


@dataclass
class Peer:
    """A peer that runs as a process of its own."""

    ae_title: str
    port: int
    folder: Path
    process: "subprocess.Popen[bytes]"
    host: str = HOST

    def kill(self) -> None:
        """End it without notice, as a power failure would."""
        self._signal(signal.SIGKILL)
        self.process.wait(10)

    def pause(self) -> None:
        """Stop it by SIGSTOP: its port still accepts connections (the kernel does), and nothing answers."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Continue a paused one."""
        self._signal(signal.SIGCONT)

    def stop(self) -> None:
        """End it by SIGTERM, or by SIGKILL if it does not end."""
        self.resume()
        self._signal(signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.kill()

    def log(self) -> str:
        """Return what it wrote to its standard output and error."""
        return (self.folder / f"{self.ae_title}.log").read_text(errors="replace")

    def _signal(self, number: int) -> None:
        """Send a signal to the process and those it forked: it has a process group of its own."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, number)


class StoreSCP(Peer):
    """DCMTK's storescp; what it received is stored as files in `folder`/received."""

    @property
    def store(self) -> Path:
        return self.folder / "received"

    def received(self) -> dict[str, Path]:
        """Return the complete files it has, by SOP Instance UID."""
        found = {}
        for path in self.store.iterdir():
            try:
                dataset = pydicom.dcmread(path)
                found[str(dataset.SOPInstanceUID)] = path
            except (InvalidDicomError, AttributeError, EOFError, OSError):
                continue  # still being written
        return found

    def wait_for(self, count: int, seconds: float = 15.0) -> bool:
        """Return whether it has at least `count` objects within `seconds`."""
        return wait_until(lambda: len(self.received()) >= count, seconds)


@dataclass
class Orthanc(Peer):
    """Orthanc, queried over its REST interface."""

    http_port: int = 0

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.http_port}"

    def request(self, path: str, body: object | None = None, method: str | None = None) -> Any:
        """Return the JSON answer of GET `path`, or of POST `path` where a body is given."""
        return json.loads(self.fetch(path, body, method) or b"null")

    def fetch(self, path: str, body: object | None = None, method: str | None = None) -> bytes:
        """Return the answer's bytes."""
        data = None if body is None else json.dumps(body).encode()
        http_request = urllib.request.Request(f"{self.url}{path}", data=data, method=method)
        with urllib.request.urlopen(http_request, timeout=30) as answer:
            return bytes(answer.read())

    def instances(self) -> list[str]:
        """Return Orthanc's own identifiers of all instances it has."""
        return list(self.request("/instances"))

    def received(self) -> dict[str, str]:
        """Return Orthanc's identifiers by SOP Instance UID."""
        return {row["MainDicomTags"]["SOPInstanceUID"]: row["ID"] for row in self.request("/instances?expand")}

    def file(self, sop_instance_uid: str) -> bytes:
        """Return the Part 10 file of that instance."""
        return self.fetch(f"/instances/{self.received()[sop_instance_uid]}/file")

    def route(self, modality: str, identifiers: Sequence[str]) -> Any:
        """Send instances to one of the `modalities` it was started with."""
        return self.request(f"/modalities/{modality}/store", list(identifiers))

    def wait_for(self, count: int, seconds: float = 15.0) -> bool:
        """Return whether it has at least `count` instances within `seconds`."""
        return wait_until(lambda: len(self.instances()) >= count, seconds)


def _start(folder: Path, ae_title: str, command: Sequence[str]) -> "subprocess.Popen[bytes]":
    environment = {**os.environ, "TCP_NODELAY": "1"}  # DCMTK leaves Nagle on otherwise: 21 images a second
    with (folder / f"{ae_title}.log").open("ab") as log:
        return subprocess.Popen(
            command, stdout=log, stderr=subprocess.STDOUT, env=environment, cwd=folder, start_new_session=True
        )


def _wait_for_port(peer: Peer, port: int) -> None:
    if not wait_until(lambda: listens(port) or peer.process.poll() is not None, 30) or peer.process.poll() is not None:
        raise RuntimeError(f"{peer.ae_title} did not start:\n{peer.log()}")


@contextmanager
def storescp(folder: Path, *options: str, ae_title: str = "STORESCP", port: int = 0) -> Iterator[StoreSCP]:
    """Run a storescp until the block ends. `options` are its own: --refuse, --abort-during, +xa, --fork, +tls ..."""
    program = program_path("storescp")
    assert program is not None, "mark the test with @needs('storescp')"
    port = port or free_port()
    store = folder / "received"
    store.mkdir(parents=True, exist_ok=True)
    command = (program, "-aet", ae_title, "-od", str(store), "+B", "-pdu", "131072", *options, str(port))
    peer = StoreSCP(ae_title, port, folder, _start(folder, ae_title, command))
    try:
        _wait_for_port(peer, port)
        yield peer
    finally:
        peer.stop()


@contextmanager
def orthanc(
    folder: Path,
    *,
    ae_title: str = "ORTHANC",
    port: int = 0,
    modalities: Mapping[str, tuple[str, str, int]] | None = None,
    configuration: Mapping[str, object] | None = None,
) -> Iterator[Orthanc]:
    """
    Run an Orthanc with its storage in `folder` until the block ends; `configuration` overrides any key.

    `modalities` are those it can route to: {"genu": ("GENU", "127.0.0.1", 11112)}.
    """
    program = program_path("Orthanc")
    assert program is not None, "mark the test with @needs('Orthanc')"
    port, http_port = port or free_port(), free_port()
    folder.mkdir(parents=True, exist_ok=True)
    settings = {
        "Name": ae_title,
        "DicomAet": ae_title,
        "DicomPort": port,
        "HttpPort": http_port,
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "DicomAlwaysAllowStore": True,
        "UnknownSopClassAccepted": True,
        "SyncStorageArea": True,
        "HttpDescribeErrors": True,
        "DicomModalities": {name: list(triple) for name, triple in (modalities or {}).items()},
        "Plugins": [],
        **(configuration or {}),
    }
    (folder / "orthanc.json").write_text(json.dumps(settings, indent=1))
    peer = Orthanc(ae_title, port, folder, _start(folder, ae_title, (program, "orthanc.json")), http_port=http_port)
    try:
        _wait_for_port(peer, http_port)
        _wait_for_port(peer, port)
        yield peer
    finally:
        peer.stop()


@dataclass(frozen=True)
class Certificates:
    """A certification authority and what it signed, as PEM files."""

    ca: Path
    certificate: Path
    key: Path


def certificates(folder: Path, name: str = "genu") -> Certificates:
    """Return a new authority and one certificate of it for 127.0.0.1, for servers and clients."""
    program = program_path("openssl")
    assert program is not None, "mark the test with @needs('openssl')"
    folder.mkdir(parents=True, exist_ok=True)
    ca, ca_key, certificate, key, request, extensions = (
        folder / f"{name}-{part}" for part in ("ca.pem", "ca-key.pem", "cert.pem", "key.pem", "request.pem", "more.txt")
    )
    extensions.write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\nextendedKeyUsage=serverAuth,clientAuth\n")
    signed = ["-out", certificate, "-days", "2", "-extfile", extensions]
    new = ["-newkey", "rsa:2048", "-nodes"]
    for command in (
        ["req", "-x509", *new, "-keyout", ca_key, "-out", ca, "-days", "2", "-subj", f"/CN={name} test authority"],
        ["req", *new, "-keyout", key, "-out", request, "-subj", f"/CN={name}"],
        ["x509", "-req", "-in", request, "-CA", ca, "-CAkey", ca_key, "-CAcreateserial", *signed],
    ):
        subprocess.run([program, *map(str, command)], check=True, capture_output=True, timeout=60)
    return Certificates(ca, certificate, key)
