"""A disk small enough to be filled: a tmpfs that a test mounts in a namespace of its own, without being root."""

import shutil
import subprocess

NAMESPACE = ("unshare", "--user", "--map-root-user", "--mount")
"""Run a program behind this, and it may mount."""


def can_mount() -> bool:
    """Whether this user may do that here."""
    if shutil.which(NAMESPACE[0]) is None:
        return False
    mount = (*NAMESPACE, "mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", "/mnt")
    return subprocess.run(mount, check=False, capture_output=True).returncode == 0
