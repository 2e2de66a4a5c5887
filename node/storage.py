"""
The vault keeps bytes: radiographs by the hash of their content, results by the hash of their source's UID.

A file stands under its final name only when it is whole and on the disk: it is written in the spool, fsynced,
renamed, and the folder that names it is fsynced (ALICE, OSDI 2014). Two writers of the same thing are harmless.
UIDs come from strangers and never become paths.
"""

import contextlib
import hashlib
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from node.errors import Permanent, SettingsError
from node.reasons import reason

_SHA256 = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{0,63}")
_STRAY = "stray-"
_SHARDS = tuple(f"{number:02x}" for number in range(256))


class Vault:
    """Everything lies under `folder`, on one filesystem; patient data, so only the node's own user may look."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self.spool = self.folder / "spool"
        """Where temporary files are written, ours and the receiver's: a rename away from the rest."""
        self._radiographs = self.folder / "radiographs"
        self._results = self.folder / "results"
        self.folder.mkdir(parents=True, exist_ok=True)
        for part in (self.spool, self._radiographs, self._results):
            part.mkdir(mode=0o700, exist_ok=True)
        for part in (self._radiographs, self._results):
            for shard in _SHARDS:
                (part / shard).mkdir(mode=0o700, exist_ok=True)
            _sync_folder(part)
        _sync_folder(self.folder)
        if len({part.stat().st_dev for part in (self.spool, self._radiographs, self._results)}) > 1:
            raise SettingsError(
                f"{self.folder}: spool, radiographs and results lie on different filesystems",
                hint="a file cannot be renamed from one to the other; mount the folder as a whole",
            )

    def store(self, spooled: Path, sha256: str) -> Path:
        """
        The content of `spooled` is on the disk under the name of its hash; `spooled` is gone. Returns the path.

        What is kept already stays as it is, so that nobody can replace it. Raises OSError, with `spooled`
        still the caller's, when the disk does not take it.
        """
        path = self._radiograph(sha256)
        with spooled.open("rb") as file:
            os.fsync(file.fileno())
        try:
            # Young again, so that `discard_stray` does not take it for a left-over of an hour ago.
            os.utime(path)
        except FileNotFoundError:
            spooled.replace(path)
            _sync_folder(path.parent)
        else:
            # The first writer's fsync of the folder may not have happened yet.
            _sync_folder(path.parent)
            spooled.unlink()
        return path

    def radiograph_path(self, sha256: str) -> Path:
        """The path of a kept radiograph. Raises Permanent (FILE_LOST) if it is absent."""
        path = self._radiograph(sha256)
        if not path.is_file():
            raise Permanent(reason("FILE_LOST"), f"the vault has no {sha256[:12]}...")
        return path

    def discard_radiograph(self, sha256: str) -> None:
        """The radiograph is gone; if it was never there, that is well too."""
        self._radiograph(sha256).unlink(missing_ok=True)

    def radiograph_hashes(self, older_than_seconds: float) -> Iterator[str]:
        """The hash of each radiograph that was last kept so long ago."""
        limit = time.time() - older_than_seconds
        for shard in _SHARDS:
            with os.scandir(self._radiographs / shard) as entries:
                for entry in entries:
                    sha256 = entry.name.removesuffix(".dcm")
                    with contextlib.suppress(FileNotFoundError):
                        if _SHA256.fullmatch(sha256) and entry.stat().st_mtime < limit:
                            yield sha256

    def discard_orphan(self, sha256: str, older_than_seconds: float) -> bool:
        """
        A radiograph that no row knows is gone, unless it was kept again just now. Returns whether it is gone.

        It is taken out first and looked at afterwards: a `keep` of the same content in between either finds
        nothing and puts its own there, or has made this file young, and then it goes back.
        """
        path, aside = self._radiograph(sha256), self.spool / f"{_STRAY}{sha256}"
        try:
            path.rename(aside)
        except FileNotFoundError:
            return False
        if aside.stat().st_mtime >= time.time() - older_than_seconds:
            self._put_back(aside)
            return False
        aside.unlink(missing_ok=True)
        return True

    def results_folder(self, sop_instance_uid: str) -> Path:
        """The folder of one radiograph's results."""
        named = hashlib.sha256(sop_instance_uid.encode()).hexdigest()
        return self._results / named[:2] / named

    def write_result(self, sop_instance_uid: str, name: str, content: bytes) -> Path:
        """
        `content` is on the disk, whole, as the result of that name. Returns its path.

        Raises OSError, and leaves nothing behind, when the disk does not take it.
        """
        path = self._result(sop_instance_uid, name)
        with tempfile.NamedTemporaryFile(dir=self.spool, prefix="result-", delete=False) as file:
            temporary = Path(file.name)
            try:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
                path.parent.mkdir(mode=0o700, exist_ok=True)
                temporary.replace(path)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
        _sync_folder(path.parent)
        _sync_folder(path.parent.parent)
        return path

    def read_result(self, sop_instance_uid: str, name: str) -> bytes:
        """The bytes of a result. Raises FileNotFoundError."""
        return self._result(sop_instance_uid, name).read_bytes()

    def free_mb(self) -> float:
        """MiB that the node may still write here."""
        return shutil.disk_usage(self.folder).free / 2**20

    def clean_spool(self, older_than_seconds: float) -> int:
        """The left-overs of broken-off writes are gone: files that nobody has written to for so long. Their count."""
        limit, count = time.time() - older_than_seconds, 0
        for path in list(self.spool.iterdir()):
            with contextlib.suppress(FileNotFoundError):
                if path.name.startswith(_STRAY):
                    self._put_back(path)
                elif path.is_file() and path.stat(follow_symlinks=False).st_mtime < limit:
                    path.unlink()
                    count += 1
        return count

    def _put_back(self, aside: Path) -> None:
        """What was taken for a stray, by us or by a sweep that died over it, is a kept radiograph again."""
        path = self._radiograph(aside.name.removeprefix(_STRAY))
        aside.rename(path)
        _sync_folder(path.parent)

    def _radiograph(self, sha256: str) -> Path:
        if not _SHA256.fullmatch(sha256):
            raise ValueError("a radiograph is named by 64 hexadecimal digits")
        return self._radiographs / sha256[:2] / f"{sha256}.dcm"

    def _result(self, sop_instance_uid: str, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise ValueError(f"a result's name holds only a-z, 0-9, dot and hyphen: {name[:80]!r}")
        return self.results_folder(sop_instance_uid) / name


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
