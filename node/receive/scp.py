"""The Storage and Verification SCP. It answers 0x0000 when an object is on the disk and in the ledger, never before."""

import logging
import threading
import time
import warnings
from collections.abc import Callable
from datetime import UTC, datetime

import structlog
from pynetdicom import AE, _config, build_context
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from node.errors import Refused
from node.ledger import IntakeOutcome, Ledger
from node.radiograph import RESULT_CLASSES, STORAGE_CLASSES, TRANSFER_SYNTAXES, Radiograph, is_uid
from node.receive import statuses
from node.receive.admission import TOO_MANY, Admission
from node.receive.association import AssociationParameters, IncomingAssociation, Rejection, Sender
from node.receive.counts import Counts
from node.receive.dimse import CommandSet
from node.receive.identity import check_identity
from node.receive.listener import Listener, PendingLimits
from node.receive.notifier import Notifier
from node.receive.pending_connection import ConnectionRejected, PendingConnection
from node.receive.spooled_object import AnnouncedInstance, SpooledObject
from node.receive.tls import server_context
from node.settings import Settings
from node.storage import Vault

log = structlog.get_logger()

ASSOCIATE_SECONDS = 10
"""Time for the TLS handshake and the association request."""

_HEARTBEAT_SECONDS = 5
_HEARTBEATS_PER_SWEEP = 12
_GRACE_SECONDS = 5
"""How long `stop` waits for objects that are being received."""
_THREAD_END_SECONDS = 3
"""How long it waits then for the threads."""
_MAX_NEGOTIATING = 64
"""Associations that may be negotiating, on top of those that are established."""
_MAX_LOGGED_CLASSES = 8
"""SOP classes that a log line names."""
_NOT_LOGGED = frozenset({"left", "stopping"})


class StorageScp:
    """
    Receives on `settings.receive`, into the vault and the ledger.

    `publish` is called with the SOP Instance UID of each new radiograph, in a thread of its own.
    """

    def __init__(self, settings: Settings, vault: Vault, ledger: Ledger, publish: Callable[[str], bool]) -> None:
        self._settings, self._vault, self._ledger = settings, vault, ledger
        self.counts = Counts()
        self.port = settings.receive.port
        self._admission = Admission(settings)
        self._associations: set[IncomingAssociation] = set()
        self._notifier = Notifier(publish)
        self._stopped = threading.Event()
        self._heartbeat_thread = threading.Thread(target=self._run_heartbeat, name="receive-heartbeat", daemon=True)
        self._listener: Listener | None = None
        self._ae = AE(settings.receive.ae_title)
        self._ae.maximum_associations = 10**6  # the admission counts
        self._parameters = AssociationParameters(
            contexts=[
                *(build_context(uid, list(TRANSFER_SYNTAXES)) for uid in STORAGE_CLASSES),
                build_context(Verification),
            ],
            max_pdu_bytes=settings.receive.max_pdu_bytes,
            stall_seconds=settings.receive.stall_seconds,
            idle_seconds=settings.receive.idle_seconds,
            associate_seconds=ASSOCIATE_SECONDS,
        )

    def start(self) -> None:
        """Open the port. Raises GenuError when that fails, SettingsError for TLS files that cannot be used."""
        silence_pynetdicom()
        receive = self._settings.receive
        self._sweep()
        self._listener = Listener(
            receive.host,
            receive.port,
            tls=server_context(receive.tls) if receive.tls else None,
            on_request=self._start_association,
            on_rejected=self._record_rejection,
            limits=PendingLimits(seconds=ASSOCIATE_SECONDS),
        )
        self.port = self._listener.port
        self._notifier.start()
        self._heartbeat_thread.start()
        self._listener.start()
        log.info("receiving", ae_title=receive.ae_title, host=receive.host, port=self.port, tls=receive.tls is not None)

    def stop(self) -> None:
        """Close the port, and store the objects that are being received if they are complete in time."""
        if self._listener is None:
            return
        self._admission.stop()
        self._listener.stop()
        deadline = time.monotonic() + _GRACE_SECONDS
        while self._associations and time.monotonic() < deadline + _THREAD_END_SECONDS:
            for association in list(self._associations):
                is_due = time.monotonic() > deadline or not association.dimse_provider.is_busy
                if is_due and not association.abort_reason:
                    association.abort_for_shutdown()
            time.sleep(0.02)
        for association in list(self._associations):
            association.dimse_provider.discard()
        self._stopped.set()
        self._notifier.stop(_THREAD_END_SECONDS)
        self._heartbeat_thread.join(timeout=_THREAD_END_SECONDS)
        self._listener = None
        log.info("receiving_stopped")

    def admit(self, association: IncomingAssociation, sender: Sender) -> Rejection | None:
        """Return None if the association may begin, or why not; a rejection is counted and logged."""
        rejection = self._admission.admit(association, sender)
        if rejection is None:
            self.counts.accepted()
        else:
            self._record_refusal(rejection.reason, sender)
        return rejection

    def negotiated(self, association: IncomingAssociation, sender: Sender) -> None:
        """Log an association of which no presentation context was accepted: its objects will never arrive."""
        if association.accepted_contexts or not association.is_established:
            return
        proposed = sorted({str(context.abstract_syntax) for context in association.rejected_contexts})
        self._record_refusal("no_context", sender, detail=" ".join(filter(is_uid, proposed[:_MAX_LOGGED_CLASSES])))

    def ended(self, association: IncomingAssociation) -> None:
        """Remove the association."""
        self._admission.release(association)
        self._associations.discard(association)

    def open_object(self, command: CommandSet) -> SpooledObject:
        """Open a file in the spool for the object; a refused one has no file, and the error that will answer it."""
        announced = AnnouncedInstance(
            command.sop_class_uid, command.sop_instance_uid, str(command.context.transfer_syntax[0])
        )
        error: Exception | None = None
        try:
            self._check_command(command)
        except (Refused, OSError) as refusal:
            error = refusal
        limit = self._settings.receive.max_object_mb * 2**20
        return SpooledObject(announced, spool=self._vault.spool, limit=limit, error=error)

    def store(self, spooled: SpooledObject, sender: Sender) -> tuple[int, str]:
        """
        Store the object and return status and comment of the response; after a failure nothing of it is left.

        Raises nothing: every error of disk, ledger or object has its status in the one table of statuses.
        """
        try:
            self._store(spooled, sender)
        except Exception as error:  # noqa: BLE001 - the edge of the process: every error becomes a status
            spooled.discard()
            status, uid = statuses.status_of(error), spooled.announced.sop_instance_uid
            log.warning(
                "store_refused",
                status=f"{status:04X}",
                error=type(error).__name__,
                why=statuses.comment_of(error),
                sop_instance_uid=uid if is_uid(uid) else None,
                calling_ae_title=sender.calling_ae_title,
                host=sender.host,
            )
            return status, statuses.comment_of(error)
        return statuses.SUCCESS, ""

    def _store(self, spooled: SpooledObject, sender: Sender) -> None:
        announced = spooled.announced
        sha256 = spooled.finish()
        check_identity(
            bytes(spooled.head),
            transfer_syntax_uid=announced.transfer_syntax_uid,
            sop_class_uid=announced.sop_class_uid,
            sop_instance_uid=announced.sop_instance_uid,
        )
        radiograph = Radiograph(
            sop_instance_uid=announced.sop_instance_uid,
            sop_class_uid=announced.sop_class_uid,
            transfer_syntax_uid=announced.transfer_syntax_uid,
            sha256=sha256,
            size=spooled.size,
            calling_ae_title=sender.calling_ae_title,
            calling_host=sender.host,
            received_at=datetime.now(UTC),
        )
        not_analysed_reason = "NOT_AN_IMAGE" if announced.sop_class_uid in RESULT_CLASSES else None
        self._vault.store(spooled.path, sha256)
        outcome = self._ledger.record_received(radiograph, not_analysed_reason=not_analysed_reason)
        if outcome is IntakeOutcome.NEW and not_analysed_reason is None:
            self._notifier.enqueue(announced.sop_instance_uid)
        self.counts.stored(outcome.value.lower(), size=spooled.size)
        log.info(
            "received",
            sop_instance_uid=announced.sop_instance_uid,
            outcome=outcome.value,
            not_analysed_reason=not_analysed_reason,
            size=spooled.size,
            calling_ae_title=sender.calling_ae_title,
            host=sender.host,
        )

    def _check_command(self, command: CommandSet) -> None:
        """Raises Refused if it is known before the data set that the object cannot be stored."""
        if command.sop_class_uid != command.context.abstract_syntax or command.sop_class_uid not in STORAGE_CLASSES:
            raise Refused(statuses.CLASS_NOT_SUPPORTED, "not the SOP class of the presentation context")
        if not is_uid(command.sop_instance_uid):
            raise Refused(statuses.INVALID_INSTANCE, "the SOP Instance UID is no UID")
        if self._vault.free_mb() < self._settings.storage.min_free_mb:
            raise Refused(statuses.OUT_OF_RESOURCES, "this node's disk is nearly full")

    def _start_association(self, connection: PendingConnection) -> None:
        if len(self._associations) >= self._settings.receive.max_associations + _MAX_NEGOTIATING:
            connection.reject(bytes((3, 0, 0, 0, 0, 4, 0, TOO_MANY.result, TOO_MANY.source, TOO_MANY.diagnostic)))
            self._record_rejection(connection, ConnectionRejected(TOO_MANY.reason))
            return
        association = IncomingAssociation(
            self._ae,
            sock=connection.sock,
            host=connection.host,
            received=bytes(connection.received),
            handler=self,
            parameters=self._parameters,
        )
        self._associations.add(association)
        try:
            association.start()
        except RuntimeError:  # the process can start no more threads
            self._associations.discard(association)
            raise

    def _record_rejection(self, connection: PendingConnection, rejected: ConnectionRejected) -> None:
        if rejected.reason in _NOT_LOGGED:
            self.counts.refused(rejected.reason)  # a load balancer that probes the port is not worth a log line
            return
        called, calling = connection.ae_titles
        self._record_refusal(rejected.reason, Sender(calling, called, connection.host), detail=rejected.detail)

    def _record_refusal(self, reason: str, sender: Sender, *, detail: str = "") -> None:
        self.counts.refused(reason)
        log.warning(
            "association_refused",
            reason=reason,
            calling_ae_title=sender.calling_ae_title,
            called_ae_title=sender.called_ae_title,
            host=sender.host,
            detail=detail,
        )

    def _run_heartbeat(self) -> None:
        endpoint, heartbeats = f"{self._settings.receive.ae_title}:{self.port}", 0
        while True:
            try:
                self._ledger.record_heartbeat("receive", endpoint, self._detail())
                heartbeats += 1
                if heartbeats % _HEARTBEATS_PER_SWEEP == 0:
                    self._sweep()
            except Exception as error:  # noqa: BLE001 - a ledger or disk that is away must not end the thread
                log.warning("heartbeat_failed", error=type(error).__name__)
            if self._stopped.wait(_HEARTBEAT_SECONDS):
                return

    def _detail(self) -> dict[str, object]:
        pending = self._listener.pending_count if self._listener else 0
        return {
            "port": self.port,
            "associations_active": self._admission.active_count,
            "connections_waiting": pending,
            **self.counts.as_detail(),
        }

    def _sweep(self) -> None:
        # A file that an active association writes to is younger than this: at that age it would have been aborted.
        age = 60 + 2 * (self._settings.receive.idle_seconds + self._settings.receive.stall_seconds)
        swept = self._vault.clean_spool(age)
        if swept:
            log.info("spool_swept", files=swept)


def silence_pynetdicom() -> None:
    """Turn off pynetdicom's own log: it would write data sets, and a traceback for each malformed request of a peer."""
    _config.LOG_HANDLER_LEVEL = "none"
    _config.LOG_REQUEST_IDENTIFIERS = _config.LOG_RESPONSE_IDENTIFIERS = False
    logging.getLogger("pynetdicom").setLevel(logging.CRITICAL)
    # pydicom warns of UIDs in an association request, and Python stores every different warning for ever.
    warnings.filterwarnings("ignore", message="Invalid value for VR UI")
