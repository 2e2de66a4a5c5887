"""A connection that is not an association yet: it has to shake hands, if that is asked, and to send one whole PDU."""

import contextlib
import selectors
import socket
import ssl
import time

from node.receive.upper_layer import ABORT, ASSOCIATE_LIMIT

_ASSOCIATE_RQ = 0x01


class Unwelcome(Exception):  # noqa: N818 - an outcome
    """The connection will not become an association. The text is the reason that is counted."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.detail = detail


class Newcomer:
    """
    Costs a descriptor and at most one PDU of memory, and no thread, however long it takes.

    So idle, slow and half-dead connections do not take an association's place (PS3.8 leaves them to a timer).
    """

    def __init__(self, sock: socket.socket, host: str, tls: ssl.SSLContext | None) -> None:
        self.since = time.monotonic()
        self.host = host
        self.first = bytearray()
        """What it has sent, in the end exactly one A-ASSOCIATE-RQ."""
        self.sock = sock
        self._shaking_hands = tls is not None
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # else each response waits 40 ms for an ACK
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if tls is not None:
            self.sock = tls.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)

    def advance(self) -> int:
        """The selector's events to wait for, 0 when the first PDU is whole. Never blocks. Raises Unwelcome."""
        try:
            if self._shaking_hands:
                self.sock.do_handshake()  # type: ignore[attr-defined]
                self._shaking_hands = False
            while wanted := self._wanted():
                chunk = self.sock.recv(wanted)
                if not chunk:
                    raise Unwelcome("left")
                self.first += chunk
        except (BlockingIOError, ssl.SSLWantReadError):
            return selectors.EVENT_READ
        except ssl.SSLWantWriteError:
            return selectors.EVENT_WRITE
        except ssl.SSLError as error:
            raise Unwelcome("tls", error.reason or "") from error
        except OSError as error:
            raise Unwelcome("tls" if self._shaking_hands else "left") from error
        return 0

    def _wanted(self) -> int:
        if len(self.first) < 6:
            return 6 - len(self.first)
        length = int.from_bytes(self.first[2:6], "big")
        if self.first[0] != _ASSOCIATE_RQ:
            raise Unwelcome("not_dicom")
        if length > ASSOCIATE_LIMIT:
            raise Unwelcome("oversized")
        return 6 + length - len(self.first)

    @property
    def titles(self) -> tuple[str, str]:
        """Called and calling AE title of the request (PS3.8 9.3.2), for the log."""
        called, calling = self.first[10:26], self.first[26:42]
        return called.decode("ascii", "replace").strip(), calling.decode("ascii", "replace").strip()

    def turn_away(self, last_word: bytes = ABORT) -> None:
        """It is closed; if there is room for a last word, that was said."""
        with contextlib.suppress(OSError):
            if not self._shaking_hands and self.first:
                self.sock.send(last_word)
        with contextlib.suppress(OSError):
            self.sock.close()
