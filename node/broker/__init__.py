"""The broker only rings the bell: a message is one UID, and losing it costs a few seconds until the sweep."""

from node.broker.embedded import EmbeddedBroker
from node.broker.publisher import QUEUE, TASK, VISIBILITY_SECONDS, Bell, application

__all__ = ["QUEUE", "TASK", "VISIBILITY_SECONDS", "Bell", "EmbeddedBroker", "application"]
