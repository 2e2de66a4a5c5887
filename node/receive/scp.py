"""The receiving door: a Storage and Verification SCP that says 0x0000 for what is on the disk and in the ledger."""

import logging
import threading
import time
import warnings
from datetime import UTC, datetime

import structlog
from pynetdicom import AE, _config, build_context
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from node.errors import Refused
from node.ledger import IntakeOutcome, Ledger
from node.radiograph import RESULT_CLASSES, STORAGE_CLASSES, TRANSFER_SYNTAXES, Radiograph, is_uid
from node.receive import statuses
from node.receive.admission import TOO_MANY, Admission
from node.receive.association import IncomingAssociation, Rejection, Sender, Terms
from node.receive.counts import Counts
from node.receive.dimse import Command
from node.receive.identity import check_identity
from node.receive.listener import Listener, Room
from node.receive.notifier import Bell, Ringer
from node.receive.pending_connection import Newcomer, Unwelcome
from node.receive.spooled_object import Arrival, Offer
from node.receive.tls import server_context
from node.settings import Settings
from node.storage import Vault

log = structlog.get_logger()

ASSOCIATE_SECONDS = 10
"""Time to shake hands and to send the association request."""

_BEAT_SECONDS = 5
_SWEEP_EVERY = 12  # beats
_GRACE_SECONDS = 5
"""How long `stop` waits for objects that are on their way."""
_PARTING_SECONDS = 3
"""How long it waits then for the threads."""
_NEGOTIATING = 64
"""Associations that may be negotiating, on top of those that are established."""
_NAMED = 8
"""SOP classes that a log line names."""
_LEFT = frozenset({"left", "stopping"})


class Receiver:
    """Receives on `settings.receive`, into the vault and the ledger."""

    def __init__(self, settings: Settings, vault: Vault, ledger: Ledger, bell: Bell) -> None:
        self._settings, self._vault, self._ledger = settings, vault, ledger
        self.counts = Counts()
        self.port = settings.receive.port
        self._admission = Admission(settings)
        self._alive: set[IncomingAssociation] = set()
        self._ringer = Ringer(bell)
        self._stopped = threading.Event()
        self._heart = threading.Thread(target=self._beat, name="receive-heart", daemon=True)
        self._listener: Listener | None = None
        self._ae = AE(settings.receive.ae_title)
        self._ae.maximum_associations = 10**6  # the admission counts
        self._terms = Terms(
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
        """The port takes associations. Raises GenuError when it cannot be had, SettingsError for a TLS that fails."""
        quiet_library()
        receive = self._settings.receive
        self._sweep()
        self._listener = Listener(
            receive.host,
            receive.port,
            tls=server_context(receive.tls) if receive.tls else None,
            welcome=self._welcome,
            unwelcome=self._unwelcome,
            room=Room(seconds=ASSOCIATE_SECONDS),
        )
        self.port = self._listener.port
        self._ringer.start()
        self._heart.start()
        self._listener.start()
        log.info("receiving", ae_title=receive.ae_title, host=receive.host, port=self.port, tls=receive.tls is not None)

    def stop(self) -> None:
        """The port is closed; objects that were on their way are kept, if their senders did not dawdle."""
        if self._listener is None:
            return
        self._admission.stop()
        self._listener.stop()
        deadline = time.monotonic() + _GRACE_SECONDS
        while self._alive and time.monotonic() < deadline + _PARTING_SECONDS:
            for association in list(self._alive):
                if not association.ending and (time.monotonic() > deadline or not association.inbox.is_busy):
                    association.leave()
            time.sleep(0.02)
        for association in list(self._alive):
            association.inbox.discard()
        self._stopped.set()
        self._ringer.stop(_PARTING_SECONDS)
        self._heart.join(timeout=_PARTING_SECONDS)
        self._listener = None
        log.info("receiving_stopped")

    def admit(self, association: IncomingAssociation, sender: Sender) -> Rejection | None:
        """None if the association may begin, or why not; either way it can be read in the log."""
        rejection = self._admission.ask(association, sender)
        if rejection is None:
            self.counts.accepted()
        else:
            self._refused(rejection.reason, sender)
        return rejection

    def agreed(self, association: IncomingAssociation, sender: Sender) -> None:
        """If nothing that it proposed is taken here, that can be read in the log: objects that never come."""
        if association.accepted_contexts or not association.is_established:
            return
        proposed = sorted({str(context.abstract_syntax) for context in association.rejected_contexts})
        self._refused("no_context", sender, detail=" ".join(filter(is_uid, proposed[:_NAMED])))

    def left(self, association: IncomingAssociation) -> None:
        """It is over and its place is free."""
        self._admission.left(association)
        self._alive.discard(association)

    def begin(self, command: Command) -> Arrival:
        """A place in the spool for the object, or the fault that will answer it when all of it has been read."""
        offer = Offer(command.sop_class_uid, command.sop_instance_uid, str(command.context.transfer_syntax[0]))
        fault: Exception | None = None
        try:
            self._check(command)
        except (Refused, OSError) as error:
            fault = error
        limit = self._settings.receive.max_object_mb * 2**20
        return Arrival(offer, spool=self._vault.spool, limit=limit, fault=fault)

    def keep(self, arrival: Arrival, sender: Sender) -> tuple[int, str]:
        """
        The object is safe and the status 0x0000; or it is not, the status says why, and nothing of it is left.

        Raises nothing: what the disk, the ledger or the object can do wrong is all in the one table of statuses.
        """
        try:
            self._keep(arrival, sender)
        except Exception as error:  # noqa: BLE001 - the door's edge
            arrival.discard()
            status = statuses.status_of(error)
            log.warning(
                "store_refused",
                status=f"{status:04X}",
                error=type(error).__name__,
                why=statuses.comment_of(error),
                sop_instance_uid=arrival.offer.sop_instance_uid if is_uid(arrival.offer.sop_instance_uid) else None,
                calling_ae_title=sender.calling_ae_title,
                host=sender.host,
            )
            return status, statuses.comment_of(error)
        return statuses.SUCCESS, ""

    def _keep(self, arrival: Arrival, sender: Sender) -> None:
        offer = arrival.offer
        sha256 = arrival.finish()
        check_identity(
            bytes(arrival.head),
            transfer_syntax_uid=offer.transfer_syntax_uid,
            sop_class_uid=offer.sop_class_uid,
            sop_instance_uid=offer.sop_instance_uid,
        )
        radiograph = Radiograph(
            sop_instance_uid=offer.sop_instance_uid,
            sop_class_uid=offer.sop_class_uid,
            transfer_syntax_uid=offer.transfer_syntax_uid,
            sha256=sha256,
            size=arrival.size,
            calling_ae_title=sender.calling_ae_title,
            calling_host=sender.host,
            received_at=datetime.now(UTC),
        )
        put_aside = "NOT_AN_IMAGE" if offer.sop_class_uid in RESULT_CLASSES else None
        self._vault.store(arrival.path, sha256)
        kept = self._ledger.record_received(radiograph, not_analysed_reason=put_aside)
        if kept is IntakeOutcome.NEW and put_aside is None:
            self._ringer.ring(offer.sop_instance_uid)
        self.counts.stored(kept.value.lower(), size=arrival.size)
        log.info(
            "received",
            sop_instance_uid=offer.sop_instance_uid,
            kept=kept.value,
            put_aside=put_aside,
            size=arrival.size,
            calling_ae_title=sender.calling_ae_title,
            host=sender.host,
        )

    def _check(self, command: Command) -> None:
        """Raises Refused if it is known already that the object cannot be taken."""
        if command.sop_class_uid != command.context.abstract_syntax or command.sop_class_uid not in STORAGE_CLASSES:
            raise Refused(statuses.CLASS_NOT_SUPPORTED, "not the SOP class of the presentation context")
        if not is_uid(command.sop_instance_uid):
            raise Refused(statuses.INVALID_INSTANCE, "the SOP Instance UID is no UID")
        if self._vault.free_mb() < self._settings.storage.min_free_mb:
            raise Refused(statuses.OUT_OF_RESOURCES, "this node's disk is nearly full")

    def _welcome(self, newcomer: Newcomer) -> None:
        if len(self._alive) >= self._settings.receive.max_associations + _NEGOTIATING:
            newcomer.turn_away(bytes((3, 0, 0, 0, 0, 4, 0, TOO_MANY.result, TOO_MANY.source, TOO_MANY.diagnostic)))
            self._unwelcome(newcomer, Unwelcome(TOO_MANY.reason))
            return
        association = IncomingAssociation(
            self._ae, sock=newcomer.sock, host=newcomer.host, first=bytes(newcomer.first), door=self, terms=self._terms
        )
        self._alive.add(association)
        try:
            association.start()
        except RuntimeError:  # no thread to be had
            self._alive.discard(association)
            raise

    def _unwelcome(self, newcomer: Newcomer, unwelcome: Unwelcome) -> None:
        if unwelcome.reason in _LEFT:
            self.counts.refused(unwelcome.reason)  # a load balancer's look at the port is no news
            return
        called, calling = newcomer.titles
        self._refused(unwelcome.reason, Sender(calling, called, newcomer.host), detail=unwelcome.detail)

    def _refused(self, reason: str, sender: Sender, *, detail: str = "") -> None:
        self.counts.refused(reason)
        log.warning(
            "association_refused",
            reason=reason,
            calling_ae_title=sender.calling_ae_title,
            called_ae_title=sender.called_ae_title,
            host=sender.host,
            detail=detail,
        )

    def _beat(self) -> None:
        beats = 0
        while True:
            try:
                self._ledger.record_heartbeat(
                    "receive", f"{self._settings.receive.ae_title}:{self.port}", self._detail()
                )
                beats += 1
                if beats % _SWEEP_EVERY == 0:
                    self._sweep()
            except Exception as error:  # noqa: BLE001 - a ledger or disk that is away must not end the heart
                log.warning("heartbeat_failed", error=type(error).__name__)
            if self._stopped.wait(_BEAT_SECONDS):
                return

    def _detail(self) -> dict[str, object]:
        waiting = self._listener.waiting if self._listener else 0
        return {
            "port": self.port,
            "associations_active": len(self._admission.inside),
            "connections_waiting": waiting,
            **self.counts.as_detail(),
        }

    def _sweep(self) -> None:
        # What a living association writes to is younger than this: it would have been broken off before.
        age = 60 + 2 * (self._settings.receive.idle_seconds + self._settings.receive.stall_seconds)
        swept = self._vault.clean_spool(age)
        if swept:
            log.info("spool_swept", files=swept)


def quiet_library() -> None:
    """pynetdicom says nothing by itself: it would print data sets, and a traceback for each stranger's typing error."""
    _config.LOG_HANDLER_LEVEL = "none"
    _config.LOG_REQUEST_IDENTIFIERS = _config.LOG_RESPONSE_IDENTIFIERS = False
    logging.getLogger("pynetdicom").setLevel(logging.CRITICAL)
    # pydicom warns of UIDs in an association request, and Python remembers every different warning for ever.
    warnings.filterwarnings("ignore", message="Invalid value for VR UI")
