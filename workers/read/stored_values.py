"""
Stored values of a radiograph: its pixel data decoded, as the integers that the modality wrote.

Runs in the decoder process only. The codecs are tried one after the other, the fastest first. The name of each is
reported before it is tried, so that a codec that crashes the process is known and left out next time.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from pydicom import Dataset
from pydicom.encaps import encapsulate, get_frame
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import (
    JPEG2000,
    UID,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSNearLossless,
)

from node.errors import Permanent, Ungradable
from node.radiograph import TRANSFER_SYNTAXES
from node.reasons import reason
from workers.read import imagecodecs_decoder
from workers.read.admission import frame_count
from workers.read.codestream import Codestream, codestream
from workers.read.confinement import memory_left_mb
from workers.read.header import integer, text
from workers.read.source_file import Source

Words = npt.NDArray[np.uint16]

LOSSY = frozenset({JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless, JPEG2000})
GREY = frozenset({"MONOCHROME1", "MONOCHROME2", "PALETTE COLOR"})
COLOUR = frozenset({"RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT"})

for _syntax in imagecodecs_decoder.SYNTAXES:
    get_decoder(_syntax).add_plugin("imagecodecs", (imagecodecs_decoder.__name__, "decode_frame"))

CODEC_BYTES = 12
"""Memory that a codec needs for each sample; with less left, its failure proves nothing about the file."""


@dataclass(frozen=True)
class Layout:
    """How a pixel is stored, by the Image Pixel module (PS3.3 C.7.6.3)."""

    rows: int
    columns: int
    allocated: int
    stored: int
    high_bit: int
    signed: bool
    samples: int
    planar: int
    photometric: str

    @property
    def lowest(self) -> int:
        return -(1 << self.stored - 1) if self.signed else 0

    @property
    def levels(self) -> int:
        return 1 << self.stored


@dataclass(frozen=True)
class StoredFrame:
    """One frame. `words` holds value minus `layout.lowest`, so that signed values index a table too."""

    words: Words
    layout: Layout
    colour: bool
    """True if the frame was colour and `words` is its luminance."""


def layout_of(header: Dataset) -> Layout:
    """
    The layout. Raises Ungradable: UNREADABLE where it is contradictory, NOT_A_RADIOGRAPH for single bits.

    An impossible High Bit is read as Bits Stored - 1, which the standard has required since 2007.
    """
    allocated, stored = integer(header, "BitsAllocated") or 0, integer(header, "BitsStored")
    stored = allocated if stored is None else stored
    high_bit = integer(header, "HighBit")
    photometric, samples = text(header, "PhotometricInterpretation").upper(), integer(header, "SamplesPerPixel")
    samples = (3 if photometric in COLOUR else 1) if samples is None else samples
    if allocated == 1:
        raise Ungradable(reason("NOT_A_RADIOGRAPH"), "one bit a pixel")
    if allocated not in (8, 16) or not 2 <= stored <= allocated:
        raise Ungradable(reason("UNREADABLE"), f"{stored} bits stored of {allocated} allocated")
    if (photometric, samples) not in {(name, 1) for name in GREY} | {(name, 3) for name in COLOUR}:
        raise Ungradable(reason("UNREADABLE"), "photometric interpretation and samples per pixel do not agree")
    if high_bit is None or not stored - 1 <= high_bit < allocated:
        high_bit = stored - 1
    return Layout(
        rows=integer(header, "Rows") or 0,
        columns=integer(header, "Columns") or 0,
        allocated=allocated,
        stored=stored,
        high_bit=high_bit,
        signed=integer(header, "PixelRepresentation") == 1 and samples == 1,
        samples=samples,
        planar=integer(header, "PlanarConfiguration") or 0,
        photometric=photometric,
    )


def stored_frames(
    source: Source, *, max_megapixels: float, avoid: Collection[str], trying: Callable[[str], None]
) -> list[StoredFrame]:
    """
    Every frame of the pixel data.

    Raises
    ------
    Ungradable
        UNREADABLE where no codec can read it, TOO_LARGE where the compressed frame is, whatever the header states.
    """
    layout, syntax = layout_of(source.header), source.transfer_syntax
    if syntax not in TRANSFER_SYNTAXES:
        raise Ungradable(reason("UNREADABLE"), "its transfer syntax is unknown")
    data, vr = source.pixel_data()
    count = frame_count(source.header)
    if not syntax.is_encapsulated:
        return [_native(data, vr, index, count, layout, syntax) for index in range(count)]
    return [
        _compressed(get_frame(data, index, number_of_frames=count), layout, syntax, max_megapixels, avoid, trying)
        for index in range(count)
    ]


def _native(data: bytes, vr: str, index: int, count: int, layout: Layout, syntax: UID) -> StoredFrame:
    array, properties = get_decoder(syntax).as_array(
        data, index=index, **_options(layout, number_of_frames=count, pixel_vr=vr, view_only=True)
    )
    return _stored_frame(array, str(properties["photometric_interpretation"]), layout, layout.allocated, lossy=False)


def _compressed(
    frame: bytes,
    layout: Layout,
    syntax: UID,
    max_megapixels: float,
    avoid: Collection[str],
    trying: Callable[[str], None],
) -> StoredFrame:
    """The frame, decoded by the first codec that can read it."""
    frame_header = codestream(frame)
    precision = frame_header.precision if frame_header else layout.allocated
    _check_frame(frame_header, len(frame), layout, max_megapixels)
    data, decoder = encapsulate([frame], has_bot=False), get_decoder(syntax)
    fault = "none is left"
    for plugin in sorted(set(decoder.available_plugins) - set(avoid), key=_codec_order(syntax).index):
        trying(plugin)
        try:
            array, properties = decoder.as_array(
                data, index=0, decoding_plugin=plugin, **_options(layout, number_of_frames=1, pixel_vr="OB")
            )
        except MemoryError:
            raise Permanent(reason("DECODER_LIMIT"), "not enough memory to decode it") from None
        except Exception as error:  # noqa: BLE001 - codecs raise anything; the next one may read it
            fault = type(error).__name__
            continue
        lossy = syntax in LOSSY
        return _stored_frame(array, str(properties["photometric_interpretation"]), layout, precision, lossy=lossy)
    if memory_left_mb() < layout.rows * layout.columns * layout.samples * CODEC_BYTES / 2**20:
        raise Permanent(reason("DECODER_LIMIT"), "not enough memory to decode it")
    raise Ungradable(reason("UNREADABLE"), f"no decoder can read it ({fault})")


def _check_frame(frame_header: Codestream | None, size: int, layout: Layout, max_megapixels: float) -> None:
    """Raises Ungradable where the compressed frame contradicts the header of the file."""
    if size > 2 * layout.rows * layout.columns * layout.samples * layout.allocated // 8 + 65536:
        raise Ungradable(reason("UNREADABLE"), "the compressed frame is much larger than its picture")
    if frame_header is None:
        return
    rows, columns = frame_header.rows, frame_header.columns
    if rows * columns > max_megapixels * 1e6:
        raise Ungradable(reason("TOO_LARGE"), f"{rows} x {columns} pixels in the compressed frame")
    shape = (rows, columns, frame_header.components)
    if shape != (layout.rows, layout.columns, layout.samples) or frame_header.precision > 16:
        raise Ungradable(reason("UNREADABLE"), "the compressed frame has another format than the header says")


def _options(layout: Layout, **options: int | str) -> Any:  # pydicom's DecodeOptions
    return {
        "raw": layout.samples == 1,
        "correct_unused_bits": False,
        "allow_excess_frames": False,
        "rows": layout.rows,
        "columns": layout.columns,
        "samples_per_pixel": layout.samples,
        "photometric_interpretation": layout.photometric,
        "planar_configuration": layout.planar,
        "bits_allocated": layout.allocated,
        "bits_stored": layout.stored,
        "pixel_representation": int(layout.signed),
        "pixel_keyword": "PixelData",
        **options,
    }


def _codec_order(syntax: UID) -> tuple[str, ...]:
    """Measured on films of 3 to 14 megapixels: GDCM is the fastest for lossless JPEG, and slower for the rest."""
    if syntax in (JPEGLossless, JPEGLosslessSV1):
        return ("gdcm", "imagecodecs", "pylibjpeg", "pyjpegls", "pillow", "pydicom")
    return ("pyjpegls", "imagecodecs", "pylibjpeg", "pillow", "gdcm", "pydicom")


def _stored_frame(
    array: npt.NDArray[np.integer[Any]], photometric: str, layout: Layout, precision: int, *, lossy: bool
) -> StoredFrame:
    array = array.astype(array.dtype.newbyteorder("="), copy=False)  # big endian files leave their byte order
    unsigned = array.view(f"u{array.dtype.itemsize}")
    if layout.samples == 3:
        # Y of full-range YBR is the luminance already (PS3.3 C.7.6.3.1.2).
        grey = unsigned[..., 0] if photometric.startswith("YBR") else cv2.cvtColor(unsigned, cv2.COLOR_RGB2GRAY)
        return StoredFrame(grey.astype(np.uint16), layout, colour=True)
    words = unsigned.astype(np.uint16, copy=False)
    # Bits above or below the stored ones may hold overlays (PS3.5 8.1.1 of 2004 and before). A codec that
    # outputs no more bits than are stored has no room for them, and nothing to shift.
    shift = layout.high_bit + 1 - layout.stored if precision > layout.stored and not lossy else 0
    if shift:
        words = words >> np.uint16(shift)
    # A lossy codec may overshoot the stored range; there the bits above are no overlay but part of the value.
    bits = precision if lossy else min(layout.stored, precision)
    if layout.signed or int(words.max(initial=0)) >> bits:
        words = words & np.uint16((1 << bits) - 1)
    if layout.signed:
        words = words ^ np.uint16(1 << bits - 1)  # two's complement, moved so that the lowest value is 0
    return StoredFrame(_aligned(words, bits, layout), layout, colour=False)


def _aligned(words: Words, bits: int, layout: Layout) -> Words:
    """Words of `bits` bits as words of the stored ones: 0 represents the lowest stored value."""
    lowest = (1 << bits - 1) - (1 << layout.stored - 1) if layout.signed else 0
    if bits > layout.stored:
        words = np.clip(words, lowest, lowest + layout.levels - 1)
    if lowest:
        words = words - np.uint16(lowest) if lowest > 0 else words + np.uint16(-lowest)
    return np.ascontiguousarray(words)
