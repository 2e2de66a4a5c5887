"""The sweep asks again for everything unfinished, and clears away what broke off. Nothing rests on the broker."""

import itertools
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime

import structlog

from node.broker import Publisher
from node.errors import GenuError
from node.ledger import Ledger
from node.settings import Settings
from node.storage import Vault

PART = "sweep"
BEAT_SECONDS = 5.0
LATE_SECONDS = 30.0
"""What is unfinished is asked for again within so long, and hardly sooner: a worker may be about to claim it."""
LEFT_OVER_SECONDS = 3600.0
"""Nobody writes that long to one file, and no row is committed that long after its file was kept."""
TIDY_SECONDS = 600.0

log = structlog.get_logger(__name__)


class Sweep:
    """One pass over the ledger every `[broker] sweep_seconds`. Two sweeps at once are harmless."""

    def __init__(
        self,
        settings: Settings,
        vault: Vault,
        ledger: Ledger,
        publisher: Publisher,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._vault = vault
        self._ledger = ledger
        self._publisher = publisher
        self._clock = clock
        self._asked: dict[str, float] = {}
        self._strays: dict[str, float] = {}
        self._asked_count = 0

    def run(self, stop: threading.Event) -> None:
        """Sweeps until `stop` is set. What goes wrong is logged, and the next pass tries again."""
        every = {self.beat: BEAT_SECONDS, self.ask: self._settings.broker.sweep_seconds, self.tidy: TIDY_SECONDS}
        due = dict.fromkeys(every, self._clock())
        while not stop.is_set():
            for duty, pause in every.items():
                if self._clock() >= due[duty]:
                    _carry_out(duty)
                    due[duty] = self._clock() + pause
            stop.wait(max(0.05, min(due.values()) - self._clock()))

    def beat(self) -> None:
        """The ledger knows that this part lives."""
        self._ledger.record_heartbeat(PART, socket.gethostname(), {"asked_again": self._asked_count})

    def ask(self) -> int:
        """
        Publish what is unfinished. Returns how many radiographs.

        While the broker holds as many messages as there is unfinished work, nothing is missing and nothing is
        published, or a queue without workers would grow for days. One message less, and all are published that were not
        just now; twice is harmless, since a worker claims in the ledger what it does.
        """
        unfinished, moment = self._ledger.unfinished(datetime.now(UTC)), self._clock()
        recent = LATE_SECONDS - self._settings.broker.sweep_seconds  # the next pass would be too late
        self._asked = {uid: at for uid, at in self._asked.items() if moment - at < recent}
        queued = self._publisher.queued() if unfinished else 0
        if queued is None:
            log.warning("broker_away", unfinished=len(unfinished))
        if queued is None or queued >= len(unfinished):
            return 0
        published = 0
        for uid in (uid for uid in unfinished if uid not in self._asked):
            if not self._publisher.publish(uid):
                break  # it is away, for the rest of them too
            self._asked[uid] = moment
            published += 1
        if published:
            self._asked_count += published
            log.info("asked_again", radiographs=published, unfinished=len(unfinished), queued=queued)
        return published

    def tidy(self) -> None:
        """Left-overs of an hour ago are gone: half-written files, and radiographs that no row speaks of."""
        count = self._vault.clean_spool(LEFT_OVER_SECONDS)
        if count:
            log.info("spool_swept", files=count)
        self._discard_strays()

    def _discard_strays(self) -> None:
        """
        A file is a stray when no row knows it in two looks an hour apart.

        The first look alone would not do: a receiver may have been asleep, with its machine, between the file
        and the row. Two looks by the monotonic clock, which sleeps as well, leave it an hour of waking time.
        """
        moment, seen = self._clock(), {}
        for hashes in _batches(self._vault.radiograph_hashes(LEFT_OVER_SECONDS), 500):
            for sha256 in set(hashes) - self._ledger.known_hashes(hashes):
                seen[sha256] = self._strays.get(sha256, moment)
        for sha256 in [sha256 for sha256, since in seen.items() if moment - since >= LEFT_OVER_SECONDS]:
            if self._vault.discard_orphan(sha256, LEFT_OVER_SECONDS):
                log.warning("stray_discarded", sha256=sha256)
                del seen[sha256]
        self._strays = seen


def _batches(things: Iterable[str], size: int) -> Iterator[list[str]]:
    iterator = iter(things)
    while batch := list(itertools.islice(iterator, size)):
        yield batch


def _carry_out(duty: Callable[[], object]) -> None:
    try:
        duty()
    except (GenuError, OSError) as error:
        log.warning("sweep_hindered", duty=duty.__name__, error=str(error))
    except Exception:  # the door's edge: a sweep that died would let radiographs lie for ever
        log.exception("sweep_failed", duty=duty.__name__)
