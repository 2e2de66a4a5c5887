"""The containers: images, commands and confinement, and the configuration of the demo PACS and the broker."""

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
PROCESSES = ("receive", "deliver", "sweep", "admin", "work")
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
    """The merged configuration that Compose prints; it needs no engine for that."""
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
def test_compose_accepts_every_combination(profiles: tuple[str, ...], gpu: bool) -> None:
    """With each profile, with and without the GPU, Compose reports no error, and the services are there."""
    files = ["--file", str(COMPOSE), *(["--file", str(GPU)] if gpu else [])]
    done = config(*files, *(word for profile in profiles for word in ("--profile", profile)), **PASSWORDS)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    merged = yaml.safe_load(done.stdout)["services"]
    wanted = {name for name, service in services().items() if set(service.get("profiles", ())) <= set(profiles)}
    assert wanted <= set(merged)
    for name in PROCESSES:
        assert merged[name]["environment"]["GENU__BROKER__URL"] == "redis://:letters0and1digits@valkey:6379/0"
    work = merged["work"]
    assert work["build"]["dockerfile"].endswith("deploy/worker.Dockerfile")
    if gpu:
        assert work["build"]["args"] == {"ENGINE": "worker"}
        assert work["environment"]["GENU__WORK__ENGINE"] == "torch"
        assert "gpu" in work["deploy"]["resources"]["reservations"]["devices"][0]["capabilities"]
        assert work["command"] == ["genu", "work"]


def test_compose_refuses_to_start_without_a_password() -> None:
    """The broker has no default password."""
    done = config()
    assert done.returncode != 0
    assert "BROKER_PASSWORD" in done.stderr


def test_every_command_of_the_containers_exists() -> None:
    """Each container starts an existing command of `genu` with valid options; every process has a container."""
    context = click.Context(genu)
    started = set()
    for name, service in services().items():
        if service.get("command", [""])[0] == "genu":
            command = genu.get_command(context, service["command"][1])
            assert command is not None, name
            command.make_context(service["command"][1], service["command"][2:], parent=context)
            started.add(service["command"][1])
    assert started >= set(PROCESSES)


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
    """The processes run as an unprivileged user, write to their volume and /tmp only, and can gain no rights."""
    for name in (*PROCESSES, "modality", "valkey"):
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
    """Every image has a version; none is `latest`."""
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
    """Passwords are given at the start, never at the build; only named files are sent to the engine."""
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
    """The same command with the same pins: the extras of `make run` for the worker, the extra `node` for the node."""
    makefile = (ROOT / "Makefile").read_text().replace("$(PIP)", "pip")
    run, test = installed(makefile)
    assert installed(dockerfile("node")) == [(run[0], {"node"})]
    ((constraint, extras),) = installed(dockerfile("worker"))
    assert constraint == run[0] == test[0]
    engine = re.findall(r"^ARG ENGINE=(.*)$", dockerfile("worker"), re.MULTILINE)
    assert {extra.replace("${ENGINE}", engine[0]) for extra in extras} == run[1]
    gpu = yaml.safe_load(GPU.read_text())["services"]["work"]["build"]["args"]["ENGINE"]
    assert {extra.replace("${ENGINE}", gpu) for extra in extras} == test[1] - {"dev"}


def packages(*extras: str) -> set[str]:
    """The packages of those extras, including those of extras that they name."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    requirements = list(project["dependencies"])
    for extra in extras:
        requirements += project["optional-dependencies"][extra]
    names = {re.split(r"[\[<>=;! ]", requirement)[0] for requirement in requirements}
    inner = [extra for requirement in requirements for extra in re.findall(r"^genu\[([^\]]+)\]", requirement)]
    return names | (packages(*inner) if inner else set())


def test_only_the_gpu_image_has_torch() -> None:
    """The node's image has neither torch nor an engine; the CPU worker's has an engine without torch."""
    assert not packages("node") & (TORCH | {"openvino", "opencv-python-headless"})
    assert not packages("node", "worker-cpu") & TORCH
    assert packages("node", "worker") >= {"torch", "openvino"}
    assert "torch" not in dockerfile("node").split("FROM", 1)[1]


def test_the_files_that_the_images_copy_exist_and_are_not_ignored() -> None:
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
        assert file.suffix == ".py" or any(fnmatch.fnmatch(file.name, pattern) for pattern in patterns), file


@needs("redis-server")
def test_the_broker_requires_its_password_and_persists_its_queue(tmp_path: Path) -> None:
    """Started by the command of the file: a password, an append-only file, and no eviction of queued tasks."""
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
        configured = {name: client.config_get(name)[name] for name in ("appendonly", "maxmemory-policy")}
        assert configured == {"appendonly": "yes", "maxmemory-policy": "noeviction"}
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
    """A chest is not routed, Genu's own result is not sent back to it, and a knee arrives unchanged."""
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


def healthy(process: str, admin_port: int, **variables: str) -> "subprocess.CompletedProcess[str]":
    """The health check as a container runs it."""
    return subprocess.run(
        [sys.executable, str(ROOT / "deploy" / "healthy.py"), process],
        env={"GENU_ADMIN_URL": f"http://{HOST}:{admin_port}", "GENU__ADMIN__PORT": str(admin_port), **variables},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_a_container_is_healthy_while_its_process_sends_heartbeats(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check fails with one line for a process without heartbeats; Compose runs it for each process."""
    port, stop = free_port(), threading.Event()
    monkeypatch.setenv("GENU__ADMIN__PORT", str(port))
    monkeypatch.setenv("GENU__STORAGE__FOLDER", str(tmp_path))
    settings, ledger = load(), Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    ledger.upgrade()
    server = threading.Thread(target=serve, args=(settings, Vault(tmp_path), ledger, lambda: True, stop))
    server.start()
    try:
        assert wait_until(lambda: healthy("admin", port).returncode == 0)
        assert healthy("deliver", port).returncode == 1
        assert healthy("deliver", port).stderr == "its heartbeats are missing\n"
        ledger.record_heartbeat("deliver", "pacs", {"state": "up"})
        assert wait_until(lambda: healthy("deliver", port).returncode == 0)
        assert healthy("receive", port, GENU__RECEIVE__PORT=str(port)).returncode == 0
    finally:
        stop.set()
        server.join(20)
        ledger.close()
    unreachable = healthy("work", port)
    assert unreachable.returncode == 1
    assert "Traceback" not in unreachable.stderr
    assert [services()[name]["healthcheck"]["test"] for name in PROCESSES] == [
        ["CMD", "healthy", name] for name in PROCESSES
    ]
