"""What the receiver has done since it started, for the heartbeat that the admin page publishes."""

import threading
from collections import Counter
from typing import Any


class Counts:
    """Counters that every thread of the receiver may add to. The keys are words of ours, never a sender's."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._received: Counter[str] = Counter()
        self._statuses: Counter[str] = Counter()
        self._refused: Counter[str] = Counter()
        self._broken: Counter[str] = Counter()
        self._accepted = self._echoes = self._bytes = 0

    def stored(self, result: str, *, size: int) -> None:
        """One more object was kept, with that result and so many bytes."""
        with self._lock:
            self._received[result] += 1
            self._bytes += size

    def answered(self, status: int) -> None:
        """One more C-STORE was answered."""
        with self._lock:
            self._statuses[f"{status:04X}"] += 1

    def echoed(self) -> None:
        """One more C-ECHO was answered."""
        with self._lock:
            self._echoes += 1

    def accepted(self) -> None:
        """One more association was accepted."""
        with self._lock:
            self._accepted += 1

    def refused(self, reason: str) -> None:
        """One more association, or connection that would have become one, was refused."""
        with self._lock:
            self._refused[reason] += 1

    def broken(self, reason: str) -> None:
        """One more association was broken off by this node."""
        with self._lock:
            self._broken[reason] += 1

    def as_detail(self) -> dict[str, Any]:
        """All of it, as JSON can hold it."""
        with self._lock:
            return {
                "received": dict(self._received),
                "received_bytes": self._bytes,
                "statuses": dict(self._statuses),
                "echoes": self._echoes,
                "associations_accepted": self._accepted,
                "associations_refused": dict(self._refused),
                "associations_broken": dict(self._broken),
            }
