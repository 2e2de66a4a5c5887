"""
An untrusted file, opened within limits: its header is parsed, its pixel data not yet read.

Runs in the decoder process only. pydicom reads all that a file declares; the limits here end that early for files
that declare what no radiograph has: a million elements, a deflated gigabyte, a huge header.
"""

import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.errors import InvalidDicomError
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset, read_partial
from pydicom.filewriter import write_file_meta_info
from pydicom.tag import BaseTag
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from node.errors import Permanent, Ungradable
from node.reasons import reason

MAX_READS = 60_000
"""pydicom reads an element in two or three steps; a radiograph's header has some hundred elements."""

MAX_HEADER_BYTES = 256 << 20
PIXEL_TAGS = (0x7FE00008, 0x7FE00009, 0x7FE00010)


@dataclass(frozen=True)
class Source:
    """An opened file: its header, and a stream at its pixel data."""

    header: Dataset
    transfer_syntax: UID
    stream: BinaryIO

    def pixel_data(self) -> tuple[bytes, str]:
        """
        The value of Pixel Data, encapsulated or not, and its VR.

        Raises
        ------
        Ungradable
            NO_PIXELS where there is none, UNREADABLE for floating point pixels (PS3.3 C.7.6.24), which no film has.
        """
        implicit, little = self.header.original_encoding
        ds = read_dataset(
            self.stream, bool(implicit), little is not False, stop_when=lambda tag, _vr, _length: tag > PIXEL_TAGS[-1]
        )
        if "PixelData" not in ds and ("FloatPixelData" in ds or "DoubleFloatPixelData" in ds):
            raise Ungradable(reason("UNREADABLE"), "the pixels are floating point numbers")
        element = ds.get_item("PixelData") if "PixelData" in ds else None
        if element is None or not isinstance(element.value, bytes) or not element.value:
            raise Ungradable(reason("NO_PIXELS"))
        return element.value, str(element.VR or "OW")


class _LimitedStream:
    """A stream that ends the reading of an endless header; pydicom has no such limit for sequences."""

    def __init__(self, stream: BinaryIO) -> None:
        self.stream = stream
        self.reads = 0
        self.bytes = 0
        self.seek, self.tell = stream.seek, stream.tell

    def read(self, size: int = -1) -> bytes:
        self.reads += 1
        if self.reads > MAX_READS or self.bytes + size > MAX_HEADER_BYTES:
            raise Ungradable(reason("UNREADABLE"), "the header goes on for longer than any radiograph's")
        data = self.stream.read(size)
        self.bytes += len(data)
        return data


def open_source(path: Path, *, max_inflated_bytes: int) -> Source:
    """
    The header of a DICOM file, with or without the preamble and file meta information.

    Raises
    ------
    Ungradable
        UNREADABLE where it is no DICOM file or its header exceeds the limits.
    Permanent
        DECODER_LIMIT where a deflated data set grows beyond `max_inflated_bytes`.
    """
    stream: BinaryIO = path.open("rb")
    syntax, begin = _declared_syntax(stream)
    if syntax == DeflatedExplicitVRLittleEndian:
        stream, syntax = _inflated(stream, begin, max_inflated_bytes), ExplicitVRLittleEndian
    try:
        header = read_partial(cast(BinaryIO, _LimitedStream(stream)), stop_when=_is_pixel_tag)
    except InvalidDicomError:
        stream.seek(0)
        header = read_partial(cast(BinaryIO, _LimitedStream(stream)), stop_when=_is_pixel_tag, force=True)
        if "SOPClassUID" not in header:
            raise Ungradable(reason("UNREADABLE"), "it is no DICOM file") from None
    if not syntax:
        implicit, little = header.original_encoding
        syntax = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian if little else ExplicitVRBigEndian
    return Source(header, syntax, stream)


def _is_pixel_tag(tag: BaseTag, _vr: str | None, _length: int) -> bool:
    return tag in PIXEL_TAGS


def _declared_syntax(stream: BinaryIO) -> tuple[UID, int]:
    """The transfer syntax of the file meta information (empty without one), and where that information begins."""
    preamble = stream.read(132)
    begin = 132 if preamble[128:] == b"DICM" else 0
    stream.seek(begin)
    value = _file_meta(stream).get("TransferSyntaxUID")
    stream.seek(0)
    return UID(str(value).strip(" \0")) if value else UID(""), begin


def _file_meta(stream: BinaryIO) -> FileMetaDataset:
    """The file meta information at the stream's position; empty if there is none."""
    limited = cast(BinaryIO, _LimitedStream(stream))
    return FileMetaDataset(read_dataset(limited, False, True, stop_when=lambda tag, _vr, _length: tag.group != 2))


def _inflated(stream: BinaryIO, begin: int, max_bytes: int) -> BinaryIO:
    """The same file as explicit VR little endian; a decompression bomb is stopped at `max_bytes` (PS3.5 A.5)."""
    stream.seek(begin)
    meta = _file_meta(stream)
    data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(stream.read(), max_bytes + 1)
    if len(data) > max_bytes:
        raise Permanent(reason("DECODER_LIMIT"), "the deflated data set grows beyond any radiograph")
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    plain = DicomBytesIO()
    plain.is_little_endian, plain.is_implicit_VR = True, False
    plain.write(bytes(128) + b"DICM")
    write_file_meta_info(plain, meta, enforce_standard=False)
    plain.write(data)
    plain.seek(0)
    return cast(BinaryIO, plain)
