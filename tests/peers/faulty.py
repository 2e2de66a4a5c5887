"""Faults that no real peer makes on demand: a connection that breaks or stalls, an archive with given answers."""

import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from tests.peers.archives import HOST
from tests.samples.pending_deliveries import CLASSES


@dataclass
class Relay:
    """A TCP proxy to a real peer. After `limit` bytes towards it, it closes the connection or, with `stall`, stops."""

    target: int
    limit: int | None = None
    stall: bool = False
    connections: int = 0
    port: int = 0
    _sockets: list[socket.socket] = field(default_factory=list)

    def serve(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            self.connections += 1
            upstream = socket.socket()
            self._sockets += [client, upstream]
            if upstream.connect_ex((HOST, self.target)):
                client.close()
                upstream.close()
                continue
            for end in (client, upstream):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._copy, args=(client, upstream, self.limit), daemon=True).start()
            threading.Thread(target=self._copy, args=(upstream, client, None), daemon=True).start()

    def _copy(self, source: socket.socket, sink: socket.socket, limit: int | None) -> None:
        copied = 0
        with suppress(OSError):
            while data := source.recv(65536 if limit is None else max(1, min(65536, limit - copied))):
                sink.sendall(data)
                copied += len(data)
                if limit is not None and copied >= limit:
                    if self.stall:
                        return
                    break
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        for connection in self._sockets:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()


@contextmanager
def relay(target: int, *, limit: int | None = None, stall: bool = False) -> Iterator[Relay]:
    """Run a TCP proxy to the peer at that port."""
    with socket.create_server((HOST, 0)) as listener:
        proxy = Relay(target, limit, stall, port=listener.getsockname()[1])
        threading.Thread(target=proxy.serve, args=(listener,), daemon=True).start()
        yield proxy
        listener.shutdown(socket.SHUT_RDWR)
        proxy.close()


@contextmanager
def silent_port() -> Iterator[int]:
    """Listen on a port that accepts every connection and never sends anything."""
    with socket.create_server((HOST, 0)) as listener:
        yield int(listener.getsockname()[1])


@dataclass
class Archive:
    """An archive that answers each C-STORE with the status that `answer` returns for its SOP Instance UID."""

    answer: Callable[[str], int]
    port: int = 0
    stored: list[str] = field(default_factory=list)
    """SOP Instance UIDs, once for each request."""
    syntaxes: list[str] = field(default_factory=list)
    association: Association | None = None
    """The one of the last object."""

    def store(self, event: evt.Event) -> int:
        uid = str(event.request.AffectedSOPInstanceUID)
        self.association = event.assoc
        status = self.answer(uid)
        if status < 0:
            event.assoc.abort()
        self.stored.append(uid)
        self.syntaxes.append(str(event.context.transfer_syntax))
        return max(status, 0)


def _no_delay(event: evt.Event) -> None:
    """Set TCP_NODELAY: otherwise every answer waits 40 ms for the client's delayed acknowledgement."""
    event.assoc.dul.socket.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


@contextmanager
def archive(
    answer: Callable[[str], int] = lambda uid: 0,
    *,
    classes: Sequence[str] = tuple(CLASSES.values()),
    syntaxes: Sequence[str] = (ExplicitVRLittleEndian, ImplicitVRLittleEndian),
) -> Iterator[Archive]:
    """Run an archive in this process; an answer below zero aborts the association."""
    scp = Archive(answer)
    ae = AE(ae_title="ARCHIVE")
    ae.add_supported_context(Verification)
    for sop_class in classes:
        ae.add_supported_context(sop_class, list(syntaxes))
    handlers = [(evt.EVT_C_STORE, scp.store), (evt.EVT_CONN_OPEN, _no_delay)]
    server = ae.start_server((HOST, 0), block=False, evt_handlers=handlers)
    assert server is not None
    scp.port = server.socket.getsockname()[1]
    try:
        yield scp
    finally:
        server.shutdown()
