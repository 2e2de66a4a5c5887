#!/usr/bin/env python3
"""
The health check of a container: `healthy PART` ends with 0 if that part of the node works.

It asks the port (receive) or the admin page, which knows every part by its heartbeats, and uses the standard
library only: importing the node itself would cost more than a second of a core at every check.
"""

import json
import os
import socket
import sys
import urllib.error
import urllib.request

SECONDS = 3
ADMIN = os.environ.get("GENU_ADMIN_URL", "http://admin:8080")


def is_healthy(part: str) -> bool:
    """Whether the part does its work."""
    if part == "receive":
        port = int(os.environ.get("GENU__RECEIVE__PORT", "11112"))
        with socket.create_connection(("127.0.0.1", port), SECONDS):
            return True
    if part == "admin":
        port = int(os.environ.get("GENU__ADMIN__PORT", "8080"))
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=SECONDS) as answer:
            return bool(answer.status == 200)
    return bool(readiness()["checks"].get(part) == "ok")


def readiness() -> dict[str, dict[str, str]]:
    """What /readyz says; it says it with 503 when any part is missing."""
    try:
        with urllib.request.urlopen(f"{ADMIN}/readyz", timeout=SECONDS) as answer:  # noqa: S310
            told = answer.read()
    except urllib.error.HTTPError as error:
        told = error.read()
    ready: dict[str, dict[str, str]] = json.loads(told)
    return ready


if __name__ == "__main__":
    try:
        well = is_healthy(sys.argv[1])
    except (OSError, ValueError, LookupError) as error:
        sys.exit(f"{type(error).__name__}: {error}")
    sys.exit(0 if well else "its heartbeats are missing")
