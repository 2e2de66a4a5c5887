"""
The door out: every result goes to every destination that wants it, as soon as that destination takes it.

Each destination has a line of its own, a thread that waits for nobody but it. What a line knows of its
destination is in memory and may be lost; what is still to be delivered stands in the ledger and is not.
"""

import threading
import time

import structlog

from node.deliver.destination_queue import Line
from node.errors import Transient
from node.ledger import Ledger
from node.scu import Sent, echo, peer, send
from node.settings import Settings
from node.storage import Vault

__all__ = ["Deliverer", "Sent", "echo", "peer", "send"]

log = structlog.get_logger()

BEAT_SECONDS = 5.0
GRACE_SECONDS = 1.5
"""When the node stops: time for the object on the wire. After that it is cut off, and sent again at the next start."""


class Deliverer:
    """Delivers what the ledger says is due, until it is stopped."""

    def __init__(self, settings: Settings, vault: Vault, ledger: Ledger) -> None:
        self._settings = settings
        self._vault = vault
        self._ledger = ledger

    def run(self, stop: threading.Event) -> None:
        """Everything that falls due is delivered or put off, until `stop` is set; then it ends within seconds."""
        lines = [
            Line(destination, self._settings.deliver, vault=self._vault, ledger=self._ledger, stop=stop)
            for destination in self._settings.destination
        ]
        threads = [
            threading.Thread(target=line.run, name=f"deliver-{line.destination.name}", daemon=True) for line in lines
        ]
        for thread in threads:
            thread.start()
        while True:
            self._beat(lines)
            if stop.wait(BEAT_SECONDS):
                break
        deadline = time.monotonic() + GRACE_SECONDS
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        for line in lines:
            line.cut()
        deadline = time.monotonic() + GRACE_SECONDS
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _beat(self, lines: list[Line]) -> None:
        try:
            waiting = {row.destination: row.count for row in self._ledger.pending_deliveries()}
            for line in lines:
                name = line.destination.name
                self._ledger.record_heartbeat(
                    "deliver", name, {**line.circuit.detail(), "waiting": waiting.get(name, 0)}
                )
            if not lines:
                self._ledger.record_heartbeat("deliver", "-", {"state": "no destination"})
        except Transient as error:  # the ledger is away; the lines wait for it as well
            log.warning("beat_failed", part="deliver", error=str(error))
