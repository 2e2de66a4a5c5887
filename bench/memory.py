"""Resident and peak memory (proc_pid_status(5)) of each process of a running node."""

import re
from pathlib import Path

from bench.tables import Row, Table

COMMAND = re.compile(r"-m node (?:--settings \S+ )?(\w+)(?: --name (\S+))?")


class Peaks:
    """The highest peak memory of each process over all recorded nodes."""

    def __init__(self) -> None:
        self._peaks: dict[str, float] = {}

    def record(self, supervisor: int) -> None:
        """Record the peak memory of each process of the node whose supervisor has that process id."""
        for pid, name in processes(supervisor).items():
            peak = peak_mb(pid)
            if peak is not None:
                self._peaks[name] = max(peak, self._peaks.get(name, 0.0))

    def table(self) -> Table:
        rows: tuple[Row, ...] = tuple(
            {"part": name, "MB": peak} for name, peak in sorted(self._peaks.items(), key=lambda item: -item[1])
        )
        note = "Shared libraries count in every process that has loaded them."
        return Table("memory", "Peak memory of each process, during the bursts", rows, (note,))


def processes(supervisor: int) -> dict[int, str]:
    """Process id and name of each process of a node, the supervisor first."""
    found = {supervisor: "run"}
    waiting = [(supervisor, "run")]
    while waiting:
        parent, parent_name = waiting.pop()
        for pid in _children(parent):
            found[pid] = _name(pid, parent_name)
            waiting.append((pid, found[pid]))
    return found


def peak_mb(pid: int) -> float | None:
    """The peak resident memory of the process (VmHWM); None if it has ended."""
    return _status_mb(pid, "VmHWM")


def resident_mb(pid: int) -> float | None:
    """The resident memory of the process now (VmRSS); None if it has ended."""
    return _status_mb(pid, "VmRSS")


def _status_mb(pid: int, name: str) -> float | None:
    try:
        match = re.search(rf"{name}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    except OSError:
        return None
    return int(match[1]) * 1024 / 1e6 if match else None


def _children(pid: int) -> list[int]:
    """The children of all threads: a child belongs to the thread that started it."""
    found: list[int] = []
    for file in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += map(int, file.read_text().split())
        except OSError:
            continue
    return found


def _name(pid: int, parent_name: str) -> str:
    try:
        line = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return f"child of {parent_name}"
    command = COMMAND.search(line)
    if command:
        return f"{command[1]} ({command[2]})" if command[2] else command[1]
    if "watchdog.py" in line:
        return "broker's watchdog"
    if "valkey" in line or "redis" in line:
        return "broker"
    return f"decoder of {parent_name}" if parent_name.startswith("work") else f"child of {parent_name}"
