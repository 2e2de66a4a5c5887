"""What the killable process may use, set by itself and kept by the kernel."""

import resource
from pathlib import Path


def confine(memory_mb: int) -> None:
    """From now on so much more memory and no more; no files written, no core dump (it would hold a patient's film)."""
    most = (address_space_mb() + memory_mb) << 20
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def allow_cpu(seconds: float) -> None:
    """So much processor time more. Should the parent be gone and a codec never return, the kernel sends SIGXCPU."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    soft = int(used.ru_utime + used.ru_stime + seconds) + 2
    resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.getrlimit(resource.RLIMIT_CPU)[1]))


def address_space_mb() -> int:
    """Address space in use, as RLIMIT_AS counts it."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    return pages * resource.getpagesize() >> 20


def memory_left_mb() -> float:
    """How much may still be taken."""
    most = resource.getrlimit(resource.RLIMIT_AS)[0]
    return float("inf") if most == resource.RLIM_INFINITY else (most >> 20) - address_space_mb()
