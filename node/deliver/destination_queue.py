"""One destination's deliveries: those that are due are sent, and postponed while the destination is unavailable."""

import hashlib
import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import structlog

from node.deliver.circuit_breaker import CircuitBreaker, backoff_seconds
from node.deliver.fallbacks import Fallback, fallbacks
from node.errors import GenuError, Permanent, Transient
from node.ledger import Delivery, Ledger
from node.reasons import reason
from node.ris import DestinationClient, client_for, sendable_message
from node.scu import (
    VERIFICATION,
    ContextRejected,
    DestinationUnavailable,
    NoResponse,
    PermanentRejection,
    RequestRejected,
    SendableInstance,
    UnsendableFile,
    sendable_instance,
)
from node.settings import OPTIONAL_KINDS, Deliver, Destination
from node.storage import Vault

log = structlog.get_logger()

POLL_SECONDS = 0.1
"""How often the ledger is asked for due deliveries; one query takes a quarter of a millisecond."""
MAX_BATCH = 50
"""Objects of one association at most, so that deliveries that fall due meanwhile do not wait long."""


class DestinationQueue:
    """Sends the deliveries of one destination, in a thread of its own."""

    def __init__(
        self, destination: Destination, timing: Deliver, *, vault: Vault, ledger: Ledger, stop: threading.Event
    ) -> None:
        self.destination = destination
        self.timing = timing
        self.vault = vault
        self.ledger = ledger
        self.stop = stop
        self.breaker = CircuitBreaker(timing)
        self._client: DestinationClient | None = None
        self._unanswered: set[int] = set()
        """Deliveries that got no response since the destination last answered one."""

    def run(self) -> None:
        """Send what is due until the node stops."""
        while not self.stop.is_set():
            try:
                busy = self._deliver_due()
            except Transient as error:
                log.warning("ledger_unavailable", destination=self.destination.name, error=str(error))
                busy = self.stop.wait(1)
            except Exception:  # the thread must not end: a bug or a full disk fails one round, the next one is tried
                log.exception("delivery_round_failed", destination=self.destination.name)
                busy = self.stop.wait(1)
            if not busy:
                self.stop.wait(POLL_SECONDS)

    def interrupt(self) -> None:
        """End the current connection, from another thread."""
        if self._client is not None:
            self._client.interrupt()

    def _deliver_due(self) -> bool:
        """Send what is due over one association, or test the destination. Return whether anything was due."""
        if self.breaker.retry_at is not None and datetime.now(UTC) < self.breaker.retry_at:
            return False
        due = self.ledger.due_deliveries(self.destination.name, datetime.now(UTC), MAX_BATCH)
        if self.breaker.failures:
            due = due[:1]  # after a failure the oldest delivery alone is the test
        batch = self._sendable(due)
        if batch:
            self._send_batch(batch)
        elif self.breaker.up is None or (self.breaker.failures and not self._too_many_unanswered()):
            self._echo()
        return bool(due)

    def _sendable(self, due: Sequence[Delivery]) -> list[tuple[Delivery, SendableInstance]]:
        """Check each file; those that are lost or damaged are given up."""
        batch = []
        for delivery in due:
            try:
                batch.append((delivery, self._checked(delivery)))
            except (Permanent, UnsendableFile) as error:
                self._give_up(delivery, error)
        return batch

    def _checked(self, delivery: Delivery) -> SendableInstance:
        """The delivery's file, whose hash is that of the ledger. Raises Permanent (FILE_LOST) or UnsendableFile."""
        path = self.vault.results_folder(delivery.source_uid) / delivery.object.file
        try:
            with path.open("rb") as file:
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        except FileNotFoundError:
            raise Permanent(reason("FILE_LOST"), f"result {delivery.object.file} is not in the vault") from None
        if sha256 != delivery.object.sha256:
            raise Permanent(reason("FILE_LOST"), f"result {delivery.object.file} is damaged")
        if self.destination.protocol == "dicom":
            return sendable_instance(path)
        return sendable_message(path, delivery.object.sop_instance_uid)

    def _send_batch(self, batch: Sequence[tuple[Delivery, SendableInstance]]) -> None:
        client = self._client = client_for(self.destination, self.timing)
        try:
            client.open({fallback.context: None for _, instance in batch for fallback in self._fallbacks(instance)})
            for delivery, instance in batch:
                if self.stop.is_set():
                    break
                self._send(client, delivery, instance)
        except NoResponse:
            return  # `_send` has logged and postponed that delivery; the others are still due
        except DestinationUnavailable as error:
            if not self.stop.is_set():
                until = self._record_unavailable(error)
                self.ledger.postpone([delivery.id for delivery, _ in batch], until, str(error))
        finally:
            client.close()
            self._client = None

    def _send(self, client: DestinationClient, delivery: Delivery, instance: SendableInstance) -> None:
        started = time.monotonic()
        try:
            status = self._store(client, instance)
        except RequestRejected as error:
            self._record_answer()
            if isinstance(error, ContextRejected) and delivery.object.kind in OPTIONAL_KINDS:
                self._give_up(delivery, error)
            else:
                self._postpone(delivery, error)
        except PermanentRejection as error:
            self._record_answer()
            self._give_up(delivery, error)
        except UnsendableFile as error:
            self._give_up(delivery, error)
        except NoResponse as error:
            if not self.stop.is_set():
                self._postpone(delivery, error)
                self._test_after_no_response(delivery, error)
            raise
        else:
            self.ledger.record_sent(delivery.id, status)
            seconds = round(time.monotonic() - started, 3)
            log.info("sent", **_log_fields(delivery), status=f"{status:04X}", seconds=seconds)
            self._record_answer()

    def _store(self, client: DestinationClient, instance: SendableInstance) -> int:
        """Send the object in the first accepted encoding; return the highest status of its parts."""
        accepted = (fallback for fallback in self._fallbacks(instance) if client.accepts(fallback.context))
        fallback = next(accepted, None)
        if fallback is None or fallback.context == instance.context:
            return client.store(instance)  # which raises ContextRejected if none is accepted
        with TemporaryDirectory(dir=instance.path.parent, prefix=".sending-") as folder:
            return max(client.store(part) for part in fallback.write_instances(Path(folder)))

    def _fallbacks(self, instance: SendableInstance) -> list[Fallback]:
        return fallbacks(instance, compress=self.destination.compress)

    def _test_after_no_response(self, delivery: Delivery, error: NoResponse) -> None:
        """Find out whether the destination is unavailable, or failed on this one object only."""
        self._unanswered.add(delivery.id)
        if self._too_many_unanswered():
            self._record_unavailable(error)
        else:
            self._echo()

    def _too_many_unanswered(self) -> bool:
        """Whether so many objects in a row got no response that a successful echo proves nothing."""
        return len(self._unanswered) >= self.timing.failures_until_down

    def _echo(self) -> None:
        client = self._client = client_for(self.destination, self.timing)
        try:
            client.open([VERIFICATION])
            client.echo()
        except RequestRejected:
            self._record_available()  # it does not support or rejects Verification; it answered
        except (DestinationUnavailable, NoResponse) as error:
            if not self.stop.is_set():
                self._record_unavailable(error)
        else:
            self._record_available()
        finally:
            client.close()
            self._client = None

    def _record_answer(self) -> None:
        """The destination answered an object."""
        self._unanswered.clear()
        self._record_available()

    def _record_available(self) -> None:
        """The destination answers. If it had failed before, everything postponed for it becomes due now."""
        if self.breaker.record_success():
            count = self.ledger.make_due(self.destination.name)
            log.info("destination_recovered", destination=self.destination.name, rescheduled=count)

    def _record_unavailable(self, error: DestinationUnavailable | NoResponse) -> datetime:
        """Count a failure of the destination; return the time before which nothing is tried."""
        retry_at = self.breaker.record_failure(str(error))
        log.warning("destination_unavailable", destination=self.destination.name, **self.breaker.status_fields())
        return retry_at

    def _postpone(self, delivery: Delivery, error: GenuError) -> None:
        """Retry this delivery after a pause of its own; it delays no other."""
        until = datetime.now(UTC) + timedelta(seconds=backoff_seconds(delivery.attempts + 1, self.timing))
        self.ledger.postpone([delivery.id], until, str(error))
        log.warning("delivery_postponed", **_log_fields(delivery), until=until.isoformat(), error=str(error))

    def _give_up(self, delivery: Delivery, error: GenuError) -> None:
        """A retry would not help; a person who retries the radiograph has the object made anew."""
        self.ledger.give_up(delivery.id, str(error))
        log.error("delivery_given_up", **_log_fields(delivery), error=str(error))


def _log_fields(delivery: Delivery) -> dict[str, str]:
    return {
        "destination": delivery.destination,
        "sop_instance_uid": delivery.object.sop_instance_uid,
        "source_uid": delivery.source_uid,
    }
