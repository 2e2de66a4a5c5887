"""From the last C-STORE response to both results acknowledged by the destination: one film at a time."""

import random
import time
from datetime import UTC, datetime
from pathlib import Path

from bench import journey
from bench.films import Films
from bench.progress import bar
from bench.tables import Row, Table, percentiles
from node.scu import open_association, sendable_instance
from node.settings import Deliver, Destination

WARM_UP = 2
STAGES = (
    ("received to claimed", ("received", 0), ("claimed", 0)),
    ("claimed to reported", ("claimed", 0), ("reported", 0)),
    ("reported to first sent", ("reported", 0), ("sent", 0)),
    ("first sent to second", ("sent", 0), ("sent", 1)),
)
"""Between which lines of the journal: what happened, and for the how-manieth time."""


def measure(folder: Path, films: Films, *, count: int) -> Table:
    """p50 and p95 over `count` films of both knees, and where the time went."""
    told: dict[str, list[float]] = {"last C-STORE response to both results acknowledged": []}
    whole = next(iter(told.values()))
    with journey.node(folder) as node, bar() as progress:
        ledger, to = node.ledger, journey.receiver(node)
        step = progress.add_task("turnaround of a film of two knees", total=count + WARM_UP)
        for number, (uid, path) in enumerate(films.files(count + WARM_UP)):
            answered = send(path, to)
            journey.await_delivered(ledger, [uid])
            found = journey.moments(ledger, uid)
            if number >= WARM_UP:
                whole.append((max(found["sent"]) - answered).total_seconds())
                for name, (begin, first), (end, second) in STAGES:
                    took = (found[end][second] - found[begin][first]).total_seconds()
                    told.setdefault(f"  of it, {name}", []).append(took)
            progress.advance(step)
            time.sleep(random.uniform(0, 0.5))  # noqa: S311 - so that no timer of the node falls into step with us
        ledger.close()
    rows: tuple[Row, ...] = tuple(
        {"seconds": name, **percentiles(values, 50, 95), "least": min(values), "most": max(values), "n": len(values)}
        for name, values in told.items()
    )
    return Table("turnaround", "Turnaround: a film of two knees (13.4 MB), one at a time, 1 worker", rows)


def send(path: Path, to: Destination) -> datetime:
    """The film was acknowledged over an association of its own. Returns when."""
    instance = sendable_instance(path)
    with open_association(to, [instance.context], Deliver()) as association:
        association.store(instance)
        return datetime.now(UTC)
