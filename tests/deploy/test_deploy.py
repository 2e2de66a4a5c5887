"""The containers: what they are made of, what they start, and that the demo's PACS and the broker do their part."""

import fnmatch
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import tomllib
from pathlib import Path
from typing import Any

import click
import pytest
import redis
import yaml
from pydicom import examples

from node.__main__ import genu
from node.admin.app import serve
from node.ledger import Ledger
from node.settings import load
from node.storage import Vault
from tests.paths import ROOT
from tests.peers.archives import HOST, free_port, needs, orthanc, program_path, storescp, wait_until

COMPOSE = ROOT / "docker-compose.yml"
GPU = ROOT / "deploy" / "gpu.yaml"
PARTS = ("receive", "deliver", "sweep", "admin", "work")
PASSWORDS = {"BROKER_PASSWORD": "letters0and1digits", "POSTGRES_PASSWORD": "other2", "DATABASE_URL": "postgresql://x"}
TORCH = {"torch", "torchvision", "onnx", "onnxscript"}


def compose() -> list[str]:
    """The command that runs Compose: the Docker client's plug-in or a program of its own. Skips without either."""
    docker = program_path("docker")
    if docker and subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode == 0:
        return [docker, "compose"]
    program = program_path("docker-compose")
    if program is None:
        pytest.skip("not installed: docker compose")
    return [program]


def config(*options: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    """What Compose makes of the files; it needs no engine for that."""
    environment = {key: value for key, value in os.environ.items() if key in ("PATH", "HOME")}
    files = options if "--file" in options else ("--file", str(COMPOSE), *options)
    return subprocess.run(
        [*compose(), *files, "config"],
        cwd=ROOT,
        env={**environment, **variables},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def services() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = yaml.safe_load(COMPOSE.read_text())["services"]
    return found


def dockerfile(name: str) -> str:
    return re.sub(r"\\\n\s*", "", (ROOT / "deploy" / f"{name}.Dockerfile").read_text())


@pytest.mark.parametrize("gpu", [False, True], ids=["cpu", "gpu"])
@pytest.mark.parametrize("profiles", [(), ("demo",), ("postgres",), ("demo", "postgres")], ids=str)
def test_compose_understands_every_combination(profiles: tuple[str, ...], gpu: bool) -> None:
    """With each profile, with and without the GPU, Compose has nothing to complain of, and the services are there."""
    files = ["--file", str(COMPOSE), *(["--file", str(GPU)] if gpu else [])]
    done = config(*files, *(word for profile in profiles for word in ("--profile", profile)), **PASSWORDS)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    merged = yaml.safe_load(done.stdout)["services"]
    wanted = {name for name, service in services().items() if set(service.get("profiles", ())) <= set(profiles)}
    assert wanted <= set(merged)
    for part in PARTS:
        assert merged[part]["environment"]["GENU__BROKER__URL"] == "redis://:letters0and1digits@valkey:6379/0"
    work = merged["work"]
    assert work["build"]["dockerfile"].endswith("deploy/worker.Dockerfile")
    if gpu:
        assert work["build"]["args"] == {"ENGINE": "worker"}
        assert work["environment"]["GENU__WORK__ENGINE"] == "torch"
        assert "gpu" in work["deploy"]["resources"]["reservations"]["devices"][0]["capabilities"]
        assert work["command"] == ["genu", "work"]


def test_compose_refuses_to_start_without_a_password() -> None:
    """There is no default password between the parts."""
    done = config()
    assert done.returncode != 0
    assert "BROKER_PASSWORD" in done.stderr


def test_every_command_of_the_containers_exists() -> None:
    """Each container starts a command of `genu` with options that it has; every part has one."""
    context = click.Context(genu)
    started = set()
    for name, service in services().items():
        if service.get("command", [""])[0] == "genu":
            command = genu.get_command(context, service["command"][1])
            assert command is not None, name
            command.make_context(service["command"][1], service["command"][2:], parent=context)
            started.add(service["command"][1])
    assert started >= set(PARTS)


def test_the_variables_of_the_containers_are_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With the container's variables every settings file of deploy/ loads: it listens on all addresses of its own."""
    monkeypatch.chdir(tmp_path)
    for name, value in services()["receive"]["environment"].items():
        if name != "GENU_SETTINGS":
            monkeypatch.setenv(name, re.sub(r"\$\{[^}]*\}", "", value))
    monkeypatch.setenv(
        "GENU__WORK__ENGINE", yaml.safe_load(GPU.read_text())["services"]["work"]["environment"].popitem()[1]
    )
    for file in ("settings.toml", "demo.toml"):
        found = load(ROOT / "deploy" / file)
        assert (found.receive.host, found.receive.port) == ("0.0.0.0", 11112)
        assert str(found.storage.folder) == "/var/lib/genu"
        assert found.database.url == ""
    assert found.destination[0].host in services()
    assert str(found.destination[0].port) in services()["modality"]["command"]


def test_the_containers_are_confined() -> None:
    """The parts run as nobody in particular, write to their volume and /tmp only, and can gain no rights."""
    for name in (*PARTS, "modality", "valkey"):
        service = services()[name]
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert "privileged" not in service
    for name in ("node", "worker"):
        assert re.search(r"^USER 10001:10001$", dockerfile(name), re.MULTILINE)
    assert services()["work"]["networks"] == ["inside"]
    assert yaml.safe_load(COMPOSE.read_text())["networks"]["inside"] == {"internal": True}


def test_every_image_is_pinned() -> None:
    """No `latest`: what was tried is what runs."""
    images = [service["image"] for service in services().values()]
    images += [yaml.safe_load(GPU.read_text())["services"]["work"]["image"]]
    images += [
        f"python:{tag}"
        for name in ("node", "worker")
        for tag in re.findall(r"^ARG PYTHON=(.*)$", dockerfile(name), re.MULTILINE)
    ]
    assert len(images) == len(services()) + 3
    for image in images:
        assert re.search(r":\d+\.\d+\.?\d*", image), image


def test_no_image_holds_a_secret() -> None:
    """Passwords come with the start, never with the build; only named files go to the engine."""
    for name in ("node", "worker"):
        assert not re.search(r"PASSWORD|SECRET|TOKEN|redis://", dockerfile(name))
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in lines
    assert not [line for line in lines if line.startswith("!") and re.search(r"env|git|data|\*", line)]


def installed(text: str) -> list[tuple[str, set[str]]]:
    """The constraint file and the extras of every pip install of the project."""
    found = re.findall(r"pip\b.*? install --constraint (\S+) (?:--editable )?['\"]\.\[([^\]]+)\]['\"]", text)
    return [(constraint, set(extras.split(","))) for constraint, extras in found]


def test_the_images_install_what_the_makefile_installs() -> None:
    """The same command with the same pins: `make run`'s extras for the worker, those of the doors for the node."""
    makefile = (ROOT / "Makefile").read_text().replace("$(PIP)", "pip")
    run, test = installed(makefile)
    assert installed(dockerfile("node")) == [(run[0], {"node"})]
    ((constraint, extras),) = installed(dockerfile("worker"))
    assert constraint == run[0] == test[0]
    engine = re.findall(r"^ARG ENGINE=(.*)$", dockerfile("worker"), re.MULTILINE)
    assert {each.replace("${ENGINE}", engine[0]) for each in extras} == run[1]
    gpu = yaml.safe_load(GPU.read_text())["services"]["work"]["build"]["args"]["ENGINE"]
    assert {each.replace("${ENGINE}", gpu) for each in extras} == test[1] - {"dev"}


def packages(*extras: str) -> set[str]:
    """What those extras ask for, an extra that names another followed."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = list(project["dependencies"])
    for extra in extras:
        asked += project["optional-dependencies"][extra]
    names = {re.split(r"[\[<>=;! ]", each)[0] for each in asked}
    inner = [inside for each in asked for inside in re.findall(r"^genu\[([^\]]+)\]", each)]
    return names | (packages(*inner) if inner else set())


def test_only_the_gpu_image_has_torch() -> None:
    """The node's image has neither torch nor an engine; the CPU worker's has an engine without torch."""
    assert not packages("node") & (TORCH | {"openvino", "opencv-python-headless"})
    assert not packages("node", "worker-cpu") & TORCH
    assert packages("node", "worker") >= {"torch", "openvino"}
    assert "torch" not in dockerfile("node").split("FROM", 1)[1]


def test_what_the_images_copy_is_there_and_not_ignored() -> None:
    """A build finds every file that it copies, and an installed Genu has every file that a checkout has."""
    allowed = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    for name in ("node", "worker"):
        for line in re.findall(r"^COPY (?!--from)(.*)$", dockerfile(name), re.MULTILINE):
            for source in [word for word in line.split() if not word.startswith("--")][:-1]:
                assert source in allowed, source
                assert (ROOT / source).exists(), source
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["*"]
    tracked = subprocess.run(
        ["git", "ls-files", "node", "workers"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    for file in map(Path, tracked.stdout.split()):
        assert file.suffix == ".py" or any(fnmatch.fnmatch(file.name, each) for each in patterns), file


@needs("redis-server")
def test_the_broker_wants_its_password_and_keeps_what_is_queued(tmp_path: Path) -> None:
    """Started by the very lines of the file: a password, an append-only file, and no eviction of what waits."""
    port, folder = free_port(), tmp_path / "programs"
    folder.mkdir()
    (folder / "valkey-server").symlink_to(shutil.which("redis-server") or "")
    shell, flag, script = services()["valkey"]["command"]
    script = script.replace("$$", "$").replace("dir /data", f"dir {tmp_path}\nport {port}\nbind {HOST}")
    environment = {"PATH": f"{folder}:{os.environ['PATH']}", "REDISCLI_AUTH": PASSWORDS["BROKER_PASSWORD"]}
    server = subprocess.Popen([shell, flag, script], env=environment, stdout=subprocess.DEVNULL)
    try:
        client = redis.Redis(HOST, port, password=PASSWORDS["BROKER_PASSWORD"], socket_timeout=5)
        assert wait_until(lambda: _answers(client))
        with pytest.raises(redis.AuthenticationError):
            redis.Redis(HOST, port).ping()
        kept = {name: client.config_get(name)[name] for name in ("appendonly", "maxmemory-policy")}
        assert kept == {"appendonly": "yes", "maxmemory-policy": "noeviction"}
        assert PASSWORDS["BROKER_PASSWORD"] not in Path(f"/proc/{server.pid}/cmdline").read_text()
    finally:
        server.terminate()
        server.wait(10)


def _answers(client: "redis.Redis") -> bool:
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False


@needs("Orthanc", "storescp", "storescu")
def test_the_demo_pacs_routes_knees_and_nothing_else(tmp_path: Path) -> None:
    """A chest stays where it is, Genu's own result is not sent back to it, and a knee arrives as it was."""
    settings = json.loads((ROOT / "deploy" / "orthanc.json").read_text())
    assert settings["DicomModalities"]["genu"] == ["GENU", "receive", 11112]
    script = settings["LuaScripts"][0]
    assert f"./deploy/{Path(script).name}:{script}:ro" in services()["pacs"]["volumes"]
    with (
        storescp(tmp_path / "genu", ae_title="GENU") as node,
        orthanc(
            tmp_path / "pacs",
            modalities={"genu": ("GENU", HOST, node.port)},
            configuration={"LuaScripts": [str(ROOT / "deploy" / Path(script).name)]},
        ) as pacs,
    ):
        film = examples.ct
        film.SOPClassUID = film.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1.1"
        cases = (
            ("1.2.1", "DX", "CHEST", "MODALITY"),
            ("1.2.2", "CT", "KNEE", "MODALITY"),
            ("1.2.3", "DX", "KNEE", "GENU"),
        )
        for uid, modality, part, sender in (
            *cases,
            ("1.2.4", "CR", "KNEE R", "MODALITY"),
            ("1.2.5", "DX", "", "MODALITY"),
        ):
            film.SOPInstanceUID = film.file_meta.MediaStorageSOPInstanceUID = uid
            film.Modality, film.BodyPartExamined = modality, part
            film.save_as(tmp_path / f"{uid}.dcm")
            program = program_path("storescu") or ""
            sent = [program, "-aet", sender, "-aec", "ORTHANC", HOST, str(pacs.port), str(tmp_path / f"{uid}.dcm")]
            subprocess.run(sent, check=True, timeout=30, capture_output=True)
        assert pacs.wait_for(5)
        assert node.wait_for(2)
        assert set(node.received()) == {"1.2.4", "1.2.5"}


def healthy(part: str, admin_port: int, **variables: str) -> "subprocess.CompletedProcess[str]":
    """The health check as a container runs it."""
    return subprocess.run(
        [sys.executable, str(ROOT / "deploy" / "healthy.py"), part],
        env={"GENU_ADMIN_URL": f"http://{HOST}:{admin_port}", "GENU__ADMIN__PORT": str(admin_port), **variables},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_a_container_is_healthy_while_its_part_beats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check tells a part that beats from one that does not, and says which in a line; Compose calls it so."""
    port, stop = free_port(), threading.Event()
    monkeypatch.setenv("GENU__ADMIN__PORT", str(port))
    monkeypatch.setenv("GENU__STORAGE__FOLDER", str(tmp_path))
    settings, ledger = load(), Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    ledger.upgrade()
    page = threading.Thread(target=serve, args=(settings, Vault(tmp_path), ledger, lambda: True, stop))
    page.start()
    try:
        assert wait_until(lambda: healthy("admin", port).returncode == 0)
        assert healthy("deliver", port).returncode == 1
        assert healthy("deliver", port).stderr == "its heartbeats are missing\n"
        ledger.record_heartbeat("deliver", "pacs", {"state": "up"})
        assert wait_until(lambda: healthy("deliver", port).returncode == 0)
        assert healthy("receive", port, GENU__RECEIVE__PORT=str(port)).returncode == 0
    finally:
        stop.set()
        page.join(20)
        ledger.close()
    gone = healthy("work", port)
    assert gone.returncode == 1
    assert "Traceback" not in gone.stderr
    assert [services()[part]["healthcheck"]["test"] for part in PARTS] == [["CMD", "healthy", part] for part in PARTS]
