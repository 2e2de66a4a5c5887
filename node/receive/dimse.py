"""
The DIMSE messages (PS3.7) that this node takes: C-ECHO-RQ and C-STORE-RQ, and nothing else.

The command set is read here, flat and bounded, instead of by a general parser: it is the first thing that a stranger
may say. The data set goes from the network to the disk; it is never whole in memory and never parsed.
"""

import contextlib
import queue
from dataclasses import dataclass
from typing import Any, Protocol, cast

from pynetdicom.association import Association
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.pdu_primitives import P_DATA
from pynetdicom.presentation import PresentationContext

from node.radiograph import is_uid
from node.receive.spooled_object import Arrival, Overrun
from node.receive.upper_layer import DataTransfer

COMMAND_LIMIT = 65536
"""Bytes of a command set; a real one has 200."""

_WAITING_LIMIT = 16
"""Messages not yet answered. Without a negotiated window there is at most one (PS3.7 D.3.3.3)."""
_LOOK_UP_SECONDS = 0.25

_C_STORE_RQ = 0x0001
_C_ECHO_RQ = 0x0030
_C_CANCEL_RQ = 0x0FFF
_RESPONSE = 0x8000
_NO_DATA_SET = 0x0101
_ERROR_COMMENT = 0x0902
_PART_OF_COMMAND, _LAST_OF_COMMAND = b"\1", b"\3"
"""Message control headers, PS3.8 E.2."""
_AROUND_FRAGMENT = 6
"""Bytes of a P-DATA-TF's value beside the fragment: length, context, message control header (PS3.8 9.3.5)."""
_COMMENT_LIMIT = 64


class ProtocolFault(Exception):  # noqa: N818 - the peer's fault
    """The peer does not keep to PS3.7; the association is aborted. The text is the reason that is counted."""


@dataclass(frozen=True)
class Command:
    """A request, as the command set has it."""

    field: int
    message_id: int
    sop_class_uid: str
    sop_instance_uid: str
    has_data_set: bool
    context: PresentationContext


@dataclass(frozen=True)
class Request:
    """A whole message: the command and, for a C-STORE that has one, its object."""

    command: Command
    arrival: Arrival | None

    @property
    def is_echo(self) -> bool:
        """Whether it is a C-ECHO-RQ; if not it is a C-STORE-RQ."""
        return self.command.field == _C_ECHO_RQ


class Taker(Protocol):
    """Whoever gives each object its place in the spool."""

    def begin(self, command: Command) -> Arrival:
        """An arrival for the object that this command announces; with a fault if it is not wanted."""


class Inbox(DIMSEServiceProvider):
    """Puts the messages of one association together, fragment by fragment."""

    def __init__(self, assoc: Association, taker: Taker) -> None:
        super().__init__(assoc)
        self._taker = taker
        self._contexts: dict[int, PresentationContext] = {}
        self._fragments = bytearray()
        self._context_id: int | None = None
        self._command: Command | None = None
        self._arrival: Arrival | None = None
        self._closed = False
        self._begun = 0
        self._answered = 0

    @property
    def is_busy(self) -> bool:
        """Whether an object is on its way, or waits for its answer."""
        return self._begun != self._answered

    def answer(self, command: Command, status: int, comment: str = "") -> None:
        """The response to a request is on its way."""
        encoded = write_response(command, status, comment)
        room = max(1, self.maximum_pdu_size - _AROUND_FRAGMENT) if self.maximum_pdu_size else len(encoded)
        for at in range(0, len(encoded), room):
            header = _LAST_OF_COMMAND if at + room >= len(encoded) else _PART_OF_COMMAND
            message = P_DATA()
            fragment = header + encoded[at : at + room]
            message.presentation_data_value_list.append((cast(int, command.context.context_id), fragment))
            self.dul.send_pdu(message)
        self._answered += 1

    def get_msg(self, block: bool = False) -> Any:
        """The next message with its context, or (None, None) when the association should look up."""
        try:
            return self.msg_queue.get(timeout=_LOOK_UP_SECONDS)
        except queue.Empty:
            return None, None

    def receive_primitive(self, primitive: Any) -> None:
        """The fragments are where they belong, or the association is about to be aborted."""
        try:
            for context_id, fragment in cast(DataTransfer, primitive).values:
                self._take(context_id, fragment)
        except ProtocolFault as fault:
            self._abort(str(fault))
        except Overrun:
            self._abort("overrun")
        except Exception:  # noqa: BLE001 - the thread's edge: nothing that a peer sends may end it
            self._abort("internal")

    def discard(self) -> None:
        """What has not been answered leaves nothing on the disk, and nothing more is taken."""
        self._closed = True
        if self._arrival is not None:
            self._arrival.discard()
        with contextlib.suppress(queue.Empty):
            while True:
                _, message = self.msg_queue.get_nowait()
                if isinstance(message, Request) and message.arrival is not None:
                    message.arrival.discard()

    def _abort(self, reason: str) -> None:
        cast(Any, self.dul)._broke_off(reason)
        if self._arrival is not None:
            self._arrival.discard()
        self._arrival = self._command = None
        self._closed = True
        self.dul.event_queue.put("Evt19")

    def _take(self, context_id: int, fragment: memoryview) -> None:
        if self._closed:
            return
        header = fragment[0]  # message control header, PS3.8 E.2
        if header & 1:
            self._take_command(context_id, fragment[1:], last=bool(header & 2))
        else:
            self._take_data(context_id, fragment[1:], last=bool(header & 2))

    def _take_command(self, context_id: int, fragment: memoryview, *, last: bool) -> None:
        if self._command is not None:
            raise ProtocolFault("command_inside_data_set")
        if self._context_id not in (None, context_id):
            raise ProtocolFault("context_changed")
        self._context_id = context_id
        if len(self._fragments) + len(fragment) > COMMAND_LIMIT:
            raise ProtocolFault("endless_command")
        self._fragments += fragment
        if last:
            command = read_command(bytes(self._fragments), self._context(context_id))
            self._fragments.clear()
            self._begin(command)

    def _begin(self, command: Command) -> None:
        if command.field == _C_CANCEL_RQ and not command.has_data_set:
            self._context_id = None  # nothing that we do can be cancelled
            return
        self._begun += 1
        if command.field == _C_STORE_RQ and command.has_data_set:
            self._arrival, self._command = self._taker.begin(command), command
        elif command.field in (_C_STORE_RQ, _C_ECHO_RQ) and not command.has_data_set:
            self._complete(Request(command, None))
        else:
            raise ProtocolFault("unknown_command")

    def _take_data(self, context_id: int, fragment: memoryview, *, last: bool) -> None:
        if self._command is None or self._arrival is None:
            raise ProtocolFault("data_set_without_command")
        if context_id != self._context_id:
            raise ProtocolFault("context_changed")
        self._arrival.write(fragment)
        if last:
            self._complete(Request(self._command, self._arrival))

    def _complete(self, request: Request) -> None:
        if self.msg_queue.qsize() >= _WAITING_LIMIT:
            raise ProtocolFault("too_many_messages")
        context_id = cast(int, self._context_id)
        self._arrival = self._command = self._context_id = None
        self.msg_queue.put((context_id, cast(Any, request)))

    def _context(self, context_id: int) -> PresentationContext:
        if not self._contexts:
            self._contexts = {cast(int, context.context_id): context for context in self.assoc.accepted_contexts}
        try:
            return self._contexts[context_id]
        except KeyError:
            raise ProtocolFault("context_not_accepted") from None


def read_command(encoded: bytes, context: PresentationContext) -> Command:
    """The request in a command set: implicit VR little endian, group 0000 only (PS3.7 6.3.1). Raises ProtocolFault."""
    elements: dict[int, bytes] = {}
    at = 0
    while at < len(encoded):
        length = int.from_bytes(encoded[at + 4 : at + 8], "little")
        if at + 8 + length > len(encoded) or encoded[at : at + 2] != b"\0\0":
            raise ProtocolFault("broken_command")
        elements[int.from_bytes(encoded[at + 2 : at + 4], "little")] = encoded[at + 8 : at + 8 + length]
        at += 8 + length
    return Command(
        field=_number(elements, 0x0100),
        message_id=_number(elements, 0x0120 if 0x0110 not in elements else 0x0110),
        sop_class_uid=_uid(elements, 0x0002),
        sop_instance_uid=_uid(elements, 0x1000),
        has_data_set=_number(elements, 0x0800) != _NO_DATA_SET,
        context=context,
    )


def write_response(command: Command, status: int, comment: str = "") -> bytes:
    """The command set that answers a request (PS3.7 9.3.1.2 and 9.3.5.2), as plainly encoded as it is read."""
    values = {
        0x0002: command.sop_class_uid.encode() if is_uid(command.sop_class_uid) else b"",
        0x0100: (command.field | _RESPONSE).to_bytes(2, "little"),
        0x0120: command.message_id.to_bytes(2, "little"),
        0x0800: _NO_DATA_SET.to_bytes(2, "little"),
        0x0900: status.to_bytes(2, "little"),
        _ERROR_COMMENT: comment[:_COMMENT_LIMIT].encode("ascii", errors="replace"),
        0x1000: command.sop_instance_uid.encode() if is_uid(command.sop_instance_uid) else b"",
    }
    elements = b"".join(_element(number, value) for number, value in values.items() if value)
    return _element(0x0000, len(elements).to_bytes(4, "little")) + elements


def _element(number: int, value: bytes) -> bytes:
    pad = b"" if len(value) % 2 == 0 else b" " if number == _ERROR_COMMENT else b"\0"
    return b"\0\0" + number.to_bytes(2, "little") + (len(value) + len(pad)).to_bytes(4, "little") + value + pad


def _number(elements: dict[int, bytes], element: int) -> int:
    value = elements.get(element, b"")
    if len(value) != 2:
        raise ProtocolFault("broken_command")
    return int.from_bytes(value, "little")


def _uid(elements: dict[int, bytes], element: int) -> str:
    # Replaced characters make it no UID, which is answered as such.
    return elements.get(element, b"").rstrip(b"\0 ").decode("ascii", errors="replace")
