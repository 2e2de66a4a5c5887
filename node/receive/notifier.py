"""Publishes stored radiographs beside the associations: a broker that is away must not delay a C-STORE."""

import queue
import threading
from collections.abc import Callable

import structlog

log = structlog.get_logger()

_LIMIT = 10000

_PAUSE_SECONDS = 0.02
"""
After each message. Publishing costs a millisecond of this process, for which every association would have to wait: in
a burst the objects come first. Forty messages a second are more than workers process, and the sweep publishes what is
missing.
"""


class Notifier:
    """A queue of SOP Instance UIDs, and a thread that calls `publish` with each. The sweep repeats what is lost."""

    def __init__(self, publish: Callable[[str], bool]) -> None:
        self._publish = publish
        self._uids: queue.Queue[str | None] = queue.Queue(_LIMIT)
        self._thread = threading.Thread(target=self._run, name="notifier", daemon=True)
        self._stopping = threading.Event()

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def enqueue(self, uid: str) -> None:
        """Have `uid` published soon, unless the queue is full. Returns at once."""
        try:
            self._uids.put_nowait(uid)
        except queue.Full:
            log.warning("notification_queue_full", sop_instance_uid=uid)

    def stop(self, seconds: float) -> None:
        """Publish what is queued, as far as that goes in so many seconds, and stop."""
        self._stopping.set()
        try:
            self._uids.put_nowait(None)
        except queue.Full:
            return
        self._thread.join(seconds)

    def _run(self) -> None:
        while (uid := self._uids.get()) is not None:
            try:
                self._publish(uid)
            except Exception as error:  # noqa: BLE001 - whatever is wrong with the broker, the radiograph is safe
                log.warning("notification_failed", sop_instance_uid=uid, error=type(error).__name__)
            self._stopping.wait(_PAUSE_SECONDS)
