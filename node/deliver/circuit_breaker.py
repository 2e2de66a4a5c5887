"""What a line knows of its destination: whether it answers, since when, and when it is asked again."""

import random
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from node.settings import Deliver


def pause(failures: int, patience: Deliver) -> float:
    """
    Seconds to wait after so many failures in a row: doubling from the first pause up to the longest.

    Up to a fifth is taken off by chance, so that many nodes do not come back at the same moment.
    """
    doubled = patience.first_pause_seconds * 2.0 ** min(max(failures, 1) - 1, 40)
    return min(doubled, patience.longest_pause_seconds) * random.uniform(0.8, 1.0)  # noqa: S311


@dataclass
class Circuit:
    """
    A breaker (Nygard, Release It!, 2007): after a failure to connect nothing is tried until the pause is over.

    Then one attempt is made, and either the circuit holds again or the pause doubles. The destination is
    called down after `failures_until_down` failures in a row: one refused connection is no news.
    """

    patience: Deliver
    up: bool | None = None
    """None: not heard of yet."""
    since: datetime = field(default_factory=lambda: datetime.now(UTC))
    failures: int = 0
    last_error: str = ""
    retry_at: datetime | None = None

    def fail(self, error: str) -> datetime:
        """The next attempt waits until the moment that this returns; the destination may be down now."""
        now = datetime.now(UTC)
        self.failures += 1
        self.last_error = error
        self.retry_at = now + timedelta(seconds=pause(self.failures, self.patience))
        if self.failures >= self.patience.failures_until_down and self.up is not False:
            self.up, self.since = False, now
        return self.retry_at

    def succeed(self) -> bool:
        """The destination is up and nothing waits for a pause. Returns whether it had failed before."""
        had_failed = self.failures > 0
        if self.up is not True:
            self.up, self.since = True, datetime.now(UTC)
        self.failures, self.retry_at = 0, None
        return had_failed

    def detail(self) -> dict[str, Any]:
        """What the status page shows of it."""
        return {
            "state": {None: "unknown", True: "up", False: "down"}[self.up],
            "since": self.since.isoformat(),
            "failures": self.failures,
            "last_error": self.last_error,
            "next_try": self.retry_at.isoformat() if self.retry_at else None,
        }
