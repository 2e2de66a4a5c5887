"""Whether the process answers, whether the node can do its work, and which destinations are behind."""

import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import structlog

from node.errors import GenuError
from node.ledger import Beat, Ledger, Waiting
from node.settings import Settings
from node.storage import Vault

log = structlog.get_logger()

PARTS = ("receive", "work", "deliver", "sweep")
"""The parts that must have beaten lately for the node to be ready. admin is the one that answers."""

SILENT_AFTER = timedelta(seconds=20)

_PING_SECONDS = 3.0


@dataclass(frozen=True)
class Readiness:
    """What /readyz says: a word for each check, and the destinations that do not take what waits for them."""

    checks: Mapping[str, str]
    """Name of the check -> "ok", or in a word or two what is missing."""
    behind: tuple[str, ...] = ()

    @property
    def ready(self) -> bool:
        return all(word == "ok" for word in self.checks.values())

    @property
    def word(self) -> str:
        if not self.ready:
            return "not ready"
        return "degraded" if self.behind else "ready"

    @property
    def missing(self) -> list[str]:
        return [f"{check}: {word}" for check, word in self.checks.items() if word != "ok"]

    def as_json(self) -> dict[str, object]:
        return {"status": self.word, "ready": self.ready, "checks": dict(self.checks), "degraded": list(self.behind)}


class Watch:
    """
    Asks every part of the node whether it is there; at most once in `keep_seconds`, however many want to know.

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
        keep_seconds: float = 1.0,
    ) -> None:
        self._settings, self._vault, self._ledger, self._ping = settings, vault, ledger, broker_ping
        self._keep = keep_seconds
        self._lock = threading.Lock()
        self._last: tuple[float, Readiness] | None = None
        self._asking: threading.Thread | None = None

    def look(self) -> Readiness:
        with self._lock:
            if self._last is None or time.monotonic() - self._last[0] > self._keep:
                found = self._look()
                self._last = (time.monotonic(), found)
            return self._last[1]

    def _look(self) -> Readiness:
        checks = {"ledger": "ok", **dict.fromkeys(PARTS, "unknown")}
        behind: tuple[str, ...] = ()
        try:
            beats = self._ledger.parts()
            checks.update(_heard(beats, datetime.now(UTC)))
            behind = _behind(beats, self._ledger.waiting(), [one.name for one in self._settings.destination])
        except GenuError as error:
            log.warning("readiness_check_failed", check="ledger", error=type(error).__name__)
            checks["ledger"] = "no answer"
        checks.update(self._kept())
        checks["broker"] = self._rings()
        return Readiness(checks, behind)

    def _kept(self) -> dict[str, str]:
        """Whether the vault can be written now, and has the room that the receiver asks for."""
        try:
            probe = self._vault.spool / f"probe-{secrets.token_hex(8)}"
            probe.write_bytes(b"")
            probe.unlink()
            space = "ok" if self._vault.free_mb() >= self._settings.storage.min_free_mb else "low"
        except OSError as error:
            log.warning("readiness_check_failed", check="vault", error=type(error).__name__, errno=error.errno)
            return {"vault": "not writable", "space": "unknown"}
        return {"vault": "ok", "space": space}

    def _rings(self) -> str:
        """Whether the broker answers in time. A ping that hangs is left alone, and no second one is started."""
        answers: list[bool] = []

        def ask() -> None:
            try:
                answers.append(self._ping())
            except Exception as error:  # noqa: BLE001 - whatever the broker's library raises, it is not there
                log.warning("readiness_check_failed", check="broker", error=type(error).__name__)

        if self._asking is None or not self._asking.is_alive():
            self._asking = threading.Thread(target=ask, name="admin-ping", daemon=True)
            self._asking.start()
        self._asking.join(_PING_SECONDS)
        return "ok" if answers and answers[0] else "no answer"


def last_seen(beats: Sequence[Beat]) -> dict[str, datetime]:
    """When each part was last heard of, the freshest of its processes counting."""
    seen: dict[str, datetime] = {}
    for beat in beats:
        seen[beat.part] = max(beat.seen_at, seen.get(beat.part, beat.seen_at))
    return seen


def _heard(beats: Sequence[Beat], now: datetime) -> dict[str, str]:
    seen = last_seen(beats)
    return {
        part: "never started" if part not in seen else "ok" if now - seen[part] <= SILENT_AFTER else "silent"
        for part in PARTS
    }


def _behind(beats: Sequence[Beat], waiting: Sequence[Waiting], known: Sequence[str]) -> tuple[str, ...]:
    """The destinations that are down, or did not take what still waits for them."""
    down = {beat.name for beat in beats if beat.part == "deliver" and beat.detail.get("state") == "down"}
    return tuple(
        sorted({name for name in known if name in down} | {one.destination for one in waiting if one.last_error})
    )
