"""
The listening socket: takes connections, and hands on those that have sent a whole A-ASSOCIATE-RQ.

One thread, which never waits for any one peer: handshakes and first PDUs of all newcomers advance side by side.
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
from node.receive.pending_connection import Newcomer, Unwelcome

log = structlog.get_logger()

_ACCEPTS_AT_ONCE = 64
_LOOK_UP_SECONDS = 0.25


@dataclass(frozen=True)
class Room:
    """How many newcomers wait at a time, and how long."""

    seconds: float = 10
    in_all: int = 256
    of_one_host: int = 64


class Listener:
    """
    Calls `welcome` with each newcomer whose request is whole, and `unwelcome` with each that will have none.

    A full room loses its oldest: a real sender needs a moment, one that stays is idle or worse.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        tls: ssl.SSLContext | None,
        welcome: Callable[[Newcomer], None],
        unwelcome: Callable[[Newcomer, Unwelcome], None],
        room: Room,
    ) -> None:
        self._tls, self._welcome, self._unwelcome, self._room = tls, welcome, unwelcome, room
        self._newcomers: dict[Newcomer, None] = {}  # oldest first
        self._of_host: Counter[str] = Counter()
        self._stopping = threading.Event()
        self._server = _listen(host, port)
        self.port: int = self._server.getsockname()[1]
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._server, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._run, name="listener", daemon=True)

    def start(self) -> None:
        """Connections are taken."""
        self._thread.start()

    def stop(self) -> None:
        """The port is free and nobody waits any more."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join(timeout=5)
        self._server.close()

    @property
    def waiting(self) -> int:
        """How many newcomers there are."""
        return len(self._newcomers)

    def _run(self) -> None:
        while not self._stopping.is_set():
            for key, _ in self._selector.select(_LOOK_UP_SECONDS):
                if key.data is None:
                    self._accept()
                elif key.data in self._newcomers:  # not sent away a moment ago
                    self._advance(key.data)
            self._expire()
        for newcomer in list(self._newcomers):
            self._send_away(newcomer, Unwelcome("stopping"))
        self._selector.close()

    def _accept(self) -> None:
        for _ in range(_ACCEPTS_AT_ONCE):
            try:
                sock, address = self._server.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError:  # no descriptor left
                self._send_away_oldest(None)
                time.sleep(_LOOK_UP_SECONDS / 5)
                return
            try:
                newcomer = Newcomer(sock, plain_address(address[0]), self._tls)
            except OSError:  # gone before we looked
                sock.close()
                continue
            self._make_room(newcomer.host)
            self._newcomers[newcomer] = None
            self._of_host[newcomer.host] += 1
            self._advance(newcomer)

    def _make_room(self, host: str) -> None:
        if self._of_host[host] >= self._room.of_one_host:
            self._send_away_oldest(host)
        elif len(self._newcomers) >= self._room.in_all:
            self._send_away_oldest(self._of_host.most_common(1)[0][0])

    def _send_away_oldest(self, host: str | None) -> None:
        for newcomer in self._newcomers:
            if host in (None, newcomer.host):
                self._send_away(newcomer, Unwelcome("crowded"))
                return

    def _advance(self, newcomer: Newcomer) -> None:
        try:
            events = newcomer.advance()
            if events == 0:
                self._forget(newcomer)
                self._welcome(newcomer)
            elif newcomer.sock.fileno() not in self._selector.get_map():
                self._selector.register(newcomer.sock, events, newcomer)
            else:
                self._selector.modify(newcomer.sock, events, newcomer)
        except Unwelcome as unwelcome:
            self._send_away(newcomer, unwelcome)
        except OSError:
            self._send_away(newcomer, Unwelcome("left"))
        except Exception as error:  # noqa: BLE001 - one newcomer must not close the port to all others
            log.error("listener_fault", error=type(error).__name__, host=newcomer.host)
            self._send_away(newcomer, Unwelcome("internal"))

    def _expire(self) -> None:
        limit = time.monotonic() - self._room.seconds
        for newcomer in list(self._newcomers):
            if newcomer.since > limit:
                break
            self._send_away(newcomer, Unwelcome("stalled" if newcomer.first else "idle"))

    def _send_away(self, newcomer: Newcomer, unwelcome: Unwelcome) -> None:
        self._forget(newcomer)
        newcomer.turn_away()
        self._unwelcome(newcomer, unwelcome)

    def _forget(self, newcomer: Newcomer) -> None:
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(newcomer.sock)
        if newcomer in self._newcomers:
            del self._newcomers[newcomer]
            self._of_host[newcomer.host] -= 1
            if self._of_host[newcomer.host] <= 0:
                del self._of_host[newcomer.host]


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
