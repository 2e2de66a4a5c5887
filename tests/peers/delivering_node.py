"""A node that delivers: a vault, a ledger and a deliverer, for the tests of every protocol."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from node.deliver import Deliverer
from node.ledger import Delivery, Ledger
from node.settings import Deliver, Destination, Settings, Storage
from node.storage import Vault
from tests.peers.archives import wait_until
from tests.samples.pending_deliveries import Pending, add_pending

SHORT_TIMING = Deliver(first_pause_seconds=0.2, longest_pause_seconds=1, connect_seconds=3, response_seconds=3)


class Node:
    """A vault, a ledger, and a deliverer to start and stop."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.vault = Vault(folder / "vault")
        self.ledger = Ledger(f"sqlite:///{folder / 'ledger.sqlite'}")
        self.ledger.upgrade()

    @contextmanager
    def delivering(self, *destinations: Destination, timing: Deliver = SHORT_TIMING) -> Iterator[None]:
        """Deliver to these until the block ends; then it must stop in time, with all its threads."""
        settings = Settings(destination=destinations, deliver=timing, storage=Storage(folder=self.folder))
        stop = threading.Event()
        thread = threading.Thread(target=Deliverer(settings, self.vault, self.ledger).run, args=(stop,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join(15)
            assert not thread.is_alive()
            assert wait_until(lambda: not any(thread.name.startswith("deliver-") for thread in threading.enumerate()))

    def owe(self, *destinations: str, side: int = 32, kinds: Sequence[str] = ("SC", "SR")) -> Pending:
        return add_pending(self.ledger, self.vault, destinations or ("pacs",), side=side, kinds=kinds)

    def delivery(self, owed: Pending, kind: str) -> Delivery:
        return next(row for row in self.ledger.deliveries(owed.source_uid) if row.object.kind == kind)

    def status(self, name: str = "pacs") -> dict[str, object]:
        return next(
            (beat.detail for beat in self.ledger.heartbeats() if (beat.process, beat.name) == ("deliver", name)), {}
        )
