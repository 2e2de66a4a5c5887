"""Results of the benchmarks, as tables and as JSON."""

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

import numpy as np
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text


@dataclass(frozen=True)
class Spread:
    """Number of measurements, least, median and most."""

    n: int
    least: float
    median: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        return cls(len(values), min(values), statistics.median(values), max(values))

    def __str__(self) -> str:
        return f"{short(self.median)} ({short(self.least)}–{short(self.most)})"


Cell = str | int | float | Spread
Row = Mapping[str, Cell]


@dataclass(frozen=True)
class Table:
    """The results of one benchmark: every row has the same columns."""

    name: str
    title: str
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = field(default=())


def short(value: float) -> str:
    """Three significant digits: 1234, 123, 12.3, 1.23."""
    size = abs(value)
    return f"{value:.0f}" if size >= 100 else f"{value:.1f}" if size >= 10 else f"{value:.2f}"


def percentiles(values: Sequence[float], *wanted: int) -> dict[str, float]:
    """The percentiles by their usual names: p50, p95."""
    return {f"p{percent}": float(np.percentile(values, percent)) for percent in wanted}


def show(table: Table, console: Console) -> None:
    """Print the table, and its notes below."""
    console.print(Text(table.title, style="bold"))
    grid = RichTable()
    for name, cell in (table.rows[0] if table.rows else {}).items():
        grid.add_column(name, justify="left" if isinstance(cell, str) else "right", no_wrap=isinstance(cell, Spread))
    for row in table.rows:
        grid.add_row(*(short(cell) if isinstance(cell, float) else str(cell) for cell in row.values()))
    if table.rows:
        console.print(grid)
    for note in table.notes:
        console.print(Text(note))
    console.print()


def as_json(tables: Sequence[Table]) -> str:
    """The tables by name; a spread is an object of n, least, median and most."""
    return json.dumps({table.name: asdict(table) for table in tables}, indent=1)
