"""One object on its way in: its bytes go to a file of the spool, hashed as they pass."""

import contextlib
import ctypes
import hashlib
import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from pynetdicom import PYNETDICOM_IMPLEMENTATION_UID

from node.errors import Refused
from node.receive import statuses
from node.receive.identity import HEAD_BYTES

_PREAMBLE = bytes(128) + b"DICM"
"""Ours, never the sender's: a preamble may hold another program (CVE-2019-11687)."""


_WRITEBACK_BYTES = 2**21
_SYNC_FILE_RANGE_WRITE = 2


class Overrun(Exception):  # noqa: N818 - a fact about the sender
    """The sender goes on and on with an object that was refused; it is to be aborted."""


@dataclass(frozen=True)
class Offer:
    """What the C-STORE command and its presentation context say of the object that follows."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str


class Arrival:
    """
    Takes fragments until the last, then hands over a whole file, or says why there is none.

    A fault (no room, too large, refused from the start) is kept for the answer: the rest of the object is read and
    dropped, because a sender waits for the response until it has sent everything (PS3.7 9.3.1). The file is gone at
    once then, so that a full disk has its room back.
    """

    def __init__(self, offer: Offer, *, spool: Path, limit: int, fault: Exception | None = None) -> None:
        self.offer = offer
        self.fault = fault
        self.path = spool / f"arrival-{secrets.token_hex(16)}.part"
        self.size = 0
        """Bytes of the file so far."""
        self.received = 0
        """Bytes of the data set so far."""
        self.head = bytearray()
        self._hash = hashlib.sha256()
        self._limit = limit
        self._written_back = 0
        self._handle = -1
        if fault is None:
            try:
                self._handle = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
                self._put(memoryview(_PREAMBLE + file_meta(offer)))
            except OSError as error:
                self.refuse(error)

    def write(self, fragment: memoryview) -> None:
        """The next bytes of the data set are in the file and in the hash. Raises Overrun."""
        self.received += len(fragment)
        if self.fault is None and self.received > self._limit:
            self.refuse(Refused(statuses.OUT_OF_RESOURCES, "the object is larger than this node takes"))
        if self.fault is not None:
            if self.received > 2 * self._limit:
                raise Overrun
            return
        if len(self.head) < HEAD_BYTES:
            self.head += fragment[: HEAD_BYTES - len(self.head)]
        self._hash.update(fragment)
        try:
            self._put(fragment)
        except OSError as error:
            self.refuse(error)

    def finish(self) -> str:
        """The file is closed and whole; returns the hash of the data set. Raises what went wrong on the way."""
        if self._handle >= 0:
            handle, self._handle = self._handle, -1
            try:
                os.close(handle)  # a network filesystem may tell only now that it has no room
            except OSError as error:
                self.refuse(error)
        if self.fault is not None:
            raise self.fault
        return self._hash.hexdigest()

    def refuse(self, fault: Exception) -> None:
        """Nothing of it stays on the disk, and `fault` is what `finish` will raise."""
        self.fault = fault
        self.discard()

    def discard(self) -> None:
        """The file is closed and gone, unless it was handed over already."""
        handle, self._handle = self._handle, -1
        if handle >= 0:
            with contextlib.suppress(OSError):
                os.close(handle)
        with contextlib.suppress(OSError):
            self.path.unlink()

    def _put(self, data: memoryview) -> None:
        while data:
            written = os.write(self._handle, data)
            self.size += written
            data = data[written:]
        if self.size - self._written_back >= _WRITEBACK_BYTES:
            _begin_writeback(self._handle)
            self._written_back = self.size


def _begin_writeback(handle: int) -> None:
    """The disk is at work on the file already while the rest comes in, so that the fsync at the end is short."""
    if _sync_file_range is not None:
        _sync_file_range(handle, 0, 0, _SYNC_FILE_RANGE_WRITE)


def _linux_sync_file_range() -> Callable[..., int] | None:
    function: Any = getattr(ctypes.CDLL(None), "sync_file_range", None)
    if function is None:
        return None
    function.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
    return cast("Callable[..., int]", function)


_sync_file_range = _linux_sync_file_range()
"""Only a hint, and only Linux has it: sync_file_range(2). What makes an object safe is the vault's fsync."""


def file_meta(offer: Offer) -> bytes:
    """The file meta information of an object (PS3.10 table 7.1-1), explicit little endian, as bytes."""
    elements = _element(0x0001, b"OB", b"\0\1") + b"".join(
        _element(number, b"UI", uid.encode("ascii"))
        for number, uid in (
            (0x0002, offer.sop_class_uid),
            (0x0003, offer.sop_instance_uid),
            (0x0010, offer.transfer_syntax_uid),
            (0x0012, PYNETDICOM_IMPLEMENTATION_UID),
        )
    )
    return _element(0x0000, b"UL", len(elements).to_bytes(4, "little")) + elements


def _element(number: int, vr: bytes, value: bytes) -> bytes:
    value += b"\0" * (len(value) % 2)
    length = len(value).to_bytes(4, "little")
    return b"\2\0" + number.to_bytes(2, "little") + vr + (b"\0\0" + length if vr == b"OB" else length[:2]) + value
