"""A progress bar on standard error, and measurements of steps in turn."""

import time
from collections.abc import Callable, Mapping

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

ERRORS = Console(stderr=True)


def bar() -> Progress:
    """A progress bar with the current measurement, its progress and the time elapsed."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=ERRORS)


WARM_UP_ROUNDS = 2
"""Rounds that are not counted."""


def in_turns(title: str, steps: Mapping[str, Callable[[], object]], *, rounds: int) -> dict[str, list[float]]:
    """Milliseconds of each step, `rounds` times; each round runs every step, so that all are disturbed equally."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    with bar() as progress:
        task = progress.add_task(title, total=(rounds + WARM_UP_ROUNDS) * len(steps))
        for number in range(rounds + WARM_UP_ROUNDS):
            for name, step in steps.items():
                started = time.perf_counter()
                step()
                if number >= WARM_UP_ROUNDS:
                    times[name].append((time.perf_counter() - started) * 1000)
                progress.advance(task)
    return times
