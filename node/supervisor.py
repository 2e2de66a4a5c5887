"""All parts of the node in one go: each a process of its own, started again when it ends, stopped together."""

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import structlog

log = structlog.get_logger()

STOP_SECONDS = 20.0
"""A part that has not ended so long after SIGTERM is killed; nothing is lost by it."""

LONGEST_PAUSE = 5.0
"""Before a part that keeps ending is started again."""
WELL_SECONDS = 10.0
"""A part that ran so long was well; if it ends after that, it is started again almost at once."""

PR_SET_PDEATHSIG = 1


@dataclass
class Part:
    """One process of the node: the words after `genu`, and how it fares."""

    words: tuple[str, ...]
    process: "subprocess.Popen[bytes] | None" = None
    started_at: float = 0.0
    pause: float = 0.5
    due_at: float = field(default=0.0)


class Supervisor:
    """Keeps the parts running until it is told to stop."""

    def __init__(
        self, parts: list[tuple[str, ...]], environment: Mapping[str, str], *, log_file: Path | None = None
    ) -> None:
        """`log_file` takes what the parts print; without one it goes where this process prints."""
        self._parts = [Part(words) for words in parts]
        self._environment = {**os.environ, **environment}
        self._log_file = log_file

    def run(self, stop: threading.Event) -> None:
        """Start every part, start again what ends, and on `stop` end them all."""
        try:
            while not stop.is_set():
                for part in self._parts:
                    self._tend(part)
                stop.wait(0.2)
        finally:
            self._end()

    def _tend(self, part: Part) -> None:
        now = time.monotonic()
        if part.process is None:
            if now >= part.due_at:
                self._start(part, now)
            return
        code = part.process.poll()
        if code is None:
            return
        if now - part.started_at > WELL_SECONDS:
            part.pause = 0.5
        log.warning("part_ended", ended=part.words[0], code=code, again_in_seconds=part.pause)
        part.process, part.due_at, part.pause = None, now + part.pause, min(part.pause * 2, LONGEST_PAUSE)

    def _start(self, part: Part, now: float) -> None:
        with self._log_file.open("ab") if self._log_file else nullcontext() as log_to:
            part.process = subprocess.Popen(
                [sys.executable, "-m", "node", *part.words],
                env=self._environment,
                stdout=log_to,
                stderr=log_to,
                start_new_session=True,  # Ctrl-C reaches this process alone, which then ends the parts in order
                preexec_fn=_die_with_parent,
            )
        part.started_at = now

    def _end(self) -> None:
        running = [part.process for part in self._parts if part.process and part.process.poll() is None]
        for process in running:
            process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        for process in running:
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _die_with_parent() -> None:
    """A supervisor that is killed leaves no part behind to hold its ports (Linux; elsewhere a no-op)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def stop_on_signals() -> threading.Event:
    """
    An event that SIGINT and SIGTERM set, however many of them come.

    By a thread: a handler runs in the midst of the main thread, which may hold the event's lock itself, in `wait` or in
    the handler of the signal before, and would wait for itself for ever.
    """
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: threading.Thread(target=stop.set, daemon=True).start())
    return stop
