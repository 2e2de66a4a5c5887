"""Who may have an association, and how many at a time (PS3.8 9.3.4 has the codes)."""

import ipaddress
import socket
import threading
from typing import Any

import structlog

from node.receive.association import Rejection, Sender
from node.settings import Settings

log = structlog.get_logger()

UNKNOWN_SOURCE = Rejection("unknown_source", 1, 1, 3)
"""Permanent, by the service user: calling AE title not recognised."""
OTHER_AE_TITLE = Rejection("called_ae_title", 1, 1, 7)
"""Permanent, by the service user: called AE title not recognised."""
TOO_MANY = Rejection("too_many", 2, 3, 2)
"""Transient, by the presentation service provider: local limit exceeded. The sender tries again."""
STOPPING = Rejection("stopping", 2, 3, 1)
"""Transient: temporary congestion."""


class Admission:
    """The list of the associations that there are."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._inside: set[Any] = set()
        self._stopping = False

    def ask(self, association: Any, sender: Sender) -> Rejection | None:
        """None, and it is inside until it leaves; or why not."""
        receive = self._settings.receive
        if receive.check_called_ae_title and sender.called_ae_title != receive.ae_title:
            return OTHER_AE_TITLE
        if receive.known_sources_only and not self._is_known(sender):
            return UNKNOWN_SOURCE
        with self._lock:
            if self._stopping:
                return STOPPING
            if len(self._inside) >= receive.max_associations:
                return TOO_MANY
            self._inside.add(association)
        return None

    def left(self, association: Any) -> None:
        """Its place is free."""
        with self._lock:
            self._inside.discard(association)

    def stop(self) -> None:
        """Nobody comes in any more."""
        with self._lock:
            self._stopping = True

    @property
    def inside(self) -> list[Any]:
        """Those that are inside at this moment."""
        with self._lock:
            return list(self._inside)

    def _is_known(self, sender: Sender) -> bool:
        return any(
            source.ae_title == sender.calling_ae_title
            and (source.host is None or sender.host in _addresses(source.host))
            for source in self._settings.source
        )


def _addresses(host: str) -> set[str]:
    """The addresses that a setting means: itself, or what its name stands for now."""
    try:
        return {str(ipaddress.ip_address(host))}
    except ValueError:
        pass
    try:
        return {str(entry[4][0]) for entry in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
    except OSError:
        log.warning("source_name_unknown", host=host)
        return set()
