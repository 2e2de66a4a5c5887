"""Rings the bell for kept radiographs, beside the associations: a broker that is away must not delay a C-STORE."""

import queue
import threading
from typing import Protocol

import structlog

log = structlog.get_logger()

_LIMIT = 10000

_PAUSE_SECONDS = 0.02
"""
After each ring. It costs a millisecond of this process, for which every association would have to wait: in a burst
the objects come first. Forty rings a second are more than workers answer, and the sweep makes up what they miss.
"""


class Bell(Protocol):
    """`node.broker.Bell`, as much of it as is needed here."""

    def ring(self, uid: str) -> bool:
        """Whether the broker took it."""


class Ringer:
    """One thread with a list of UIDs. What it does not get rid of, the sweep asks for again."""

    def __init__(self, bell: Bell) -> None:
        self._bell = bell
        self._uids: queue.Queue[str | None] = queue.Queue(_LIMIT)
        self._thread = threading.Thread(target=self._run, name="ringer", daemon=True)
        self._stopping = threading.Event()

    def start(self) -> None:
        """What is rung from now on reaches the bell."""
        self._thread.start()

    def ring(self, uid: str) -> None:
        """The bell will ring for `uid` soon, unless the list is full. Returns at once."""
        try:
            self._uids.put_nowait(uid)
        except queue.Full:
            log.warning("bell_list_full", sop_instance_uid=uid)

    def stop(self, seconds: float) -> None:
        """What was on the list has been rung, as far as that went in so many seconds."""
        self._stopping.set()
        try:
            self._uids.put_nowait(None)
        except queue.Full:
            return
        self._thread.join(seconds)

    def _run(self) -> None:
        while (uid := self._uids.get()) is not None:
            try:
                self._bell.ring(uid)
            except Exception as error:  # noqa: BLE001 - whatever is wrong with the broker, the radiograph is safe
                log.warning("bell_failed", sop_instance_uid=uid, error=type(error).__name__)
            self._stopping.wait(_PAUSE_SECONDS)
