"""
The DICOM upper layer (PS3.8) of an incoming association, held to deadlines and limits.

pynetdicom 3.0.4 reads a PDU of any length with no time limit, and looks for work a thousand times a second. Here a
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

ASSOCIATE_LIMIT = 131072
"""Longest PDU that is not data; 128 contexts with 13 transfer syntaxes each need half of it."""

ABORT = bytes.fromhex("07000000000400000206")
"""An A-ABORT by the service provider: invalid PDU parameter value (PS3.8 9.3.8)."""

_DATA = 0x04
_HEADER_SLACK = 4096
"""Some peers count headers in, some do not, when they fill a PDU up to the agreed maximum."""
_SLOWEST = 65536
"""Bytes a second that a peer must reach over a PDU, on top of the time that every PDU has."""
_LOOK_UP_SECONDS = 0.25
"""How long the thread sleeps at most: timers are looked at when it wakes."""
_PARTING_BYTES = 1048576
_PARTING_SECONDS = 2.0


class PDURefused(Exception):  # noqa: N818 - an outcome
    """A PDU that is not read to its end; the text is the reason that is counted."""


class MonotonicTimer(Timer):
    """A timer that a step of the wall clock does not move."""

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
        """It runs from now."""
        self._start_time, self._end_time = time.monotonic(), None

    def stop(self) -> None:
        """It stands still."""
        self._end_time = time.monotonic()


class DataTransfer:
    """A P-DATA-TF PDU as views into the bytes that were read: what `pynetdicom.pdu.P_DATA_TF` copies four times."""

    def __init__(self, pdu: bytearray) -> None:
        self.values: list[tuple[int, memoryview]] = []
        view, at = memoryview(pdu), 6
        while at < len(pdu):
            length = int.from_bytes(view[at : at + 4], "big")
            if length < 2 or at + 4 + length > len(pdu):
                raise ValueError("a presentation data value does not fit its PDU")
            self.values.append((view[at + 4], view[at + 5 : at + 4 + length]))
            at += 4 + length

    def to_primitive(self) -> "DataTransfer":
        """Itself: the state machine hands it on to the DIMSE provider."""
        return self


class DeadlineSocket(AssociationSocket):
    """The socket of an association. `first` are bytes that were read from it before there was one."""

    def __init__(
        self, assoc: Association, sock: socket.socket, *, first: bytes, stall_seconds: float, max_pdu_bytes: int
    ) -> None:
        super().__init__(assoc, client_socket=sock)
        self._first = memoryview(first)
        self._stall_seconds = stall_seconds
        self._limit = max_pdu_bytes + _HEADER_SLACK
        self._drained = 0
        self._drained_since: float | None = None
        self._alarm, self._bell = socket.socketpair()
        for end in (self._alarm, self._bell):
            end.setblocking(False)
        self._poll = select.poll()  # select.select ends at file descriptor 1023
        self._poll.register(sock, select.POLLIN)
        self._poll.register(self._alarm, select.POLLIN)

    def wake(self) -> None:
        """Whoever waits in `ready` looks up."""
        with contextlib.suppress(OSError):
            self._bell.send(b"\0")

    @property
    def ready(self) -> bool:
        """Whether there is something to read. Waits for it, until woken or for a moment."""
        sock = self.socket
        if sock is None:
            time.sleep(0.01)
            return False
        if self._first or (isinstance(sock, ssl.SSLSocket) and sock.pending()):
            return True
        readable = False
        for descriptor, _ in self._poll.poll(_LOOK_UP_SECONDS * 1000):
            if descriptor == self._alarm.fileno():
                with contextlib.suppress(OSError):
                    self._alarm.recv(4096)
            else:
                readable = True
        return readable

    def read_pdu(self) -> bytearray | None:
        """The next PDU, header and all; None when the peer went away. Raises PDURefused, OSError."""
        deadline = time.monotonic() + self._stall_seconds
        header = bytearray(6)
        if not self._fill(memoryview(header), deadline):
            return None
        length = int.from_bytes(header[2:6], "big")
        if not 1 <= header[0] <= 7:
            raise PDURefused("garbage")
        if length > (self._limit if header[0] == _DATA else ASSOCIATE_LIMIT):
            raise PDURefused("oversized")
        pdu = bytearray(6 + length)
        pdu[:6] = header
        whole = self._fill(memoryview(pdu)[6:], deadline + length / _SLOWEST)
        return pdu if whole else None

    def _fill(self, view: memoryview, deadline: float) -> bool:
        while view:
            if self._first:
                count = min(len(view), len(self._first))
                view[:count] = self._first[:count]
                self._first = self._first[count:]
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
        # After the deadline what lies here already still counts: on a busy machine it may be us who are late.
        sock.settimeout(max(deadline - time.monotonic(), 0))
        try:
            return sock.recv_into(view)
        except (TimeoutError, BlockingIOError, ssl.SSLWantReadError) as error:
            raise PDURefused("stalled") from error

    def send(self, bytestream: bytes) -> None:
        """All of it is sent, or the connection counts as closed: a peer that does not read must not hold us."""
        try:
            sock = cast(socket.socket, self.socket)
            sock.settimeout(self._stall_seconds)
            sock.sendall(bytestream)
        except Exception:  # noqa: BLE001 - as the library does: the peer cannot be spoken to
            self.event_queue.put("Evt17")

    def drain(self) -> bool:
        """
        What still came in after the association ended is dropped. False when it is time to close.

        To close with bytes unread would reset the connection, and the peer might never see our last word.
        """
        sock = self.socket
        now = time.monotonic()
        self._drained_since = self._drained_since or now
        if sock is None or self._drained > _PARTING_BYTES or now - self._drained_since > _PARTING_SECONDS:
            return False
        self._first = memoryview(b"")
        try:
            sock.settimeout(_LOOK_UP_SECONDS)
            count = len(sock.recv(65536))
        except OSError:
            return False
        self._drained += count
        return count > 0

    def _shutdown_socket(self) -> None:
        """Shut down and closed. The library forgets to close a socket whose peer was first."""
        sock = self.socket
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            with contextlib.suppress(OSError):
                sock.close()

    def dispose(self) -> None:
        """Nothing of it is open any more. Only when nobody waits in `ready`."""
        self._shutdown_socket()
        self._alarm.close()
        self._bell.close()


class _WakingQueue(queue.Queue[Any]):
    """A queue that tells someone that something was put in."""

    def __init__(self, wake: Callable[[], None]) -> None:
        super().__init__()
        self._wake = wake

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        super().put(item, block, timeout)
        self._wake()


class UpperLayer(DULServiceProvider):
    """The thread that speaks PS3.8 with one peer. `broke_off` hears why it ended a connection by itself."""

    def __init__(self, assoc: Association, *, broke_off: Callable[[str], None]) -> None:
        super().__init__(assoc)
        self.daemon = True
        self._run_loop_delay = 0.0  # `DeadlineSocket.ready` waits instead
        self._idle_timer = MonotonicTimer(60)
        self.artim_timer = MonotonicTimer(30)
        self._broke_off = broke_off
        # The association waits at the DIMSE provider's queue; (None, None) there is the library's own "look up".
        self.to_user_queue = _WakingQueue(lambda: assoc.dimse.msg_queue.put((None, None)))

    @property
    def link(self) -> DeadlineSocket:
        """The socket."""
        return cast(DeadlineSocket, self.socket)

    def send_pdu(self, primitive: Any) -> None:
        """It is sent as soon as the thread looks up, which is now."""
        super().send_pdu(primitive)
        self.link.wake()

    def idle_timer_expired(self) -> bool:
        """Whether the peer said nothing for too long."""
        expired = super().idle_timer_expired()
        if expired:
            self._broke_off("idle")
        return expired

    def run_reactor(self) -> None:
        """The thread runs until the connection is over, and says nothing when a stranger confuses its states."""
        try:
            super().run_reactor()
        except Exception:  # noqa: BLE001 - the thread's edge; the association sees that it is gone
            self._broke_off("confused")

    def _is_transport_event(self) -> bool:
        if not self.event_queue.empty():
            return False  # first what is known already, then what may come
        if self.state_machine.current_state == "Sta13":
            if not self.link.drain():
                self.link.close()
            return True
        if self.link.ready:
            self._read_pdu_data()
            return True
        return False

    def _read_pdu_data(self) -> None:
        try:
            pdu = self.link.read_pdu()
        except PDURefused as refusal:
            self._broke_off(str(refusal))
            self.link.send(ABORT)
            pdu = None
        except OSError:
            pdu = None
        if pdu is None:
            self.event_queue.put("Evt17")  # transport connection closed
            return
        try:
            decoded: Any = DataTransfer(pdu) if pdu[0] == _DATA else None
            event = "Evt10"
            if decoded is None:
                decoded, event = self._decode_pdu(pdu)
        except Exception:  # noqa: BLE001 - what a stranger's bytes raise in the library's decoders nobody knows
            self._broke_off("garbage")
            self.event_queue.put("Evt19")  # invalid PDU
            return
        self._recv_pdu.put(decoded)
        self.event_queue.put(event)
