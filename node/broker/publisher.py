"""The Celery application, and the publisher of its task: to grade one radiograph."""

import time
from collections.abc import Callable
from typing import Any, TypeVar

import structlog
from celery import Celery
from kombu.connection import Connection
from kombu.entity import Queue
from kombu.exceptions import KombuError

from node.errors import SettingsError

TASK = "workers.grade"
QUEUE = "grade"
SCHEMES = ("redis://", "rediss://", "redis+socket://", "sentinel://")

VISIBILITY_SECONDS = 900
"""Longer than the longest task. A message not acknowledged for so long is redelivered; the claim stops a second run."""

_TIMEOUT_SECONDS = 1.0
_CIRCUIT_OPEN_SECONDS = 2.0
_MAX_CONNECTIONS = 10

T = TypeVar("T")

log = structlog.get_logger(__name__)

SETTINGS: dict[str, Any] = {
    # A message is one UID; Celery prints no arguments, and this one is no patient data.
    "task_serializer": "json",
    "accept_content": ["json"],
    "task_queues": [Queue(QUEUE)],  # type: ignore[no-untyped-call]
    "task_default_queue": QUEUE,
    "task_default_exchange": QUEUE,
    "task_default_routing_key": QUEUE,
    "task_create_missing_queues": False,
    # No result backend: the ledger is the only state.
    "task_ignore_result": True,
    "result_backend": None,
    # Acknowledged when done. A message whose worker died is left to the sweep and the ledger's attempt count:
    # task_reject_on_worker_lost would redeliver an image that kills its worker for ever.
    "task_acks_late": True,
    "task_reject_on_worker_lost": False,
    "worker_prefetch_multiplier": 1,
    "worker_cancel_long_running_tasks_on_connection_loss": False,
    # Celery's page on Redis names three places for it.
    "visibility_timeout": VISIBILITY_SECONDS,
    "result_backend_transport_options": {"visibility_timeout": VISIBILITY_SECONDS},
    "broker_transport_options": {
        "visibility_timeout": VISIBILITY_SECONDS,
        # By default unacknowledged messages are checked only every interval x throttle = 100 s.
        "unacked_restore_interval": 10,
        "unacked_restore_throttle": 1,
        # Of several applications on one Redis the shortest visibility timeout wins, unless each has a prefix.
        "global_keyprefix": "genu:",
        "socket_connect_timeout": 2,
        "socket_timeout": 5,  # more than the 1 s of a BRPOP
        "socket_keepalive": True,
        "health_check_interval": 10,
    },
    # A worker waits for the broker as long as it takes; a publisher does not wait (Publisher).
    "broker_connection_retry": True,
    "broker_connection_retry_on_startup": True,
    "broker_connection_max_retries": None,
    "broker_connection_timeout": 2,
    "task_publish_retry": True,
    "task_publish_retry_policy": {"max_retries": 2, "interval_start": 0, "interval_step": 0.2, "interval_max": 0.2},
    # The ledger's heartbeats show which parts run; a worker without remote control has one connection less to lose.
    "worker_enable_remote_control": False,
    "worker_send_task_events": False,
    "worker_hijack_root_logger": False,
    "worker_redirect_stdouts": False,
    "worker_soft_shutdown_timeout": 10,
    "enable_utc": True,
}
"""
What was found to matter (Celery's page on Redis, its issues 8030 and 10205). Nothing here is relied on to recover a
lost message, only to keep a worker consuming and a publisher from blocking.
"""


def application(url: str) -> Celery:
    """
    The Celery application on the broker at `url`: JSON, one UID in a message, no results.

    Raises
    ------
    SettingsError
        For no URL, with which Celery would look for a RabbitMQ, and for one of another kind of broker.
    """
    if not url:
        raise SettingsError("no broker is set", hint="set [broker] url, or start every part at once with `genu run`")
    if not url.startswith(SCHEMES):
        kind = url.partition(":")[0]
        raise SettingsError(f"[broker] url: no broker of the kind {kind!r}", hint=f"it begins with {SCHEMES[0]}")
    app = Celery("genu", broker=url, set_as_current=False)
    app.conf.update(SETTINGS)
    return app


class Publisher:
    """Publishes the task to grade a radiograph. May be shared by threads, not across a fork."""

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._pool = app.connection_for_write(
            connect_timeout=_TIMEOUT_SECONDS,
            transport_options={
                "socket_connect_timeout": _TIMEOUT_SECONDS,
                "socket_timeout": _TIMEOUT_SECONDS,
                "max_retries": 0,  # of a connection; without it kombu keeps trying with growing pauses
            },
        ).Pool(_MAX_CONNECTIONS)
        self._connection_errors = tuple(
            {KombuError, OSError, *self._pool.connection.connection_errors, *self._pool.connection.channel_errors}
        )
        self._circuit_open_until = 0.0

    def publish(self, uid: str) -> bool:
        """
        Queue a message with the UID for a worker. Returns False, and logs it, within two seconds if the broker is away.

        For two seconds after such a failure the circuit breaker is open and nothing is tried, so that a burst of
        C-STOREs does not wait for a dead broker one by one. The sweep publishes again.
        """
        if time.monotonic() < self._circuit_open_until:
            return False
        try:
            self._with_connection(lambda connection: self._send(connection, uid))
        except self._connection_errors as error:
            self._circuit_open_until = time.monotonic() + _CIRCUIT_OPEN_SECONDS
            log.warning("publish_failed", sop_instance_uid=uid, error=type(error).__name__)
            return False
        return True

    def queued(self) -> int | None:
        """Return how many messages wait for a worker; None if the broker is away."""
        try:
            return self._with_connection(_queue_length)
        except self._connection_errors:
            return None

    def ping(self) -> bool:
        """Whether the broker answers now."""
        return self.queued() is not None

    def close(self) -> None:
        """Close all connections."""
        self._pool.force_close_all()

    def _send(self, connection: Connection, uid: str) -> None:
        with self._app.amqp.Producer(connection, auto_declare=False) as producer:
            self._app.send_task(TASK, args=[uid], queue=QUEUE, producer=producer, retry=False)

    def _with_connection(self, operation: Callable[[Connection], T]) -> T:
        """Run the operation on a pooled connection; a connection on which it fails is not used again."""
        with self._pool.acquire(block=True, timeout=_TIMEOUT_SECONDS) as connection:
            try:
                return operation(connection)
            except self._connection_errors:
                connection.collect()
                raise


def _queue_length(connection: Connection) -> int:
    return int(connection.default_channel.queue_declare(queue=QUEUE).message_count)  # type: ignore[no-untyped-call]
