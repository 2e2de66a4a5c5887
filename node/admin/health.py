"""Health of the node: whether the process answers, whether the node can work, and which destinations are degraded."""

import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import structlog

from node.errors import GenuError
from node.ledger import Heartbeat, Ledger, PendingDeliveries
from node.settings import Settings
from node.storage import Vault

log = structlog.get_logger()

REQUIRED_PROCESSES = ("receive", "work", "deliver", "sweep")
"""The processes whose heartbeat must be recent for the node to be ready. admin is the one that answers."""

SILENT_AFTER = timedelta(seconds=20)
"""A process whose last heartbeat is older is silent."""

_PING_SECONDS = 3.0


@dataclass(frozen=True)
class Readiness:
    """The answer of /readyz: a result for each check, and the destinations that do not accept what waits for them."""

    checks: Mapping[str, str]
    """Name of the check -> "ok", or a word or two for what is missing."""
    degraded: tuple[str, ...] = ()

    @property
    def ready(self) -> bool:
        return all(result == "ok" for result in self.checks.values())

    @property
    def status(self) -> str:
        """ "ready", "degraded" or "not ready"."""
        if not self.ready:
            return "not ready"
        return "degraded" if self.degraded else "ready"

    @property
    def failed_checks(self) -> list[str]:
        return [f"{check}: {result}" for check, result in self.checks.items() if result != "ok"]

    def as_json(self) -> dict[str, object]:
        return {
            "status": self.status,
            "ready": self.ready,
            "checks": dict(self.checks),
            "degraded": list(self.degraded),
        }


class ReadinessMonitor:
    """
    Checks every process and resource of the node; at most once in `max_age_seconds`, however many requests there are.

    A destination that is down makes the node degraded and never unready: radiographs are received and graded,
    and what waits is sent when the destination is back.
    """

    def __init__(
        self,
        settings: Settings,
        vault: Vault,
        ledger: Ledger,
        broker_ping: Callable[[], bool],
        *,
        max_age_seconds: float = 1.0,
    ) -> None:
        self._settings, self._vault, self._ledger, self._ping = settings, vault, ledger, broker_ping
        self._max_age_seconds = max_age_seconds
        self._lock = threading.Lock()
        self._latest: tuple[float, Readiness] | None = None
        self._ping_thread: threading.Thread | None = None

    def check(self) -> Readiness:
        """The readiness now, or as it was at most `max_age_seconds` ago."""
        with self._lock:
            if self._latest is None or time.monotonic() - self._latest[0] > self._max_age_seconds:
                readiness = self._run_checks()
                self._latest = (time.monotonic(), readiness)
            return self._latest[1]

    def _run_checks(self) -> Readiness:
        checks = {"ledger": "ok", **dict.fromkeys(REQUIRED_PROCESSES, "unknown")}
        degraded: tuple[str, ...] = ()
        try:
            beats = self._ledger.heartbeats()
            checks.update(_process_checks(beats, datetime.now(UTC)))
            names = [destination.name for destination in self._settings.destination]
            degraded = _degraded_destinations(beats, self._ledger.pending_deliveries(), names)
        except GenuError as error:
            log.warning("readiness_check_failed", check="ledger", error=type(error).__name__)
            checks["ledger"] = "no answer"
        checks.update(self._storage_checks())
        checks["broker"] = self._broker_check()
        return Readiness(checks, degraded)

    def _storage_checks(self) -> dict[str, str]:
        """Whether the vault is writable now, and has the free space that the receiver requires."""
        try:
            probe = self._vault.spool / f"probe-{secrets.token_hex(8)}"
            probe.write_bytes(b"")
            probe.unlink()
            space = "ok" if self._vault.free_mb() >= self._settings.storage.min_free_mb else "low"
        except OSError as error:
            log.warning("readiness_check_failed", check="vault", error=type(error).__name__, errno=error.errno)
            return {"vault": "not writable", "space": "unknown"}
        return {"vault": "ok", "space": space}

    def _broker_check(self) -> str:
        """Whether the broker answers in time. A ping that blocks is left alone, and no second one is started."""
        answers: list[bool] = []

        def ping() -> None:
            try:
                answers.append(self._ping())
            except Exception as error:  # noqa: BLE001 - whatever the broker's library raises, the broker is unavailable
                log.warning("readiness_check_failed", check="broker", error=type(error).__name__)

        if self._ping_thread is None or not self._ping_thread.is_alive():
            self._ping_thread = threading.Thread(target=ping, name="admin-ping", daemon=True)
            self._ping_thread.start()
        self._ping_thread.join(_PING_SECONDS)
        return "ok" if answers and answers[0] else "no answer"


def last_heartbeats(beats: Sequence[Heartbeat]) -> dict[str, datetime]:
    """Kind of process -> time of the latest heartbeat of any such process."""
    latest: dict[str, datetime] = {}
    for beat in beats:
        latest[beat.process] = max(beat.seen_at, latest.get(beat.process, beat.seen_at))
    return latest


def _process_checks(beats: Sequence[Heartbeat], now: datetime) -> dict[str, str]:
    latest = last_heartbeats(beats)
    return {
        name: "never started" if name not in latest else "ok" if now - latest[name] <= SILENT_AFTER else "silent"
        for name in REQUIRED_PROCESSES
    }


def _degraded_destinations(
    beats: Sequence[Heartbeat], waiting: Sequence[PendingDeliveries], known: Sequence[str]
) -> tuple[str, ...]:
    """The destinations that are down, or failed to accept what still waits for them."""
    down = {beat.name for beat in beats if beat.process == "deliver" and beat.detail.get("state") == "down"}
    failed = {queue.destination for queue in waiting if queue.last_error}
    return tuple(sorted({name for name in known if name in down} | failed))
