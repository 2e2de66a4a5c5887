"""A connection before its association: it does the TLS handshake, if there is TLS, and sends one A-ASSOCIATE-RQ."""

import contextlib
import selectors
import socket
import ssl
import time

from node.receive.upper_layer import ABORT_PDU, CONTROL_PDU_LIMIT

_ASSOCIATE_RQ = 0x01


class ConnectionRejected(Exception):  # noqa: N818 - an outcome
    """The connection will not become an association. `reason` is the label that is counted."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.detail = detail


class PendingConnection:
    """
    Costs a descriptor and at most one PDU of memory, and no thread, however long it takes.

    So idle, slow and half-open connections do not take an association's place (PS3.8 leaves them to a timer).
    """

    def __init__(self, sock: socket.socket, host: str, tls: ssl.SSLContext | None) -> None:
        self.accepted_at = time.monotonic()
        self.host = host
        self.received = bytearray()
        """The bytes that the peer has sent, in the end exactly one A-ASSOCIATE-RQ."""
        self.sock = sock
        self._in_handshake = tls is not None
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # else each response waits 40 ms for an ACK
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if tls is not None:
            self.sock = tls.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)

    def advance(self) -> int:
        """
        Handshake and read as far as possible without blocking.

        Returns the selector's events to wait for, 0 when the A-ASSOCIATE-RQ is complete. Raises ConnectionRejected.
        """
        try:
            if self._in_handshake:
                self.sock.do_handshake()  # type: ignore[attr-defined]
                self._in_handshake = False
            while missing := self._missing_bytes():
                chunk = self.sock.recv(missing)
                if not chunk:
                    raise ConnectionRejected("left")
                self.received += chunk
        except (BlockingIOError, ssl.SSLWantReadError):
            return selectors.EVENT_READ
        except ssl.SSLWantWriteError:
            return selectors.EVENT_WRITE
        except ssl.SSLError as error:
            raise ConnectionRejected("tls", error.reason or "") from error
        except OSError as error:
            raise ConnectionRejected("tls" if self._in_handshake else "left") from error
        return 0

    def _missing_bytes(self) -> int:
        if len(self.received) < 6:
            return 6 - len(self.received)
        length = int.from_bytes(self.received[2:6], "big")
        if self.received[0] != _ASSOCIATE_RQ:
            raise ConnectionRejected("not_dicom")
        if length > CONTROL_PDU_LIMIT:
            raise ConnectionRejected("oversized")
        return 6 + length - len(self.received)

    @property
    def ae_titles(self) -> tuple[str, str]:
        """Called and calling AE title of the request (PS3.8 9.3.2), for the log."""
        called, calling = self.received[10:26], self.received[26:42]
        return called.decode("ascii", "replace").strip(), calling.decode("ascii", "replace").strip()

    def reject(self, pdu: bytes = ABORT_PDU) -> None:
        """Send `pdu`, if the socket takes it at once, and close the connection."""
        with contextlib.suppress(OSError):
            if not self._in_handshake and self.received:
                self.sock.send(pdu)
        with contextlib.suppress(OSError):
            self.sock.close()
