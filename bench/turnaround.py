"""Time from the last C-STORE response to both results acknowledged by the destination, one film at a time."""

import random
import time
from datetime import UTC, datetime
from pathlib import Path

from bench import node_runs
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
"""Name, start and end of each stage; start and end are an event of the journal and its index among equal events."""


def measure(folder: Path, films: Films, *, count: int) -> Table:
    """p50 and p95 over `count` films of both knees, of the whole and of each stage."""
    seconds: dict[str, list[float]] = {"last C-STORE response to both results acknowledged": []}
    total = next(iter(seconds.values()))
    with node_runs.node(folder) as node, bar() as progress:
        ledger, destination = node.ledger, node_runs.receiver(node)
        step = progress.add_task("turnaround of a film of two knees", total=count + WARM_UP)
        for number, (uid, path) in enumerate(films.files(count + WARM_UP)):
            answered = store(path, destination)
            node_runs.await_delivered(ledger, [uid])
            times = node_runs.event_times(ledger, uid)
            if number >= WARM_UP:
                total.append((max(times["sent"]) - answered).total_seconds())
                for name, (start, first), (end, second) in STAGES:
                    duration = (times[end][second] - times[start][first]).total_seconds()
                    seconds.setdefault(f"  of it, {name}", []).append(duration)
            progress.advance(step)
            time.sleep(random.uniform(0, 0.5))  # noqa: S311 - so that sending does not synchronise with a timer of the node
        ledger.close()
    rows: tuple[Row, ...] = tuple(
        {"seconds": name, **percentiles(values, 50, 95), "least": min(values), "most": max(values), "n": len(values)}
        for name, values in seconds.items()
    )
    return Table("turnaround", "Turnaround: a film of two knees (13.4 MB), one at a time, 1 worker", rows)


def store(path: Path, destination: Destination) -> datetime:
    """Send the film over an association of its own. Returns the time of the response."""
    instance = sendable_instance(path)
    with open_association(destination, [instance.context], Deliver()) as association:
        association.store(instance)
        return datetime.now(UTC)
