"""
HL7 v2 messages over MLLP: one connection for each message, which ends with the receiver's acknowledgement.

Framing after the HL7 Transport Specification: MLLP, release 1: a vertical tab, the message, a file separator and a
carriage return. A connection is not kept for the next message, because many receivers close it anyway, and because
the late answer to one message must not be taken for the answer to the next.
"""

import re
import socket
import time
from collections.abc import Iterable
from dataclasses import dataclass

from node.destination import Destination
from node.ris.redaction import quiet, words_of
from node.scu import Context, Declined, Lost, NeverTaken, Parcel, Unsendable
from node.scu.errors import no_answer, no_association, no_connection, told
from node.scu.transport import client_tls, wake
from node.settings import Deliver

START, END = b"\x0b", b"\x1c"
LONGEST_ANSWER = 1 << 16
"""Bytes of an acknowledgement; one has a few hundred."""

ACCEPTED = ("AA", "CA")
REJECTED = ("AR", "CR")
NOT_NOW = ("206", "207")
"""Conditions of table 0357 that pass: the record is locked, an error within the application."""


@dataclass(frozen=True)
class Answer:
    """An acknowledgement: HL7 v2.5.1, chapter 2.14.8 (MSA) and 2.14.5 (ERR)."""

    code: str
    control_id: str
    condition: str
    text: str


def answer_of(frame: bytes) -> Answer | None:
    """What a receiver's answer says; None if it is no acknowledgement."""
    segments = re.split(r"[\r\n]+", frame.decode("utf-8", "replace").lstrip("\ufeff"))
    if not re.match(r"MSH[^\w\s]", segments[0]):
        return None
    separator, component = segments[0][3], segments[0][4:5] or "^"
    fields = {each[:3]: [*each.split(separator), *[""] * 9] for each in reversed(segments)}
    if "MSA" not in fields:
        return None
    said, error = fields["MSA"], fields.get("ERR", [""] * 9)
    text = said[3] or error[8] or error[7] or error[3].replace(component, " ")
    return Answer(said[1].strip(), said[2].strip(), error[3].split(component)[0], text)


class MllpLink:
    """The way to one receiver; of the same shape as the link of a DICOM destination."""

    def __init__(self, destination: Destination, patience: Deliver) -> None:
        self.destination = destination
        self.patience = patience
        self._socket: socket.socket | None = None
        self._cut = False

    def open(self, contexts: Iterable[Context]) -> None:
        """Nothing is agreed upon beforehand: each message has a connection of its own."""

    def takes(self, kind: Context) -> bool:
        """The protocol has no way to ask."""
        return True

    def store(self, sent: Parcel) -> int:
        """
        Send one message and return 0 when it was accepted.

        Raises
        ------
        Unreachable
            No connection came about.
        Declined, NeverTaken
            The receiver answered AE or CE, AR or CR.
        Lost
            No answer came, or one that answers no such message.
        """
        message = addressed(sent, self.destination.msh)
        try:
            with self._connected() as line:
                try:
                    line.sendall(START + message + END + b"\r")
                    frame = self._frame(line)
                except OSError as error:
                    late = isinstance(error, TimeoutError)
                    raise no_answer(self.destination, self.patience.response_seconds, broken_off=not late) from error
        finally:
            self._socket = None
        return self._judged(frame, message.decode("utf-8", "replace"))

    def echo(self) -> None:
        """Have a connection; the protocol has nothing else that means nothing. Raises Unreachable."""
        try:
            self._connected().close()
        finally:
            self._socket = None

    def close(self) -> None:
        """Every connection has ended with its answer."""

    def cut(self) -> None:
        """Break off from another thread, whatever is waited for."""
        self._cut = True
        wake(self._socket)

    def _connected(self) -> socket.socket:
        if self._cut:
            raise no_association(self.destination, 0, broken_off=True)
        there, seconds = self.destination, self.patience.connect_seconds
        try:
            line = self._socket = socket.create_connection((there.host, there.port), seconds)
            line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if there.tls:
                line = self._socket = client_tls(there.tls).wrap_socket(line, server_hostname=there.host)
        except OSError as error:
            if self._socket is not None:
                self._socket.close()
            raise no_connection(there, error, seconds) from error
        line.settimeout(self.patience.response_seconds)
        return line

    def _frame(self, line: socket.socket) -> bytes:
        """What stands between the two marks. Raises Lost, or an OSError of the line."""
        come, deadline = bytearray(), time.monotonic() + self.patience.response_seconds
        while END not in come:
            line.settimeout(max(0.001, deadline - time.monotonic()))
            data = line.recv(4096)
            come += data
            if not data:
                raise no_answer(self.destination, 0, broken_off=True)
            if len(come) > LONGEST_ANSWER:
                raise self._fault("answered at a length that no acknowledgement has")
        before, mark, frame = bytes(come).partition(END)[0].partition(START)
        if before or not mark:
            raise self._fault("answered with what is no MLLP frame")
        return frame

    def _judged(self, frame: bytes, message: str) -> int:
        """0 for an acknowledgement that accepts the message; everything else is raised."""
        answer = answer_of(frame)
        if answer is None:
            raise self._fault("answered with what is no HL7 acknowledgement")
        if answer.control_id != message.split("|", 10)[9]:
            raise self._fault("acknowledged another message than it was sent")
        if answer.code in ACCEPTED:
            return 0
        words = quiet(answer.text, words_of(_identifying(message)))
        code = quiet(answer.code, ())[:8]
        what = f"{told(self.destination)} answered {code or 'no code'}" + (f": {words}" if words else "")
        if answer.code in REJECTED and answer.condition not in NOT_NOW:
            raise NeverTaken(what, hint="look at the message in the RIS's log; when it is mended, retry the radiograph")
        if answer.code in (*REJECTED, "AE", "CE"):
            raise Declined(what, hint="look into the RIS's log for this message; it is sent again")
        raise self._fault(f"answered with the code {code!r}, which is none of AA, AE, AR, CA, CE and CR")

    def _fault(self, what: str) -> Lost:
        hint = "is this the port for HL7 v2 results? check [[destination]] port"
        return Lost(f"{told(self.destination)} {what}", hint=hint)


def addressed(sent: Parcel, route: str) -> bytes:
    """The kept message with the names of sender and receiver in it: MSH-3 to MSH-6. Raises Unsendable."""
    try:
        header, _, rest = sent.path.read_bytes().partition(b"\r")
    except OSError as error:
        raise Unsendable(f"{sent.path} cannot be read: {error.strerror}") from error
    fields = header.split(b"|")
    if fields[0] != b"MSH" or len(fields) < 12:
        raise Unsendable(
            f"{sent.path} is no HL7 message", hint="only HL7 goes over mllp; check [[destination]] objects"
        )
    return b"|".join([*fields[:2], route.encode(), *fields[6:]]) + b"\r" + rest


def _identifying(message: str) -> Iterable[str]:
    """What names the patient and the order."""
    for segment in message.split("\r"):
        if segment.startswith("PID|"):
            yield from segment.split("|")[3:]
        elif segment.startswith("OBR|"):
            fields = segment.split("|")
            yield from (fields[2], fields[3], *fields[18:19])
