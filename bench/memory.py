"""What memory a process holds and the most that it ever held (proc_pid_status(5)), of each part of a running node."""

import re
from pathlib import Path

from bench.tables import Row, Table

WORDS = re.compile(r"-m node (?:--settings \S+ )?(\w+)(?: --name (\S+))?")


class Peaks:
    """The peaks of the parts of all nodes that were looked at."""

    def __init__(self) -> None:
        self._peaks: dict[str, float] = {}

    def look(self, supervisor: int) -> None:
        """What the node under that process id has held by now is remembered, part by part."""
        for pid, name in processes(supervisor).items():
            peak = peak_mb(pid)
            if peak is not None:
                self._peaks[name] = max(peak, self._peaks.get(name, 0.0))

    def table(self) -> Table:
        rows: tuple[Row, ...] = tuple(
            {"part": name, "MB": peak} for name, peak in sorted(self._peaks.items(), key=lambda each: -each[1])
        )
        note = "Each process for itself: libraries that several have loaded count in each."
        return Table("memory", "Peak memory of each part, during the bursts", rows, (note,))


def processes(supervisor: int) -> dict[int, str]:
    """The processes of a node and what each is, the supervisor first."""
    found = {supervisor: "run"}
    waiting = [(supervisor, "run")]
    while waiting:
        parent, parents_name = waiting.pop()
        for pid in _children(parent):
            found[pid] = _name(pid, parents_name)
            waiting.append((pid, found[pid]))
    return found


def peak_mb(pid: int) -> float | None:
    """The most that the process ever held; None if it is gone."""
    return _status_mb(pid, "VmHWM")


def held_mb(pid: int) -> float | None:
    """What the process holds now; None if it is gone."""
    return _status_mb(pid, "VmRSS")


def _status_mb(pid: int, name: str) -> float | None:
    try:
        told = re.search(rf"{name}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    except OSError:
        return None
    return int(told[1]) * 1024 / 1e6 if told else None


def _children(pid: int) -> list[int]:
    """Of all its threads: a child belongs to the thread that started it."""
    found: list[int] = []
    for file in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += map(int, file.read_text().split())
        except OSError:
            continue
    return found


def _name(pid: int, parents_name: str) -> str:
    try:
        line = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return f"child of {parents_name}"
    words = WORDS.search(line)
    if words:
        return f"{words[1]} ({words[2]})" if words[2] else words[1]
    if "watchdog.py" in line:
        return "broker's watchdog"
    if "valkey" in line or "redis" in line:
        return "broker"
    return f"decoder of {parents_name}" if parents_name.startswith("work") else f"child of {parents_name}"
