"""
A header that can be trusted: what a dirty data set says, read without ever raising, and written clean.

The killable process rewrites every header it hands on: bounded in size, count and depth, text kept byte for
byte, and without the elements that pydicom cannot read. So whoever asks it for a value gets one, or none.
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
"""Longer values (look-up tables, overlays, private blobs) are left out of the header that is handed on."""
MAX_HEADER_BYTES = 8 << 20

TEXT = frozenset(("AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UI", "UR", "UT"))
_LEFT_OUT = frozenset({Tag(0x0088, 0x0200)})  # Icon Image Sequence: pixel data of its own
STRANGE = (
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    NotImplementedError,  # pydicom raises it at a VR that it does not know
    ArithmeticError,
    BytesLengthException,
    struct_error,
)
"""What pydicom raises when it meets a value that its VR does not allow."""


def text(header: Dataset, keyword: str) -> str:
    """The attribute's first value as text; empty where it is absent, empty or cannot be read."""
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
    """The attribute's values as finite numbers; empty where it is absent or any of them is none."""
    value = _value(header, keyword)
    if value is None or value == "":
        return []
    if isinstance(value, bytes):
        return [float(word) for word in words(header, value)]
    each = value if hasattr(value, "__iter__") and not isinstance(value, str) else [value]
    try:
        read = [float(number) for number in each]
    except STRANGE:
        return []
    return read if all(math.isfinite(number) for number in read) else []


def whole(header: Dataset, keyword: str) -> int | None:
    """The attribute's first value if it is a whole number."""
    read = numbers(header, keyword)
    return int(read[0]) if read and read[0] == int(read[0]) else None


def items(header: Dataset, keyword: str) -> list[Dataset]:
    """The items of a sequence; none where it is absent or no sequence."""
    value = _value(header, keyword)
    if value is None or isinstance(value, str | bytes) or not hasattr(value, "__iter__"):
        return []
    return [item for item in value if isinstance(item, Dataset)]


def words(header: Dataset, value: bytes) -> list[int]:
    """The 16-bit words of an OW, or of a US whose bytes pydicom left alone, in the data set's byte order."""
    little = header.original_encoding[1] is not False
    return [int(word) for (word,) in iter_unpack("<H" if little else ">H", value[: len(value) & ~1])]


def _value(header: Dataset, keyword: str) -> Any:
    tag = tag_for_keyword(keyword)
    try:
        return header[tag].value if tag is not None and tag in header else None
    except STRANGE:
        return None


def encode(header: Dataset) -> bytes:
    """
    The header without pixel data as explicit VR little endian, within the limits above.

    Call it before anything else looks at the header: pydicom forgets the bytes of a text once it was read.

    Raises
    ------
    Ungradable
        UNREADABLE where the header is nested too deeply or too large: no radiograph's is.
    """
    count = [0]
    written = _encoded(header, 0, count)
    if len(written) > MAX_HEADER_BYTES:
        raise Ungradable(reason("UNREADABLE"), "the header is larger than any radiograph's")
    return written


def decode(written: bytes, transfer_syntax_uid: str) -> Dataset:
    """The data set that `encode` wrote; its file meta information says how the pixels came, lossy or not."""
    header = read_dataset(BytesIO(written), is_implicit_VR=False, is_little_endian=True)
    header.file_meta = FileMetaDataset()
    if is_uid(transfer_syntax_uid):
        header.file_meta.TransferSyntaxUID = UID(transfer_syntax_uid)
    return header


def _encoded(dataset: Dataset, depth: int, count: list[int]) -> bytes:
    if depth > MAX_DEPTH:
        raise Ungradable(reason("UNREADABLE"), "the header is nested too deeply")
    return b"".join(_element(dataset, tag, depth, count) for tag in _tags(dataset, depth))


def _tags(dataset: Dataset, depth: int) -> Iterator[BaseTag]:
    for tag in sorted(dataset.keys()):
        beyond = tag.group >= 0x7FE0 or (tag.group & 0xFF01) == 0x5000 or tag.group < 0x0008
        if not beyond and tag.element != 0 and tag not in _LEFT_OUT:
            yield tag


def _element(dataset: Dataset, tag: BaseTag, depth: int, count: list[int]) -> bytes:
    """One element as bytes; none if it is too long, or if it cannot be read or written."""
    count[0] += 1
    if count[0] > MAX_ELEMENTS:
        raise Ungradable(reason("UNREADABLE"), f"the header has more than {MAX_ELEMENTS} elements")
    raw = dataset.get_item(tag)
    if isinstance(raw, RawDataElement) and len(raw.value or b"") > MAX_ELEMENT_BYTES:
        return b""
    try:
        element = dataset[tag]
        if element.VR == "SQ":
            return _sequence(element, depth, count)
        if isinstance(raw, RawDataElement) and element.VR in TEXT:
            value = raw.value or b""
            return _written(RawDataElement(tag, element.VR, len(value), value, 0, False, True))
        written = _written(element)
        return written if len(written) <= MAX_ELEMENT_BYTES else b""
    except STRANGE:
        return b""


def _sequence(element: DataElement, depth: int, count: list[int]) -> bytes:
    contents = [_encoded(item, depth + 1, count) for item in element.value or ()]
    body = b"".join(pack("<HHL", 0xFFFE, 0xE000, len(content)) + content for content in contents)
    return pack("<HH2sHL", element.tag.group, element.tag.element, b"SQ", 0, len(body)) + body


def _written(element: DataElement | RawDataElement) -> bytes:
    if isinstance(element, RawDataElement) and len(element.value or b"") % 2:
        pad = b"\0" if element.VR == "UI" else b" "
        element = element._replace(value=(element.value or b"") + pad, length=element.length + 1)
    buffer = DicomBytesIO()
    buffer.is_implicit_VR, buffer.is_little_endian = False, True
    write_data_element(buffer, element)
    return buffer.getvalue()
