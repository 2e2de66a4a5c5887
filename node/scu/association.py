"""An association with a destination, over which objects are stored or an echo is asked for."""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from pydicom import dcmread
from pydicom.errors import InvalidDicomError
from pynetdicom.association import Association
from pynetdicom.pdu_primitives import A_ASSOCIATE
from pynetdicom.presentation import PresentationContext, build_context

from node.scu import errors
from node.scu.errors import Unsendable
from node.scu.instance import VERIFICATION, Context, Parcel
from node.scu.transport import Caller, client_tls
from node.settings import Deliver, Destination

LARGEST_PDU = 131072
"""What we take in one PDU; what we send in one is the destination's word."""
SLOWEST = 100_000
"""Bytes a second: a line that carries so much is slow, not dead, and is waited for."""
MOST_CONTEXTS = 127
"""Presentation contexts of one association: their identifiers are the odd numbers below 256 (PS3.8 9.3.2.2)."""


class Link:
    """An association with one destination."""

    def __init__(self, destination: Destination, patience: Deliver) -> None:
        self.destination = destination
        self.patience = patience
        self._caller = Caller(ae_title=destination.calling_ae_title)
        self._caller.patience = patience.response_seconds
        self._caller.connection_timeout = patience.connect_seconds
        self._caller.acse_timeout = patience.connect_seconds
        self._caller.dimse_timeout = patience.response_seconds
        self._caller.network_timeout = None  # it never idles: whoever has nothing more to send releases it
        self._association: Association | None = None
        self._cut = False
        self._lost = False

    def open(self, contexts: Iterable[Context]) -> None:
        """
        Have an association that proposes just these contexts; a refused one is told by `store`.

        Raises
        ------
        Unreachable
            Where no association comes about.
        """
        if self._cut:
            raise errors.no_association(self.destination, 0, broken_off=True)
        proposed = [build_context(kind.sop_class_uid, list(kind.transfer_syntax_uids)) for kind in contexts]
        peer = self.destination
        try:
            self._association = self._caller.associate(
                peer.host,
                peer.port,
                contexts=proposed[:MOST_CONTEXTS],
                ae_title=peer.ae_title,
                max_pdu=LARGEST_PDU,
                tls_args=(client_tls(peer.tls), peer.host) if peer.tls else None,
            )
        except OSError as error:  # the name is unknown, or a certificate cannot be read
            raise errors.no_connection(peer, error, self.patience.connect_seconds) from error
        self._check()

    def _check(self) -> None:
        association, wire, seconds = self._association, self._caller.wire, self.patience.connect_seconds
        assert association is not None
        assert wire is not None
        if wire.failure is not None:
            raise errors.no_connection(self.destination, wire.failure, seconds) from wire.failure
        # Where a rejection closes the connection quicker than pynetdicom looks, it aborts and leaves the answer unread.
        unread = association.dul.peek_next_pdu()
        answer = unread if isinstance(unread, A_ASSOCIATE) else association.acceptor.primitive
        if answer is not None and answer.result:
            raise errors.rejected(self.destination, answer.result, answer.result_source or 0, answer.diagnostic or 0)
        if not association.is_established and not association.rejected_contexts:
            # An abort of our own, with nothing unread, is what follows a silence.
            broken_off = unread is not None or not association._sent_abort
            raise errors.no_association(self.destination, seconds, broken_off=broken_off)

    def store(self, sent: Parcel) -> int:
        """
        Send one object and return the status with which it was stored: one of `errors.STORED`.

        Raises
        ------
        Declined
            The destination said no to this object; the association stands.
        Lost
            No answer came; the association is gone.
        """
        association = self._association
        assert association is not None, "open first"
        self._accepted(sent.context)
        if self._gone():
            raise errors.no_answer(self.destination, 0, broken_off=True)
        seconds = self.patience.response_seconds + sent.size / SLOWEST
        association.dimse_timeout = seconds
        begun = time.monotonic()
        try:
            try:
                answer = association.send_c_store(sent.path)
            except ValueError:  # not in the transfer syntax of the file: the data set is written anew
                answer = association.send_c_store(dcmread(sent.path))
        except (AttributeError, ValueError, InvalidDicomError, OSError) as error:
            raise Unsendable(f"{sent.path} cannot be read") from error
        if not answer or "Status" not in answer:
            self._lost = True
            late = time.monotonic() - begun >= self.patience.response_seconds
            raise errors.no_answer(self.destination, seconds, broken_off=not late)
        if answer.Status not in errors.STORED:
            raise errors.not_stored(self.destination, answer.Status)
        return int(answer.Status)

    def _gone(self) -> bool:
        """Whether the peer has ended the association, between two objects as it were."""
        association = self._association
        assert association is not None
        unread = association.dul.peek_next_pdu() is not None
        self._lost = self._lost or unread or not association.is_established or not association.dul.is_alive()
        return self._lost

    def takes(self, kind: Context) -> bool:
        """Whether the destination accepted this kind of object, in one of its transfer syntaxes."""
        wanted, taken = set(kind.transfer_syntax_uids), self.taken()
        return bool(wanted & set(taken.get(kind.sop_class_uid, ())))

    def _accepted(self, kind: Context) -> None:
        """Hold if the destination takes this kind of object. Raises Declined."""
        association = self._association
        assert association is not None
        if self.takes(kind):
            return
        refused = 3
        contexts: list[PresentationContext] = [*association.accepted_contexts, *association.rejected_contexts]
        for context in contexts:
            if context.abstract_syntax == kind.sop_class_uid:
                refused = context.result or refused
        raise errors.no_context(self.destination, kind.sop_class_uid, kind.transfer_syntax_uids, refused)

    def taken(self) -> dict[str, list[str]]:
        """The SOP classes that the peer accepts of those that were proposed, each with its transfer syntaxes."""
        association = self._association
        assert association is not None, "open first"
        found: dict[str, list[str]] = {}
        for context in association.accepted_contexts:
            found.setdefault(str(context.abstract_syntax), []).extend(map(str, context.transfer_syntax))
        return found

    def echo(self) -> None:
        """Have an answer to a C-ECHO. Raises Declined or Lost."""
        association = self._association
        assert association is not None, "open first"
        self._accepted(VERIFICATION)
        answer = None if self._gone() else association.send_c_echo()
        if not answer or "Status" not in answer:
            self._lost = True
            raise errors.no_answer(self.destination, self.patience.response_seconds, broken_off=True)
        if answer.Status != 0:
            raise errors.not_stored(self.destination, answer.Status)

    def close(self) -> None:
        """Release the association; what is left of a lost one is cleared away."""
        if self._association is None or not self._association.is_established:
            return
        if self._lost:
            self._association.abort()
        else:
            self._association.release()

    def cut(self) -> None:
        """Break it off from another thread, whatever it is waiting for."""
        self._cut = True
        if self._caller.wire is not None:
            self._caller.wire.cut()


@contextmanager
def linked(destination: Destination, contexts: Iterable[Context], patience: Deliver) -> Iterator[Link]:
    """Lend an association for the length of the block. Raises Unreachable."""
    link = Link(destination, patience)
    try:
        link.open(contexts)
        yield link
    finally:
        link.close()
