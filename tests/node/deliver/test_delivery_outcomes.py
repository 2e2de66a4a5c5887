"""What each exception of a client does to the delivery, and to the state of its destination."""

import threading
from collections.abc import Iterable

import pytest

from node.deliver.destination_queue import DestinationQueue
from node.errors import GenuError
from node.scu import (
    ContextRejected,
    DestinationUnavailable,
    NoResponse,
    PermanentRejection,
    ProposedContext,
    RequestRejected,
    SendableInstance,
    UnsendableFile,
)
from node.settings import Deliver, Destination
from tests.peers.archives import HOST
from tests.peers.delivering_node import Node

LONG = Deliver(first_pause_seconds=300)


class FailingClient:
    """A client that answers an echo and raises `error` for every object."""

    def __init__(self, error: GenuError) -> None:
        self.error = error
        self.sent: list[str] = []

    def open(self, contexts: Iterable[ProposedContext]) -> None:
        """Do nothing."""

    def accepts(self, context: ProposedContext) -> bool:
        return True

    def store(self, instance: SendableInstance) -> int:
        self.sent.append(instance.sop_instance_uid)
        raise self.error

    def echo(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""

    def interrupt(self) -> None:
        """Do nothing."""


@pytest.mark.parametrize(
    ("error", "kinds", "states", "sent", "failures"),
    [
        (DestinationUnavailable("down"), ("SC", "SR"), ["WAITING", "WAITING"], 1, 1),
        (NoResponse("unknown"), ("SC", "SR"), ["WAITING", "WAITING"], 1, 0),
        (RequestRejected("not now"), ("SC", "SR"), ["WAITING", "WAITING"], 2, 0),
        (ContextRejected("not accepted"), ("SC", "SR"), ["WAITING", "WAITING"], 2, 0),
        (ContextRejected("not accepted"), ("SC", "SEG"), ["WAITING", "GIVEN_UP"], 2, 0),
        (RequestRejected("not now"), ("SC", "SEG"), ["WAITING", "WAITING"], 2, 0),
        (PermanentRejection("never"), ("SC", "SR"), ["GIVEN_UP", "GIVEN_UP"], 2, 0),
        (UnsendableFile("damaged"), ("SC", "SR"), ["GIVEN_UP", "GIVEN_UP"], 2, 0),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, GenuError) else None,
)
def test_every_exception_has_its_consequence(
    error: GenuError,
    kinds: tuple[str, ...],
    states: list[str],
    sent: int,
    failures: int,
    node: Node,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One round: which deliveries wait and which are given up, how many were tried, and the failures counted."""
    owed, client = node.owe(kinds=kinds), FailingClient(error)
    monkeypatch.setattr("node.deliver.destination_queue.client_for", lambda *_: client)
    destination = Destination(name="pacs", ae_title="PACS", host=HOST, port=104)
    queue = DestinationQueue(destination, LONG, vault=node.vault, ledger=node.ledger, stop=threading.Event())
    assert queue._deliver_due()
    deliveries = {delivery.object.kind: delivery for delivery in node.ledger.deliveries(owed.source_uid)}
    assert [deliveries[kind].state for kind in kinds] == states
    assert len(client.sent) == sent
    assert queue.breaker.failures == failures
    with_error = [kind for kind in kinds if deliveries[kind].last_error]
    assert len(with_error) == (2 if failures else sent)  # a failure of the destination postpones all that is due
