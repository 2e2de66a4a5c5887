"""Names that pynetdicom does not document but node/ uses: each is there, and none is used that is not listed here."""

import ast
import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType

import pynetdicom
import pytest

import node.receive
import node.scu
from tests.paths import ROOT

PRIVATE_NAMES: dict[str, tuple[str, ...]] = {
    "pynetdicom._config": (
        "LOG_HANDLER_LEVEL",
        "LOG_REQUEST_IDENTIFIERS",
        "LOG_RESPONSE_IDENTIFIERS",
        "STORE_SEND_CHUNKED_DATASET",
    ),
    "pynetdicom._globals": ("MODE_ACCEPTOR",),
    "pynetdicom.acse.ACSE": ("_negotiate_as_acceptor",),
    "pynetdicom.ae.ApplicationEntity": ("_create_socket",),
    "pynetdicom.association.Association": ("_is_paused", "_sent_abort", "_serve_request"),
    "pynetdicom.dul.DULServiceProvider": (
        "_decode_pdu",
        "_idle_timer",
        "_is_transport_event",
        "_read_pdu_data",
        "_recv_pdu",
        "_run_loop_delay",
    ),
    "pynetdicom.timer.Timer": ("_end_time", "_start_time"),
    "pynetdicom.transport.AssociationSocket": ("_is_connected", "_ready", "_shutdown_socket"),
}
"""Modules and classes of pynetdicom, and their names that node/ reads, sets, calls or overrides."""

LISTED = {f"{owner}.{name}" for owner, names in PRIVATE_NAMES.items() for name in names}


@pytest.mark.parametrize("path", sorted(LISTED))
def test_the_private_name_is_there(path: str) -> None:
    """A release of pynetdicom that moves one is found here, before an association fails."""
    owner_path, _, name = path.rpartition(".")
    owner = resolve(owner_path)
    version = pynetdicom.__version__
    assert owner is not None, f"pynetdicom {version} has no {owner_path}; node/ uses its {name}"
    found = vars(owner) if isinstance(owner, ModuleType) else attributes(owner)
    assert name in found, f"pynetdicom {version} has no {path}; node/ uses it"


def test_no_other_private_name_is_used() -> None:
    """The list is complete and has nothing that is not used any more."""
    used = {*imported(), *inherited()}
    assert used - LISTED == set(), "list it in PRIVATE_NAMES"
    accessed = {name for path in sources() for name in accessed_on_others(path)}
    assert accessed <= {path.rpartition(".")[2] for path in LISTED}, "list it in PRIVATE_NAMES"
    assert {path for path in LISTED - used if path.rpartition(".")[2] not in accessed} == set(), "not used any more"


def resolve(path: str) -> ModuleType | type | None:
    try:
        return importlib.import_module(path)
    except ImportError:
        module, _, name = path.rpartition(".")
        try:
            return getattr(importlib.import_module(module), name, None)
        except ImportError:
            return None


@cache
def attributes(owner: type) -> frozenset[str]:
    """The names that a class defines itself: in its body, and on `self` in its methods."""
    found = set(vars(owner))
    for element in ast.walk(ast.parse(inspect.getsource(inspect.getmodule(owner)))):  # type: ignore[arg-type]
        if isinstance(element, ast.ClassDef) and element.name == owner.__name__:
            found |= {
                target.attr
                for target in ast.walk(element)
                if isinstance(target, ast.Attribute) and isinstance(target.ctx, ast.Store) and is_self(target.value)
            }
    return frozenset(found)


def sources() -> list[Path]:
    return [path for path in sorted((ROOT / "node").rglob("*.py")) if "pynetdicom" in path.read_text()]


def imported() -> Iterator[str]:
    """Names of pynetdicom's private modules."""
    for path in sources():
        tree, modules = ast.parse(path.read_text()), set()
        for element in ast.walk(tree):
            if isinstance(element, ast.ImportFrom) and element.module == "pynetdicom":
                modules |= {alias.name for alias in element.names if is_private(alias.name)}
            elif isinstance(element, ast.ImportFrom) and (element.module or "").startswith("pynetdicom._"):
                yield from (f"{element.module}.{alias.name}" for alias in element.names)
        for element in ast.walk(tree):
            match element:
                case ast.Attribute(value=ast.Name(id=module)) if module in modules:
                    yield f"pynetdicom.{module}.{element.attr}"


def inherited() -> Iterator[str]:
    """Private names of pynetdicom's classes that their subclasses in node/ use on themselves or override."""
    for package in (node.receive, node.scu):
        for info in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            for cls in vars(importlib.import_module(info.name)).values():
                if inspect.isclass(cls) and cls.__module__ == info.name:
                    yield from inherited_by(cls)


def inherited_by(cls: type) -> Iterator[str]:
    used = {name for name in vars(cls) if is_private(name)} | {
        element.attr
        for element in ast.walk(ast.parse(inspect.getsource(cls)))
        if isinstance(element, ast.Attribute) and is_self(element.value) and is_private(element.attr)
    }
    for base in cls.__mro__[1:]:
        if base.__module__.startswith("pynetdicom."):
            yield from (f"{base.__module__}.{base.__name__}.{name}" for name in used & attributes(base))


def accessed_on_others(path: Path) -> Iterator[str]:
    """Private attributes of objects other than `self`."""
    for element in ast.walk(ast.parse(path.read_text())):
        if isinstance(element, ast.Attribute) and is_private(element.attr) and not is_self(element.value):
            yield element.attr


def is_self(value: ast.expr) -> bool:
    return isinstance(value, ast.Name) and value.id == "self"


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__")
