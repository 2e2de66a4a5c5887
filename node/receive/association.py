"""An association that a peer has with this node, from its request to its last byte."""

import itertools
import socket
from dataclasses import dataclass
from typing import Any, Protocol, cast

import structlog
from pynetdicom import evt
from pynetdicom._globals import MODE_ACCEPTOR
from pynetdicom.acse import ACSE
from pynetdicom.ae import ApplicationEntity
from pynetdicom.association import Association
from pynetdicom.pdu_primitives import A_ASSOCIATE
from pynetdicom.presentation import PresentationContext
from pynetdicom.transport import AddressInformation

from node.receive import statuses
from node.receive.counts import Counts
from node.receive.dimse import Command, Inbox, Request
from node.receive.spooled_object import Arrival
from node.receive.upper_layer import DeadlineSocket, UpperLayer

log = structlog.get_logger()

_number = itertools.count(1)


@dataclass(frozen=True)
class Sender:
    """Who is at the other end."""

    calling_ae_title: str
    called_ae_title: str
    host: str


@dataclass(frozen=True)
class Rejection:
    """Why an association is refused, in our words and as A-ASSOCIATE-RJ has it (PS3.8 9.3.4)."""

    reason: str
    result: int
    source: int
    diagnostic: int


@dataclass(frozen=True)
class Terms:
    """What every association of a node is held to."""

    contexts: list[PresentationContext]
    max_pdu_bytes: int
    stall_seconds: float
    idle_seconds: float
    associate_seconds: float


class Door(Protocol):
    """What an association asks of the receiver."""

    counts: Counts

    def admit(self, association: "IncomingAssociation", sender: Sender) -> Rejection | None:
        """None, and then it counts among the associations until `left`; or why not."""

    def agreed(self, association: "IncomingAssociation", sender: Sender) -> None:
        """Its contexts have been negotiated."""

    def left(self, association: "IncomingAssociation") -> None:
        """It is over."""

    def begin(self, command: Command) -> Arrival:
        """A place for the object that this command announces."""

    def keep(self, arrival: Arrival, sender: Sender) -> tuple[int, str]:
        """The status and comment that answer a C-STORE; its object is safe if that is 0x0000. Raises nothing."""


class _Negotiation(ACSE):
    """Asks the door before the library negotiates."""

    def _negotiate_as_acceptor(self) -> None:
        association = cast(IncomingAssociation, self.assoc)
        request = cast(A_ASSOCIATE, self.requestor.primitive)
        self.requestor.ae_title = request.calling_ae_title
        association.sender = Sender(
            calling_ae_title=str(request.calling_ae_title).strip(),
            called_ae_title=str(request.called_ae_title).strip(),
            host=association.sender.host,
        )
        rejection = association.door.admit(association, association.sender)
        if rejection is None:
            super()._negotiate_as_acceptor()
            association.door.agreed(association, association.sender)
            return
        self.send_reject(rejection.result, rejection.source, rejection.diagnostic)
        evt.trigger(association, evt.EVT_REJECTED, {})
        association.kill()


class IncomingAssociation(Association):
    """pynetdicom's association with a bounded upper layer, and with C-STORE answered by the door."""

    def __init__(
        self, ae: ApplicationEntity, *, sock: socket.socket, host: str, first: bytes, door: Door, terms: Terms
    ):
        super().__init__(ae, MODE_ACCEPTOR)
        self.name = f"association-{next(_number)}"
        self.door = door
        self.sender = Sender("", "", host)
        self.ending = ""
        """Why this node broke it off; empty if it did not."""
        self.acse = _Negotiation(self)
        self.dul = UpperLayer(self, broke_off=self._broke_off)
        self.dimse = self.inbox = Inbox(self, door)
        self.acse_timeout = terms.associate_seconds
        self.dimse_timeout = self.network_timeout = terms.idle_seconds
        self.link = DeadlineSocket(
            self, sock, first=first, stall_seconds=terms.stall_seconds, max_pdu_bytes=terms.max_pdu_bytes
        )
        self.set_socket(self.link)
        self.acceptor.maximum_length = terms.max_pdu_bytes
        self.acceptor.ae_title = ae.ae_title
        self.acceptor.address_info = AddressInformation.from_tuple(sock.getsockname())
        self.acceptor.implementation_class_uid = ae.implementation_class_uid
        self.acceptor.implementation_version_name = ae.implementation_version_name
        self.acceptor.supported_contexts = terms.contexts  # the negotiation only reads them
        self.requestor.address_info = AddressInformation.from_tuple(sock.getpeername())

    def run_reactor(self) -> None:
        """The association is served until it ends, and leaves nothing behind."""
        try:
            super().run_reactor()
        except Exception as error:  # noqa: BLE001 - the thread's edge
            log.error("association_broke", error=type(error).__name__, host=self.sender.host)
        finally:
            self._end()

    def leave(self) -> None:
        """It is being aborted; returns at once."""
        self._broke_off("stopping")
        self.abort(block=False)

    def _end(self) -> None:
        self.dul.kill_dul()
        self.link.wake()
        self.dul.join(timeout=1)
        self.inbox.discard()
        if not self.dul.is_alive():
            self.link.dispose()
        self.door.left(self)

    def _broke_off(self, reason: str) -> None:
        if not self.ending:
            self.ending = reason
            self.door.counts.broken(reason)
            log.warning(
                "association_broken_off",
                reason=reason,
                calling_ae_title=self.sender.calling_ae_title,
                called_ae_title=self.sender.called_ae_title,
                host=self.sender.host,
            )

    def _serve_request(self, msg: Any, context_id: int) -> None:
        request = cast(Request, msg)
        status, comment = self._echo(request.command) if request.is_echo else self._store(request)
        self.inbox.answer(request.command, status, comment)

    def _echo(self, command: Command) -> tuple[int, str]:
        self.door.counts.echoed()
        fits = command.sop_class_uid == command.context.abstract_syntax
        return (statuses.SUCCESS if fits else statuses.CLASS_NOT_SUPPORTED), ""

    def _store(self, request: Request) -> tuple[int, str]:
        if request.arrival is None:  # the command says that no data set follows
            status, comment = statuses.CANNOT_UNDERSTAND, "C-STORE without a data set"
        else:
            status, comment = self.door.keep(request.arrival, self.sender)
        self.door.counts.answered(status)
        return status, comment
