"""
HL7 v2 messages over MLLP: one connection for each message, which ends with the receiver's acknowledgement.

Framing: HL7 Transport Specification: MLLP, release 1: a vertical tab, the message, a file separator and a carriage
return. A connection is not reused for the next message, because many receivers close it anyway, and because the late
acknowledgement of one message must not be taken for that of the next.
"""

import re
import socket
import time
from collections.abc import Iterable
from dataclasses import dataclass

from node.destination import Destination
from node.ris.redaction import redact, words_to_redact
from node.scu import (
    NoResponse,
    PermanentRejection,
    ProposedContext,
    RequestRejected,
    SendableInstance,
    UnsendableFile,
)
from node.scu.errors import connection_failed, destination_label, no_association_response, no_response
from node.scu.transport import client_tls, shut_down
from node.settings import Deliver

START, END = b"\x0b", b"\x1c"
MAX_ACKNOWLEDGEMENT_BYTES = 1 << 16
"""A real one has a few hundred."""

ACCEPT_CODES = ("AA", "CA")
REJECT_CODES = ("AR", "CR")
TRANSIENT_CONDITIONS = ("206", "207")
"""Conditions of table 0357 that may pass: record locked, application internal error."""


@dataclass(frozen=True)
class Acknowledgement:
    """An acknowledgement message: HL7 v2.5.1, chapter 2.14.8 (MSA) and 2.14.5 (ERR)."""

    code: str
    control_id: str
    condition: str
    text: str


def parse_acknowledgement(frame: bytes) -> Acknowledgement | None:
    """The acknowledgement in a frame's content; None if it is not one."""
    segments = re.split(r"[\r\n]+", frame.decode("utf-8", "replace").lstrip("\ufeff"))
    if not re.match(r"MSH[^\w\s]", segments[0]):
        return None
    separator, component = segments[0][3], segments[0][4:5] or "^"
    fields = {segment[:3]: [*segment.split(separator), *[""] * 9] for segment in reversed(segments)}
    if "MSA" not in fields:
        return None
    msa, err = fields["MSA"], fields.get("ERR", [""] * 9)
    text = msa[3] or err[8] or err[7] or err[3].replace(component, " ")
    return Acknowledgement(msa[1].strip(), msa[2].strip(), err[3].split(component)[0], text)


class MllpClient:
    """The client of one MLLP receiver: a DestinationClient."""

    def __init__(self, destination: Destination, timing: Deliver) -> None:
        self.destination = destination
        self.timing = timing
        self._socket: socket.socket | None = None
        self._interrupted = False

    def open(self, contexts: Iterable[ProposedContext]) -> None:
        """Do nothing: MLLP has no negotiation, and each message has a connection of its own."""

    def accepts(self, context: ProposedContext) -> bool:
        """True: MLLP has no negotiation."""
        return True

    def store(self, instance: SendableInstance) -> int:
        """
        Send one message and return 0 if it was accepted.

        Raises
        ------
        DestinationUnavailable
            If no connection was established.
        RequestRejected, PermanentRejection
            If the receiver answered AE or CE (or AR, CR with a transient condition), or AR or CR.
        NoResponse
            If no acknowledgement of this message came.
        UnsendableFile
            If the file cannot be read or is not an HL7 message.
        """
        message = with_routing(instance, self.destination.msh)
        try:
            with self._connect() as connection:
                try:
                    connection.sendall(START + message + END + b"\r")
                    frame = self._read_frame(connection)
                except OSError as error:
                    timed_out = isinstance(error, TimeoutError)
                    raise no_response(self.destination, self.timing.response_seconds, closed=not timed_out) from error
        finally:
            self._socket = None
        return self._check_acknowledgement(frame, message.decode("utf-8", "replace"))

    def echo(self) -> None:
        """Connect and disconnect: MLLP has no test message. Raises DestinationUnavailable."""
        try:
            self._connect().close()
        finally:
            self._socket = None

    def close(self) -> None:
        """Do nothing: every connection has ended with its acknowledgement."""

    def interrupt(self) -> None:
        """End the connection from another thread, whichever call waits for it."""
        self._interrupted = True
        shut_down(self._socket)

    def _connect(self) -> socket.socket:
        if self._interrupted:
            raise no_association_response(self.destination, 0, closed=True)
        peer, seconds = self.destination, self.timing.connect_seconds
        try:
            connection = self._socket = socket.create_connection((peer.host, peer.port), seconds)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if peer.tls:
                connection = self._socket = client_tls(peer.tls).wrap_socket(connection, server_hostname=peer.host)
        except OSError as error:
            if self._socket is not None:
                self._socket.close()
            raise connection_failed(peer, error, seconds) from error
        connection.settimeout(self.timing.response_seconds)
        return connection

    def _read_frame(self, connection: socket.socket) -> bytes:
        """The content of the frame: between START and END. Raises NoResponse, or an OSError of the connection."""
        received, deadline = bytearray(), time.monotonic() + self.timing.response_seconds
        while END not in received:
            connection.settimeout(max(0.001, deadline - time.monotonic()))
            data = connection.recv(4096)
            received += data
            if not data:
                raise no_response(self.destination, 0, closed=True)
            if len(received) > MAX_ACKNOWLEDGEMENT_BYTES:
                raise self._invalid_response("sent more bytes than an acknowledgement has")
        before, start, frame = bytes(received).partition(END)[0].partition(START)
        if before or not start:
            raise self._invalid_response("did not answer with an MLLP frame")
        return frame

    def _check_acknowledgement(self, frame: bytes, message: str) -> int:
        """Return 0 if the acknowledgement accepts the message. Raises as `store`."""
        acknowledgement = parse_acknowledgement(frame)
        if acknowledgement is None:
            raise self._invalid_response("did not answer with an HL7 acknowledgement")
        if acknowledgement.control_id != message.split("|", 10)[9]:
            raise self._invalid_response("acknowledged another message than the one sent")
        if acknowledgement.code in ACCEPT_CODES:
            return 0
        text = redact(acknowledgement.text, words_to_redact(_identifying_texts(message)))
        code = redact(acknowledgement.code, ())[:8]
        what = f"{destination_label(self.destination)} answered {code or 'no code'}" + (f": {text}" if text else "")
        if acknowledgement.code in REJECT_CODES and acknowledgement.condition not in TRANSIENT_CONDITIONS:
            hint = "see the RIS's log for this message; when the cause is fixed, retry the radiograph"
            raise PermanentRejection(what, hint=hint)
        if acknowledgement.code in (*REJECT_CODES, "AE", "CE"):
            raise RequestRejected(what, hint="see the RIS's log for this message; it is sent again")
        raise self._invalid_response(f"answered with the code {code!r}, which is none of AA, AE, AR, CA, CE and CR")

    def _invalid_response(self, what: str) -> NoResponse:
        hint = "is this the port for HL7 v2 results? check [[destination]] port"
        return NoResponse(f"{destination_label(self.destination)} {what}", hint=hint)


def with_routing(instance: SendableInstance, route: str) -> bytes:
    """The stored message with `route` as MSH-3 to MSH-6: sender and receiver. Raises UnsendableFile."""
    try:
        header, _, rest = instance.path.read_bytes().partition(b"\r")
    except OSError as error:
        raise UnsendableFile(f"{instance.path} cannot be read: {error.strerror}") from error
    fields = header.split(b"|")
    if fields[0] != b"MSH" or len(fields) < 12:
        hint = "only HL7 is sent over mllp; check [[destination]] objects"
        raise UnsendableFile(f"{instance.path} is not an HL7 message", hint=hint)
    return b"|".join([*fields[:2], route.encode(), *fields[6:]]) + b"\r" + rest


def _identifying_texts(message: str) -> Iterable[str]:
    """The fields that identify the patient and the order: PID-3 and on, OBR-2, OBR-3, OBR-18."""
    for segment in message.split("\r"):
        if segment.startswith("PID|"):
            yield from segment.split("|")[3:]
        elif segment.startswith("OBR|"):
            fields = segment.split("|")
            yield from (fields[2], fields[3], *fields[18:19])
