"""
The listening socket: accepts connections, and hands on those that have sent a complete A-ASSOCIATE-RQ.

One thread, which never waits for any one peer: handshakes and first PDUs of all pending connections advance together.
"""

import contextlib
import selectors
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from node.errors import GenuError
from node.receive.pending_connection import ConnectionRejected, PendingConnection

log = structlog.get_logger()

_ACCEPTS_AT_ONCE = 64
_POLL_SECONDS = 0.25


@dataclass(frozen=True)
class PendingLimits:
    """How long a connection may be pending, and how many may be at a time."""

    seconds: float = 10
    total: int = 256
    per_host: int = 64


class Listener:
    """
    Calls `on_request` with each connection whose request is complete, and `on_rejected` with each that it rejects.

    At a limit the oldest pending connection is rejected: a real sender needs a moment, one that stays is idle or worse.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        tls: ssl.SSLContext | None,
        on_request: Callable[[PendingConnection], None],
        on_rejected: Callable[[PendingConnection, ConnectionRejected], None],
        limits: PendingLimits,
    ) -> None:
        self._tls, self._on_request, self._on_rejected, self._limits = tls, on_request, on_rejected, limits
        self._pending: dict[PendingConnection, None] = {}  # oldest first
        self._pending_of_host: Counter[str] = Counter()
        self._stopping = threading.Event()
        self._server = _listen(host, port)
        self.port: int = self._server.getsockname()[1]
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._server, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._run, name="listener", daemon=True)

    def start(self) -> None:
        """Accept connections, in a thread."""
        self._thread.start()

    def stop(self) -> None:
        """Reject the pending connections and close the port."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join(timeout=5)
        self._server.close()

    @property
    def pending_count(self) -> int:
        """How many connections are pending."""
        return len(self._pending)

    def _run(self) -> None:
        while not self._stopping.is_set():
            for key, _ in self._selector.select(_POLL_SECONDS):
                if key.data is None:
                    self._accept()
                elif key.data in self._pending:  # not rejected a moment ago
                    self._advance(key.data)
            self._expire()
        for connection in list(self._pending):
            self._reject(connection, ConnectionRejected("stopping"))
        self._selector.close()

    def _accept(self) -> None:
        for _ in range(_ACCEPTS_AT_ONCE):
            try:
                sock, address = self._server.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError:  # no descriptor left
                self._reject_oldest(None)
                time.sleep(_POLL_SECONDS / 5)
                return
            try:
                connection = PendingConnection(sock, plain_address(address[0]), self._tls)
            except OSError:  # closed by the peer already
                sock.close()
                continue
            self._enforce_limits(connection.host)
            self._pending[connection] = None
            self._pending_of_host[connection.host] += 1
            self._advance(connection)

    def _enforce_limits(self, host: str) -> None:
        if self._pending_of_host[host] >= self._limits.per_host:
            self._reject_oldest(host)
        elif len(self._pending) >= self._limits.total:
            self._reject_oldest(self._pending_of_host.most_common(1)[0][0])

    def _reject_oldest(self, host: str | None) -> None:
        for connection in self._pending:
            if host in (None, connection.host):
                self._reject(connection, ConnectionRejected("crowded"))
                return

    def _advance(self, connection: PendingConnection) -> None:
        try:
            events = connection.advance()
            if events == 0:
                self._remove(connection)
                self._on_request(connection)
            elif connection.sock.fileno() not in self._selector.get_map():
                self._selector.register(connection.sock, events, connection)
            else:
                self._selector.modify(connection.sock, events, connection)
        except ConnectionRejected as rejected:
            self._reject(connection, rejected)
        except OSError:
            self._reject(connection, ConnectionRejected("left"))
        except Exception as error:  # noqa: BLE001 - one connection must not close the port to all others
            log.error("listener_failed", error=type(error).__name__, host=connection.host)
            self._reject(connection, ConnectionRejected("internal"))

    def _expire(self) -> None:
        limit = time.monotonic() - self._limits.seconds
        for connection in list(self._pending):
            if connection.accepted_at > limit:
                break
            self._reject(connection, ConnectionRejected("stalled" if connection.received else "idle"))

    def _reject(self, connection: PendingConnection, rejected: ConnectionRejected) -> None:
        self._remove(connection)
        connection.reject()
        self._on_rejected(connection, rejected)

    def _remove(self, connection: PendingConnection) -> None:
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(connection.sock)
        if connection in self._pending:
            del self._pending[connection]
            self._pending_of_host[connection.host] -= 1
            if self._pending_of_host[connection.host] <= 0:
                del self._pending_of_host[connection.host]


def plain_address(address: str) -> str:
    """The address without a zone, and an IPv4 address that came through an IPv6 socket as IPv4."""
    return address.split("%")[0].removeprefix("::ffff:")


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        server = socket.socket(family, kind, protocol)
    except OSError as error:
        raise GenuError(f"cannot listen on {host}: {error.strerror}", hint="set [receive] host") from error
    try:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(address)
        server.listen(512)
        server.setblocking(False)
    except OSError as error:
        server.close()
        raise GenuError(
            f"cannot listen on {host} port {port}: {error.strerror}",
            hint="another program has the port, or it needs more rights; set [receive] port",
        ) from error
    return server
