"""The header of a compressed frame: size and precision, parsed before a decoder gets the frame."""

from collections.abc import Iterator
from dataclasses import dataclass
from struct import error as struct_error
from struct import unpack_from


@dataclass(frozen=True)
class Codestream:
    """Size, bits of a sample and number of components, by the frame's own header."""

    rows: int
    columns: int
    precision: int
    components: int


_FRAME_HEADERS = frozenset((*range(0xC0, 0xD0), 0xF7)) - {0xC4, 0xC8, 0xCC}
"""Start-of-frame markers of JPEG (ITU-T T.81 B.1.1.3) and JPEG-LS (T.87); DHT, JPG and DAC lie among them."""

_SCAN = 0xDA

_SIZ = b"\xff\x4f\xff\x51"
"""Start of a JPEG 2000 codestream and its SIZ marker (ITU-T T.800 A.5.1)."""


def codestream(frame: bytes) -> Codestream | None:
    """The header of a JPEG, JPEG-LS or JPEG 2000 frame; None where there is none, as in RLE."""
    try:
        start = frame.find(_SIZ, 0, 4096)
        if start >= 0:
            return _jpeg_2000(frame, start)
        return _jpeg(frame) if frame[:2] == b"\xff\xd8" else None
    except (IndexError, struct_error):
        return None


def _jpeg_2000(frame: bytes, start: int) -> Codestream:
    x1, y1, x0, y0 = unpack_from(">4L", frame, start + 8)
    components, depth = unpack_from(">HB", frame, start + 40)
    return Codestream(y1 - y0, x1 - x0, (depth & 0x7F) + 1, components)


def _jpeg(frame: bytes) -> Codestream | None:
    for marker, offset in _segments(frame):
        if marker in _FRAME_HEADERS:
            precision, rows, columns, components = unpack_from(">BHHB", frame, offset + 4)
            return Codestream(rows, columns, precision, components)
    return None


def _segments(frame: bytes) -> Iterator[tuple[int, int]]:
    """Markers up to the first scan, each with its offset."""
    offset = 2
    while frame[offset] == 0xFF:
        marker = frame[offset + 1]
        if marker == 0xFF:  # a fill byte (T.81 B.1.1.2)
            offset += 1
            continue
        yield marker, offset
        if marker == _SCAN:
            return
        offset += 2 + (frame[offset + 2] << 8 | frame[offset + 3])
