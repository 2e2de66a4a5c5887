"""The rules of the code: which module may import which, how large a file may be, and what must not be in it."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.paths import ROOT
from tests.private_words import private_names

PLAIN_DATA = {
    "node.errors",
    "node.reasons",
    "node.radiograph",
    "node.finding",
    "node.evidence",
    "node.toml_lines",
    "node.settings",
    "node.destination",
    "node.single_frames",
    "node.uids",
}
STATE = {"node.ledger", "node.storage", "node.broker"}
CLIENTS = {"node.scu", "node.ris"}
PROCESSES = {"node.receive", "node.deliver", "node.sweep", "node.admin"}
WIRING = {"node.__main__", "node.cli", "node.supervisor", "node.demo", "node.logs"}

MAY_IMPORT: dict[str, set[str]] = {
    **dict.fromkeys(PLAIN_DATA, PLAIN_DATA),
    **dict.fromkeys(STATE, PLAIN_DATA | STATE),
    "node.scu": PLAIN_DATA,
    "node.ris": PLAIN_DATA | {"node.scu"},
    **dict.fromkeys(PROCESSES, PLAIN_DATA | STATE | CLIENTS),
    **{part: {"node"} for part in WIRING},
    "node.migrations": {"node.ledger"},
    "workers.worker": PLAIN_DATA | STATE | {"workers", "node.logs"},
    "workers": PLAIN_DATA | STATE | {"workers"},
}
WORKER_LAYERS = (
    "preprocessing",
    "models",
    "read",
    "detection",
    "laterality",
    "knee",
    "eligibility",
    "grading",
    "explanation",
    "report",
    "messages",
    "analysis",
    "outbox",
    "tasks",
    "worker",
    "phantom",
    "evaluation",
    "training",
    "cli",
)
"""The order inside workers, lowest first: a module imports from its own layer and from those before it."""

VERSION = {"node.__version__"}
TORCH_ALLOWED_IN = {"workers.models.engines", "workers.models.networks", "workers.training"}
FORBIDDEN_NAMES = {"util", "utils", "common", "helper", "helpers", "base", "misc", "manager"}

LINES_A_FILE = 300
LINES_A_FUNCTION = 40


def modules() -> Iterator[tuple[str, Path]]:
    for path in sorted([*ROOT.glob("node/**/*.py"), *ROOT.glob("workers/**/*.py")]):
        if "versions" in path.parts:  # Alembic's revisions are named by number
            continue
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        yield name.removesuffix(".__init__"), path


MODULES = list(modules())
IDS = [name for name, _ in MODULES]


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: write imports in full"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def within(name: str, allowed: set[str]) -> bool:
    return any(name == each or name.startswith(each + ".") for each in allowed)


@pytest.mark.parametrize(("module", "path"), MODULES, ids=IDS)
def test_a_module_imports_only_what_its_layer_may(module: str, path: Path) -> None:
    """Plain data imports plain data, state imports plain data, no process imports another, the node no worker."""
    layer = next((name for name in MAY_IMPORT if within(module, {name})), None)
    assert layer or module == "node", f"{module} is in no layer: add it to MAY_IMPORT"
    for name in imports(path):
        if name.split(".")[0] in {"node", "workers"} and not within(name, VERSION):
            allowed = MAY_IMPORT.get(layer or "", set()) | {layer or module}
            assert within(name, allowed), f"{module} may not import {name}"
        if name.split(".")[0] in {"torch", "torchvision"}:
            assert within(module, TORCH_ALLOWED_IN), f"{module} may not import {name}"


WORKER_MODULES = [(module, path) for module, path in MODULES if module.startswith("workers.")]


@pytest.mark.parametrize(("module", "path"), WORKER_MODULES, ids=[module for module, _ in WORKER_MODULES])
def test_a_worker_module_imports_only_from_its_layer_and_below(module: str, path: Path) -> None:
    """So serving code never imports training, and no step of the path knows a later one."""
    layer = WORKER_LAYERS.index(module.split(".")[1])
    for name in imports(path):
        if name.startswith("workers."):
            assert WORKER_LAYERS.index(name.split(".")[1]) <= layer, f"{module} may not import {name}"


def test_there_is_no_import_cycle() -> None:
    """Type-only imports and imports inside functions count too."""
    known = {module for module, _ in MODULES}
    edges = {
        module: {target for name in imports(path) if (target := _module_of(name, known)) and target != module}
        for module, path in MODULES
    }
    state: dict[str, int] = {}

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert state.get(module) != 1, f"import cycle: {' -> '.join((*path[path.index(module) :], module))}"
        if module in state:
            return
        state[module] = 1
        for target in sorted(edges.get(module, ())):
            visit(target, (*path, module))
        state[module] = 2

    for module in sorted(edges):
        visit(module, ())


def _module_of(name: str, known: set[str]) -> str | None:
    """The module that an imported name belongs to."""
    return next((found for found in (name, name.rpartition(".")[0]) if found in known), None)


@pytest.mark.parametrize(("module", "path"), MODULES, ids=IDS)
def test_names_are_terms_of_the_field(module: str, path: Path) -> None:
    """Neither the file nor what it defines is called by a word of the old private language."""
    assert not list(private_names(path)), module


@pytest.mark.parametrize(("module", "path"), MODULES, ids=IDS)
def test_a_file_is_small_and_named_for_what_it_holds(module: str, path: Path) -> None:
    """Files and functions fit a screen or a few, and no module has a name that could hold anything."""
    assert module.split(".")[-1] not in FORBIDDEN_NAMES
    text = path.read_text()
    assert len(text.splitlines()) <= LINES_A_FILE, "split the file"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            assert length <= LINES_A_FUNCTION, f"{node.name} has {length} lines"


def test_the_node_runs_without_torch_and_without_the_workers() -> None:
    """Where neither torch nor any worker's package is installed, every part of the node still imports."""
    absent = ("torch", "torchvision", "workers", "openvino", "cv2", "highdicom", "onnx")
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({absent}))\n"
        "import node.__main__, node.receive, node.deliver, node.sweep, node.admin.app, node.demo, node.supervisor"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_serving_a_model_needs_no_torch() -> None:
    """The worker's whole journey, judging and calibrating import where torch is not installed."""
    code = (
        "import sys; sys.modules.update(dict.fromkeys(('torch', 'torchvision', 'onnx', 'onnxscript')))\n"
        "import workers.tasks, workers.worker, workers.cli.file_grading, workers.cli.analysis, workers.cli.training\n"
        "import workers.evaluation.evaluate, workers.evaluation.stress\n"
        "import workers.evaluation.site_calibration, workers.evaluation.page"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listed.stdout.decode().split("\0") if name and (ROOT / name).is_file()]


HOSTS = ("pypi" + ".org", "python" + "hosted", "registry." + "npmjs", "deb." + "debian")


def test_no_file_names_a_registry_or_a_machine() -> None:
    """Lock files, code and documents hold no registry's host name and no path of somebody's machine."""
    home = re.compile(rb"(?<![\w./])/(home|root|Users)/\w")
    for path in tracked():
        content = path.read_bytes()
        if path.suffix in {".otf", ".ttf", ".png", ".jpg"} or path == Path(__file__):
            continue
        for host in HOSTS:
            assert host.encode() not in content, f"{path} names {host}"
        assert not home.search(content), f"{path} holds a path of one machine"


def test_weights_are_few_and_small() -> None:
    """All weights in the repository together stay under 60 MB."""
    sizes = [path.stat().st_size for path in (ROOT / "workers" / "models" / "weights").iterdir()]
    assert sum(sizes) <= 60e6
