"""
Reads from the first bytes of a data set which instance it is.

SOP Class UID (0008,0016) and SOP Instance UID (0008,0018) are at the beginning of every data set (PS3.5 7.1: tags
ascend). Nothing here recurses, allocates by a length that the peer wrote, or reads beyond the bytes it was given.
"""

import contextlib
from dataclasses import dataclass

from pydicom import uid as dicom

from node.errors import Refused
from node.receive import statuses

HEAD_BYTES = 16384
"""How many bytes of a data set are read."""

_SOP_CLASS_UID = 0x00080016
_SOP_INSTANCE_UID = 0x00080018
_UNDEFINED_LENGTH = 0xFFFFFFFF
_SHORT_VRS = frozenset(b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())
_LONG_VRS = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())


class _NotADataSet(Exception):  # noqa: N818 - an outcome
    """The bytes are no data set in this encoding."""


@dataclass(frozen=True)
class _Identity:
    uids: dict[int, str]
    is_complete: bool
    """Whether the elements were read to beyond (0008,0018), so that an absent UID is really absent."""


def check_identity(head: bytes, *, transfer_syntax_uid: str, sop_class_uid: str, sop_instance_uid: str) -> None:
    """
    Check that the data set that begins with `head` is the instance that the command names.

    Deflated data sets, and elements of undefined length before the UIDs, are left to the worker, which reads all of it.

    Raises
    ------
    Refused
        0xA900 when the data set names another class or instance or none, 0xC000 when it is no data set.
    """
    if transfer_syntax_uid == dicom.DeflatedExplicitVRLittleEndian:
        return
    identity = _read_identity(head, transfer_syntax_uid)
    if identity is None:
        raise Refused(statuses.CANNOT_UNDERSTAND, "the bytes are no data set of the transfer syntax")
    for tag, expected, keyword in (
        (_SOP_CLASS_UID, sop_class_uid, "SOP Class UID"),
        (_SOP_INSTANCE_UID, sop_instance_uid, "SOP Instance UID"),
    ):
        uid = identity.uids.get(tag)
        if uid is None and identity.is_complete:
            raise Refused(statuses.MISMATCH, f"the data set has no {keyword}")
        if uid is not None and uid != expected:
            raise Refused(statuses.MISMATCH, f"{keyword} of data set and command differ")


def _read_identity(head: bytes, transfer_syntax_uid: str) -> _Identity | None:
    """The UIDs in the data set; None if it is no data set. Some senders write the other VR form than negotiated."""
    if not head:
        return None
    implicit = transfer_syntax_uid == dicom.ImplicitVRLittleEndian
    big = transfer_syntax_uid == dicom.ExplicitVRBigEndian
    try:
        identity = _read_elements(head, implicit=implicit, big=big)
    except _NotADataSet:
        identity = None
    if (identity is not None and identity.uids) or big:
        return identity
    with contextlib.suppress(_NotADataSet):
        other = _read_elements(head, implicit=not implicit, big=False)
        if other.uids:
            return other
    return identity


def _read_elements(head: bytes, *, implicit: bool, big: bool) -> _Identity:
    order = "big" if big else "little"
    uids: dict[int, str] = {}
    at, last = 0, -1
    while at + 8 <= len(head):
        tag = int.from_bytes(head[at : at + 2], order) << 16 | int.from_bytes(head[at + 2 : at + 4], order)  # type: ignore[arg-type]
        if tag <= last:
            raise _NotADataSet
        if tag > _SOP_INSTANCE_UID:
            _value_position(head, at, implicit=implicit, big=big)  # the last element read must be a valid one too
            return _Identity(uids, is_complete=True)
        begin, length = _value_position(head, at, implicit=implicit, big=big)
        if length == _UNDEFINED_LENGTH:
            return _Identity(uids, is_complete=False)
        if begin + length > len(head):
            break
        if tag in (_SOP_CLASS_UID, _SOP_INSTANCE_UID):
            uids[tag] = head[begin : begin + length].decode("ascii", errors="replace").rstrip("\0 ")
        at, last = begin + length, tag
    if len(head) < HEAD_BYTES and at < len(head):
        raise _NotADataSet  # it ends in the middle of an element
    return _Identity(uids, is_complete=len(head) < HEAD_BYTES)


def _value_position(head: bytes, at: int, *, implicit: bool, big: bool) -> tuple[int, int]:
    """Where the value of the element at `at` begins, and its length (PS3.5 7.1.2, 7.1.3)."""
    if implicit:
        return at + 8, int.from_bytes(head[at + 4 : at + 8], "little")
    vr = head[at + 4 : at + 6]
    if vr in _SHORT_VRS:
        return at + 8, int.from_bytes(head[at + 6 : at + 8], "big" if big else "little")
    if vr in _LONG_VRS:
        return at + 12, int.from_bytes(head[at + 8 : at + 12], "big" if big else "little")
    raise _NotADataSet
