"""
The DICOM upper layer (PS3.8) of an incoming association, with deadlines and limits.

pynetdicom 3.0.4 reads a PDU of any length with no time limit, and polls for work a thousand times a second. Here a
PDU is bounded in bytes and in time, its bytes are copied once, and the thread sleeps until there is something to do.
"""

import contextlib
import queue
import select
import socket
import ssl
import time
from collections.abc import Callable
from typing import Any, cast

from pynetdicom.association import Association
from pynetdicom.dul import DULServiceProvider
from pynetdicom.timer import Timer
from pynetdicom.transport import AssociationSocket

CONTROL_PDU_LIMIT = 131072
"""Longest PDU other than P-DATA-TF, in bytes; 128 contexts with 13 transfer syntaxes each need half of it."""

ABORT_PDU = bytes.fromhex("07000000000400000206")
"""An A-ABORT by the service provider: invalid PDU parameter value (PS3.8 9.3.8)."""

_P_DATA_TF = 0x04
_PDU_SLACK_BYTES = 4096
"""Some peers count headers in, some do not, when they fill a PDU up to the negotiated maximum."""
_MIN_BYTES_PER_SECOND = 65536
"""What a peer must reach over a PDU, on top of the time that every PDU has."""
_POLL_SECONDS = 0.25
"""How long the thread sleeps at most: timers are checked when it wakes."""
_DRAIN_BYTES = 1048576
_DRAIN_SECONDS = 2.0


class PDURefused(Exception):  # noqa: N818 - an outcome
    """A PDU is not read to its end; the text is the reason that is counted."""


class MonotonicTimer(Timer):
    """A timer that a step of the wall clock does not change."""

    @property
    def remaining(self) -> float:
        """Seconds until it expires, negative afterwards; 1 if it never does."""
        if self.timeout is None:
            return 1
        if self._start_time is None:
            return self.timeout
        end = time.monotonic() if self._end_time is None else self._end_time
        return self.timeout - (end - self._start_time)

    def start(self) -> None:
        """Start it, from now."""
        self._start_time, self._end_time = time.monotonic(), None

    def stop(self) -> None:
        """Stop it: `remaining` is constant from now."""
        self._end_time = time.monotonic()


class DataTransfer:
    """A P-DATA-TF PDU as views into the bytes that were read: what `pynetdicom.pdu.P_DATA_TF` copies four times."""

    def __init__(self, pdu: bytearray) -> None:
        self.values: list[tuple[int, memoryview]] = []
        """Read the items. `values` are presentation context ID and fragment. Raises ValueError for a malformed PDU."""
        view, at = memoryview(pdu), 6
        while at < len(pdu):
            length = int.from_bytes(view[at : at + 4], "big")
            if length < 2 or at + 4 + length > len(pdu):
                raise ValueError("a presentation data value does not fit its PDU")
            self.values.append((view[at + 4], view[at + 5 : at + 4 + length]))
            at += 4 + length

    def to_primitive(self) -> "DataTransfer":
        """Return itself: the state machine hands it on to the DIMSE provider."""
        return self


class DeadlineSocket(AssociationSocket):
    """The socket of an association. `received` are bytes that were read from it before the association."""

    def __init__(
        self, assoc: Association, sock: socket.socket, *, received: bytes, stall_seconds: float, max_pdu_bytes: int
    ) -> None:
        super().__init__(assoc, client_socket=sock)
        self._buffered = memoryview(received)
        self._stall_seconds = stall_seconds
        self._max_data_pdu = max_pdu_bytes + _PDU_SLACK_BYTES
        self._drained = 0
        self._drained_since: float | None = None
        self._wake_reader, self._wake_writer = socket.socketpair()
        for end in (self._wake_reader, self._wake_writer):
            end.setblocking(False)
        self._poll = select.poll()  # select.select ends at file descriptor 1023
        self._poll.register(sock, select.POLLIN)
        self._poll.register(self._wake_reader, select.POLLIN)

    def wake(self) -> None:
        """End the wait of the thread that is in `ready`."""
        with contextlib.suppress(OSError):
            self._wake_writer.send(b"\0")

    @property
    def ready(self) -> bool:
        """Whether there is something to read. Waits for it, until `wake` or for `_POLL_SECONDS`."""
        sock = self.socket
        if sock is None:
            time.sleep(0.01)
            return False
        if self._buffered or (isinstance(sock, ssl.SSLSocket) and sock.pending()):
            return True
        readable = False
        for descriptor, _ in self._poll.poll(_POLL_SECONDS * 1000):
            if descriptor == self._wake_reader.fileno():
                with contextlib.suppress(OSError):
                    self._wake_reader.recv(4096)
            else:
                readable = True
        return readable

    def read_pdu(self) -> bytearray | None:
        """Return the next PDU with its header; None when the peer closed. Raises PDURefused, OSError."""
        deadline = time.monotonic() + self._stall_seconds
        header = bytearray(6)
        if not self._fill(memoryview(header), deadline):
            return None
        length = int.from_bytes(header[2:6], "big")
        if not 1 <= header[0] <= 7:
            raise PDURefused("garbage")
        if length > (self._max_data_pdu if header[0] == _P_DATA_TF else CONTROL_PDU_LIMIT):
            raise PDURefused("oversized")
        pdu = bytearray(6 + length)
        pdu[:6] = header
        complete = self._fill(memoryview(pdu)[6:], deadline + length / _MIN_BYTES_PER_SECOND)
        return pdu if complete else None

    def _fill(self, view: memoryview, deadline: float) -> bool:
        while view:
            if self._buffered:
                count = min(len(view), len(self._buffered))
                view[:count] = self._buffered[:count]
                self._buffered = self._buffered[count:]
            else:
                count = self._receive(view, deadline)
            if count == 0:
                return False
            view = view[count:]
        return True

    def _receive(self, view: memoryview, deadline: float) -> int:
        sock = self.socket
        if sock is None:
            return 0
        # After the deadline, bytes in the buffer still count: on a busy machine this process may be the late one.
        sock.settimeout(max(deadline - time.monotonic(), 0))
        try:
            return sock.recv_into(view)
        except (TimeoutError, BlockingIOError, ssl.SSLWantReadError) as error:
            raise PDURefused("stalled") from error

    def send(self, bytestream: bytes) -> None:
        """Send all of it, or treat the connection as closed: a peer that does not read must not block the thread."""
        try:
            sock = cast(socket.socket, self.socket)
            sock.settimeout(self._stall_seconds)
            sock.sendall(bytestream)
        except Exception:  # noqa: BLE001 - as the library does: the peer cannot be reached
            self.event_queue.put("Evt17")

    def drain(self) -> bool:
        """
        Read and drop what still arrives after the association ended. Returns False when it is time to close.

        To close with bytes unread would reset the connection, and the peer might never receive the last PDU.
        """
        sock = self.socket
        now = time.monotonic()
        self._drained_since = self._drained_since or now
        if sock is None or self._drained > _DRAIN_BYTES or now - self._drained_since > _DRAIN_SECONDS:
            return False
        self._buffered = memoryview(b"")
        try:
            sock.settimeout(_POLL_SECONDS)
            count = len(sock.recv(65536))
        except OSError:
            return False
        self._drained += count
        return count > 0

    def _shutdown_socket(self) -> None:
        """Shut down and close the socket. pynetdicom does not close one whose peer closed first."""
        sock = self.socket
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            with contextlib.suppress(OSError):
                sock.close()

    def dispose(self) -> None:
        """Close all descriptors. Call it only when no thread is in `ready`."""
        self._shutdown_socket()
        self._wake_reader.close()
        self._wake_writer.close()


class _WakingQueue(queue.Queue[Any]):
    """A queue that calls `wake` after each item that is put in."""

    def __init__(self, wake: Callable[[], None]) -> None:
        super().__init__()
        self._wake = wake

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        super().put(item, block, timeout)
        self._wake()


class UpperLayer(DULServiceProvider):
    """The PS3.8 thread of one peer. `on_abort` is called with the reason when this thread aborts the association."""

    def __init__(self, assoc: Association, *, on_abort: Callable[[str], None]) -> None:
        super().__init__(assoc)
        self.daemon = True
        self._run_loop_delay = 0.0  # `DeadlineSocket.ready` waits instead
        self._idle_timer = MonotonicTimer(60)
        self.artim_timer = MonotonicTimer(30)
        self._on_abort = on_abort
        # The association waits at the DIMSE provider's queue; (None, None) there makes it check its state.
        self.to_user_queue = _WakingQueue(lambda: assoc.dimse.msg_queue.put((None, None)))

    @property
    def transport(self) -> DeadlineSocket:
        """The connection."""
        return cast(DeadlineSocket, self.socket)

    def send_pdu(self, primitive: Any) -> None:
        """Queue the primitive and wake the thread, which sends it."""
        super().send_pdu(primitive)
        self.transport.wake()

    def idle_timer_expired(self) -> bool:
        """Whether the peer has sent nothing for too long."""
        expired = super().idle_timer_expired()
        if expired:
            self._on_abort("idle")
        return expired

    def run_reactor(self) -> None:
        """Run until the connection has ended; an exception of the state machine aborts it. Raises nothing."""
        try:
            super().run_reactor()
        except Exception:  # noqa: BLE001 - the thread's edge; the association finds it ended
            self._on_abort("confused")

    def _is_transport_event(self) -> bool:
        if not self.event_queue.empty():
            return False  # first the known events, then new ones
        if self.state_machine.current_state == "Sta13":
            if not self.transport.drain():
                self.transport.close()
            return True
        if self.transport.ready:
            self._read_pdu_data()
            return True
        return False

    def _read_pdu_data(self) -> None:
        try:
            pdu = self.transport.read_pdu()
        except PDURefused as refusal:
            self._on_abort(str(refusal))
            self.transport.send(ABORT_PDU)
            pdu = None
        except OSError:
            pdu = None
        if pdu is None:
            self.event_queue.put("Evt17")  # transport connection closed
            return
        try:
            decoded: Any = DataTransfer(pdu) if pdu[0] == _P_DATA_TF else None
            event = "Evt10"
            if decoded is None:
                decoded, event = self._decode_pdu(pdu)
        except Exception:  # noqa: BLE001 - pynetdicom's decoders may raise anything
            self._on_abort("garbage")
            self.event_queue.put("Evt19")  # invalid PDU
            return
        self._recv_pdu.put(decoded)
        self.event_queue.put(event)
