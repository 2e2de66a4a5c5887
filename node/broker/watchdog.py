"""
A process that keeps one Valkey server alive and never outlives its parent.

It is run as a file, without the rest of Genu, so that it starts at once and stays small. Its standard input is a
pipe from the parent: first a line of JSON that says what to run, then "serve" when the parent has reached the
server. When the pipe ends, because the parent closed it or died of whatever cause, the server is ended. From
"serve" on a server that dies is started again, at the same address; before, its end is the keeper's end.
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

QUICK_SECONDS = 5.0
"""A server that lives no longer than this cannot use what it finds on the disk."""

PAUSE_SECONDS = 0.5
END_SECONDS = 10.0
PR_SET_PDEATHSIG = 1


def main() -> int:
    """The keeper's life. Returns the exit code."""
    with open(sys.stdin.fileno(), "rb", buffering=0, closefd=False) as pipe:
        return keep(json.loads(pipe.readline()), pipe)


def keep(order: dict[str, str], pipe: RawIOBase) -> int:
    """The server has run until the pipe ended. Returns the exit code."""
    server, serving, quick = start(order), False, 0
    began = time.monotonic()
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        while True:
            for _ in selector.select(PAUSE_SECONDS):
                if not pipe.read(4096):
                    return end(server)
                serving = True
            if server.poll() is None:
                continue
            if not serving:
                return server.returncode or 1
            quick = quick + 1 if time.monotonic() - began < QUICK_SECONDS else 0
            if quick >= 3:
                set_aside(order["folder"])
                quick = 0
            began = time.monotonic()
            server = start(order)


def start(order: dict[str, str]) -> "subprocess.Popen[bytes]":
    """The server runs; its settings reach it through a pipe, so that no password stands on a command line."""
    with Path(order["log"]).open("ab") as log:
        server = subprocess.Popen(
            [order["program"], "-"],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            cwd=order["folder"],
            preexec_fn=_die_with_parent if sys.platform == "linux" else None,
        )
    assert server.stdin is not None
    with contextlib.suppress(BrokenPipeError):
        server.stdin.write(order["settings"].encode())
        server.stdin.close()
    return server


def end(server: "subprocess.Popen[bytes]") -> int:
    """The server is gone, if it can be with everything written."""
    server.terminate()
    try:
        server.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()
    return 0


def set_aside(folder: str) -> None:
    """What the server could not use is out of its way; the sweep rings again for everything that was in it."""
    data = Path(folder, "appendonlydir")
    with contextlib.suppress(FileNotFoundError):
        data.rename(data.with_suffix(f".unusable-{time.time_ns()}"))


def _die_with_parent() -> None:
    # Should this keeper be killed, it cannot end the server itself. It has one thread, so nothing can be locked here.
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


if __name__ == "__main__":
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)  # the pipe says when to end
    sys.exit(main())
