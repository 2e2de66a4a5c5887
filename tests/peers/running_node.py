"""A whole node, as `genu run` starts it, in a folder of its own and on free ports."""

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from node.ledger import Ledger
from node.settings import Destination, Settings, load
from tests.peers.archives import HOST, free_port, wait_until

STOP_SECONDS = 30


@dataclass
class Node:
    """A running node: its folder, settings, process and log."""

    folder: Path
    settings_file: Path
    settings: Settings
    process: "subprocess.Popen[bytes]"
    log: Path

    @property
    def ledger(self) -> Ledger:
        return Ledger(self.settings.database_url)

    def url(self, path: str) -> str:
        return f"http://{HOST}:{self.settings.admin.port}{path}"

    def answers(self, path: str) -> int:
        """The HTTP status of `path`, or 0 if nothing answers."""
        try:
            with urllib.request.urlopen(self.url(path), timeout=5) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0

    def genu(self, *arguments: str, check: bool = True) -> "subprocess.CompletedProcess[str]":
        """Run a `genu` command with this node's settings."""
        command = [sys.executable, "-m", "node", "--settings", str(self.settings_file), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=check, timeout=120)

    def process_ids(self) -> dict[str, int]:
        """Process ids of the node's processes, by the command of each."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        found = {}
        for pid in children:
            try:
                arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if b"node" in arguments:
                found[arguments[arguments.index(b"node") + 1].decode()] = int(pid)
        return found

    def kill(self, command: str) -> bool:
        """End one process as a power cut would; False if it is not running just now."""
        pid = self.process_ids().get(command)
        if pid is None:
            return False
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return False
        return True


def write_settings(folder: Path, destinations: Sequence[Destination], extra: str = "") -> Path:
    """A genu.toml in `folder` with free ports."""
    lines = [
        "[storage]",
        f'folder = "{folder / "data"}"',
        "min_free_mb = 1",
        "[receive]",
        f"port = {free_port()}",
        "[admin]",
        f"port = {free_port()}",
        'password = "a password for tests"',
        "[broker]",
        "sweep_seconds = 1",
        "[deliver]",
        "first_pause_seconds = 0.5",
        "longest_pause_seconds = 2",
    ]
    for peer in destinations:
        lines += ["[[destination]]", f'name = "{peer.name}"', f'ae_title = "{peer.ae_title}"']
        lines += [f'host = "{peer.host}"', f"port = {peer.port}"]
    path = folder / "genu.toml"
    path.write_text("\n".join(lines) + "\n" + extra)
    return path


@contextmanager
def running(folder: Path, *destinations: Destination, extra: str = "") -> Iterator[Node]:
    """A node that answers /readyz with 200; it is ended by SIGTERM when the block is left."""
    file = write_settings(folder, destinations, extra)
    log = folder / "node.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "node", "--settings", str(file), "run"], stdout=out, stderr=out, cwd=folder
        )
    node = Node(folder, file, load(file), process, log)
    try:
        assert wait_until(lambda: node.answers("/readyz") == 200 or process.poll() is not None, 90), log.read_text()
        assert process.poll() is None, log.read_text()
        yield node
    finally:
        stop(process)


def stop(process: "subprocess.Popen[bytes]") -> int:
    """End it by SIGTERM, as a service manager would; kill it if it does not end."""
    process.send_signal(signal.SIGTERM)
    try:
        return process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        raise


def until_settled(node: Node, uids: Sequence[str], seconds: float = 120) -> None:
    """Return when each of these radiographs is in a final state and all its deliveries are sent."""
    ledger, deadline = node.ledger, time.monotonic() + seconds
    ends = {"DELIVERED", "CONFIRMED", "NOT_ANALYSED", "FAILED"}

    def settled(uid: str) -> bool:
        entry = ledger.find(uid)
        return (
            entry is not None
            and entry.state.value in ends
            and all(delivery.state == "SENT" for delivery in ledger.deliveries(uid))
        )

    open_uids = list(uids)
    while open_uids and time.monotonic() < deadline:
        open_uids = [uid for uid in open_uids if not settled(uid)]
        time.sleep(0.1)
    states = {uid: getattr(ledger.find(uid), "state", None) for uid in open_uids}
    ledger.close()
    assert not open_uids, f"{states}\n{node.log.read_text()[-4000:]}"
