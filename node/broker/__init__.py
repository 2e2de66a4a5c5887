"""The broker only notifies workers: a message is one UID, and a lost one costs a few seconds until the sweep."""

from node.broker.embedded import EmbeddedBroker
from node.broker.publisher import QUEUE, TASK, Publisher, application

__all__ = ["QUEUE", "TASK", "EmbeddedBroker", "Publisher", "application"]
