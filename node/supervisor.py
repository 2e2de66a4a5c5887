"""The supervisor of `genu run`: starts the processes of the node, restarts those that end, stops them together."""

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
"""A process that has not ended so long after SIGTERM is killed; nothing is lost."""

LONGEST_PAUSE = 5.0
"""The longest pause before a process that ends again and again is restarted, in seconds."""
HEALTHY_SECONDS = 10.0
"""A process that ran for so long was healthy; if it ends after that, it is restarted almost at once."""

PR_SET_PDEATHSIG = 1


@dataclass
class SupervisedProcess:
    """One process of the node: its arguments after `genu`, and its state."""

    arguments: tuple[str, ...]
    process: "subprocess.Popen[bytes] | None" = None
    started_at: float = 0.0
    pause: float = 0.5
    due_at: float = field(default=0.0)


class Supervisor:
    """Runs the processes until it is stopped."""

    def __init__(
        self, commands: list[tuple[str, ...]], environment: Mapping[str, str], *, log_file: Path | None = None
    ) -> None:
        """
        `commands` are the arguments of each process after `genu`; `environment` is added to this process's own.

        The output of the processes goes to `log_file`; without one it goes where this process prints.
        """
        self._supervised = [SupervisedProcess(arguments) for arguments in commands]
        self._environment = {**os.environ, **environment}
        self._log_file = log_file

    def run(self, stop: threading.Event) -> None:
        """Start every process, restart those that end, and on `stop` end them all."""
        try:
            while not stop.is_set():
                for supervised in self._supervised:
                    self._check(supervised)
                stop.wait(0.2)
        finally:
            self._end_all()

    def _check(self, supervised: SupervisedProcess) -> None:
        now = time.monotonic()
        if supervised.process is None:
            if now >= supervised.due_at:
                self._start(supervised, now)
            return
        code = supervised.process.poll()
        if code is None:
            return
        if now - supervised.started_at > HEALTHY_SECONDS:
            supervised.pause = 0.5
        log.warning("process_ended", process=supervised.arguments[0], code=code, restart_in_seconds=supervised.pause)
        supervised.process, supervised.due_at = None, now + supervised.pause
        supervised.pause = min(supervised.pause * 2, LONGEST_PAUSE)

    def _start(self, supervised: SupervisedProcess, now: float) -> None:
        with self._log_file.open("ab") if self._log_file else nullcontext() as output:
            supervised.process = subprocess.Popen(
                [sys.executable, "-m", "node", *supervised.arguments],
                env=self._environment,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C reaches this process alone, which then ends the others in order
                preexec_fn=_end_with_parent,
            )
        supervised.started_at = now

    def _end_all(self) -> None:
        running = [
            process for supervised in self._supervised if (process := supervised.process) and process.poll() is None
        ]
        for process in running:
            process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        for process in running:
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _end_with_parent() -> None:
    """End this process if the supervisor is killed, or it would hold its ports (Linux; elsewhere a no-op)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def stop_on_signals() -> threading.Event:
    """
    An event that SIGINT and SIGTERM set, however many of them arrive.

    A thread sets it: a signal handler interrupts the main thread, which may hold the event's lock itself, in `wait` or
    in the handler of an earlier signal, and would deadlock.
    """
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: threading.Thread(target=stop.set, daemon=True).start())
    return stop
