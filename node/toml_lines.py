"""The line number of a setting in the text of a TOML file."""

import tomllib
from collections.abc import Iterator
from typing import Any


def line_of(text: str, keys: tuple[str | int, ...]) -> int | None:
    """
    The line, counted from 1, of `keys` (tables, numbers in arrays of tables, key) in a TOML text.

    If the key is missing, it is the line of the innermost table that exists; None if there is none. Never raises.
    """
    lines: dict[tuple[str | int, ...], int] = {}
    for path, number in _paths_with_lines(text):
        for length in range(1, len(path) + 1):
            lines.setdefault(path[:length], number)
    return next((lines[keys[:length]] for length in range(len(keys), 0, -1) if keys[:length] in lines), None)


def _paths_with_lines(text: str) -> Iterator[tuple[tuple[str | int, ...], int]]:
    """Every path of the text and its line. Each statement is parsed by the TOML parser itself."""
    lines, at = text.replace("\r\n", "\n").split("\n"), 0
    table: tuple[str | int, ...] = ()
    last: dict[tuple[str | int, ...], int] = {}  # number of the newest item of each array of tables
    while at < len(lines):
        size, content = _statement(lines[at:])
        if lines[at].lstrip().startswith("["):
            *above, own = next(_paths(content)) or ("",)
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
            yield from ((table + path, at + 1) for path in _paths(content))
        at += size


def _statement(lines: list[str], max_lines: int = 100) -> tuple[int, dict[str, Any]]:
    """The number of lines of the first statement, and its content; 1 and nothing if it is not TOML."""
    for size in range(1, min(len(lines), max_lines) + 1):
        try:
            return size, tomllib.loads("\n".join(lines[:size]))
        except (ValueError, RecursionError):
            continue
    return 1, {}


def _paths(content: Any, max_depth: int = 8) -> Iterator[tuple[str | int, ...]]:
    """The paths to the innermost values; no setting is nested deeper than `max_depth`."""
    items = list(
        content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    )
    if not items or not max_depth:
        yield ()
        return
    for key, value in items:
        yield from ((key, *path) for path in _paths(value, max_depth - 1))
