"""The parent's side of the killable process: started warm, asked, timed, killed, started again."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from struct import unpack
from typing import Any

from node.errors import Transient

START_SECONDS = 60.0
"""Longest time that the imports may take."""

MOST_JSON = 1 << 20

KEEPS_MB = 256
"""A process that kept so much more than at its start leaks; it is replaced by a fresh one."""


class Stopped(Exception):  # noqa: N818 - it is what happened, and mostly no error
    """The process had to be killed, or killed itself. `why` is a sentence; `crashed` says that a codec broke."""

    def __init__(self, why: str, *, crashed: bool) -> None:
        super().__init__(why)
        self.why = why
        self.crashed = crashed


@dataclass(frozen=True)
class Limits:
    """What one file may cost, as the settings say."""

    seconds: float
    memory_mb: int
    max_megapixels: float
    for_processing: bool


class Decoder:
    """One warm process. It begins to start at once; the first question waits until it is there."""

    def __init__(self, limits: Limits) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            # A fresh interpreter that inherits this one socket: no listening port, no GPU, no settings with
            # passwords. A session of its own keeps the terminal's Ctrl-C from it; it ends when the socket does.
            self._process = subprocess.Popen(
                [sys.executable, "-m", "workers.read.decoder_process", str(theirs.fileno()), *_arguments(limits)],
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,  # codecs and pydicom quote the file in their warnings
                env=_environment(),
                start_new_session=True,
            )
        self.owner = os.getpid()
        self.leaking = False
        self.trying = ""
        """The codec that it said it is trying; the culprit if it crashes now."""
        self._channel = ours
        self._kept_mb: int | None = None

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def ended(self) -> bool:
        """Whether it is gone without having been asked anything, as when the kernel needed its memory."""
        return self._process.poll() is not None

    def wait_until_ready(self) -> None:
        """The process has imported everything. Raises Transient if it does not come up."""
        if self._kept_mb is not None:
            return
        try:
            self._kept_mb = int(self.hear(time.monotonic() + START_SECONDS)["kept_mb"])
        except Stopped as stopped:
            raise Transient(f"the decoder process does not start: {stopped.why}") from stopped

    def ask(self, path: Path, *, avoid: list[str], header_only: bool, until: float) -> None:
        """The request is on its way. Raises Stopped if the process is gone."""
        self.trying = ""
        request = {"path": str(path.absolute()), "avoid": avoid, "header_only": header_only}
        self._channel.settimeout(max(0.01, until - time.monotonic()))
        try:
            self._channel.sendall(json.dumps(request).encode() + b"\n")
        except OSError as error:
            raise self._stopped(error) from error

    def hear(self, until: float) -> dict[str, Any]:
        """The next answer. Raises Stopped if there is none in time, or one that this process would not send."""
        told = self._message(until)
        while "trying" in told:
            self.trying = str(told["trying"])
            told = self._message(until)
        if self._kept_mb is not None and isinstance(told.get("kept_mb"), int):
            self.leaking = told["kept_mb"] > self._kept_mb + KEEPS_MB
        return told

    def _message(self, until: float) -> dict[str, Any]:
        length = unpack(">I", self.take(4, until))[0]
        if length > MOST_JSON:
            raise self._stopped(ValueError())
        try:
            told = json.loads(self.take(length, until))
        except ValueError as error:
            raise self._stopped(error) from error
        if not isinstance(told, dict):
            raise self._stopped(ValueError())
        return told

    def take(self, size: int, until: float) -> bytearray:
        """The next `size` bytes; they may be written to."""
        taken = bytearray(size)
        rest = memoryview(taken)
        try:
            while rest:
                self._channel.settimeout(max(0.01, until - time.monotonic()))
                got = self._channel.recv_into(rest)
                if not got:
                    raise EOFError
                rest = rest[got:]
        except (OSError, EOFError) as error:
            raise self._stopped(error) from error
        return taken

    def _stopped(self, error: Exception) -> Stopped:
        """Kill what is left of the process, and say how it ended."""
        if isinstance(error, EOFError | ConnectionError | BrokenPipeError):
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=5)
        ended = self._process.poll()
        self.kill()
        if isinstance(error, TimeoutError):
            return Stopped("it took too long", crashed=False)
        if ended in (-signal.SIGKILL, -signal.SIGXCPU):  # the kernel's, out of memory or of time
            return Stopped("it took too much memory or time", crashed=False)
        return Stopped("the decoder crashed", crashed=True)

    def kill(self) -> None:
        """The process is gone and waited for; nothing of it is left."""
        if self.owner == os.getpid():
            self._process.kill()
            self._process.wait()
        self._channel.close()


def _arguments(limits: Limits) -> list[str]:
    return [str(limits.seconds), str(limits.memory_mb), str(limits.max_megapixels), str(limits.for_processing)]


def _environment() -> dict[str, str]:
    """One thread, no GPU, and this checkout or installation on the path; nothing else is inherited."""
    root = str(Path(__file__).parents[2])
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "PYTHONPATH": os.pathsep.join([root, *(each for each in sys.path if each and each != root)]),
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "LANG": "C.UTF-8",
    }
