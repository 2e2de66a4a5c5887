"""The decoder process, seen from its parent: started in advance, sent requests, timed and killed."""

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
"""Longest time that its imports may take."""

MAX_JSON_BYTES = 1 << 20

LEAK_MB = 256
"""A process that holds so much more memory than at its start leaks, and is replaced."""


class DecoderStopped(Exception):  # noqa: N818 - it is what happened, and mostly no error
    """The process was killed or crashed. `why` is a sentence; `crashed` is true if a codec crashed."""

    def __init__(self, why: str, *, crashed: bool) -> None:
        super().__init__(why)
        self.why = why
        self.crashed = crashed


@dataclass(frozen=True)
class DecoderLimits:
    """What one file may cost, by the settings."""

    seconds: float
    memory_mb: int
    max_megapixels: float
    for_processing: bool


class Decoder:
    """One decoder process. It starts at once; the first request waits until it is ready."""

    def __init__(self, limits: DecoderLimits) -> None:
        own_end, process_end = socket.socketpair()
        with process_end:
            # A fresh interpreter that inherits this one socket: no listening port, no GPU, no settings with
            # passwords. A session of its own keeps the terminal's Ctrl-C from it; it ends when the socket does.
            self._process = subprocess.Popen(
                [sys.executable, "-m", "workers.read.decoder_process", str(process_end.fileno()), *_arguments(limits)],
                pass_fds=(process_end.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,  # codecs and pydicom quote the file in their warnings
                env=_environment(),
                start_new_session=True,
            )
        self.owner = os.getpid()
        self.leaking = False
        self.current_codec = ""
        """The codec in use, as reported by the process; the cause if it crashes now."""
        self._channel = own_end
        self._initial_mb: int | None = None

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def ended(self) -> bool:
        """Whether it has ended, as when the kernel needed its memory."""
        return self._process.poll() is not None

    def wait_until_ready(self) -> None:
        """Wait until the process has imported everything. Raises Transient if it does not start."""
        if self._initial_mb is not None:
            return
        try:
            self._initial_mb = int(self.receive(time.monotonic() + START_SECONDS)["memory_mb"])
        except DecoderStopped as stopped:
            raise Transient(f"the decoder process does not start: {stopped.why}") from stopped

    def send_request(self, path: Path, *, avoid: list[str], header_only: bool, until: float) -> None:
        """Request a file, without the codecs `avoid`. Raises DecoderStopped if the process has ended."""
        self.current_codec = ""
        request = {"path": str(path.absolute()), "avoid": avoid, "header_only": header_only}
        self._channel.settimeout(max(0.01, until - time.monotonic()))
        try:
            self._channel.sendall(json.dumps(request).encode() + b"\n")
        except OSError as error:
            raise self._stopped(error) from error

    def receive(self, until: float) -> dict[str, Any]:
        """The JSON of the next response. Raises DecoderStopped if there is none in time, or an invalid one."""
        message = self._receive_message(until)
        while "trying" in message:
            self.current_codec = str(message["trying"])
            message = self._receive_message(until)
        if self._initial_mb is not None and isinstance(message.get("memory_mb"), int):
            self.leaking = message["memory_mb"] > self._initial_mb + LEAK_MB
        return message

    def _receive_message(self, until: float) -> dict[str, Any]:
        length = unpack(">I", self.receive_bytes(4, until))[0]
        if length > MAX_JSON_BYTES:
            raise self._stopped(ValueError())
        try:
            message = json.loads(self.receive_bytes(length, until))
        except ValueError as error:
            raise self._stopped(error) from error
        if not isinstance(message, dict):
            raise self._stopped(ValueError())
        return message

    def receive_bytes(self, size: int, until: float) -> bytearray:
        """The next `size` bytes, writable."""
        received = bytearray(size)
        rest = memoryview(received)
        try:
            while rest:
                self._channel.settimeout(max(0.01, until - time.monotonic()))
                count = self._channel.recv_into(rest)
                if not count:
                    raise EOFError
                rest = rest[count:]
        except (OSError, EOFError) as error:
            raise self._stopped(error) from error
        return received

    def _stopped(self, error: Exception) -> DecoderStopped:
        """Kill the process if it still runs, and return how it ended."""
        if isinstance(error, EOFError | ConnectionError | BrokenPipeError):
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=5)
        status = self._process.poll()
        self.kill()
        if isinstance(error, TimeoutError):
            return DecoderStopped("it took too long", crashed=False)
        if status in (-signal.SIGKILL, -signal.SIGXCPU):  # the kernel's, out of memory or of time
            return DecoderStopped("it took too much memory or time", crashed=False)
        return DecoderStopped("the decoder crashed", crashed=True)

    def kill(self) -> None:
        """Kill the process and wait for its end."""
        if self.owner == os.getpid():
            self._process.kill()
            self._process.wait()
        self._channel.close()


def _arguments(limits: DecoderLimits) -> list[str]:
    return [str(limits.seconds), str(limits.memory_mb), str(limits.max_megapixels), str(limits.for_processing)]


def _environment() -> dict[str, str]:
    """One thread, no GPU, and this checkout or installation on the path; nothing else is inherited."""
    root = str(Path(__file__).parents[2])
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "PYTHONPATH": os.pathsep.join([root, *(path for path in sys.path if path and path != root)]),
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "LANG": "C.UTF-8",
    }
