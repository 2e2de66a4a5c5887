"""The rules of the house: who may import whom, how large a room may grow, and what must not be in it."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

WORDS = {
    "node.errors",
    "node.reasons",
    "node.radiograph",
    "node.finding",
    "node.grounds",
    "node.places",
    "node.settings",
    "node.destination",
    "node.single_frames",
    "node.uids",
}
MEMORY = {"node.ledger", "node.vault", "node.broker"}
CLIENT = {"node.scu", "node.ris"}
DOORS = {"node.receive", "node.deliver", "node.sweep", "node.admin"}
WIRING = {"node.__main__", "node.commands", "node.supervisor", "node.demo", "node.logs"}

MAY_IMPORT: dict[str, set[str]] = {
    **dict.fromkeys(WORDS, WORDS),
    **dict.fromkeys(MEMORY, WORDS | MEMORY),
    "node.scu": WORDS,
    "node.ris": WORDS | {"node.scu"},
    **dict.fromkeys(DOORS, WORDS | MEMORY | CLIENT),
    **{part: {"node"} for part in WIRING},
    "node.migrations": {"node.ledger"},
    "workers.worker": WORDS | MEMORY | {"workers", "node.logs"},
    "workers": WORDS | MEMORY | {"workers"},
}
VERSION = {"node.__version__"}
TORCH_LIVES_IN = {"workers.engines", "workers.networks", "workers.training"}
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
def test_a_module_imports_only_what_its_floor_may(module: str, path: Path) -> None:
    """Words know words, memory knows words, doors know memory but no other door, the node knows no worker."""
    floor = next((each for each in MAY_IMPORT if within(module, {each})), None)
    assert floor or module == "node", f"{module} stands on no floor: add it to MAY_IMPORT"
    for name in imports(path):
        if name.split(".")[0] in {"node", "workers"} and not within(name, VERSION):
            allowed = MAY_IMPORT.get(floor or "", set()) | {floor or module}
            assert within(name, allowed), f"{module} may not import {name}"
        if name.split(".")[0] in {"torch", "torchvision"}:
            assert within(module, TORCH_LIVES_IN), f"{module} may not import {name}"


@pytest.mark.parametrize(("module", "path"), MODULES, ids=IDS)
def test_a_room_is_small_and_named_for_what_it_is(module: str, path: Path) -> None:
    """Files and functions fit a screen or a few, and no module has a name that could hold anything."""
    assert module.split(".")[-1] not in FORBIDDEN_NAMES
    text = path.read_text()
    assert len(text.splitlines()) <= LINES_A_FILE, "split the room"
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
        "import workers.tasks, workers.worker, workers.desk, workers.commands, workers.training.commands\n"
        "import workers.training.evaluate, workers.training.stress, workers.training.site, workers.training.page"
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
    sizes = [path.stat().st_size for path in (ROOT / "workers" / "weights").iterdir()]
    assert sum(sizes) <= 60e6
