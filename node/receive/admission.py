"""Which associations are accepted, and how many at a time (PS3.8 9.3.4 has the codes)."""

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
WRONG_CALLED_AE_TITLE = Rejection("called_ae_title", 1, 1, 7)
"""Permanent, by the service user: called AE title not recognised."""
TOO_MANY = Rejection("too_many", 2, 3, 2)
"""Transient, by the presentation service provider: local limit exceeded. The sender tries again."""
STOPPING = Rejection("stopping", 2, 3, 1)
"""Transient: temporary congestion."""


class Admission:
    """Accepts or rejects associations, and holds the set of active ones."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._active: set[Any] = set()
        self._stopping = False

    def admit(self, association: Any, sender: Sender) -> Rejection | None:
        """Add the association to the active ones and return None, or return why it is rejected."""
        receive = self._settings.receive
        if receive.check_called_ae_title and sender.called_ae_title != receive.ae_title:
            return WRONG_CALLED_AE_TITLE
        if receive.known_sources_only and not self._is_known(sender):
            return UNKNOWN_SOURCE
        with self._lock:
            if self._stopping:
                return STOPPING
            if len(self._active) >= receive.max_associations:
                return TOO_MANY
            self._active.add(association)
        return None

    def release(self, association: Any) -> None:
        """Remove the association from the active ones."""
        with self._lock:
            self._active.discard(association)

    def stop(self) -> None:
        """Reject every association from now on."""
        with self._lock:
            self._stopping = True

    @property
    def active_count(self) -> int:
        """How many associations are active."""
        with self._lock:
            return len(self._active)

    def _is_known(self, sender: Sender) -> bool:
        return any(
            source.ae_title == sender.calling_ae_title
            and (source.host is None or sender.host in _addresses(source.host))
            for source in self._settings.source
        )


def _addresses(host: str) -> set[str]:
    """The IP addresses of a host setting: the address itself, or what the name resolves to now."""
    try:
        return {str(ipaddress.ip_address(host))}
    except ValueError:
        pass
    try:
        return {str(entry[4][0]) for entry in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
    except OSError:
        log.warning("source_name_unknown", host=host)
        return set()
