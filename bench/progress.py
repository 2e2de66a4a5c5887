"""What is being measured just now, on standard error, and steps that are measured in turns."""

import time
from collections.abc import Callable, Mapping

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

ERRORS = Console(stderr=True)


def bar() -> Progress:
    """A bar that says what is measured, how far it is, and for how long it has been at it."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=ERRORS)


WARM_UP = 2
"""Turns that are not counted."""


def taking_turns(title: str, steps: Mapping[str, Callable[[], object]], *, rounds: int) -> dict[str, list[float]]:
    """Milliseconds of each step, `rounds` times: one after the other in each round, so that all meet the same noise."""
    found: dict[str, list[float]] = {name: [] for name in steps}
    with bar() as progress:
        task = progress.add_task(title, total=(rounds + WARM_UP) * len(steps))
        for turn in range(rounds + WARM_UP):
            for name, step in steps.items():
                begun = time.perf_counter()
                step()
                if turn >= WARM_UP:
                    found[name].append((time.perf_counter() - begun) * 1000)
                progress.advance(task)
    return found
