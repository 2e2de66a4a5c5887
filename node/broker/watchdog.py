"""
A process that restarts one Valkey server when it dies, and never outlives its parent.

It is run as a file, without the rest of Genu, so that it starts at once and stays small. Its standard input is a
pipe from the parent: first a line of JSON with what to run, then "serve" when the parent has reached the
server. When the pipe ends, because the parent closed it or died of whatever cause, the watchdog ends the server. From
"serve" on, a server that dies is restarted at the same address; before, the watchdog ends with it.
"""

import contextlib
import ctypes
import json
import selectors
import signal
import subprocess
import sys
import time
from io import RawIOBase
from pathlib import Path

QUICK_EXIT_SECONDS = 5.0
"""A server that ends sooner than this cannot use its data on the disk."""

PAUSE_SECONDS = 0.5
END_SECONDS = 10.0
PR_SET_PDEATHSIG = 1


def main() -> int:
    """Supervise the server that standard input describes. Returns the exit code."""
    with open(sys.stdin.fileno(), "rb", buffering=0, closefd=False) as pipe:
        return supervise(json.loads(pipe.readline()), pipe)


def supervise(launch: dict[str, str], pipe: RawIOBase) -> int:
    """Run the server until the pipe ends. Returns the exit code."""
    server, serving, quick_exits = start_server(launch), False, 0
    started_at = time.monotonic()
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        while True:
            for _ in selector.select(PAUSE_SECONDS):
                if not pipe.read(4096):
                    return end_server(server)
                serving = True
            if server.poll() is None:
                continue
            if not serving:
                return server.returncode or 1
            quick_exits = quick_exits + 1 if time.monotonic() - started_at < QUICK_EXIT_SECONDS else 0
            if quick_exits >= 3:
                move_data_aside(launch["folder"])
                quick_exits = 0
            started_at = time.monotonic()
            server = start_server(launch)


def start_server(launch: dict[str, str]) -> "subprocess.Popen[bytes]":
    """Start the server; its settings reach it through a pipe, so that no password is on a command line."""
    with Path(launch["log"]).open("ab") as log:
        server = subprocess.Popen(
            [launch["program"], "-"],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            cwd=launch["folder"],
            preexec_fn=_die_with_parent if sys.platform == "linux" else None,
        )
    assert server.stdin is not None
    with contextlib.suppress(BrokenPipeError):
        server.stdin.write(launch["settings"].encode())
        server.stdin.close()
    return server


def end_server(server: "subprocess.Popen[bytes]") -> int:
    """End the server, if possible with everything written. Returns the exit code, 0."""
    server.terminate()
    try:
        server.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()
    return 0


def move_data_aside(folder: str) -> None:
    """Rename the data that the server could not use; the sweep publishes again everything that was in it."""
    data = Path(folder, "appendonlydir")
    with contextlib.suppress(FileNotFoundError):
        data.rename(data.with_suffix(f".unusable-{time.time_ns()}"))


def _die_with_parent() -> None:
    # A watchdog that is killed cannot end the server itself. It has one thread, so nothing can be locked here.
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


if __name__ == "__main__":
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)  # the pipe ends it
    sys.exit(main())
