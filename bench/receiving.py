"""Throughput of receivers: the same sender and the same objects, the receivers taking turns."""

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from bench.films import BIG, SMALL, noise
from bench.progress import bar
from bench.receivers import PDU, ReceiverType, RunningReceiver, installed
from bench.tables import Cell, Spread, Table
from tests.peers.archives import HOST, program_path

SENDERS = (1, 4)
MB = 1e6
WARM_UP_OBJECTS = 3
"""Objects of each sender in the warm-up round, which determines how many objects fill the time."""


@dataclass(frozen=True)
class Load:
    """The file and the number of senders of one round."""

    name: str
    file: Path
    senders: int

    @property
    def megabytes(self) -> float:
        return self.file.stat().st_size / MB


def measure(folder: Path, *, seconds: float, rounds: int) -> Table:
    """MB/s and objects/s of every receiver that is installed, each `rounds` times for about `seconds`."""
    if program_path("storescu") is None:
        note = "Not measured: DCMTK's storescu, which sends, is not installed."
        return Table("receiving", "Receiving", (), (note,))
    receivers, missing = installed()
    files = {"10 MB": noise(folder / "big.dcm", BIG), "0.5 MB": noise(folder / "small.dcm", SMALL)}
    rates: dict[tuple[str, int, str], list[float]] = {}
    with ExitStack() as stack, bar() as progress:
        running = {
            receiver: stack.enter_context(receiver.start(_new_folder(folder, number)))
            for number, receiver in enumerate(receivers)
        }
        step = progress.add_task("receiving", total=len(files) * len(SENDERS) * (rounds + 1) * len(receivers))
        for (name, file), senders in product(files.items(), SENDERS):
            progress.update(step, description=f"receiving {name}, {senders} at a time")
            load = Load(name, file, senders)
            for receiver, rate in _rounds(running, load, seconds=seconds, rounds=rounds):
                if rate is not None:
                    rates.setdefault((name, senders, receiver.name), []).append(rate)
                progress.advance(step)
    sizes = {name: file.stat().st_size / MB for name, file in files.items()}
    durable = {receiver.name: receiver.durable for receiver in receivers}
    rows = tuple(_row(key, values, size=sizes[key[0]], durable=durable[key[2]]) for key, values in rates.items())
    return Table("receiving", "Receiving: C-STORE from storescu", rows, _notes(missing))


def _rounds(
    running: dict[ReceiverType, RunningReceiver], load: Load, *, seconds: float, rounds: int
) -> Iterator[tuple[ReceiverType, float | None]]:
    """Receiver and objects per second, the receivers in turn; None in the first round, which is the warm-up."""
    counts = {}
    for receiver, instance in running.items():
        rate = _objects_per_second(instance, load, WARM_UP_OBJECTS)
        counts[receiver] = max(2, round(rate * seconds / load.senders))
        yield receiver, None
    for _ in range(rounds):
        for receiver, instance in running.items():
            yield receiver, _objects_per_second(instance, load, counts[receiver])


def _objects_per_second(receiver: RunningReceiver, load: Load, count: int) -> float:
    """
    Each sender sends `count` new objects over an association of its own.

    Raises RuntimeError if a sender fails or the receiver does not have all objects.
    """
    receiver.clear()
    os.sync()  # what others left in the page cache is written now, not during this measurement
    program = program_path("storescu") or "storescu"
    command = [program, "-R", "-aec", receiver.ae_title, "-pdu", str(PDU), "--repeat", str(count), "+II"]
    command += [HOST, str(receiver.port), str(load.file)]
    environment = {**os.environ, "TCP_NODELAY": "1"}
    started = time.monotonic()
    senders = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for _ in range(load.senders)
    ]
    outputs = [sender.communicate()[0] for sender in senders]
    seconds = time.monotonic() - started
    if any(sender.returncode for sender in senders):
        raise RuntimeError(f"{receiver.ae_title} did not store everything:\n" + "\n".join(outputs)[-2000:])
    stored = receiver.stored()
    if stored != count * load.senders:
        raise RuntimeError(f"{receiver.ae_title} has {stored} of {count * load.senders} objects")
    receiver.clear()
    return count * load.senders / seconds


def _row(key: tuple[str, int, str], rates: list[float], *, size: float, durable: str) -> dict[str, Cell]:
    name, senders, receiver = key
    return {
        "object": name,
        "senders": senders,
        "receiver": receiver,
        "0x0000 when on": durable,
        "MB/s": Spread.of([rate * size for rate in rates]),
        "objects/s": Spread.of(rates),
        "n": len(rates),
    }


def _notes(missing: list[str]) -> tuple[str, ...]:
    notes = ["Median (least–most). The time includes storescu's start and its association."]
    if missing:
        notes.append(f"Not installed, so not measured: {', '.join(missing)}.")
    return tuple(notes)


def _new_folder(folder: Path, number: int) -> Path:
    new = folder / f"receiver-{number}"
    new.mkdir()
    return new
