"""A destination's circuit breaker: whether it is up, since when, and when it is tried again."""

import random
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from node.settings import Deliver


def backoff_seconds(failures: int, timing: Deliver) -> float:
    """
    Seconds to wait after so many failures in a row: doubling from the first pause up to the longest.

    Up to a fifth is subtracted at random, so that many nodes do not retry at the same moment.
    """
    doubled = timing.first_pause_seconds * 2.0 ** min(max(failures, 1) - 1, 40)
    return min(doubled, timing.longest_pause_seconds) * random.uniform(0.8, 1.0)  # noqa: S311


@dataclass
class CircuitBreaker:
    """
    After a failure to connect nothing is tried until a pause is over (Nygard, Release It!, 2007).

    Then one attempt is made: it closes the circuit, or the pause doubles. The destination counts as down only
    after `failures_until_down` failures in a row, because one refused connection means little.
    """

    timing: Deliver
    up: bool | None = None
    """None: not tried yet."""
    since: datetime = field(default_factory=lambda: datetime.now(UTC))
    failures: int = 0
    last_error: str = ""
    retry_at: datetime | None = None

    def record_failure(self, error: str) -> datetime:
        """Count a failure and return the time of the next attempt; the destination may be down from now on."""
        now = datetime.now(UTC)
        self.failures += 1
        self.last_error = error
        self.retry_at = now + timedelta(seconds=backoff_seconds(self.failures, self.timing))
        if self.failures >= self.timing.failures_until_down and self.up is not False:
            self.up, self.since = False, now
        return self.retry_at

    def record_success(self) -> bool:
        """The destination is up and no pause remains. Return whether it had failed before."""
        had_failed = self.failures > 0
        if self.up is not True:
            self.up, self.since = True, datetime.now(UTC)
        self.failures, self.retry_at = 0, None
        return had_failed

    def status_fields(self) -> dict[str, Any]:
        """The fields of the heartbeat that the status page shows."""
        return {
            "state": {None: "unknown", True: "up", False: "down"}[self.up],
            "since": self.since.isoformat(),
            "failures": self.failures,
            "last_error": self.last_error,
            "next_try": self.retry_at.isoformat() if self.retry_at else None,
        }
