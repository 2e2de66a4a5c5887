"""`python -m bench`: run the benchmarks and print their tables."""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import click
from rich.console import Console

from bench import burst, endurance, forward, machine, objects, receiving, stages, turnaround
from bench.films import Films
from bench.tables import Table, as_json, show

KINDS = ("receiving", "turnaround", "burst", "forward", "stages", "objects")
ON_REQUEST = ("endurance",)
"""Takes long, so it runs only if `--only` names it."""


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option(
    "--only",
    multiple=True,
    type=click.Choice(KINDS + ON_REQUEST),
    help="Run only this; may be given more than once.",
)
@click.option(
    "--seconds", default=2.0, type=click.FloatRange(0.01), help="Approximate sending time for each receiver and round."
)
@click.option("--rounds", default=5, type=click.IntRange(1), help="Measurements of each receiver and each engine.")
@click.option(
    "--films", default=50, type=click.IntRange(1), help="Films whose turnaround is measured; a burst has twice as many."
)
@click.option("--bursts", default=3, type=click.IntRange(1), help="Bursts for each number of workers.")
@click.option("--knees", default=10_000, type=click.IntRange(10), help="Knees that endurance grades and explains.")
@click.option(
    "--json", "file", type=click.Path(dir_okay=False, path_type=Path), help="Also write the figures to this file."
)
@click.option(
    "--folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="The disk to measure on: a folder is created there and removed. Default: the temporary folder.",
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
    Measure Genu on this machine, beside DCMTK's storescp and Orthanc if they are installed.

    Keep the machine idle meanwhile. Burst also reports the peak memory of each process. Endurance runs only if --only
    names it, and reports whether a worker's memory grows over thousands of knees.
    """
    console = Console()
    with tempfile.TemporaryDirectory(prefix="genu-bench-", dir=folder) as path:
        workspace = Path(path)
        films_sent = Films(workspace)
        benchmarks: dict[str, Callable[[], list[Table]]] = {
            "receiving": lambda: [receiving.measure(workspace, seconds=seconds, rounds=rounds)],
            "turnaround": lambda: [turnaround.measure(workspace / "turnaround", films_sent, count=films)],
            "burst": lambda: burst.measure(workspace / "burst", films_sent, count=2 * films, rounds=bursts),
            "forward": lambda: [forward.measure(rounds=rounds)],
            "stages": lambda: [stages.measure(rounds=rounds)],
            "objects": lambda: [objects.measure(films_sent, rounds=rounds)],
            "endurance": lambda: [endurance.measure(knees=knees)],
        }
        tables = [machine.describe(workspace)]
        show(tables[0], console)
        for kind in only or KINDS:
            for table in benchmarks[kind]():
                tables.append(table)
                show(table, console)
                if file:
                    file.write_text(as_json(tables) + "\n")


if __name__ == "__main__":
    main(prog_name="python -m bench")
