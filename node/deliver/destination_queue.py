"""One destination's line: what falls due is sent, and put off while the destination is away."""

import hashlib
import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import structlog

from node.deliver.circuit_breaker import Circuit, pause
from node.deliver.fallbacks import Way, ways
from node.errors import GenuError, Permanent, Transient
from node.ledger import Delivery, Ledger
from node.reasons import reason
from node.ris import AnyLink, link_to, message
from node.scu import VERIFICATION, Declined, Lost, NeverTaken, NotTaken, Parcel, Unreachable, Unsendable, parcel
from node.settings import OPTIONAL_KINDS, Deliver, Destination
from node.storage import Vault

log = structlog.get_logger()

POLL_SECONDS = 0.1
"""How long a result waits at most before it is looked at; a look takes a quarter of a millisecond."""
BATCH = 50
"""Objects of one association at most, so that what falls due meanwhile is not left waiting for long."""


class Line:
    """The way to one destination."""

    def __init__(
        self, destination: Destination, patience: Deliver, *, vault: Vault, ledger: Ledger, stop: threading.Event
    ) -> None:
        self.destination = destination
        self.patience = patience
        self.vault = vault
        self.ledger = ledger
        self.stop = stop
        self.circuit = Circuit(patience)
        self._link: AnyLink | None = None
        self._lost: set[int] = set()
        """Deliveries on which the association broke since an object was last answered."""

    def run(self) -> None:
        """What falls due is sent, until the node stops."""
        while not self.stop.is_set():
            try:
                busy = self.round()
            except Transient as error:  # the ledger is away
                log.warning("delivery_waits", destination=self.destination.name, error=str(error))
                busy = self.stop.wait(1)
            except Exception:  # the door's edge: whatever is wrong with one round, the next one comes
                log.exception("delivery_round_failed", destination=self.destination.name)
                busy = self.stop.wait(1)
            if not busy:
                self.stop.wait(POLL_SECONDS)

    def cut(self) -> None:
        """Whatever the line waits for is broken off."""
        if self._link is not None:
            self._link.cut()

    def round(self) -> bool:
        """One association has carried what is due. Returns whether there was anything to do."""
        if self.circuit.retry_at is not None and datetime.now(UTC) < self.circuit.retry_at:
            return False
        due = self.ledger.due_deliveries(self.destination.name, datetime.now(UTC), BATCH)
        if self.circuit.failures:
            due = due[:1]  # the one that has waited longest tries the destination out
        parcels = self._pack(due)
        if parcels:
            self._send_all(parcels)
        elif self.circuit.up is None or (self.circuit.failures and not self._takes_nothing()):
            self._echo()
        return bool(due)

    def _pack(self, due: Sequence[Delivery]) -> list[tuple[Delivery, Parcel]]:
        """Have each file looked at; what is lost or damaged is given up."""
        packed = []
        for delivery in due:
            try:
                packed.append((delivery, self._whole(delivery)))
            except GenuError as error:
                self._give_up(delivery, error)
        return packed

    def _whole(self, delivery: Delivery) -> Parcel:
        path = self.vault.results_folder(delivery.source_uid) / delivery.object.file
        try:
            with path.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except FileNotFoundError:
            raise Permanent(reason("FILE_LOST"), f"result {delivery.object.file} is not in the vault") from None
        if found != delivery.object.sha256:
            raise Permanent(reason("FILE_LOST"), f"result {delivery.object.file} is damaged")
        return parcel(path) if self.destination.protocol == "dicom" else message(path, delivery.object.sop_instance_uid)

    def _send_all(self, parcels: Sequence[tuple[Delivery, Parcel]]) -> None:
        link = self._link = link_to(self.destination, self.patience)
        try:
            link.open({way.context: None for _, sent in parcels for way in self._ways(sent)})
            for delivery, sent in parcels:
                if self.stop.is_set():
                    break
                self._send(link, delivery, sent)
        except Lost:
            return  # told and put off where it happened; the others are still due
        except Unreachable as error:
            if not self.stop.is_set():
                until = self._fail(error)
                self.ledger.postpone([delivery.id for delivery, _ in parcels], until, str(error))
        finally:
            link.close()
            self._link = None

    def _send(self, link: AnyLink, delivery: Delivery, sent: Parcel) -> None:
        begun = time.monotonic()
        try:
            status = self._store(link, sent)
        except Declined as error:
            self._heard()
            left_out = isinstance(error, NotTaken) and delivery.object.kind in OPTIONAL_KINDS
            if left_out or isinstance(error, NeverTaken):
                self._give_up(delivery, error)
            else:
                self._put_off(delivery, error)
        except Unsendable as error:
            self._give_up(delivery, error)
        except Lost as error:
            if not self.stop.is_set():
                self._put_off(delivery, error)
                self._ask_after(delivery, error)
            raise
        else:
            self.ledger.record_sent(delivery.id, status)
            log.info("sent", **_named(delivery), status=f"{status:04X}", seconds=round(time.monotonic() - begun, 3))
            self._heard()

    def _store(self, link: AnyLink, sent: Parcel) -> int:
        """Send the object in the first way that the destination takes; the highest status of its parts."""
        way = next((each for each in self._ways(sent) if link.takes(each.context)), None)
        if way is None or way.context == sent.context:
            return link.store(sent)  # which says why it is not taken
        with TemporaryDirectory(dir=sent.path.parent, prefix=".sending-") as folder:
            return max(link.store(part) for part in way.sends(Path(folder)))

    def _ways(self, sent: Parcel) -> list[Way]:
        return ways(sent, compress=self.destination.compress)

    def _ask_after(self, delivery: Delivery, error: Lost) -> None:
        """Know whether the destination is gone, or only took this one object badly."""
        self._lost.add(delivery.id)
        if self._takes_nothing():
            self._fail(error)
        else:
            self._echo()

    def _takes_nothing(self) -> bool:
        """Whether it broke off on so many objects in a row that an echo proves nothing any more."""
        return len(self._lost) >= self.patience.failures_until_down

    def _echo(self) -> None:
        link = self._link = link_to(self.destination, self.patience)
        try:
            link.open([VERIFICATION])
            link.echo()
        except Declined:
            self._reached()  # it has no Verification, or does not like it; it answered
        except Unreachable as error:
            if not self.stop.is_set():
                self._fail(error)
        else:
            self._reached()
        finally:
            link.close()
            self._link = None

    def _heard(self) -> None:
        """An object was answered."""
        self._lost.clear()
        self._reached()

    def _reached(self) -> None:
        """The destination talks with us. If it did not before, all that waits for it goes out at once."""
        if self.circuit.succeed():
            count = self.ledger.make_due(self.destination.name)
            log.info("destination_back", destination=self.destination.name, hastened=count)

    def _fail(self, error: Unreachable) -> datetime:
        """Nothing is tried before the moment that this returns."""
        retry_at = self.circuit.fail(str(error))
        log.warning("destination_away", destination=self.destination.name, **self.circuit.detail())
        return retry_at

    def _put_off(self, delivery: Delivery, error: GenuError) -> None:
        """This one waits for a pause of its own; it keeps no other from being sent."""
        until = datetime.now(UTC) + timedelta(seconds=pause(delivery.attempts + 1, self.patience))
        self.ledger.postpone([delivery.id], until, str(error))
        log.warning("put_off", **_named(delivery), until=until.isoformat(), error=str(error))

    def _give_up(self, delivery: Delivery, error: GenuError) -> None:
        """Sending it later would not mend it; a person who asks again has it made anew."""
        self.ledger.give_up(delivery.id, str(error))
        log.error("delivery_given_up", **_named(delivery), error=str(error))


def _named(delivery: Delivery) -> dict[str, str]:
    return {
        "destination": delivery.destination,
        "sop_instance_uid": delivery.object.sop_instance_uid,
        "source_uid": delivery.source_uid,
    }
