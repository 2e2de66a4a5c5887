"""The command line: arguments, output and exit codes."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import click
import pytest
from pydicom import examples
from pydicom.uid import SecondaryCaptureImageStorage

from node import __version__
from node.__main__ import genu
from node.broker import application
from node.errors import SettingsError
from node.ledger import Ledger, State
from node.radiograph import SOP_CLASS_OF_KIND, Radiograph
from node.reasons import REASONS
from tests.paths import ROOT
from tests.peers.archives import free_port, needs, storescp
from tests.peers.faulty import archive
from tests.peers.genu_command import GenuCommand
from tests.peers.ris import fhir_service, receiving

CONTEXT = click.Context(genu)
COMMANDS = genu.list_commands(CONTEXT)
NODE = ("admin", "check", "deliver", "demo", "echo", "receive", "retry", "run", "send", "status", "sweep")
WORKERS = ("calibrate", "evaluate", "grade", "models", "train", "work")


@pytest.fixture(autouse=True)
def _fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty working folder, and no variable of Genu's."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.upper().startswith("GENU")]:
        monkeypatch.delenv(name)


def write_site_settings(text: str = "") -> Path:
    """A settings file whose broker and destination are closed ports."""
    path = Path("site.toml")
    path.write_text(
        f'{text}\n[broker]\nurl = "redis://127.0.0.1:{free_port()}/0"\n'
        f'[[destination]]\nname = "pacs"\nae_title = "ORTHANC"\nhost = "127.0.0.1"\nport = {free_port()}\n'
    )
    return path


def store_radiograph(uid: str, *, reason: str | None = None) -> None:
    """A radiograph in data/, FAILED for the reason if one is given."""
    ledger = Ledger(f"sqlite:///{Path('data').absolute() / 'ledger.sqlite'}")
    ledger.upgrade()
    ledger.record_received(
        Radiograph(uid, "1.2.840.10008.5.1.4.1.1.1", "1.2.840.10008.1.2", "0" * 64, 1, "CR", "::1", datetime.now(UTC))
    )
    if reason:
        assert ledger.claim(uid, "w", lease_seconds=60, attempts=3)
        assert ledger.fail(uid, "w", reason, "")
    ledger.close()


def state(uid: str) -> State:
    ledger = Ledger(f"sqlite:///{Path('data').absolute() / 'ledger.sqlite'}")
    found = ledger.find(uid)
    ledger.close()
    assert found
    return found.state


def test_help_lists_the_commands_of_the_node_and_of_the_workers(genu_command: GenuCommand) -> None:
    """One list of the commands of both packages, each with what it does."""
    answer = genu_command("--help")
    assert answer.code == 0
    assert {*NODE, *WORKERS} <= set(COMMANDS)
    for name in COMMANDS:
        assert any(line.split()[:1] == [name] and len(line.split()) > 2 for line in answer.out.splitlines()), name


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(genu_command: GenuCommand, name: str) -> None:
    """--help prints usage and description, and starts nothing."""
    answer = genu_command(name, "--help")
    assert answer.code == 0
    assert answer.out.startswith(f"Usage: genu {name}")
    assert "-h, --help" in answer.out
    assert not list(Path().iterdir())


def test_the_version_is_printed(genu_command: GenuCommand) -> None:
    """--version prints name and version."""
    assert genu_command("--version").out == f"genu, version {__version__}\n"


def test_help_of_check_lists_every_setting_even_with_a_broken_file(genu_command: GenuCommand) -> None:
    """The error of a broken genu.toml points to it, so it must work all the same."""
    Path("genu.toml").write_text("[receive]\nprot = 1\n")
    answer = genu_command("check", "--help")
    assert answer.code == 0
    assert "[[destination]]" in answer.out
    assert "stall_seconds" in answer.out


@pytest.mark.parametrize("words", [("run",), ("receive",), ("status",), ("check",), ("work",), ("retry", "--failed")])
def test_wrong_settings_end_a_command_with_2_and_one_line(genu_command: GenuCommand, words: tuple[str, ...]) -> None:
    """A command with an error in the settings file starts nothing, and prints where the error is."""
    Path("wrong.toml").write_text("[receive]\nport = 11112\nprot = 1\n")
    answer = genu_command("--settings", "wrong.toml", *words)
    assert answer.code == 2
    assert answer.out == ""
    assert answer.err.startswith("genu: wrong.toml, line 3: receive.prot: unknown setting")
    assert len(answer.err.splitlines()) == 1
    assert not Path("data").exists()


def test_the_settings_file_can_come_from_a_variable(genu_command: GenuCommand, monkeypatch: pytest.MonkeyPatch) -> None:
    """GENU_SETTINGS names the file, as it does in a container."""
    monkeypatch.setenv("GENU_SETTINGS", "absent.toml")
    answer = genu_command("status")
    assert answer.code == 2
    assert answer.err == "genu: the settings file absent.toml cannot be read: No such file or directory\n"


def test_an_unusable_storage_folder_is_one_line(genu_command: GenuCommand) -> None:
    """A file where the folder should be is reported as such."""
    Path("taken").write_text("")
    Path("genu.toml").write_text('[storage]\nfolder = "taken/data"\n')
    answer = genu_command("status")
    assert answer.code == 2
    assert answer.err == (
        "genu: the storage folder taken/data cannot be used: Not a directory (set [storage] folder)\n"
    )


def test_the_status_of_a_fresh_folder_is_printed_as_json(genu_command: GenuCommand) -> None:
    """Every state is listed with its count; nothing waits, and no process has sent a heartbeat."""
    answer = genu_command("status", "--json")
    status = json.loads(answer.out)
    assert answer.code == 0
    assert status["radiographs"] == {state.value: {"count": 0, "oldest": None} for state in State}
    assert (status["waiting"], status["parts"]) == ([], [])


def test_the_status_counts_radiographs_by_state(genu_command: GenuCommand) -> None:
    """For people it is a table, with the age of the oldest in each state."""
    store_radiograph("1.2.3", reason="DECODER_LIMIT")
    store_radiograph("1.2.4")
    lines = genu_command("status").out.splitlines()
    assert [line.split()[:2] for line in lines[:2]] == [["RECEIVED", "1"], ["GRADING", "0"]]
    assert "oldest since 20" in lines[0]
    assert json.loads(genu_command("status", "--json").out)["radiographs"]["FAILED"]["count"] == 1


def test_the_status_shows_the_models_of_every_worker(genu_command: GenuCommand) -> None:
    """And why a model cannot be used; other processes have no models."""
    store_radiograph("1.2.3")
    ledger = Ledger(f"sqlite:///{Path('data').absolute() / 'ledger.sqlite'}")
    detail = {"model": "kl-lite2", "version": "1.0.0", "trouble": "kl-next is missing"}
    ledger.record_heartbeat(
        "work", "w", {**detail, "shadow_model": "kl-far", "shadow_version": "3.0", "shadow_trouble": ""}
    )
    ledger.record_heartbeat("sweep", "s", {"model": "x"})
    ledger.close()
    lines = genu_command("status").out.splitlines()[-3:]
    assert lines[0].startswith("sweep s: seen ")
    assert "x" not in lines[0]
    assert lines[1].endswith("; kl-lite2 1.0.0 answers, kl-far 3.0 in shadow")
    assert lines[2] == "  WRONG: kl-next is missing"
    work = next(row for row in json.loads(genu_command("status", "--json").out)["parts"] if row["part"] == "work")
    assert (work["model"], work["trouble"]) == ("kl-lite2", "kl-next is missing")


def test_retry_queues_again_by_uid_or_by_reason(genu_command: GenuCommand) -> None:
    """What failed for the reason is RECEIVED again; what failed for another is unchanged."""
    store_radiograph("1.2.3", reason="DECODER_LIMIT")
    store_radiograph("1.2.4", reason="INTERNAL")
    store_radiograph("1.2.5", reason="INTERNAL")
    assert "1 of 1 will be tried again" in genu_command("retry", "--reason", "DECODER_LIMIT").out
    assert [state(uid) for uid in ("1.2.3", "1.2.4")] == [State.RECEIVED, State.FAILED]
    assert "1 of 1 will be tried again" in genu_command("retry", "1.2.4").out
    assert "1 of 1 will be tried again" in genu_command("retry", "--failed").out
    assert state("1.2.5") is State.RECEIVED


def test_retry_refuses_what_it_cannot_do(genu_command: GenuCommand) -> None:
    """Nothing named, an unknown reason, an unknown radiograph: each is an error."""
    answer = genu_command("retry")
    assert answer.code == 2
    assert "name radiographs by UID, or use --failed or --reason" in answer.err
    answer = genu_command("retry", "--reason", "DECODER")
    assert answer.code == 2
    assert ", ".join(REASONS) in answer.err
    answer = genu_command("retry", "1.2.3")
    assert answer.code == 2
    assert "0 of 1" in answer.out
    assert "only FAILED and NOT_ANALYSED" in answer.err


def test_echo_of_an_unknown_destination_names_the_known(genu_command: GenuCommand) -> None:
    """A typing error shows the names there are."""
    answer = genu_command("--settings", write_site_settings(), "echo", "NOSUCH")
    assert answer.code == 2
    assert "no destination 'NOSUCH'" in answer.err
    assert "there are: pacs" in answer.err


def test_echo_without_a_name_verifies_every_destination_and_this_node(genu_command: GenuCommand) -> None:
    """A peer that does not answer is named with the reason, and the exit code is 1."""
    answer = genu_command("--settings", write_site_settings(f"[receive]\nport = {free_port()}"), "echo")
    assert answer.code == 1
    first, second = answer.err.splitlines()
    assert first.startswith("pacs: destination pacs (ORTHANC at 127.0.0.1:")
    assert second.startswith("this node: GENU at 127.0.0.1:")
    assert "refuses the connection" in first
    assert "refuses the connection" in second


@needs("storescp")
def test_probe_shows_what_an_archive_accepts_and_what_it_should(genu_command: GenuCommand, tmp_path: Path) -> None:
    """storescp accepts every class; an archive of one class does not accept what the settings list."""
    with storescp(tmp_path / "archive") as peer:
        Path("genu.toml").write_text(
            '[[destination]]\nname = "pacs"\nhost = "127.0.0.1"\nobjects = ["SC", "SR"]\n'
            f'ae_title = "{peer.ae_title}"\nport = {peer.port}\n'
        )
        answer = genu_command("probe")
        assert answer.code == 0, answer.err
        rows = {line.split()[0]: line for line in answer.out.splitlines()[1:]}
        assert set(rows) == set(SOP_CLASS_OF_KIND)
        assert all(rows[kind].endswith(" accepted (sent)") for kind in ("SC", "SR"))
        assert not peer.received()
    with archive(classes=[SecondaryCaptureImageStorage]) as peer:
        Path("genu.toml").write_text(
            f'[[destination]]\nname = "pacs"\nhost = "127.0.0.1"\nae_title = "ARCHIVE"\nport = {peer.port}\n'
        )
        answer = genu_command("probe", "pacs")
        assert answer.code == 1
        rows = {line.split()[0]: line for line in answer.out.splitlines()[1:]}
        assert rows["SC1"].endswith(" accepted")
        assert rows["SC"].endswith("not accepted (sent as SC1)")
        assert rows["SR"].endswith("not accepted <- but it is listed in objects")
        assert rows["SEG"].endswith("not accepted")


def test_a_ris_is_probed_in_its_own_protocol(genu_command: GenuCommand) -> None:
    """`echo`, `probe` and `check` use MLLP and FHIR and report errors, and `send` refuses to send files."""
    with receiving() as receiver, fhir_service() as service:
        ris = f'[[destination]]\nname = "ris"\nprotocol = "mllp"\nhost = "127.0.0.1"\nport = {receiver.port}\n'
        fhir = f'[[destination]]\nname = "fhir"\nprotocol = "fhir"\nurl = "{service.url}"\n'
        Path("genu.toml").write_text(ris + fhir)
        assert genu_command("echo", "ris").out == f"ris: 127.0.0.1:{receiver.port} answers\n"
        assert genu_command("echo", "fhir").out == f"fhir: {service.url} answers\n"
        answer = genu_command("probe")
        assert answer.code == 0, answer.err
        assert answer.out.splitlines() == [
            f"ris: 127.0.0.1:{receiver.port}",
            "  mllp  accepts the connection; MLLP has no way to query more",
            f"fhir: {service.url}",
            "  fhir  FHIR 4.0.1 (Test)",
        ]
        assert "ok     destination fhir: answers" in genu_command("check").out
        Path("genu.toml").write_text(f'{fhir}fhir_version = "R5"\n')
        answer = genu_command("probe")
        assert answer.code == 1
        assert '<- fhir_version is "R5"' in answer.out
        answer = genu_command("send", "--to", "fhir", ROOT / "LICENSE")
        assert answer.code == 2
        assert "fhir uses fhir (name a destination that uses DICOM)" in answer.err
        assert not receiver.frames
        assert not service.posted
    answer = genu_command("probe")
    assert answer.code == 1
    assert f"fhir: destination fhir ({service.url}) refuses the connection" in answer.err


@needs("storescp")
def test_samples_reach_a_real_archive(genu_command: GenuCommand, tmp_path: Path) -> None:
    """`genu send --samples` needs no file: the archive answers the echo and has every sample."""
    with storescp(tmp_path / "archive") as archive:
        Path("genu.toml").write_text(
            '[[destination]]\nname = "pacs"\nhost = "127.0.0.1"\n'
            f'ae_title = "{archive.ae_title}"\nport = {archive.port}\n'
        )
        assert genu_command("echo", "pacs").out == f"pacs: {archive.ae_title} at 127.0.0.1:{archive.port} answers\n"
        answer = genu_command("send", "--to", "pacs", "--samples")
        assert answer.code == 0
        stored = len(archive.received())
        assert stored > 1
        assert f"{stored} of {stored} stored by {archive.ae_title}" in answer.out


def test_send_to_a_closed_port_ends_with_1_and_the_reason(genu_command: GenuCommand) -> None:
    """One line has the file, the peer, the reason and what to check."""
    port = free_port()
    answer = genu_command("send", ROOT / "LICENSE", "--host", "127.0.0.1", "--port", port, "--ae-title", "PACS")
    assert answer.code == 1
    assert "LICENSE" in answer.err
    assert "not a DICOM file" in answer.err
    answer = genu_command("send", examples.get_path("ct"), "--host", "127.0.0.1", "--port", port, "--ae-title", "PACS")
    assert answer.code == 1
    assert f"PACS at 127.0.0.1:{port} refuses the connection (nothing listens there" in answer.err
    assert answer.out == f"0 of 1 stored by PACS at 127.0.0.1:{port}\n"


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ((), "name FILES to send, or use --samples"),
        (("site.toml", "--samples"), "name FILES to send, or use --samples"),
        (("site.toml", "--host", "h"), "--host, --port and --ae-title go together"),
        (("absent.dcm",), "does not exist"),
    ],
)
def test_send_refuses_what_it_cannot_do(genu_command: GenuCommand, words: tuple[str, ...], why: str) -> None:
    """Half an address, no file or one that is not there: a usage error, and nothing is sent."""
    write_site_settings()
    answer = genu_command("send", *words)
    assert answer.code == 2
    assert why in answer.err


def test_check_reports_every_failure(genu_command: GenuCommand) -> None:
    """With broker and destination down both are WRONG with the reason, and the other checks still run."""
    answer = genu_command("--settings", write_site_settings(), "check")
    assert answer.code == 1
    lines = {line[7:].split(":")[0]: line for line in answer.out.splitlines()}
    assert {"settings", "storage", "ledger", "broker", "model", "destination pacs"} == set(lines)
    assert lines["broker"].startswith("WRONG  broker: it does not answer (check [broker] url")
    assert "refuses the connection" in lines["destination pacs"]
    for passed in ("settings", "storage", "ledger"):
        assert lines[passed].startswith("ok "), lines[passed]


def test_check_reports_a_missing_destination(genu_command: GenuCommand) -> None:
    """Without a destination results would be sent nowhere."""
    answer = genu_command("check")
    assert answer.code == 1
    assert "WRONG  destinations: none in the settings" in answer.out


@pytest.mark.parametrize(("url", "why"), [("", "no broker is set"), ("amqp://guest:secret@h/", "kind 'amqp'")])
def test_a_single_process_needs_a_broker_in_the_settings(url: str, why: str) -> None:
    """Only `genu run` starts one; a process that publishes to no broker would seem healthy and do nothing."""
    with pytest.raises(SettingsError, match=why) as caught:
        application(url)
    assert "secret" not in str(caught.value)


def without(packages: list[str], *words: str) -> "subprocess.CompletedProcess[str]":
    """`genu` in a process of its own, in which the packages cannot be imported."""
    absent = f"import sys; sys.modules.update(dict.fromkeys({packages}))"
    code = f"{absent}; from node.__main__ import main; sys.argv = ['genu', *{list(words)}]; main()"
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    path = tmp_path_factory.mktemp("picture") / "knee.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n")
    yield str(path)


def test_a_command_without_its_packages_names_what_to_install(picture: str) -> None:
    """A node without the workers' packages answers `genu grade` with one line and the command to install them."""
    done = without(["cv2", "openvino", "PIL", "highdicom"], "grade", picture)
    assert done.returncode == 2
    assert done.stderr.startswith("genu: this needs ")
    assert "is not installed (pip install 'genu[worker-cpu]')" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_the_node_works_without_the_workers() -> None:
    """All commands are listed, those of the workers with what is missing, and `genu check` accepts that."""
    packages = ["cv2", "openvino", "PIL", "highdicom"]
    listed = without(packages, "--help")
    assert listed.returncode == 0
    assert set(COMMANDS) <= {line.split()[0] for line in listed.stdout.splitlines() if line.strip()}
    checked = without(packages, "check")
    assert "ok     model: no worker is installed here: " in checked.stdout


def test_a_port_in_use_is_one_line() -> None:
    """The error names the port and the setting, and the exit code is 2."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        write_site_settings(f"[receive]\nport = {port}\n").rename("genu.toml")
        done = without([], "receive")
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"genu: cannot listen on 127.0.0.1 port {port}: ")
    assert "set [receive] port" in last
