"""An association with a destination, for C-STORE and C-ECHO requests."""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from pydicom import dcmread
from pydicom.errors import InvalidDicomError
from pynetdicom.association import Association
from pynetdicom.pdu_primitives import A_ASSOCIATE
from pynetdicom.presentation import PresentationContext, build_context

from node.scu import errors
from node.scu.errors import UnsendableFile
from node.scu.instance import VERIFICATION, ProposedContext, SendableInstance
from node.scu.transport import RequestingAe, client_tls
from node.settings import Deliver, Destination

MAX_PDU_BYTES = 131072
"""The largest PDU that this side accepts; the destination sets the limit for those sent to it."""
MIN_BYTES_PER_SECOND = 100_000
"""A connection of this rate is slow, not dead: the timeout of an object grows with its size."""
MAX_CONTEXTS = 127
"""Presentation contexts of one association: their identifiers are the odd numbers below 256 (PS3.8 9.3.2.2)."""


class ScuAssociation:
    """An association with one destination, as its requestor."""

    def __init__(self, destination: Destination, timing: Deliver) -> None:
        self.destination = destination
        self.timing = timing
        self._ae = RequestingAe(ae_title=destination.calling_ae_title)
        self._ae.response_timeout = timing.response_seconds
        self._ae.connection_timeout = timing.connect_seconds
        self._ae.acse_timeout = timing.connect_seconds
        self._ae.dimse_timeout = timing.response_seconds
        self._ae.network_timeout = None  # an association never idles: it is released after its last request
        self._association: Association | None = None
        self._interrupted = False
        self._broken = False

    def open(self, contexts: Iterable[ProposedContext]) -> None:
        """
        Request an association that proposes exactly these contexts; `store` reports the rejected ones.

        Raises
        ------
        DestinationUnavailable
            If no association is established.
        """
        if self._interrupted:
            raise errors.no_association_response(self.destination, 0, closed=True)
        proposed = [build_context(context.sop_class_uid, list(context.transfer_syntax_uids)) for context in contexts]
        peer = self.destination
        try:
            self._association = self._ae.associate(
                peer.host,
                peer.port,
                contexts=proposed[:MAX_CONTEXTS],
                ae_title=peer.ae_title,
                max_pdu=MAX_PDU_BYTES,
                tls_args=(client_tls(peer.tls), peer.host) if peer.tls else None,
            )
        except OSError as error:  # unknown host name, or an unreadable certificate
            raise errors.connection_failed(peer, error, self.timing.connect_seconds) from error
        self._check_established()

    def _check_established(self) -> None:
        """Raise DestinationUnavailable if the destination has not accepted the association."""
        association, connection = self._association, self._ae.client_socket
        seconds = self.timing.connect_seconds
        assert association is not None
        assert connection is not None
        if connection.connect_error is not None:
            raise errors.connection_failed(
                self.destination, connection.connect_error, seconds
            ) from connection.connect_error
        # If a rejection closes the connection before pynetdicom polls it, pynetdicom aborts without reading the answer.
        unread = association.dul.peek_next_pdu()
        answer = unread if isinstance(unread, A_ASSOCIATE) else association.acceptor.primitive
        if answer is not None and answer.result:
            raise errors.association_rejected(
                self.destination, answer.result, answer.result_source or 0, answer.diagnostic or 0
            )
        if not association.is_established and not association.rejected_contexts:
            # pynetdicom aborts, with nothing unread, after a timeout.
            closed = unread is not None or not association._sent_abort
            raise errors.no_association_response(self.destination, seconds, closed=closed)

    def store(self, instance: SendableInstance) -> int:
        """
        Send one object and return the status with which it was stored: one of `errors.STORED_STATUSES`.

        Raises
        ------
        RequestRejected, ContextRejected
            If the destination did not store the object; the association remains established.
        NoResponse
            If no response came; the association has ended.
        UnsendableFile
            If the file cannot be read.
        """
        association = self._association
        assert association is not None, "open first"
        self._require_accepted(instance.context)
        if self._has_ended():
            raise errors.no_response(self.destination, 0, closed=True)
        seconds = self.timing.response_seconds + instance.size / MIN_BYTES_PER_SECOND
        association.dimse_timeout = seconds
        started = time.monotonic()
        try:
            try:
                response = association.send_c_store(instance.path)
            except ValueError:  # the file's transfer syntax was not accepted: the data set is encoded again
                response = association.send_c_store(dcmread(instance.path))
        except (AttributeError, ValueError, InvalidDicomError, OSError) as error:
            raise UnsendableFile(f"{instance.path} cannot be read") from error
        if not response or "Status" not in response:
            self._broken = True
            timed_out = time.monotonic() - started >= self.timing.response_seconds
            raise errors.no_response(self.destination, seconds, closed=not timed_out)
        if response.Status not in errors.STORED_STATUSES:
            raise errors.failure_status(self.destination, response.Status)
        return int(response.Status)

    def _has_ended(self) -> bool:
        """Whether the peer has ended the association, for example between two objects."""
        association = self._association
        assert association is not None
        unread = association.dul.peek_next_pdu() is not None
        self._broken = self._broken or unread or not association.is_established or not association.dul.is_alive()
        return self._broken

    def accepts(self, context: ProposedContext) -> bool:
        """Whether the destination accepted this SOP class in at least one of these transfer syntaxes."""
        accepted = self.accepted_contexts().get(context.sop_class_uid, ())
        return bool(set(context.transfer_syntax_uids) & set(accepted))

    def _require_accepted(self, proposed: ProposedContext) -> None:
        """Raise ContextRejected if the destination did not accept this presentation context."""
        association = self._association
        assert association is not None
        if self.accepts(proposed):
            return
        result = 3
        contexts: list[PresentationContext] = [*association.accepted_contexts, *association.rejected_contexts]
        for context in contexts:
            if context.abstract_syntax == proposed.sop_class_uid:
                result = context.result or result
        raise errors.context_rejected(self.destination, proposed.sop_class_uid, proposed.transfer_syntax_uids, result)

    def accepted_contexts(self) -> dict[str, list[str]]:
        """The accepted SOP classes of those proposed, each with its accepted transfer syntaxes."""
        association = self._association
        assert association is not None, "open first"
        accepted: dict[str, list[str]] = {}
        for context in association.accepted_contexts:
            accepted.setdefault(str(context.abstract_syntax), []).extend(map(str, context.transfer_syntax))
        return accepted

    def echo(self) -> None:
        """Send a C-ECHO request. Raises RequestRejected, ContextRejected or NoResponse."""
        association = self._association
        assert association is not None, "open first"
        self._require_accepted(VERIFICATION)
        response = None if self._has_ended() else association.send_c_echo()
        if not response or "Status" not in response:
            self._broken = True
            raise errors.no_response(self.destination, self.timing.response_seconds, closed=True)
        if response.Status != 0:
            raise errors.failure_status(self.destination, response.Status)

    def close(self) -> None:
        """Release the association, or abort it if it is broken."""
        if self._association is None or not self._association.is_established:
            return
        if self._broken:
            self._association.abort()
        else:
            self._association.release()

    def interrupt(self) -> None:
        """End the connection from another thread, whichever call waits for it."""
        self._interrupted = True
        if self._ae.client_socket is not None:
            self._ae.client_socket.interrupt()


@contextmanager
def open_association(
    destination: Destination, contexts: Iterable[ProposedContext], timing: Deliver
) -> Iterator[ScuAssociation]:
    """Open an association for the block and close it afterwards. Raises DestinationUnavailable."""
    association = ScuAssociation(destination, timing)
    try:
        association.open(contexts)
        yield association
    finally:
        association.close()
