"""A running Storage SCP, objects to send to it, and an SCU that writes PDUs byte by byte, malformed ones too."""

import hashlib
import itertools
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import Dataset, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, generate_uid

from node.ledger import Ledger
from node.receive import StorageScp
from node.settings import Settings
from node.storage import Vault
from tests.paths import ROOT
from tests.peers.archives import HOST, free_port

DX = str(DigitalXRayImageStorageForPresentation)
VERIFICATION = "1.2.840.10008.1.1"
EXPLICIT = str(ExplicitVRLittleEndian)
CANARY = "Canary^Knee"


def film(side: int = 64, *, seed: int = 0, **attributes: object) -> Dataset:
    """A small DX object with noise for pixels."""
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID = DX, generate_uid()
    ds.StudyInstanceUID, ds.SeriesInstanceUID = generate_uid(), generate_uid()
    ds.Modality, ds.PatientName, ds.PatientID = "DX", CANARY, "P-CANARY"
    ds.Rows = ds.Columns = side
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PixelRepresentation = 1, "MONOCHROME2", 0
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 8, 8, 7
    ds.PixelData = np.random.default_rng(seed).integers(0, 256, (side, side), dtype=np.uint8).tobytes()
    for name, value in attributes.items():
        if value is ...:
            delattr(ds, name)
        else:
            setattr(ds, name, value)
    return ds


def encoded(dataset: Dataset, *, implicit: bool = False, big: bool = False) -> bytes:
    """The data set's bytes in an uncompressed syntax."""
    stream = DicomBytesIO()
    stream.is_implicit_VR, stream.is_little_endian = implicit, not big
    write_dataset(stream, dataset)
    return stream.getvalue()


def part10(dataset: Dataset, path: Path) -> Path:
    """The data set as a file, explicit little endian."""
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dcmwrite(path, dataset, enforce_file_format=True)
    return path


def data_set_of(path: Path) -> bytes:
    """The bytes after the file meta information."""
    content = path.read_bytes()
    assert content[:132] == bytes(128) + b"DICM"
    return content[144 + struct.unpack("<I", content[140:144])[0] :]


class FakePublisher:
    """Records what is published."""

    def __init__(self) -> None:
        self.published: list[str] = []

    def publish(self, uid: str) -> bool:
        self.published.append(uid)
        return True


@dataclass
class RunningScp:
    """A running Storage SCP and what it was given."""

    scp: StorageScp
    vault: Vault
    ledger: Ledger
    publisher: FakePublisher
    settings: Settings

    @property
    def port(self) -> int:
        return self.scp.port

    def connect(self, **parameters: Any) -> "RawScu":
        return RawScu(self.port, **parameters)

    def answers_echo(self) -> bool:
        """Whether a C-ECHO on a new association succeeds."""
        try:
            with self.connect(contexts=[(1, VERIFICATION, [EXPLICIT])]) as caller:
                return caller.echo() == 0
        except (OSError, AssertionError):
            return False

    def spool_files(self) -> list[Path]:
        return list(self.vault.spool.iterdir())

    def stored_files(self) -> list[Path]:
        return [path for path in (self.vault.folder / "radiographs").rglob("*") if path.is_file()]


@contextmanager
def running_scp(
    folder: Path,
    *,
    ledger: type[Ledger] = Ledger,
    publisher: Any = None,
    storage: dict[str, Any] | None = None,
    **receive: Any,
) -> Iterator[RunningScp]:
    """A Storage SCP on a free port with a real vault and a real ledger."""
    settings = Settings(
        storage={"folder": folder, "min_free_mb": 1, **(storage or {})},
        source=receive.pop("source", ()),
        receive={"port": free_port(), **receive},
    )
    vault = Vault(folder)
    opened = ledger(settings.database_url)
    opened.upgrade()
    publisher = publisher or FakePublisher()
    scp = StorageScp(settings, vault, opened, publisher.publish)
    scp.start()
    try:
        yield RunningScp(scp, vault, opened, publisher, settings)
    finally:
        scp.stop()
        opened.close()


class RawScu:
    """An SCU that sends the bytes that a test gives it, well-formed or not."""

    def __init__(
        self,
        port: int,
        *,
        contexts: Sequence[tuple[int, str, list[str]]] = ((1, DX, [EXPLICIT]),),
        called: str = "GENU",
        calling: str = "RUDE",
        wrap: Any = None,
    ) -> None:
        self.sock = socket.create_connection((HOST, port), timeout=20)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if wrap is not None:
            self.sock = wrap(self.sock)
        self._contexts, self._called, self._calling = contexts, called, calling
        self._message_id = itertools.count(1)

    def __enter__(self) -> "RawScu":
        kind, body = self.associate()
        assert kind == 2, f"not accepted: {kind} {body.hex()}"
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def associate(self) -> tuple[int, bytes]:
        """The answer's type and body."""
        self.send(associate_rq(self._contexts, self._called, self._calling))
        return self.receive()

    def release(self) -> None:
        self.send(pdu(5, bytes(4)))
        assert self.receive()[0] == 6
        self.close()

    def close(self) -> None:
        with suppress(OSError):
            self.sock.close()

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def receive(self) -> tuple[int, bytes]:
        """The next PDU's type and body; (0, b"") when the connection is closed."""
        try:
            header = self._receive_exactly(6)
            return header[0], self._receive_exactly(struct.unpack(">I", header[2:])[0])
        except (ConnectionError, EOFError):
            return 0, b""

    def is_aborted(self) -> bool:
        """Whether the peer ends it, by A-ABORT or by closing the connection, without a response."""
        return self.receive()[0] in (0, 7)

    def echo(self, **command: Any) -> int:
        self.send(data(command_set(field=0x30, message_id=next(self._message_id), sop_class=VERIFICATION, **command)))
        return self.status()

    def store(self, content: bytes, uid: str, *, sop_class: str = DX, context: int = 1) -> int:
        """The status of one C-STORE of those bytes."""
        self.announce(uid, sop_class=sop_class, context=context)
        self.send(data_set(content, context=context))
        return self.status()

    def announce(self, uid: str, *, sop_class: str = DX, context: int = 1) -> None:
        command = command_set(field=1, message_id=next(self._message_id), sop_class=sop_class, uid=uid, with_data=True)
        self.send(data(command, context=context))

    def status(self) -> int:
        kind, body = self.receive()
        assert kind == 4, f"no response but {kind} {body.hex()}"
        at = body.index(b"\0\0\0\x09\2\0\0\0")  # (0000,0900), two bytes
        return int(struct.unpack("<H", body[at + 8 : at + 10])[0])

    def _receive_exactly(self, count: int) -> bytes:
        received = b""
        while len(received) < count:
            chunk = self.sock.recv(count - len(received))
            if not chunk:
                raise EOFError
            received += chunk
        return received


def pdu(kind: int, body: bytes) -> bytes:
    return struct.pack(">BBI", kind, 0, len(body)) + body


def data(content: bytes, *, context: int = 1, header: int = 3) -> bytes:
    """A P-DATA-TF with one value; header 3 is a whole command, 2 the last of a data set, 0 one before."""
    return pdu(4, struct.pack(">IBB", len(content) + 2, context, header) + content)


def data_set(content: bytes, *, context: int = 1, step: int = 65536) -> bytes:
    """The P-DATA-TFs of a whole data set."""
    pieces = [content[at : at + step] for at in range(0, len(content), step)] or [b""]
    return b"".join(
        data(piece, context=context, header=2 if last else 0)
        for piece, last in zip(pieces, [*[False] * (len(pieces) - 1), True], strict=True)
    )


def command_set(
    *, field: int, message_id: int = 1, sop_class: str = DX, uid: str | bytes = "", with_data: bool = False
) -> bytes:
    def element(number: int, value: bytes) -> bytes:
        return struct.pack("<HHI", 0, number, len(value)) + value

    def text(value: str | bytes) -> bytes:
        raw = value if isinstance(value, bytes) else value.encode()
        return raw + b"\0" * (len(raw) % 2)

    elements = element(0x0002, text(sop_class)) + element(0x0100, struct.pack("<H", field))
    elements += element(0x0110, struct.pack("<H", message_id)) + element(0x0700, b"\0\0")
    elements += element(0x0800, struct.pack("<H", 1 if with_data else 0x0101))
    if uid:
        elements += element(0x1000, text(uid))
    return element(0x0000, struct.pack("<I", len(elements))) + elements


def associate_rq(contexts: Sequence[tuple[int, str, list[str]]], called: str = "GENU", calling: str = "RUDE") -> bytes:
    def item(kind: int, body: bytes) -> bytes:
        return struct.pack(">BBH", kind, 0, len(body)) + body

    body = struct.pack(">HH16s16s32x", 1, 0, called.ljust(16).encode(), calling.ljust(16).encode())
    body += item(0x10, b"1.2.840.10008.3.1.1.1")
    for number, abstract, syntaxes in contexts:
        inner = item(0x30, abstract.encode()) + b"".join(item(0x40, syntax.encode()) for syntax in syntaxes)
        body += item(0x20, struct.pack(">BBBB", number, 0, 0, 0) + inner)
    body += item(0x50, item(0x51, struct.pack(">I", 16384)) + item(0x52, b"1.2.3.4.5"))
    return pdu(1, body)


SCP_PROGRAM = """
import resource, sys, threading
from pathlib import Path
from node.ledger import Ledger
from node.receive import StorageScp
from node.settings import Settings
from node.storage import Vault
folder, port, limits = Path(sys.argv[1]), int(sys.argv[2]), eval(sys.argv[3])
settings = Settings(storage={"folder": folder, "min_free_mb": 0}, receive={"port": port})
vault, ledger = Vault(folder), Ledger(settings.database_url)
ledger.upgrade()
for name, value in limits.items():
    resource.setrlimit(getattr(resource, name), (value, resource.getrlimit(getattr(resource, name))[1]))
StorageScp(settings, vault, ledger, lambda uid: True).start()
print("up", flush=True)
threading.Event().wait()
"""


@dataclass
class ScpProcess:
    """A Storage SCP in a process of its own."""

    folder: Path
    limits: dict[str, int] = field(default_factory=dict)
    port: int = field(default_factory=free_port)
    process: Any = None

    def start(self) -> None:
        self.folder.mkdir(exist_ok=True)
        code = [sys.executable, "-c", SCP_PROGRAM, str(self.folder), str(self.port), repr(self.limits)]
        self.process = subprocess.Popen(code, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=ROOT, text=True)
        output = ""
        while (line := self.process.stdout.readline()) != "up\n":
            output += line
            assert line, f"it ended: {output}"
        threading.Thread(target=self.process.stdout.read, daemon=True).start()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)

    def __enter__(self) -> "ScpProcess":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
