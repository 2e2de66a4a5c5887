"""How fast receivers take objects in: the same sender, the same objects, taking turns."""

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from bench.contestants import PDU, Contestant, Receiving, installed
from bench.films import BIG, SMALL, noise
from bench.progress import bar
from bench.tables import Cell, Spread, Table
from tests.peers.archives import HOST, program_path

SENDERS = (1, 4)
MB = 1e6
FIRST = 3
"""Objects of each sender in the round that warms up and says how many fill the time."""


@dataclass(frozen=True)
class Load:
    """What is sent in one round."""

    name: str
    file: Path
    senders: int

    @property
    def megabytes(self) -> float:
        return self.file.stat().st_size / MB


def measure(folder: Path, *, seconds: float, rounds: int) -> Table:
    """MB/s and objects/s of every receiver that is installed, each `rounds` times for about `seconds`."""
    if program_path("storescu") is None:
        note = "Not measured: it takes DCMTK's storescu to send, and it is not installed."
        return Table("receiving", "Receiving", (), (note,))
    contestants, missing = installed()
    files = {"10 MB": noise(folder / "big.dcm", BIG), "0.5 MB": noise(folder / "small.dcm", SMALL)}
    rates: dict[tuple[str, int, str], list[float]] = {}
    with ExitStack() as stack, bar() as progress:
        running = {
            each: stack.enter_context(each.start(_new(folder, number))) for number, each in enumerate(contestants)
        }
        step = progress.add_task("receiving", total=len(files) * len(SENDERS) * (rounds + 1) * len(contestants))
        for (name, file), senders in product(files.items(), SENDERS):
            progress.update(step, description=f"receiving {name}, {senders} at a time")
            load = Load(name, file, senders)
            for contestant, rate in _rounds(running, load, seconds=seconds, rounds=rounds):
                if rate is not None:
                    rates.setdefault((name, senders, contestant.name), []).append(rate)
                progress.advance(step)
    sizes = {name: file.stat().st_size / MB for name, file in files.items()}
    durable = {each.name: each.durable for each in contestants}
    rows = tuple(_row(key, found, size=sizes[key[0]], durable=durable[key[2]]) for key, found in rates.items())
    return Table("receiving", "Receiving: C-STORE from storescu", rows, _notes(missing))


def _rounds(
    running: dict[Contestant, Receiving], load: Load, *, seconds: float, rounds: int
) -> Iterator[tuple[Contestant, float | None]]:
    """Every contestant in turn, again and again; the first time without a rate, to see how many fill the time."""
    counts = {}
    for contestant, receiving in running.items():
        rate = _objects_a_second(receiving, load, FIRST)
        counts[contestant] = max(2, round(rate * seconds / load.senders))
        yield contestant, None
    for _ in range(rounds):
        for contestant, receiving in running.items():
            yield contestant, _objects_a_second(receiving, load, counts[contestant])


def _objects_a_second(receiving: Receiving, load: Load, count: int) -> float:
    """Each sender has sent `count` new objects over an association of its own, and all of them are there."""
    receiving.forget()
    os.sync()  # what others left in the cache is written now, and not while this one is measured
    program = program_path("storescu") or "storescu"
    command = [program, "-R", "-aec", receiving.ae_title, "-pdu", str(PDU), "--repeat", str(count), "+II"]
    command += [HOST, str(receiving.port), str(load.file)]
    environment = {**os.environ, "TCP_NODELAY": "1"}
    begun = time.monotonic()
    senders = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for _ in range(load.senders)
    ]
    said = [sender.communicate()[0] for sender in senders]
    took = time.monotonic() - begun
    if any(sender.returncode for sender in senders):
        raise RuntimeError(f"{receiving.ae_title} did not take everything:\n" + "\n".join(said)[-2000:])
    there = receiving.stored()
    if there != count * load.senders:
        raise RuntimeError(f"{receiving.ae_title} has {there} of {count * load.senders} objects")
    receiving.forget()
    return count * load.senders / took


def _row(key: tuple[str, int, str], rates: list[float], *, size: float, durable: str) -> dict[str, Cell]:
    name, senders, contestant = key
    return {
        "object": name,
        "senders": senders,
        "receiver": contestant,
        "0x0000 when on": durable,
        "MB/s": Spread.of([rate * size for rate in rates]),
        "objects/s": Spread.of(rates),
        "n": len(rates),
    }


def _notes(missing: list[str]) -> tuple[str, ...]:
    told = ["Median (least–most). The time of storescu's start and its association is in it."]
    if missing:
        told.append(f"Not installed, so not measured: {', '.join(missing)}.")
    return tuple(told)


def _new(folder: Path, number: int) -> Path:
    made = folder / f"receiver-{number}"
    made.mkdir()
    return made
