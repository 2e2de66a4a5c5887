"""The command line: what a person types, what it answers, and how it ends."""

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
from node.radiograph import SOP_CLASSES, Radiograph
from node.reasons import REASONS
from tests.paths import ROOT
from tests.peers.archives import free_port, needs, storescp
from tests.peers.faulty import archive
from tests.peers.genu_command import Say
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


def site(text: str = "") -> Path:
    """A settings file whose broker and destination are closed ports."""
    path = Path("site.toml")
    path.write_text(
        f'{text}\n[broker]\nurl = "redis://127.0.0.1:{free_port()}/0"\n'
        f'[[destination]]\nname = "pacs"\nae_title = "ORTHANC"\nhost = "127.0.0.1"\nport = {free_port()}\n'
    )
    return path


def remember(uid: str, *, reason: str | None = None) -> None:
    """A radiograph in data/, FAILED for the reason if one is given."""
    ledger = Ledger(f"sqlite:///{Path('data').absolute() / 'ledger.sqlite'}")
    ledger.upgrade()
    ledger.keep(
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


def test_help_lists_the_commands_of_the_node_and_of_the_workers(say: Say) -> None:
    """One list, whoever provides a command; each with what it does."""
    answer = say("--help")
    assert answer.code == 0
    assert {*NODE, *WORKERS} <= set(COMMANDS)
    for name in COMMANDS:
        assert any(line.split()[:1] == [name] and len(line.split()) > 2 for line in answer.out.splitlines()), name


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(say: Say, name: str) -> None:
    """--help says how it is called and what it does, and starts nothing."""
    answer = say(name, "--help")
    assert answer.code == 0
    assert answer.out.startswith(f"Usage: genu {name}")
    assert "-h, --help" in answer.out
    assert not list(Path().iterdir())


def test_the_version_is_told(say: Say) -> None:
    """What an administrator is asked for first."""
    assert say("--version").out == f"genu, version {__version__}\n"


def test_help_of_check_lists_every_setting_even_beside_a_broken_file(say: Say) -> None:
    """The error of a broken genu.toml points there, so it must come up all the same."""
    Path("genu.toml").write_text("[receive]\nprot = 1\n")
    answer = say("check", "--help")
    assert answer.code == 0
    assert "[[destination]]" in answer.out
    assert "stall_seconds" in answer.out


@pytest.mark.parametrize("words", [("run",), ("receive",), ("status",), ("check",), ("work",), ("retry", "--failed")])
def test_wrong_settings_end_it_with_2_and_one_line(say: Say, words: tuple[str, ...]) -> None:
    """Whatever is started with a mistake in the file starts nothing, and says where the mistake is."""
    Path("wrong.toml").write_text("[receive]\nport = 11112\nprot = 1\n")
    answer = say("--settings", "wrong.toml", *words)
    assert answer.code == 2
    assert answer.out == ""
    assert answer.err.startswith("genu: wrong.toml, line 3: receive.prot: unknown setting")
    assert len(answer.err.splitlines()) == 1
    assert not Path("data").exists()


def test_the_settings_file_can_come_from_a_variable(say: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    """GENU_SETTINGS names the file, as it does in a container."""
    monkeypatch.setenv("GENU_SETTINGS", "absent.toml")
    answer = say("status")
    assert answer.code == 2
    assert answer.err == "genu: the settings file absent.toml cannot be read: No such file or directory\n"


def test_a_storage_folder_that_cannot_be_is_one_line(say: Say) -> None:
    """A file where the folder should be is told as such."""
    Path("taken").write_text("")
    Path("genu.toml").write_text('[storage]\nfolder = "taken/data"\n')
    answer = say("status")
    assert answer.code == 2
    assert answer.err == (
        "genu: the storage folder taken/data cannot be used: Not a directory (set [storage] folder)\n"
    )


def test_the_status_of_a_fresh_folder_is_told_as_json(say: Say) -> None:
    """Every state is listed with its count; nothing waits, and no part was ever seen."""
    answer = say("status", "--json")
    told = json.loads(answer.out)
    assert answer.code == 0
    assert told["radiographs"] == {each.value: {"count": 0, "oldest": None} for each in State}
    assert (told["waiting"], told["parts"]) == ([], [])


def test_the_status_counts_what_there_is(say: Say) -> None:
    """For people it is a table, with the age of the oldest in each state."""
    remember("1.2.3", reason="DECODER_LIMIT")
    remember("1.2.4")
    lines = say("status").out.splitlines()
    assert [line.split()[:2] for line in lines[:2]] == [["RECEIVED", "1"], ["GRADING", "0"]]
    assert "oldest since 20" in lines[0]
    assert json.loads(say("status", "--json").out)["radiographs"]["FAILED"]["count"] == 1


def test_the_status_says_which_model_each_worker_has(say: Say) -> None:
    """And what keeps the one that should answer, or the shadow, from its work; other parts say nothing of models."""
    remember("1.2.3")
    ledger = Ledger(f"sqlite:///{Path('data').absolute() / 'ledger.sqlite'}")
    told = {"model": "kl-lite0", "version": "1.0.0", "trouble": "kl-next is missing"}
    ledger.beat("work", "w", {**told, "shadow_model": "kl-far", "shadow_version": "3.0", "shadow_trouble": ""})
    ledger.beat("sweep", "s", {"model": "x"})
    ledger.close()
    lines = say("status").out.splitlines()[-3:]
    assert lines[0].startswith("sweep s: seen ")
    assert "x" not in lines[0]
    assert lines[1].endswith("; kl-lite0 1.0.0 answers, kl-far 3.0 in shadow")
    assert lines[2] == "  WRONG: kl-next is missing"
    work = next(part for part in json.loads(say("status", "--json").out)["parts"] if part["part"] == "work")
    assert (work["model"], work["trouble"]) == ("kl-lite0", "kl-next is missing")


def test_retry_asks_again_by_uid_or_by_reason(say: Say) -> None:
    """What failed for the reason is RECEIVED again; what failed for another waits."""
    remember("1.2.3", reason="DECODER_LIMIT")
    remember("1.2.4", reason="INTERNAL")
    remember("1.2.5", reason="INTERNAL")
    assert "1 of 1 will be tried again" in say("retry", "--reason", "DECODER_LIMIT").out
    assert [state(uid) for uid in ("1.2.3", "1.2.4")] == [State.RECEIVED, State.FAILED]
    assert "1 of 1 will be tried again" in say("retry", "1.2.4").out
    assert "1 of 1 will be tried again" in say("retry", "--failed").out
    assert state("1.2.5") is State.RECEIVED


def test_retry_refuses_what_it_cannot_do(say: Say) -> None:
    """Nothing named, an unknown reason, an unknown radiograph: each is told, none is passed over."""
    answer = say("retry")
    assert answer.code == 2
    assert "name radiographs by UID, or use --failed or --reason" in answer.err
    answer = say("retry", "--reason", "DECODER")
    assert answer.code == 2
    assert ", ".join(REASONS) in answer.err
    answer = say("retry", "1.2.3")
    assert answer.code == 2
    assert "0 of 1" in answer.out
    assert "only FAILED and NOT_ANALYSED" in answer.err


def test_echo_of_an_unknown_destination_names_the_known(say: Say) -> None:
    """A typing error shows the names there are."""
    answer = say("--settings", site(), "echo", "NOSUCH")
    assert answer.code == 2
    assert "no destination 'NOSUCH'" in answer.err
    assert "there are: pacs" in answer.err


def test_echo_without_a_name_asks_everybody_and_this_node(say: Say) -> None:
    """Whoever does not answer is named with the reason, and it ends with 1."""
    answer = say("--settings", site(f"[receive]\nport = {free_port()}"), "echo")
    assert answer.code == 1
    first, second = answer.err.splitlines()
    assert first.startswith("pacs: destination pacs (ORTHANC at 127.0.0.1:")
    assert second.startswith("this node: GENU at 127.0.0.1:")
    assert "refuses the connection" in first
    assert "refuses the connection" in second


@needs("storescp")
def test_probe_shows_what_an_archive_takes_and_what_it_was_to_get(say: Say, tmp_path: Path) -> None:
    """storescp takes all pictures; one that is told to take DX alone does not take what the settings promise it."""
    with storescp(tmp_path / "archive") as peer:
        Path("genu.toml").write_text(
            '[[destination]]\nname = "pacs"\nhost = "127.0.0.1"\nobjects = ["SC", "SR"]\n'
            f'ae_title = "{peer.ae_title}"\nport = {peer.port}\n'
        )
        answer = say("probe")
        assert answer.code == 0, answer.err
        rows = {line.split()[0]: line for line in answer.out.splitlines()[1:]}
        assert set(rows) == set(SOP_CLASSES)
        assert all(rows[kind].endswith("taken (sent)") for kind in ("SC", "SR"))
        assert not peer.received()
    with archive(classes=[SecondaryCaptureImageStorage]) as peer:
        Path("genu.toml").write_text(
            f'[[destination]]\nname = "pacs"\nhost = "127.0.0.1"\nae_title = "ARCHIVE"\nport = {peer.port}\n'
        )
        answer = say("probe", "pacs")
        assert answer.code == 1
        rows = {line.split()[0]: line for line in answer.out.splitlines()[1:]}
        assert rows["SC1"].endswith(" taken")
        assert rows["SC"].endswith("not taken (sent as SC1)")
        assert rows["SR"].endswith("not taken <- but it is to get it")
        assert rows["SEG"].endswith("not taken")


def test_a_ris_is_asked_in_its_own_protocol(say: Say) -> None:
    """`echo`, `probe` and `check` know MLLP and FHIR, say what is wrong there, and `send` sends it no files."""
    with receiving() as receiver, fhir_service() as service:
        ris = f'[[destination]]\nname = "ris"\nprotocol = "mllp"\nhost = "127.0.0.1"\nport = {receiver.port}\n'
        fhir = f'[[destination]]\nname = "fhir"\nprotocol = "fhir"\nurl = "{service.url}"\n'
        Path("genu.toml").write_text(ris + fhir)
        assert say("echo", "ris").out == f"ris: 127.0.0.1:{receiver.port} answers\n"
        assert say("echo", "fhir").out == f"fhir: {service.url} answers\n"
        answer = say("probe")
        assert answer.code == 0, answer.err
        assert answer.out.splitlines() == [
            f"ris: 127.0.0.1:{receiver.port}",
            "  mllp  takes the connection; MLLP has no way to ask for more",
            f"fhir: {service.url}",
            "  fhir  FHIR 4.0.1 (Test)",
        ]
        assert "ok     destination fhir: answers" in say("check").out
        Path("genu.toml").write_text(f'{fhir}fhir_version = "R5"\n')
        answer = say("probe")
        assert answer.code == 1
        assert '<- fhir_version is "R5"' in answer.out
        answer = say("send", "--to", "fhir", ROOT / "LICENSE")
        assert answer.code == 2
        assert "fhir is spoken to over fhir (name a destination that takes DICOM)" in answer.err
        assert not receiver.frames
        assert not service.posted
    answer = say("probe")
    assert answer.code == 1
    assert f"fhir: destination fhir ({service.url}) refuses the connection" in answer.err


@needs("storescp")
def test_samples_reach_a_real_archive(say: Say, tmp_path: Path) -> None:
    """`genu send --samples` needs no film at hand: the archive answers the echo and has every sample."""
    with storescp(tmp_path / "archive") as archive:
        Path("genu.toml").write_text(
            '[[destination]]\nname = "pacs"\nhost = "127.0.0.1"\n'
            f'ae_title = "{archive.ae_title}"\nport = {archive.port}\n'
        )
        assert say("echo", "pacs").out == f"pacs: {archive.ae_title} at 127.0.0.1:{archive.port} answers\n"
        answer = say("send", "--to", "pacs", "--samples")
        assert answer.code == 0
        stored = len(archive.received())
        assert stored > 1
        assert f"{stored} of {stored} stored by {archive.ae_title}" in answer.out


def test_send_to_a_closed_port_ends_with_1_and_says_why(say: Say) -> None:
    """Nothing listens there: the file, the peer, the reason and what to look at, in a line."""
    port = free_port()
    answer = say("send", ROOT / "LICENSE", "--host", "127.0.0.1", "--port", port, "--ae-title", "PACS")
    assert answer.code == 1
    assert "LICENSE" in answer.err
    assert "no DICOM file" in answer.err
    answer = say("send", examples.get_path("ct"), "--host", "127.0.0.1", "--port", port, "--ae-title", "PACS")
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
def test_send_refuses_what_it_cannot_do(say: Say, words: tuple[str, ...], why: str) -> None:
    """Half an address, no file or one that is not there: a usage error, and nothing is sent."""
    site()
    answer = say("send", *words)
    assert answer.code == 2
    assert why in answer.err


def test_check_tells_the_ill_from_the_well(say: Say) -> None:
    """With broker and destination away both are WRONG with the reason, the rest is examined all the same."""
    answer = say("--settings", site(), "check")
    assert answer.code == 1
    lines = {line[7:].split(":")[0]: line for line in answer.out.splitlines()}
    assert {"settings", "storage", "ledger", "broker", "model", "destination pacs"} == set(lines)
    assert lines["broker"].startswith("WRONG  broker: it does not answer (check [broker] url")
    assert "refuses the connection" in lines["destination pacs"]
    for well in ("settings", "storage", "ledger"):
        assert lines[well].startswith("ok "), lines[well]


def test_check_says_that_results_would_go_nowhere(say: Say) -> None:
    """A node without a destination is not ready for its work."""
    answer = say("check")
    assert answer.code == 1
    assert "WRONG  destinations: none in the settings" in answer.out


@pytest.mark.parametrize(("url", "why"), [("", "no broker is set"), ("amqp://guest:secret@h/", "kind 'amqp'")])
def test_a_part_alone_needs_a_broker_of_the_settings(url: str, why: str) -> None:
    """Only `genu run` starts one; a part that rings a bell nobody hears would look well and do nothing."""
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


def test_a_command_whose_packages_are_absent_says_what_to_install(picture: str) -> None:
    """A node without the workers' packages answers `genu grade` in one line, with the command that helps."""
    done = without(["cv2", "openvino", "PIL", "highdicom"], "grade", picture)
    assert done.returncode == 2
    assert done.stderr.startswith("genu: this needs ")
    assert "is not installed (pip install 'genu[worker-cpu]')" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_the_node_works_where_the_workers_are_absent() -> None:
    """Its commands are listed, those of the workers with what is missing, and `genu check` does not call that wrong."""
    packages = ["cv2", "openvino", "PIL", "highdicom"]
    listed = without(packages, "--help")
    assert listed.returncode == 0
    assert set(COMMANDS) <= {line.split()[0] for line in listed.stdout.splitlines() if line.strip()}
    examined = without(packages, "check")
    assert "ok     model: no worker is installed here: " in examined.stdout


def test_a_port_that_is_taken_is_one_line() -> None:
    """The most common trouble at the first start says which port and which setting, and ends with 2."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        site(f"[receive]\nport = {port}\n").rename("genu.toml")
        done = without([], "receive")
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"genu: cannot listen on 127.0.0.1 port {port}: ")
    assert "set [receive] port" in last
