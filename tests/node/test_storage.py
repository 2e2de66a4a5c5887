"""A stored file is complete, on the disk and under its own name, whatever happens meanwhile."""

import errno
import hashlib
import os
import random
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from node.errors import Permanent
from node.storage import Vault
from tests.paths import ROOT
from tests.peers.small_disk import NAMESPACE, can_mount

UID = "1.2.276.0.7230010.3.1.4.1"
OTHER_UID = "1.2.276.0.7230010.3.1.4.2"
HOUR = 3600.0


def spooled(vault: Vault, content: bytes, name: str = "incoming") -> tuple[Path, str]:
    path = vault.spool / name
    path.write_bytes(content)
    return path, hashlib.sha256(content).hexdigest()


def age(path: Path, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(path, (then, then))


def run_in_python(code: str, *arguments: object, wrapper: tuple[str, ...] = ()) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [*wrapper, sys.executable, "-c", code, *map(str, arguments)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    return Vault(tmp_path / "data")


def test_a_stored_radiograph_is_found_under_its_hash(vault: Vault) -> None:
    """The bytes are those received, and the spool is empty."""
    path, sha256 = spooled(vault, b"film" * 1000)
    stored = vault.store(path, sha256)
    assert stored == vault.radiograph_path(sha256)
    assert stored.read_bytes() == b"film" * 1000
    assert list(vault.spool.iterdir()) == []


def test_the_file_is_synced_before_it_has_its_name_and_the_folder_after(
    vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power cut at any moment leaves the whole file or none: no peer can cut the power, so the calls are watched."""
    path, sha256 = spooled(vault, b"film")
    final = vault.folder / "radiographs" / sha256[:2] / f"{sha256}.dcm"
    synced: list[tuple[Path, bool]] = []
    sync = os.fsync

    def watched(handle: int) -> None:
        synced.append((Path(f"/proc/self/fd/{handle}").readlink(), final.exists()))
        sync(handle)

    monkeypatch.setattr(os, "fsync", watched)
    vault.store(path, sha256)
    assert synced == [(path, False), (final.parent, True)]
    synced.clear()
    final = vault.write_result(UID, "sr.dcm", b"report")
    assert [path for path, _ in synced][1:] == [final.parent, final.parent.parent]
    assert synced[0][0].parent == vault.spool


def test_a_stored_radiograph_is_never_replaced(vault: Vault) -> None:
    """The same content again leaves one file, and other bytes under its hash never replace it."""
    first, sha256 = spooled(vault, b"film")
    vault.store(first, sha256)
    again, _ = spooled(vault, b"forged")
    assert vault.store(again, sha256).read_bytes() == b"film"
    assert list(vault.spool.iterdir()) == []


def test_two_writers_of_the_same_thing_are_harmless(vault: Vault) -> None:
    """Eight threads store the same film and write the same result; all succeed, and both are whole."""
    content = os.urandom(200_000)
    sha256 = hashlib.sha256(content).hexdigest()
    wrong: list[BaseException] = []

    def write(number: int) -> None:
        try:
            for turn in range(5):
                path, _ = spooled(vault, content, f"incoming-{number}-{turn}")
                vault.store(path, sha256)
                vault.write_result(UID, "sc.dcm", content)
        except (OSError, ValueError) as error:
            wrong.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert vault.radiograph_path(sha256).read_bytes() == content
    assert vault.read_result(UID, "sc.dcm") == content
    assert list(vault.spool.iterdir()) == []


@pytest.mark.parametrize(
    "name", ["../sr.dcm", "/etc/passwd", "a/b", "", ".", "..", ".hidden", "SR.dcm", "sr\0.dcm", "sr dcm", "a" * 65]
)
def test_a_result_with_another_name_is_refused(vault: Vault, name: str) -> None:
    """Nothing that could leave the folder, or hide in it, is a name."""
    with pytest.raises(ValueError, match="name holds only"):
        vault.write_result(UID, name, b"x")
    with pytest.raises(ValueError, match="name holds only"):
        vault.read_result(UID, name)


@pytest.mark.parametrize("sha256", ["../../etc/passwd", "A" * 64, "a" * 63, "a" * 64 + "\n", ""])
def test_a_radiograph_is_named_by_a_hash_only(vault: Vault, sha256: str) -> None:
    """A name that is no hash reaches no path."""
    path, _ = spooled(vault, b"film")
    for refuse in (lambda: vault.store(path, sha256), lambda: vault.radiograph_path(sha256)):
        with pytest.raises(ValueError, match="64 hexadecimal digits"):
            refuse()


@pytest.mark.parametrize("uid", ["../../../etc/evil", "/etc/passwd", "1.2\0.3", "..", "1.2.3"])
def test_a_uid_never_becomes_a_path(vault: Vault, uid: str) -> None:
    """Whatever a sender calls its image, the results lie three levels deep in the vault under a hash."""
    path = vault.write_result(uid, "sr.dcm", b"x")
    assert path.resolve().is_relative_to(vault.folder.resolve())
    assert path.relative_to(vault.folder).parts[0] == "results"
    assert path.parent.name == hashlib.sha256(uid.encode()).hexdigest()


def test_an_absent_radiograph_is_a_lost_file(vault: Vault) -> None:
    """A Permanent error with the coded reason; a result that was never written is just not found."""
    with pytest.raises(Permanent) as error:
        vault.radiograph_path("0" * 64)
    assert error.value.reason.code == "FILE_LOST"
    with pytest.raises(FileNotFoundError):
        vault.read_result(UID, "sr.dcm")
    vault.discard_radiograph("0" * 64)


def test_a_newer_result_replaces_the_older_atomically(vault: Vault) -> None:
    """A reader that has the older one open reads it to its end."""
    path = vault.write_result(UID, "reading.json", b"old" * 1000)
    with path.open("rb") as reader:
        vault.write_result(UID, "reading.json", b"new")
        assert reader.read() == b"old" * 1000
    assert vault.read_result(UID, "reading.json") == b"new"


WRITE_WITHOUT_END = """
import hashlib, os, sys
from pathlib import Path
from node.storage import Vault
vault = Vault(Path(sys.argv[1]))
for turn in range(10**9):
    content = os.urandom(300_000 + turn)
    content += hashlib.sha256(content).digest()
    vault.write_result(f"1.2.{turn % 5}", "sc.dcm", content)
    spooled = vault.spool / f"incoming-{turn}"
    spooled.write_bytes(content)
    vault.store(spooled, hashlib.sha256(content).hexdigest())
    print(turn, flush=True)
"""


def test_kill_9_leaves_no_truncated_file_under_a_final_name(vault: Vault) -> None:
    """A writer is killed ten times at random moments; every file that has its name is whole."""
    chance = random.Random(2)
    for _ in range(10):
        writer = run_in_python(WRITE_WITHOUT_END, vault.folder)
        assert writer.stdout is not None
        for turn in range(chance.randrange(1, 4)):
            assert writer.stdout.readline() == f"{turn}\n"
        time.sleep(chance.uniform(0.0, 0.03))
        writer.kill()
        writer.communicate()
    named = [path for part in ("results", "radiographs") for path in (vault.folder / part).rglob("*.dcm")]
    assert len(named) > 10
    for path in named:
        content = path.read_bytes()
        assert hashlib.sha256(content[:-32]).digest() == content[-32:], path
        if path.is_relative_to(vault.folder / "radiographs"):
            assert hashlib.sha256(content).hexdigest() == path.stem
    for path in vault.spool.iterdir():
        age(path, 2 * HOUR)
    vault.clean_spool(HOUR)
    assert list(vault.spool.iterdir()) == []


FILL_THE_DISK = """
import errno, os, subprocess, sys
from pathlib import Path
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", sys.argv[1]], check=True)
from node.storage import Vault
vault = Vault(Path(sys.argv[1]))
try:
    for number in range(100):
        vault.write_result(f"1.2.{number}", "sc.dcm", bytes(300_000))
except OSError as error:
    print(errno.errorcode[error.errno], len(os.listdir(vault.spool)), number)
names = [path for path in (vault.folder / "results").rglob("*.dcm")]
print({path.stat().st_size for path in names}, vault.free_mb() < 1)
names[0].unlink()
print(vault.write_result("1.2.1000", "sc.dcm", bytes(300_000)).stat().st_size)
"""


@pytest.mark.skipif(not can_mount(), reason="unshare may not mount a small disk here")
def test_a_full_disk_is_an_oserror_and_leaves_nothing_behind(tmp_path: Path) -> None:
    """On a real disk of 4 MiB: the error reaches the caller, no part of a file stays, and space freed is used again."""
    writer = run_in_python(FILL_THE_DISK, tmp_path, wrapper=NAMESPACE)
    out, err = writer.communicate(timeout=60)
    full, sizes, after = out.splitlines() or [err, "", ""]
    assert full.startswith("ENOSPC 0 "), err
    assert sizes == "{300000} True"
    assert after == "300000"


LIMITED = """
import errno, os, resource, signal, sys
from pathlib import Path
from node.storage import Vault
vault = Vault(Path(sys.argv[1]))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    vault.write_result("1.2.3", "sc.dcm", bytes(300_000))
except OSError as error:
    print(errno.errorcode[error.errno], len(os.listdir(vault.spool)), vault.results_folder("1.2.3").exists())
"""


def test_a_failed_write_leaves_nothing_behind(tmp_path: Path) -> None:
    """The same by a limit on the size of files, which every user can have."""
    out, err = run_in_python(LIMITED, tmp_path).communicate(timeout=60)
    assert out == f"{errno.errorcode[errno.EFBIG]} 0 False\n", err


def test_a_radiograph_that_cannot_be_stored_is_left_to_the_receiver(vault: Vault) -> None:
    """Where the rename fails, the spooled file is still there for the receiver to discard."""
    path, sha256 = spooled(vault, b"film")
    shard = vault.folder / "radiographs" / sha256[:2]
    shard.rmdir()
    shard.write_bytes(b"no folder")
    with pytest.raises(OSError, match="Not a directory"):
        vault.store(path, sha256)
    assert path.read_bytes() == b"film"


def test_clean_spool_deletes_old_files_only(vault: Vault) -> None:
    """A file of an hour ago is incomplete; a new one belongs to a receiver."""
    old, _ = spooled(vault, b"old", "old")
    spooled(vault, b"young", "young")
    age(old, 2 * HOUR)
    assert vault.clean_spool(HOUR) == 1
    assert [path.name for path in vault.spool.iterdir()] == ["young"]


def test_an_orphan_is_discarded_unless_it_was_stored_again(vault: Vault) -> None:
    """An old file goes; the same content received again just now has a new modification time and stays."""
    path, sha256 = spooled(vault, b"film")
    age(vault.store(path, sha256), 2 * HOUR)
    assert list(vault.radiograph_hashes(HOUR)) == [sha256]
    again, _ = spooled(vault, b"film")
    vault.store(again, sha256)
    assert list(vault.radiograph_hashes(HOUR)) == []
    assert not vault.discard_orphan(sha256, HOUR)
    assert vault.radiograph_path(sha256).read_bytes() == b"film"
    age(vault.radiograph_path(sha256), 2 * HOUR)
    assert vault.discard_orphan(sha256, HOUR)
    assert not vault.discard_orphan(sha256, HOUR)
    assert list(vault.spool.iterdir()) == []
    with pytest.raises(Permanent):
        vault.radiograph_path(sha256)


def test_a_sweep_killed_while_discarding_loses_nothing(vault: Vault) -> None:
    """The file that it had moved away is restored by the next one, however old it is."""
    path, sha256 = spooled(vault, b"film")
    stored = vault.store(path, sha256)
    age(stored, 2 * HOUR)
    stored.rename(vault.spool / f"stray-{sha256}")
    assert vault.clean_spool(HOUR) == 0
    assert vault.radiograph_path(sha256).read_bytes() == b"film"


def test_a_second_vault_on_the_folder_finds_everything(vault: Vault) -> None:
    """What one process stored, another reads; other users have no access."""
    path, sha256 = spooled(vault, b"film")
    vault.store(path, sha256)
    vault.write_result(OTHER_UID, "film.png", b"picture")
    other = Vault(vault.folder)
    assert other.radiograph_path(sha256).read_bytes() == b"film"
    assert other.read_result(OTHER_UID, "film.png") == b"picture"
    for part in ("spool", "radiographs", "results"):
        assert (vault.folder / part).stat().st_mode & 0o077 == 0
    assert 0 < vault.free_mb() * 2**20 <= shutil.disk_usage(vault.folder).total
