"""An object while it is received: its bytes go to a file of the spool, and are hashed on the way."""

import contextlib
import ctypes
import hashlib
import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from pydicom.uid import UID
from pynetdicom.dsutils import create_file_meta, encode_file_meta

from node.errors import Refused
from node.receive import statuses
from node.receive.identity import HEAD_BYTES

_PREAMBLE = bytes(128) + b"DICM"
"""Written by this node, never the sender's: a preamble may hold another program (CVE-2019-11687)."""

_WRITEBACK_BYTES = 2**21
_SYNC_FILE_RANGE_WRITE = 2


class EndlessObject(Exception):  # noqa: N818 - a fact about the sender
    """The sender does not stop sending an object that was refused; the association is to be aborted."""


@dataclass(frozen=True)
class AnnouncedInstance:
    """The instance that a C-STORE command set and its presentation context announce."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str


class SpooledObject:
    """
    Writes fragments up to the last to a file at `path`, then returns its hash, or raises why there is no file.

    An error (disk full, too large, refused from the start) is stored for the response: the rest of the object is read
    and dropped, because a sender waits for the response until it has sent everything (PS3.7 9.3.1). The file is deleted
    at once then, so that a full disk has its space back.
    """

    def __init__(
        self, announced: AnnouncedInstance, *, spool: Path, limit: int, error: Exception | None = None
    ) -> None:
        self.announced = announced
        self.error = error
        self.path = spool / f"arrival-{secrets.token_hex(16)}.part"
        self.size = 0
        """Bytes of the file so far."""
        self.received = 0
        """Bytes of the data set so far."""
        self.head = bytearray()
        """The first bytes of the data set, at most HEAD_BYTES."""
        self._hash = hashlib.sha256()
        self._limit = limit
        self._written_back = 0
        self._descriptor = -1
        if error is None:
            try:
                self._descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
                self._write_all(memoryview(_PREAMBLE + file_meta(announced)))
            except OSError as failure:
                self.fail(failure)

    def write(self, fragment: memoryview) -> None:
        """Append the next bytes of the data set to the file and to the hash. Raises EndlessObject."""
        self.received += len(fragment)
        if self.error is None and self.received > self._limit:
            self.fail(Refused(statuses.OUT_OF_RESOURCES, "the object is larger than this node takes"))
        if self.error is not None:
            if self.received > 2 * self._limit:
                raise EndlessObject
            return
        if len(self.head) < HEAD_BYTES:
            self.head += fragment[: HEAD_BYTES - len(self.head)]
        self._hash.update(fragment)
        try:
            self._write_all(fragment)
        except OSError as failure:
            self.fail(failure)

    def finish(self) -> str:
        """Close the complete file and return the SHA-256 of the data set. Raises the stored error."""
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            try:
                os.close(descriptor)  # a network filesystem may report only now that it is full
            except OSError as failure:
                self.fail(failure)
        if self.error is not None:
            raise self.error
        return self._hash.hexdigest()

    def fail(self, error: Exception) -> None:
        """Delete the file and store `error`, which `finish` will raise."""
        self.error = error
        self.discard()

    def discard(self) -> None:
        """Close and delete the file, unless the vault has it already."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            with contextlib.suppress(OSError):
                os.close(descriptor)
        with contextlib.suppress(OSError):
            self.path.unlink()

    def _write_all(self, data: memoryview) -> None:
        while data:
            written = os.write(self._descriptor, data)
            self.size += written
            data = data[written:]
        if self.size - self._written_back >= _WRITEBACK_BYTES:
            _begin_writeback(self._descriptor)
            self._written_back = self.size


def _begin_writeback(descriptor: int) -> None:
    """Have the disk write while the rest of the object is received, so that the fsync at the end is short."""
    if _sync_file_range is not None:
        _sync_file_range(descriptor, 0, 0, _SYNC_FILE_RANGE_WRITE)


def _linux_sync_file_range() -> Callable[..., int] | None:
    function: Any = getattr(ctypes.CDLL(None), "sync_file_range", None)
    if function is None:
        return None
    function.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
    return cast("Callable[..., int]", function)


_sync_file_range = _linux_sync_file_range()
"""sync_file_range(2), which only Linux has. It guarantees nothing: what makes an object safe is the vault's fsync."""


def file_meta(announced: AnnouncedInstance) -> bytes:
    """The file meta information of an object (PS3.10 table 7.1-1), explicit little endian, as bytes."""
    return encode_file_meta(
        create_file_meta(
            sop_class_uid=UID(announced.sop_class_uid),
            sop_instance_uid=UID(announced.sop_instance_uid),
            transfer_syntax=UID(announced.transfer_syntax_uid),
        )
    )
