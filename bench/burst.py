"""A burst of films: films processed per second from C-STORE to delivery, and the peak memory of each process."""

import time
from datetime import UTC, datetime
from pathlib import Path

from bench import node_runs
from bench.films import Films
from bench.memory import Peaks
from bench.progress import bar
from bench.tables import Row, Spread, Table
from node.scu import send

WORKERS = (1, 2)


def measure(folder: Path, films: Films, *, count: int, rounds: int) -> list[Table]:
    """Films per second from the first C-STORE to the last result acknowledged, with one worker and with two."""
    folder.mkdir()
    rates: dict[int, list[float]] = {workers: [] for workers in WORKERS}
    peaks = Peaks()
    with bar() as progress:
        step = progress.add_task("burst", total=rounds * len(WORKERS))
        for number in range(rounds):
            for workers in WORKERS:
                progress.update(step, description=f"{count} films at once, {workers} workers")
                node_folder = folder / f"node-{number}-{workers}"
                rates[workers].append(_films_per_second(node_folder, films, count, workers=workers, peaks=peaks))
                progress.advance(step)
    rows: tuple[Row, ...] = tuple(
        {"workers": workers, "films": count, "films/s": Spread.of(values), "n": len(values)}
        for workers, values in rates.items()
    )
    title = f"Burst: {count} films of two knees (13.4 MB) at once, until the last result is acknowledged"
    note = "One association sends them; sending is part of the time. Median (least–most)."
    return [Table("burst", title, rows, (note,)), peaks.table()]


def _films_per_second(folder: Path, films: Films, count: int, *, workers: int, peaks: Peaks) -> float:
    with node_runs.node(folder, workers=workers) as node:
        sent_films = [films.file() for _ in range(count)]
        time.sleep(1)
        started = datetime.now(UTC)
        for sent in send([path for _, path in sent_films], node_runs.receiver(node)):
            if not sent.stored:
                raise RuntimeError(f"a film of the burst was not stored: {sent.error}")
            sent.file.unlink()
        uids = [uid for uid, _ in sent_films]
        ledger = node.ledger
        node_runs.await_delivered(ledger, uids)
        ended = max(max(node_runs.event_times(ledger, uid)["sent"]) for uid in uids)
        ledger.close()
        peaks.record(node.process.pid)
    return count / (ended - started).total_seconds()
