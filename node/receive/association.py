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
from node.receive.dimse import CommandSet, DimseRequest, SpoolingDimseProvider
from node.receive.spooled_object import SpooledObject
from node.receive.upper_layer import DeadlineSocket, UpperLayer

log = structlog.get_logger()

_number = itertools.count(1)


@dataclass(frozen=True)
class Sender:
    """The peer of an association: both AE titles as it sent them, and its address."""

    calling_ae_title: str
    called_ae_title: str
    host: str


@dataclass(frozen=True)
class Rejection:
    """Why an association is rejected, as a label for log and metrics, and as coded in A-ASSOCIATE-RJ (PS3.8 9.3.4)."""

    reason: str
    result: int
    source: int
    diagnostic: int


@dataclass(frozen=True)
class AssociationParameters:
    """The presentation contexts and limits of every association of a node."""

    contexts: list[PresentationContext]
    max_pdu_bytes: int
    stall_seconds: float
    idle_seconds: float
    associate_seconds: float


class AssociationHandler(Protocol):
    """What an association calls at each of its steps."""

    counts: Counts

    def admit(self, association: "IncomingAssociation", sender: Sender) -> Rejection | None:
        """Return None, and the association is active until `ended`; or return why it is rejected."""

    def negotiated(self, association: "IncomingAssociation", sender: Sender) -> None:
        """Its presentation contexts have been negotiated."""

    def ended(self, association: "IncomingAssociation") -> None:
        """It has ended."""

    def open_object(self, command: CommandSet) -> SpooledObject:
        """Open a file in the spool for the object that this command announces."""

    def store(self, spooled: SpooledObject, sender: Sender) -> tuple[int, str]:
        """Return status and comment of the C-STORE-RSP; the object is safe if the status is 0x0000. Raises nothing."""


class _AdmittingACSE(ACSE):
    """Asks the handler for admission before pynetdicom negotiates."""

    def _negotiate_as_acceptor(self) -> None:
        association = cast(IncomingAssociation, self.assoc)
        request = cast(A_ASSOCIATE, self.requestor.primitive)
        self.requestor.ae_title = request.calling_ae_title
        association.sender = Sender(
            calling_ae_title=str(request.calling_ae_title).strip(),
            called_ae_title=str(request.called_ae_title).strip(),
            host=association.sender.host,
        )
        rejection = association.handler.admit(association, association.sender)
        if rejection is None:
            super()._negotiate_as_acceptor()
            association.handler.negotiated(association, association.sender)
            return
        self.send_reject(rejection.result, rejection.source, rejection.diagnostic)
        evt.trigger(association, evt.EVT_REJECTED, {})
        association.kill()


class IncomingAssociation(Association):
    """pynetdicom's association with a bounded upper layer, and with C-STORE answered by the handler."""

    def __init__(
        self,
        ae: ApplicationEntity,
        *,
        sock: socket.socket,
        host: str,
        received: bytes,
        handler: AssociationHandler,
        parameters: AssociationParameters,
    ):
        super().__init__(ae, MODE_ACCEPTOR)
        self.name = f"association-{next(_number)}"
        self.handler = handler
        self.sender = Sender("", "", host)
        self.abort_reason = ""
        """Why this node aborted it; empty if it did not."""
        self.acse = _AdmittingACSE(self)
        self.dul = UpperLayer(self, on_abort=self._record_abort)
        self.dimse = self.dimse_provider = SpoolingDimseProvider(
            self, open_object=handler.open_object, on_abort=self._record_abort
        )
        self.acse_timeout = parameters.associate_seconds
        self.dimse_timeout = self.network_timeout = parameters.idle_seconds
        self.transport = DeadlineSocket(
            self,
            sock,
            received=received,
            stall_seconds=parameters.stall_seconds,
            max_pdu_bytes=parameters.max_pdu_bytes,
        )
        self.set_socket(self.transport)
        self.acceptor.maximum_length = parameters.max_pdu_bytes
        self.acceptor.ae_title = ae.ae_title
        self.acceptor.address_info = AddressInformation.from_tuple(sock.getsockname())
        self.acceptor.implementation_class_uid = ae.implementation_class_uid
        self.acceptor.implementation_version_name = ae.implementation_version_name
        self.acceptor.supported_contexts = parameters.contexts  # the negotiation only reads them
        self.requestor.address_info = AddressInformation.from_tuple(sock.getpeername())

    def run_reactor(self) -> None:
        """Serve the association until it ends, and release everything it holds."""
        try:
            super().run_reactor()
        except Exception as error:  # noqa: BLE001 - the thread's edge
            log.error("association_failed", error=type(error).__name__, host=self.sender.host)
        finally:
            self._end()

    def abort_for_shutdown(self) -> None:
        """Begin an abort; returns at once."""
        self._record_abort("stopping")
        self.abort(block=False)

    def _end(self) -> None:
        self.dul.kill_dul()
        self.transport.wake()
        self.dul.join(timeout=1)
        self.dimse_provider.discard()
        if not self.dul.is_alive():
            self.transport.dispose()
        self.handler.ended(self)

    def _record_abort(self, reason: str) -> None:
        if not self.abort_reason:
            self.abort_reason = reason
            self.handler.counts.aborted(reason)
            log.warning(
                "association_aborted",
                reason=reason,
                calling_ae_title=self.sender.calling_ae_title,
                called_ae_title=self.sender.called_ae_title,
                host=self.sender.host,
            )

    def _serve_request(self, msg: Any, context_id: int) -> None:
        request = cast(DimseRequest, msg)
        status, comment = self._echo(request.command) if request.is_echo else self._store(request)
        self.dimse_provider.send_response(request.command, status, comment)

    def _echo(self, command: CommandSet) -> tuple[int, str]:
        self.handler.counts.echoed()
        matches = command.sop_class_uid == command.context.abstract_syntax
        return (statuses.SUCCESS if matches else statuses.CLASS_NOT_SUPPORTED), ""

    def _store(self, request: DimseRequest) -> tuple[int, str]:
        if request.spooled is None:  # the command announces no data set
            status, comment = statuses.CANNOT_UNDERSTAND, "C-STORE without a data set"
        else:
            status, comment = self.handler.store(request.spooled, self.sender)
        self.handler.counts.answered(status)
        return status, comment
