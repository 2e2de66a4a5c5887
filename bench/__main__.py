"""`python -m bench`: measure, and print the tables."""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import click
from rich.console import Console

from bench import burst, endurance, forward, machine, objects, receiving, stages, turnaround
from bench.films import Films
from bench.tables import Table, as_json, show

KINDS = ("receiving", "turnaround", "burst", "forward", "stages", "objects")
ASKED_FOR = ("endurance",)
"""Takes long, so it is measured only where it is named."""


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option(
    "--only", multiple=True, type=click.Choice(KINDS + ASKED_FOR), help="Only this; may be given more than once."
)
@click.option(
    "--seconds", default=2.0, type=click.FloatRange(0.01), help="About how long a receiver is sent to, a round."
)
@click.option(
    "--rounds", default=5, type=click.IntRange(1), help="How often each receiver and each engine has its turn."
)
@click.option(
    "--films", default=50, type=click.IntRange(1), help="Films whose turnaround is measured; a burst is twice as many."
)
@click.option(
    "--bursts", default=3, type=click.IntRange(1), help="How often a burst is sent, for each number of workers."
)
@click.option("--knees", default=10_000, type=click.IntRange(10), help="Knees that endurance grades and explains.")
@click.option("--json", "file", type=click.Path(dir_okay=False, path_type=Path), help="Write the figures here too.")
@click.option(
    "--folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="The disk to measure on: a folder is made there and removed. Otherwise the system's temporary folder.",
)
def main(
    only: Sequence[str],
    seconds: float,
    rounds: int,
    films: int,
    bursts: int,
    knees: int,
    file: Path | None,
    folder: Path | None,
) -> None:
    """
    Measure Genu on this machine, side by side with DCMTK's storescp and Orthanc where they are installed.

    Keep the machine quiet meanwhile. Burst also tells the peak memory of each part. Only where it is asked for,
    endurance tells whether a worker's memory grows over thousands of knees.
    """
    console = Console()
    with tempfile.TemporaryDirectory(prefix="genu-bench-", dir=folder) as made:
        room = Path(made)
        shown = Films(room)
        measured: dict[str, Callable[[], list[Table]]] = {
            "receiving": lambda: [receiving.measure(room, seconds=seconds, rounds=rounds)],
            "turnaround": lambda: [turnaround.measure(room / "turnaround", shown, count=films)],
            "burst": lambda: burst.measure(room / "burst", shown, count=2 * films, rounds=bursts),
            "forward": lambda: [forward.measure(rounds=rounds)],
            "stages": lambda: [stages.measure(rounds=rounds)],
            "objects": lambda: [objects.measure(shown, rounds=rounds)],
            "endurance": lambda: [endurance.measure(knees=knees)],
        }
        tables = [machine.describe(room)]
        show(tables[0], console)
        for kind in only or KINDS:
            for table in measured[kind]():
                tables.append(table)
                show(table, console)
                if file:
                    file.write_text(as_json(tables) + "\n")


if __name__ == "__main__":
    main(prog_name="python -m bench")
