"""
Header values read without raising, and headers rewritten so that pydicom can read all of them.

The decoder process rewrites every header that it sends: bounded in size, count and depth, text byte for byte, and
without the elements that pydicom cannot read. So every attribute of it has a readable value, or is absent.
"""

import math
from collections.abc import Iterable, Iterator
from io import BytesIO
from struct import error as struct_error
from struct import iter_unpack, pack
from typing import Any

from pydicom import Dataset
from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import FileMetaDataset
from pydicom.errors import BytesLengthException
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_data_element
from pydicom.tag import BaseTag, Tag
from pydicom.uid import UID

from node.errors import Ungradable
from node.radiograph import is_uid
from node.reasons import reason

MAX_ELEMENTS = 20_000
MAX_DEPTH = 16
MAX_ELEMENT_BYTES = 60_000
"""Longer values (look-up tables, overlays, private blobs) are left out of the rewritten header."""
MAX_HEADER_BYTES = 8 << 20

TEXT_VRS = frozenset(
    ("AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UI", "UR", "UT")
)
_EXCLUDED = frozenset({Tag(0x0088, 0x0200)})  # Icon Image Sequence: pixel data of its own
INVALID_VALUE_ERRORS = (
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    NotImplementedError,  # pydicom raises it for an unknown VR
    ArithmeticError,
    BytesLengthException,
    struct_error,
)
"""What pydicom raises for a value that its VR does not allow."""


def text(header: Dataset, keyword: str) -> str:
    """The attribute's first value as text; empty where it is absent, empty or unreadable."""
    value = _value(header, keyword)
    if not isinstance(value, str | bytes) and hasattr(value, "__getitem__"):
        value = value[0] if len(value) else None
    if isinstance(value, bytes):
        value = value.decode("ascii", "replace")
    return "" if value is None else str(value).strip(" \0")


def texts(header: Dataset, paths: Iterable[tuple[str, ...]]) -> dict[tuple[str, ...], list[str]]:
    """
    For each path of keywords the first value, as text, of the attribute at its end, in each item that holds it.

    A path of one keyword has one text, empty where the attribute is absent; one through sequences has as many as items.
    """
    found = {}
    for path in paths:
        datasets = [header]
        for sequence in path[:-1]:
            datasets = [item for dataset in datasets for item in items(dataset, sequence)]
        found[path] = [text(dataset, path[-1]) for dataset in datasets]
    return found


def numbers(header: Dataset, keyword: str) -> list[float]:
    """The attribute's values as finite numbers; empty where it is absent or one of them is not a finite number."""
    value = _value(header, keyword)
    if value is None or value == "":
        return []
    if isinstance(value, bytes):
        return [float(word) for word in words(header, value)]
    values = value if hasattr(value, "__iter__") and not isinstance(value, str) else [value]
    try:
        floats = [float(number) for number in values]
    except INVALID_VALUE_ERRORS:
        return []
    return floats if all(math.isfinite(number) for number in floats) else []


def integer(header: Dataset, keyword: str) -> int | None:
    """The attribute's first value if it is an integer."""
    values = numbers(header, keyword)
    return int(values[0]) if values and values[0] == int(values[0]) else None


def items(header: Dataset, keyword: str) -> list[Dataset]:
    """The items of a sequence; empty where it is absent or no sequence."""
    value = _value(header, keyword)
    if value is None or isinstance(value, str | bytes) or not hasattr(value, "__iter__"):
        return []
    return [item for item in value if isinstance(item, Dataset)]


def words(header: Dataset, value: bytes) -> list[int]:
    """The 16-bit words of an OW, or of a US that pydicom left as bytes, in the data set's byte order."""
    little = header.original_encoding[1] is not False
    return [int(word) for (word,) in iter_unpack("<H" if little else ">H", value[: len(value) & ~1])]


def _value(header: Dataset, keyword: str) -> Any:
    tag = tag_for_keyword(keyword)
    try:
        return header[tag].value if tag is not None and tag in header else None
    except INVALID_VALUE_ERRORS:
        return None


def encode(header: Dataset) -> bytes:
    """
    The header without pixel data as explicit VR little endian, within the limits above.

    Call it before any value of the header is read: pydicom then drops the bytes of a text.

    Raises
    ------
    Ungradable
        UNREADABLE where the header is nested more deeply or larger than any radiograph's.
    """
    count = [0]
    encoded = _encode_dataset(header, 0, count)
    if len(encoded) > MAX_HEADER_BYTES:
        raise Ungradable(reason("UNREADABLE"), "the header is larger than any radiograph's")
    return encoded


def decode(encoded: bytes, transfer_syntax_uid: str) -> Dataset:
    """The data set that `encode` wrote, with the source's transfer syntax, lossy or not, in its file meta."""
    header = read_dataset(BytesIO(encoded), is_implicit_VR=False, is_little_endian=True)
    header.file_meta = FileMetaDataset()
    if is_uid(transfer_syntax_uid):
        header.file_meta.TransferSyntaxUID = UID(transfer_syntax_uid)
    return header


def _encode_dataset(dataset: Dataset, depth: int, count: list[int]) -> bytes:
    if depth > MAX_DEPTH:
        raise Ungradable(reason("UNREADABLE"), "the header is nested too deeply")
    return b"".join(_encode_element(dataset, tag, depth, count) for tag in _tags(dataset, depth))


def _tags(dataset: Dataset, depth: int) -> Iterator[BaseTag]:
    for tag in sorted(dataset.keys()):
        excluded_group = tag.group >= 0x7FE0 or (tag.group & 0xFF01) == 0x5000 or tag.group < 0x0008
        if not excluded_group and tag.element != 0 and tag not in _EXCLUDED:
            yield tag


def _encode_element(dataset: Dataset, tag: BaseTag, depth: int, count: list[int]) -> bytes:
    """One element as bytes; empty if it is too long, or cannot be read or written."""
    count[0] += 1
    if count[0] > MAX_ELEMENTS:
        raise Ungradable(reason("UNREADABLE"), f"the header has more than {MAX_ELEMENTS} elements")
    raw = dataset.get_item(tag)
    if isinstance(raw, RawDataElement) and len(raw.value or b"") > MAX_ELEMENT_BYTES:
        return b""
    try:
        element = dataset[tag]
        if element.VR == "SQ":
            return _encode_sequence(element, depth, count)
        if isinstance(raw, RawDataElement) and element.VR in TEXT_VRS:
            value = raw.value or b""
            return _write(RawDataElement(tag, element.VR, len(value), value, 0, False, True))
        encoded = _write(element)
        return encoded if len(encoded) <= MAX_ELEMENT_BYTES else b""
    except INVALID_VALUE_ERRORS:
        return b""


def _encode_sequence(element: DataElement, depth: int, count: list[int]) -> bytes:
    contents = [_encode_dataset(item, depth + 1, count) for item in element.value or ()]
    body = b"".join(pack("<HHL", 0xFFFE, 0xE000, len(content)) + content for content in contents)
    return pack("<HH2sHL", element.tag.group, element.tag.element, b"SQ", 0, len(body)) + body


def _write(element: DataElement | RawDataElement) -> bytes:
    if isinstance(element, RawDataElement) and len(element.value or b"") % 2:
        pad = b"\0" if element.VR == "UI" else b" "
        element = element._replace(value=(element.value or b"") + pad, length=element.length + 1)
    buffer = DicomBytesIO()
    buffer.is_implicit_VR, buffer.is_little_endian = False, True
    write_data_element(buffer, element)
    return buffer.getvalue()
