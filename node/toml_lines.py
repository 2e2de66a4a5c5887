"""Where a setting stands in the text of a TOML file."""

import tomllib
from collections.abc import Iterator
from typing import Any


def line_of(text: str, keys: tuple[str | int, ...]) -> int | None:
    """
    The line, counted from 1, where `keys` (tables, numbers in arrays of tables, key) stand in a TOML text.

    Where they do not stand, for one is missing, it is the line of the innermost table that does. Never raises.
    """
    lines: dict[tuple[str | int, ...], int] = {}
    for path, number in _places(text):
        for length in range(1, len(path) + 1):
            lines.setdefault(path[:length], number)
    return next((lines[keys[:length]] for length in range(len(keys), 0, -1) if keys[:length] in lines), None)


def _places(text: str) -> Iterator[tuple[tuple[str | int, ...], int]]:
    """Every path of the text and its line: statement after statement, each read by the TOML parser itself."""
    lines, at = text.replace("\r\n", "\n").split("\n"), 0
    table: tuple[str | int, ...] = ()
    last: dict[tuple[str | int, ...], int] = {}  # number of the newest item of each array of tables
    while at < len(lines):
        size, told = _statement(lines[at:])
        if lines[at].lstrip().startswith("["):
            *above, own = next(_paths(told)) or ("",)
            keys = [key for key in (*above, own) if not isinstance(key, int)]
            table = ()
            for key in keys[:-1]:
                table += (key,)
                table += (last[table],) if table in last else ()
            table += (keys[-1],)
            if isinstance(own, int):
                last[table] = last.get(table, -1) + 1
            table += (last[table],) if table in last else ()
            yield table, at + 1
        else:
            yield from ((table + path, at + 1) for path in _paths(told))
        at += size


def _statement(lines: list[str], longest: int = 100) -> tuple[int, dict[str, Any]]:
    """How many lines the first statement takes, and what it says; one and nothing if it is none."""
    for size in range(1, min(len(lines), longest) + 1):
        try:
            return size, tomllib.loads("\n".join(lines[:size]))
        except (ValueError, RecursionError):
            continue
    return 1, {}


def _paths(told: Any, deepest: int = 8) -> Iterator[tuple[str | int, ...]]:
    """The paths to the innermost values; no setting lies deeper than that."""
    inner = list(told.items() if isinstance(told, dict) else enumerate(told) if isinstance(told, list) else ())
    if not inner or not deepest:
        yield ()
        return
    for key, value in inner:
        yield from ((key, *path) for path in _paths(value, deepest - 1))
