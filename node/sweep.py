"""The sweep publishes unfinished radiographs again and removes stale files, so that nothing depends on the broker."""

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

PROCESS = "sweep"
HEARTBEAT_SECONDS = 5.0
REPUBLISH_SECONDS = 30.0
"""An unfinished radiograph is published again within so long, and hardly sooner: a worker may be about to claim it."""
STALE_SECONDS = 3600.0
"""No file is written for so long, and no row is committed so long after its file was stored."""
CLEANUP_SECONDS = 600.0

log = structlog.get_logger(__name__)


class Sweep:
    """One pass over the ledger every `[broker] sweep_seconds`. Two sweeps at the same time are harmless."""

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
        self._published: dict[str, float] = {}
        self._orphans: dict[str, float] = {}
        self._published_count = 0

    def run(self, stop: threading.Event) -> None:
        """Sweep until `stop` is set. Errors are logged, and the next pass tries again."""
        intervals = {
            self.record_heartbeat: HEARTBEAT_SECONDS,
            self.republish: self._settings.broker.sweep_seconds,
            self.clean_up: CLEANUP_SECONDS,
        }
        due = dict.fromkeys(intervals, self._clock())
        while not stop.is_set():
            for step, interval in intervals.items():
                if self._clock() >= due[step]:
                    _run_step(step)
                    due[step] = self._clock() + interval
            stop.wait(max(0.05, min(due.values()) - self._clock()))

    def record_heartbeat(self) -> None:
        """Record in the ledger that this process is alive."""
        self._ledger.record_heartbeat(PROCESS, socket.gethostname(), {"asked_again": self._published_count})

    def republish(self) -> int:
        """
        Publish the unfinished radiographs again. Returns how many.

        While the broker holds as many messages as there are unfinished radiographs, none is missing and none is
        published, or a queue without workers would grow for days. With one message less, all are published that were
        not just now; publishing twice is harmless, since a worker claims its radiograph in the ledger.
        """
        unfinished, moment = self._ledger.unfinished(datetime.now(UTC)), self._clock()
        recent = REPUBLISH_SECONDS - self._settings.broker.sweep_seconds  # the next pass would be too late
        self._published = {uid: at for uid, at in self._published.items() if moment - at < recent}
        queued = self._publisher.queued() if unfinished else 0
        if queued is None:
            log.warning("broker_unreachable", unfinished=len(unfinished))
        if queued is None or queued >= len(unfinished):
            return 0
        count = 0
        for uid in (uid for uid in unfinished if uid not in self._published):
            if not self._publisher.publish(uid):
                break  # the broker is unreachable, for the remaining ones too
            self._published[uid] = moment
            count += 1
        if count:
            self._published_count += count
            log.info("republished", radiographs=count, unfinished=len(unfinished), queued=queued)
        return count

    def clean_up(self) -> None:
        """Remove files of an hour ago that are unfinished, and radiographs that no row refers to."""
        count = self._vault.clean_spool(STALE_SECONDS)
        if count:
            log.info("spool_swept", files=count)
        self._discard_orphans()

    def _discard_orphans(self) -> None:
        """
        Discard files that no row refers to in two passes an hour apart.

        One pass would not do: a receiver may have been suspended, with its machine, between the file and the row. Two
        passes by the monotonic clock, which is suspended as well, leave it an hour of running time.
        """
        moment, found = self._clock(), {}
        for hashes in _batches(self._vault.radiograph_hashes(STALE_SECONDS), 500):
            for sha256 in set(hashes) - self._ledger.known_hashes(hashes):
                found[sha256] = self._orphans.get(sha256, moment)
        for sha256 in [sha256 for sha256, since in found.items() if moment - since >= STALE_SECONDS]:
            if self._vault.discard_orphan(sha256, STALE_SECONDS):
                log.warning("orphan_discarded", sha256=sha256)
                del found[sha256]
        self._orphans = found


def _batches(items: Iterable[str], size: int) -> Iterator[list[str]]:
    iterator = iter(items)
    while batch := list(itertools.islice(iterator, size)):
        yield batch


def _run_step(step: Callable[[], object]) -> None:
    try:
        step()
    except (GenuError, OSError) as error:
        log.warning("sweep_step_failed", step=step.__name__, error=str(error))
    except Exception:  # last resort: if the sweep ended, radiographs would stay unfinished for ever
        log.exception("sweep_failed", step=step.__name__)
