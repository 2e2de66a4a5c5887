"""Resource limits of the decoder process, which it sets for itself and the kernel enforces."""

import resource
from pathlib import Path


def confine(memory_mb: int) -> None:
    """Limit memory to so much more than now; forbid files, and core dumps, which would hold a patient's film."""
    limit = (address_space_mb() + memory_mb) << 20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def allow_cpu(seconds: float) -> None:
    """Allow so much more processor time. If the parent is gone and a codec never returns, the kernel sends SIGXCPU."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    soft = int(used.ru_utime + used.ru_stime + seconds) + 2
    resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.getrlimit(resource.RLIMIT_CPU)[1]))


def address_space_mb() -> int:
    """Address space in use, as RLIMIT_AS counts it."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    return pages * resource.getpagesize() >> 20


def memory_left_mb() -> float:
    """Address space left below the limit."""
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    return float("inf") if limit == resource.RLIM_INFINITY else (limit >> 20) - address_space_mb()
