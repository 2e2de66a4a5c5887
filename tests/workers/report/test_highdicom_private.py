"""
The private names of highdicom that Genu uses: its tables of IODs and modules have no public interface.

While a product module uses one, pyproject.toml pins highdicom to the exact version for which these tests pass.
"""

import ast
import importlib
import tomllib
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest
from pydicom.uid import ComprehensiveSRStorage

from tests.paths import ROOT

USED = {
    "highdicom._standard_utils": ("get_iod_module_map", "get_module_attribute_map", "get_sop_class_iod_map"),
}
"""Private modules, each with the names that workers/report/validation.py uses."""
CACHED = ("get_iod_module_map", "get_module_attribute_map")
"""Functions of which validation releases the cached tables."""
NAMES = [(module, name) for module, names in USED.items() for name in names]


def private_imports(path: Path) -> Iterator[str]:
    """Private modules of highdicom that a file imports, and private attributes of `hd` that it reads."""
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Import(names=names):
                modules = [name.name for name in names]
            case ast.ImportFrom(module=str(module), names=names):
                modules = [f"{module}.{name.name}" for name in names]
            case ast.Attribute(value=ast.Name(id="hd" | "highdicom"), attr=attribute):
                modules = [f"highdicom.{attribute}"]
            case _:
                continue
        yield from (name for name in modules if name.startswith("highdicom.") and "._" in name)


@pytest.mark.parametrize(("module", "name"), NAMES)
def test_every_private_name_is_there(module: str, name: str) -> None:
    """A name that moved is reported by name, before a worker fails at its first result."""
    try:
        found = getattr(importlib.import_module(module), name, None)
    except ImportError:
        found = None
    message = f"highdicom {version('highdicom')} has no {module}.{name}: adapt workers/report/validation.py"
    assert callable(found), message
    assert name not in CACHED or hasattr(found, "cache_clear"), f"{module}.{name} no longer caches its table"


def test_the_tables_have_the_structure_that_validation_reads() -> None:
    """IOD by SOP class, modules by IOD, attributes by module, with the keys that are used."""
    tables = importlib.import_module("highdicom._standard_utils")
    iod = tables.get_sop_class_iod_map()[str(ComprehensiveSRStorage)]
    modules = tables.get_iod_module_map()[iod]
    assert all({"key", "usage"} <= module.keys() for module in modules)
    attributes = [attribute for module in modules for attribute in tables.get_module_attribute_map()[module["key"]]]
    assert all({"keyword", "path", "type"} <= attribute.keys() for attribute in attributes)
    assert {attribute["type"] for attribute in attributes} <= {"1", "1C", "2", "2C", "3"}
    for name in CACHED:
        getattr(tables, name).cache_clear()


def test_no_other_private_name_is_used() -> None:
    """Every private module that the product imports is in the list above."""
    files = [path for folder in ("node", "workers") for path in (ROOT / folder).rglob("*.py")]
    assert {name for path in files for name in private_imports(path)} == set(USED)


def test_highdicom_is_pinned_exactly() -> None:
    """In pyproject.toml, to the version that is installed here and that constraints.txt has."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    pin = f"highdicom=={version('highdicom')}"
    assert pin in extras["worker-cpu"], f"{pin} is to be in pyproject.toml while private names are used"
    assert pin in (ROOT / "constraints.txt").read_text().split()
