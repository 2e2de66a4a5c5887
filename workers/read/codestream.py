"""What a compressed frame says of itself: its size and precision, read before a decoder is let near it."""

from collections.abc import Iterator
from dataclasses import dataclass
from struct import error as struct_error
from struct import unpack_from


@dataclass(frozen=True)
class Codestream:
    """Size, bits of a sample, and number of components, as the frame itself has them."""

    rows: int
    columns: int
    precision: int
    components: int


_FRAME_HEADERS = frozenset((*range(0xC0, 0xD0), 0xF7)) - {0xC4, 0xC8, 0xCC}
"""Start-of-frame markers of JPEG (ITU-T T.81 B.1.1.3) and JPEG-LS (T.87); DHT, JPG and DAC lie among them."""

_SEQUENTIAL = (0xC0, 0xC1)
_SCAN = 0xDA
_WHOLE_BLOCK = b"\x00\x3f\x00"
"""Ss, Se, AhAl of a sequential scan: all 64 coefficients, no approximation (T.81 table B.3)."""

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
    for marker, at in _segments(frame):
        if marker in _FRAME_HEADERS:
            precision, rows, columns, components = unpack_from(">BHHB", frame, at + 4)
            return Codestream(rows, columns, precision, components)
    return None


def mended(frame: bytes) -> bytes:
    """
    The frame with the scan parameters that a sequential JPEG must have.

    Some encoders write zeros there, the NEMA sample images of 12-bit JPEG among them; libjpeg reads on with a
    warning, the strict decoder, the only one here for 12 bits, refuses.
    """
    sequential = False
    try:
        for marker, at in _segments(frame) if frame[:2] == b"\xff\xd8" else ():
            sequential = sequential or marker in _SEQUENTIAL
            if marker == _SCAN and sequential:
                end = at + 2 + (frame[at + 2] << 8 | frame[at + 3])
                return frame[: end - 3] + _WHOLE_BLOCK + frame[end:]
    except IndexError:
        pass
    return frame


def _segments(frame: bytes) -> Iterator[tuple[int, int]]:
    """Markers up to the first scan, and where each begins."""
    at = 2
    while frame[at] == 0xFF:
        marker = frame[at + 1]
        if marker == 0xFF:  # a fill byte (T.81 B.1.1.2)
            at += 1
            continue
        yield marker, at
        if marker == _SCAN:
            return
        at += 2 + (frame[at + 2] << 8 | frame[at + 3])
