"""
The DIMSE messages (PS3.7) that this node accepts: C-ECHO-RQ and C-STORE-RQ, and nothing else.

The command set is decoded here, flat and bounded, instead of by a general parser: it is the first input that an
unknown peer controls. The data set goes from the network to the disk; it is never complete in memory and never parsed.
"""

import contextlib
import queue
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from pynetdicom.association import Association
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.pdu_primitives import P_DATA
from pynetdicom.presentation import PresentationContext

from node.radiograph import is_uid
from node.receive.spooled_object import EndlessObject, SpooledObject
from node.receive.upper_layer import DataTransfer

COMMAND_LIMIT = 65536
"""Bytes of a command set; a real one has 200."""

_PENDING_LIMIT = 16
"""Messages not yet answered. Without a negotiated window there is at most one (PS3.7 D.3.3.3)."""
_POLL_SECONDS = 0.25

_C_STORE_RQ = 0x0001
_C_ECHO_RQ = 0x0030
_C_CANCEL_RQ = 0x0FFF
_RESPONSE = 0x8000
_NO_DATA_SET = 0x0101
_ERROR_COMMENT = 0x0902
_COMMAND_FRAGMENT, _LAST_COMMAND_FRAGMENT = b"\1", b"\3"
"""Message control headers, PS3.8 E.2."""
_PDV_HEADER_BYTES = 6
"""Bytes of a P-DATA-TF's value beside the fragment: length, context, message control header (PS3.8 9.3.5)."""
_COMMENT_LIMIT = 64


class DimseProtocolError(Exception):
    """The peer violates PS3.7; the association is aborted. The text is the reason that is counted."""


@dataclass(frozen=True)
class CommandSet:
    """The command set of a request, decoded."""

    field: int
    message_id: int
    sop_class_uid: str
    sop_instance_uid: str
    has_data_set: bool
    context: PresentationContext


@dataclass(frozen=True)
class DimseRequest:
    """A complete message: the command set and, for a C-STORE-RQ with a data set, the spooled object."""

    command: CommandSet
    spooled: SpooledObject | None

    @property
    def is_echo(self) -> bool:
        """Whether it is a C-ECHO-RQ; if not it is a C-STORE-RQ."""
        return self.command.field == _C_ECHO_RQ


class SpoolingDimseProvider(DIMSEServiceProvider):
    """
    Assembles the messages of one association from their fragments.

    `open_object` opens a spooled object for the data set that a command announces, with an error in it if the object is
    refused. `on_abort` is called with the reason when a message aborts the association.
    """

    def __init__(
        self,
        assoc: Association,
        *,
        open_object: Callable[[CommandSet], SpooledObject],
        on_abort: Callable[[str], None],
    ) -> None:
        super().__init__(assoc)
        self._open_object, self._on_abort = open_object, on_abort
        self._contexts: dict[int, PresentationContext] = {}
        self._command_bytes = bytearray()
        self._context_id: int | None = None
        self._command: CommandSet | None = None
        self._spooled: SpooledObject | None = None
        self._closed = False
        self._requests_begun = 0
        self._responses_sent = 0

    @property
    def is_busy(self) -> bool:
        """Whether a request is being received or waits for its response."""
        return self._requests_begun != self._responses_sent

    def send_response(self, command: CommandSet, status: int, comment: str = "") -> None:
        """Hand the response to a request to the upper layer, in fragments that fit the peer's PDUs."""
        encoded = encode_response(command, status, comment)
        step = max(1, self.maximum_pdu_size - _PDV_HEADER_BYTES) if self.maximum_pdu_size else len(encoded)
        for start in range(0, len(encoded), step):
            header = _LAST_COMMAND_FRAGMENT if start + step >= len(encoded) else _COMMAND_FRAGMENT
            message = P_DATA()
            fragment = header + encoded[start : start + step]
            message.presentation_data_value_list.append((cast(int, command.context.context_id), fragment))
            self.dul.send_pdu(message)
        self._responses_sent += 1

    def get_msg(self, block: bool = False) -> Any:
        """Return the next message with its context, or (None, None) when the association should check its state."""
        try:
            return self.msg_queue.get(timeout=_POLL_SECONDS)
        except queue.Empty:
            return None, None

    def receive_primitive(self, primitive: Any) -> None:
        """Add the fragments to their message, or abort the association. Raises nothing."""
        try:
            for context_id, fragment in cast(DataTransfer, primitive).values:
                self._receive_fragment(context_id, fragment)
        except DimseProtocolError as error:
            self._abort(str(error))
        except EndlessObject:
            self._abort("overrun")
        except Exception:  # noqa: BLE001 - the thread's edge: nothing that a peer sends may end it
            self._abort("internal")

    def discard(self) -> None:
        """Delete the spooled objects of requests not answered, and ignore what still arrives."""
        self._closed = True
        if self._spooled is not None:
            self._spooled.discard()
        with contextlib.suppress(queue.Empty):
            while True:
                _, message = self.msg_queue.get_nowait()
                if isinstance(message, DimseRequest) and message.spooled is not None:
                    message.spooled.discard()

    def _abort(self, reason: str) -> None:
        self._on_abort(reason)
        if self._spooled is not None:
            self._spooled.discard()
        self._spooled = self._command = None
        self._closed = True
        self.dul.event_queue.put("Evt19")

    def _receive_fragment(self, context_id: int, fragment: memoryview) -> None:
        if self._closed:
            return
        header = fragment[0]  # message control header, PS3.8 E.2
        if header & 1:
            self._receive_command(context_id, fragment[1:], last=bool(header & 2))
        else:
            self._receive_data(context_id, fragment[1:], last=bool(header & 2))

    def _receive_command(self, context_id: int, fragment: memoryview, *, last: bool) -> None:
        if self._command is not None:
            raise DimseProtocolError("command_inside_data_set")
        if self._context_id not in (None, context_id):
            raise DimseProtocolError("context_changed")
        self._context_id = context_id
        if len(self._command_bytes) + len(fragment) > COMMAND_LIMIT:
            raise DimseProtocolError("endless_command")
        self._command_bytes += fragment
        if last:
            command = decode_command_set(bytes(self._command_bytes), self._accepted_context(context_id))
            self._command_bytes.clear()
            self._begin_request(command)

    def _begin_request(self, command: CommandSet) -> None:
        if command.field == _C_CANCEL_RQ and not command.has_data_set:
            self._context_id = None  # no operation here can be cancelled
            return
        self._requests_begun += 1
        if command.field == _C_STORE_RQ and command.has_data_set:
            self._spooled, self._command = self._open_object(command), command
        elif command.field in (_C_STORE_RQ, _C_ECHO_RQ) and not command.has_data_set:
            self._enqueue(DimseRequest(command, None))
        else:
            raise DimseProtocolError("unknown_command")

    def _receive_data(self, context_id: int, fragment: memoryview, *, last: bool) -> None:
        if self._command is None or self._spooled is None:
            raise DimseProtocolError("data_set_without_command")
        if context_id != self._context_id:
            raise DimseProtocolError("context_changed")
        self._spooled.write(fragment)
        if last:
            self._enqueue(DimseRequest(self._command, self._spooled))

    def _enqueue(self, request: DimseRequest) -> None:
        if self.msg_queue.qsize() >= _PENDING_LIMIT:
            raise DimseProtocolError("too_many_messages")
        context_id = cast(int, self._context_id)
        self._spooled = self._command = self._context_id = None
        self.msg_queue.put((context_id, cast(Any, request)))

    def _accepted_context(self, context_id: int) -> PresentationContext:
        if not self._contexts:
            self._contexts = {cast(int, context.context_id): context for context in self.assoc.accepted_contexts}
        try:
            return self._contexts[context_id]
        except KeyError:
            raise DimseProtocolError("context_not_accepted") from None


def decode_command_set(encoded: bytes, context: PresentationContext) -> CommandSet:
    """
    Decode the command set of a request: implicit VR little endian, group 0000 only (PS3.7 6.3.1).

    Raises
    ------
    DimseProtocolError
        When the bytes are no command set, or its command field, message ID or data set type is absent.
    """
    elements: dict[int, bytes] = {}
    position = 0
    while position < len(encoded):
        tag, begin = encoded[position : position + 4], position + 8
        end = begin + int.from_bytes(encoded[position + 4 : begin], "little")
        if end > len(encoded) or tag[:2] != b"\0\0":
            raise DimseProtocolError("broken_command")
        elements[int.from_bytes(tag[2:], "little")] = encoded[begin:end]
        position = end
    return CommandSet(
        field=_number(elements, 0x0100),
        message_id=_number(elements, 0x0120 if 0x0110 not in elements else 0x0110),
        sop_class_uid=_uid(elements, 0x0002),
        sop_instance_uid=_uid(elements, 0x1000),
        has_data_set=_number(elements, 0x0800) != _NO_DATA_SET,
        context=context,
    )


def encode_response(command: CommandSet, status: int, comment: str = "") -> bytes:
    """Encode the command set that answers a request (PS3.7 9.3.1.2 and 9.3.5.2): implicit VR little endian."""
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
        raise DimseProtocolError("broken_command")
    return int.from_bytes(value, "little")


def _uid(elements: dict[int, bytes], element: int) -> str:
    # Replaced characters make it an invalid UID, which is answered as such.
    return elements.get(element, b"").rstrip(b"\0 ").decode("ascii", errors="replace")
