"""Counters of what the Storage SCP has done since it started, for the heartbeat that the admin page publishes."""

import threading
from collections import Counter
from typing import Any


class Counts:
    """Counters that every thread of the Storage SCP may add to. No key comes from a sender."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._received: Counter[str] = Counter()
        self._statuses: Counter[str] = Counter()
        self._refused: Counter[str] = Counter()
        self._aborted: Counter[str] = Counter()
        self._accepted = self._echoes = self._bytes = 0

    def stored(self, result: str, *, size: int) -> None:
        """Count one more object that was stored, with the ledger's result and its size in bytes."""
        with self._lock:
            self._received[result] += 1
            self._bytes += size

    def answered(self, status: int) -> None:
        """Count one more C-STORE that was answered."""
        with self._lock:
            self._statuses[f"{status:04X}"] += 1

    def echoed(self) -> None:
        """Count one more C-ECHO that was answered."""
        with self._lock:
            self._echoes += 1

    def accepted(self) -> None:
        """Count one more association that was accepted."""
        with self._lock:
            self._accepted += 1

    def refused(self, reason: str) -> None:
        """Count one more association, or connection before its association, that was refused."""
        with self._lock:
            self._refused[reason] += 1

    def aborted(self, reason: str) -> None:
        """Count one more association that this node aborted."""
        with self._lock:
            self._aborted[reason] += 1

    def as_detail(self) -> dict[str, Any]:
        """All counters, in types that JSON has."""
        with self._lock:
            return {
                "received": dict(self._received),
                "received_bytes": self._bytes,
                "statuses": dict(self._statuses),
                "echoes": self._echoes,
                "associations_accepted": self._accepted,
                "associations_refused": dict(self._refused),
                "associations_broken": dict(self._aborted),
            }
