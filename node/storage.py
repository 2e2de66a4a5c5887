"""
Storage of files: radiographs by the hash of their content, results by the hash of their source's UID.

A file has its final name only when it is complete and on the disk: it is written in the spool, fsynced, renamed, and
its folder is fsynced (ALICE, OSDI 2014). Two writers of the same file are harmless. UIDs are untrusted input and
never become paths.
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
_ORPHAN_PREFIX = "stray-"
_SHARDS = tuple(f"{number:02x}" for number in range(256))


class Vault:
    """
    Files below `folder`, on one filesystem. They are patient data: only the node's own user has access.

    Raises SettingsError if its folders are on different filesystems.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self.spool = self.folder / "spool"
        """Temporary files, of this class and of the receiver; a rename moves them to their final names."""
        self._radiographs = self.folder / "radiographs"
        self._results = self.folder / "results"
        self.folder.mkdir(parents=True, exist_ok=True)
        for subfolder in (self.spool, self._radiographs, self._results):
            subfolder.mkdir(mode=0o700, exist_ok=True)
        for subfolder in (self._radiographs, self._results):
            for shard in _SHARDS:
                (subfolder / shard).mkdir(mode=0o700, exist_ok=True)
            _sync_folder(subfolder)
        _sync_folder(self.folder)
        if len({subfolder.stat().st_dev for subfolder in (self.spool, self._radiographs, self._results)}) > 1:
            raise SettingsError(
                f"{self.folder}: spool, radiographs and results are on different filesystems",
                hint="a file cannot be renamed from one to the other; mount the folder as a whole",
            )

    def store(self, spooled: Path, sha256: str) -> Path:
        """
        Move the file `spooled` to its final name, made of its hash, and sync it to the disk. Returns the path.

        A radiograph that is stored already stays unchanged, so that it cannot be replaced. Raises OSError, and leaves
        `spooled` to the caller, if the disk refuses it.
        """
        path = self._path_of(sha256)
        with spooled.open("rb") as file:
            os.fsync(file.fileno())
        try:
            # A new modification time, so that `discard_orphan` does not take it for a stale file.
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
        """The path of a stored radiograph. Raises Permanent (FILE_LOST) if it is absent."""
        path = self._path_of(sha256)
        if not path.is_file():
            raise Permanent(reason("FILE_LOST"), f"the storage has no file {sha256[:12]}...")
        return path

    def discard_radiograph(self, sha256: str) -> None:
        """Delete the radiograph, if it exists."""
        self._path_of(sha256).unlink(missing_ok=True)

    def radiograph_hashes(self, older_than_seconds: float) -> Iterator[str]:
        """The hash of every radiograph that was last stored so long ago."""
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
        Delete a radiograph that no row refers to, unless it was stored again just now. Returns whether it is deleted.

        It is moved away first and checked afterwards: a `store` of the same content in between either finds no file
        and writes its own, or has renewed this file's modification time, and then the file is restored.
        """
        path, moved = self._path_of(sha256), self.spool / f"{_ORPHAN_PREFIX}{sha256}"
        try:
            path.rename(moved)
        except FileNotFoundError:
            return False
        if moved.stat().st_mtime >= time.time() - older_than_seconds:
            self._restore(moved)
            return False
        moved.unlink(missing_ok=True)
        return True

    def results_folder(self, sop_instance_uid: str) -> Path:
        """The folder of one radiograph's results."""
        digest = hashlib.sha256(sop_instance_uid.encode()).hexdigest()
        return self._results / digest[:2] / digest

    def write_result(self, sop_instance_uid: str, name: str, content: bytes) -> Path:
        """
        Write `content` as the result of that name, atomically, and sync it to the disk. Returns its path.

        Raises OSError, and leaves no file behind, if the disk refuses it. Raises ValueError for an invalid name.
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
        """The bytes of a result. Raises FileNotFoundError if it is absent, ValueError for an invalid name."""
        return self._result(sop_instance_uid, name).read_bytes()

    def free_mb(self) -> float:
        """MiB that are free for the node."""
        return shutil.disk_usage(self.folder).free / 2**20

    def clean_spool(self, older_than_seconds: float) -> int:
        """Delete incomplete files that have not been written to for so long. Returns their count."""
        limit, count = time.time() - older_than_seconds, 0
        for path in list(self.spool.iterdir()):
            with contextlib.suppress(FileNotFoundError):
                if path.name.startswith(_ORPHAN_PREFIX):
                    self._restore(path)
                elif path.is_file() and path.stat(follow_symlinks=False).st_mtime < limit:
                    path.unlink()
                    count += 1
        return count

    def _restore(self, moved: Path) -> None:
        """Restore a file that was moved away as an orphan, perhaps by a sweep that was killed then."""
        path = self._path_of(moved.name.removeprefix(_ORPHAN_PREFIX))
        moved.rename(path)
        _sync_folder(path.parent)

    def _path_of(self, sha256: str) -> Path:
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
