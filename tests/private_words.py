"""
Names that are no term of the field: `python -m tests.private_words [PATH ...]` lists them, and a test refuses them.

A reader who knows DICOM, PyTorch, Celery and web frameworks has to know from its name what a file, a class or a
function is. These words were once a language of our own; docs/architecture.md has the table of old and new names.
"""

import ast
import re
import sys
from collections.abc import Iterator
from enum import Enum
from pathlib import Path

from tests.paths import ROOT

IN_NAMES = """
    eyes look looks looked looker desk newcomer parcel parcels said told tells tell says ringer bell keeper
    standing hint hints carried stand stands grounds quiet served plants planted planting steady steadily teller
    hang hangs hung hear heard each witness witnesses gate door house ward
"""
"""No part of the name of a module, class, function, parameter or field is one of these words."""

WHOLE = "ways way made places parts upright keep keeps kept see say ask asks seen marks mark"
"""No module, class or function is called just this."""

IN_LOCALS = "told said says each"
"""No part of the name of a local variable is one of these words."""

EXCUSED = frozenset(
    {
        "hint",  # of GenuError: what to do about it, as in click.UsageError
        "tell",  # of io.IOBase
    }
)


def words_of(name: str) -> list[str]:
    """The words of a name in snake_case or CamelCase, in lower case."""
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", name)]


class Kind(Enum):
    """What a name is of."""

    DEFINITION = "module, class or function"
    FIELD = "parameter or field"
    LOCAL = "local variable"


def is_private(name: str, kind: Kind) -> bool:
    """Whether a name is none that a reader of this field would know."""
    if name in EXCUSED:
        return False
    words = set(words_of(name))
    if kind is Kind.LOCAL:
        return bool(words & {*IN_LOCALS.split()})
    whole = kind is Kind.DEFINITION and name.strip("_").lower() in WHOLE.split()
    return whole or bool(words & {*IN_NAMES.split()})


def definitions(path: Path) -> Iterator[tuple[int, str, Kind]]:
    """Line, name and kind of each definition in a file."""
    yield 1, path.stem, Kind.DEFINITION
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                yield node.lineno, node.name, Kind.DEFINITION
            case ast.arg():
                yield node.lineno, node.arg, Kind.FIELD
            case ast.AnnAssign(target=ast.Name() as target):
                yield target.lineno, target.id, Kind.FIELD
            case ast.Attribute(ctx=ast.Store()):
                yield node.lineno, node.attr, Kind.FIELD
            case ast.Name(ctx=ast.Store()):
                yield node.lineno, node.id, Kind.FIELD if node.id.isupper() else Kind.LOCAL


def private_names(path: Path) -> Iterator[tuple[int, str]]:
    """Line and name of each definition in a file whose name is none of the field."""
    found = {(line, name) for line, name, kind in definitions(path) if is_private(name, kind)}
    yield from sorted(found)


def files(paths: list[str]) -> list[Path]:
    """The Python files of the paths; by default those of node, workers and bench."""
    roots = [Path(path) for path in paths] or [ROOT / name for name in ("node", "workers", "bench")]
    found = [file for root in roots for file in ([root] if root.is_file() else sorted(root.rglob("*.py")))]
    return [file for file in found if "versions" not in file.parts]


def main() -> None:
    """Print each private name; ends with 1 where there is one."""
    count = 0
    for path in files(sys.argv[1:]):
        for line, name in private_names(path):
            print(f"{path}:{line}: {name}")
            count += 1
    raise SystemExit(1 if count else 0)


if __name__ == "__main__":
    main()
