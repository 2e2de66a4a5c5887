"""
The deliver process: one thread for each destination, and a heartbeat.

The state of a destination is in memory and may be lost; what is still to be delivered is in the ledger.
"""

import threading
import time

import structlog

from node.deliver.destination_queue import DestinationQueue
from node.errors import Transient
from node.ledger import Ledger
from node.settings import Settings
from node.storage import Vault

log = structlog.get_logger()

HEARTBEAT_SECONDS = 5.0
GRACE_SECONDS = 1.5
"""On stopping: time for the object being sent. Then its connection is ended; it is sent again at the next start."""


class Deliverer:
    """Delivers what is due according to the ledger, until it is stopped."""

    def __init__(self, settings: Settings, vault: Vault, ledger: Ledger) -> None:
        self._settings = settings
        self._vault = vault
        self._ledger = ledger

    def run(self, stop: threading.Event) -> None:
        """Deliver or postpone everything that falls due until `stop` is set; then return within seconds."""
        queues = [
            DestinationQueue(destination, self._settings.deliver, vault=self._vault, ledger=self._ledger, stop=stop)
            for destination in self._settings.destination
        ]
        threads = [
            threading.Thread(target=queue.run, name=f"deliver-{queue.destination.name}", daemon=True)
            for queue in queues
        ]
        for thread in threads:
            thread.start()
        while True:
            self._record_heartbeats(queues)
            if stop.wait(HEARTBEAT_SECONDS):
                break
        deadline = time.monotonic() + GRACE_SECONDS
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        for queue in queues:
            queue.interrupt()
        deadline = time.monotonic() + GRACE_SECONDS
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _record_heartbeats(self, queues: list[DestinationQueue]) -> None:
        try:
            waiting = {row.destination: row.count for row in self._ledger.pending_deliveries()}
            for queue in queues:
                name = queue.destination.name
                fields = {**queue.breaker.status_fields(), "waiting": waiting.get(name, 0)}
                self._ledger.record_heartbeat("deliver", name, fields)
            if not queues:
                self._ledger.record_heartbeat("deliver", "-", {"state": "no destination"})
        except Transient as error:  # the ledger is unavailable; the queues wait for it as well
            log.warning("heartbeat_failed", error=str(error))
