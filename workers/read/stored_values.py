"""
Stored values of a radiograph: its pixel data decoded, as the integers that the modality wrote.

Runs in the killable process only. A frame is offered to one decoder after the other, the fastest first; each
name is told before it is tried, so that a decoder that takes the process down is known and left out next time.
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
from workers.read.admission import frames
from workers.read.codestream import Codestream, codestream, mended
from workers.read.confinement import memory_left_mb
from workers.read.header import text, whole
from workers.read.source_file import Source

Words = npt.NDArray[np.uint16]

LOSSY = frozenset({JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless, JPEG2000})
GREY = frozenset({"MONOCHROME1", "MONOCHROME2", "PALETTE COLOR"})
COLOUR = frozenset({"RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT"})

NEEDED_BYTES = 12
"""Memory that a codec takes for each sample; with less left, its failure says nothing about the file."""


@dataclass(frozen=True)
class Layout:
    """How Image Pixel (PS3.3 C.7.6.3) says that a pixel is stored."""

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
class Stored:
    """One frame. `words` holds value minus `layout.lowest`, so that signed ones index a table too."""

    words: Words
    layout: Layout
    colour: bool
    """True if the frame was colour and `words` is its luminance."""


def layout_of(header: Dataset) -> Layout:
    """
    The layout, or Ungradable: UNREADABLE where it is contradictory, NOT_A_RADIOGRAPH for single bits.

    A High Bit that cannot be is taken as Bits Stored - 1, which the standard has required since 2007.
    """
    allocated, stored = whole(header, "BitsAllocated") or 0, whole(header, "BitsStored")
    stored = allocated if stored is None else stored
    high_bit = whole(header, "HighBit")
    photometric, samples = text(header, "PhotometricInterpretation").upper(), whole(header, "SamplesPerPixel")
    samples = (3 if photometric in COLOUR else 1) if samples is None else samples
    if allocated == 1:
        raise Ungradable(reason("NOT_A_RADIOGRAPH"), "one bit a pixel")
    if allocated not in (8, 16) or not 2 <= stored <= allocated:
        raise Ungradable(reason("UNREADABLE"), f"{stored} bits stored of {allocated} allocated")
    if (photometric, samples) not in {(each, 1) for each in GREY} | {(each, 3) for each in COLOUR}:
        raise Ungradable(reason("UNREADABLE"), "photometric interpretation and samples per pixel do not agree")
    if high_bit is None or not stored - 1 <= high_bit < allocated:
        high_bit = stored - 1
    return Layout(
        rows=whole(header, "Rows") or 0,
        columns=whole(header, "Columns") or 0,
        allocated=allocated,
        stored=stored,
        high_bit=high_bit,
        signed=whole(header, "PixelRepresentation") == 1 and samples == 1,
        samples=samples,
        planar=whole(header, "PlanarConfiguration") or 0,
        photometric=photometric,
    )


def stored_frames(
    source: Source, *, max_megapixels: float, avoid: Collection[str], trying: Callable[[str], None]
) -> list[Stored]:
    """
    Every frame of the pixel data.

    Raises
    ------
    Ungradable
        UNREADABLE where no decoder can read it, TOO_LARGE where the compressed frame is, whatever the header says.
    """
    layout, syntax = layout_of(source.header), source.transfer_syntax
    if syntax not in TRANSFER_SYNTAXES:
        raise Ungradable(reason("UNREADABLE"), "its transfer syntax is unknown")
    data, vr = source.pixel_data()
    number = frames(source.header)
    if not syntax.is_encapsulated:
        return [_native(data, vr, index, number, layout, syntax) for index in range(number)]
    return [
        _compressed(get_frame(data, index, number_of_frames=number), layout, syntax, max_megapixels, avoid, trying)
        for index in range(number)
    ]


def _native(data: bytes, vr: str, index: int, number: int, layout: Layout, syntax: UID) -> Stored:
    array, told = get_decoder(syntax).as_array(
        data, index=index, **_options(layout, number_of_frames=number, pixel_vr=vr, view_only=True)
    )
    return _stored(array, str(told["photometric_interpretation"]), layout, layout.allocated, lossy=False)


def _compressed(
    frame: bytes,
    layout: Layout,
    syntax: UID,
    max_megapixels: float,
    avoid: Collection[str],
    trying: Callable[[str], None],
) -> Stored:
    """The frame as the first decoder that can read it leaves it."""
    own = codestream(frame)
    precision = own.precision if own else layout.allocated
    _believable(own, len(frame), layout, max_megapixels)
    data, decoder, said = encapsulate([mended(frame)], has_bot=False), get_decoder(syntax), "none is left"
    for plugin in sorted(set(decoder.available_plugins) - set(avoid), key=_order(syntax).index):
        trying(plugin)
        try:
            array, told = decoder.as_array(
                data, index=0, decoding_plugin=plugin, **_options(layout, number_of_frames=1, pixel_vr="OB")
            )
        except MemoryError:
            raise Permanent(reason("DECODER_LIMIT"), "not enough memory to decode it") from None
        except Exception as fault:  # noqa: BLE001 - decoders raise whatever they like; the next one may do it
            said = type(fault).__name__
            continue
        lossy = syntax in LOSSY
        return _stored(array, str(told["photometric_interpretation"]), layout, precision, lossy=lossy)
    if memory_left_mb() < layout.rows * layout.columns * layout.samples * NEEDED_BYTES / 2**20:
        raise Permanent(reason("DECODER_LIMIT"), "not enough memory to decode it")
    raise Ungradable(reason("UNREADABLE"), f"no decoder can read it ({said})")


def _believable(own: Codestream | None, size: int, layout: Layout, max_megapixels: float) -> None:
    """Ungradable where the compressed frame is no picture of the size that the header tells."""
    if size > 2 * layout.rows * layout.columns * layout.samples * layout.allocated // 8 + 65536:
        raise Ungradable(reason("UNREADABLE"), "the compressed frame is much larger than its picture")
    if own is None:
        return
    if own.rows * own.columns > max_megapixels * 1e6:
        raise Ungradable(reason("TOO_LARGE"), f"{own.rows} x {own.columns} pixels in the compressed frame")
    if (own.rows, own.columns, own.components) != (layout.rows, layout.columns, layout.samples) or own.precision > 16:
        raise Ungradable(reason("UNREADABLE"), "the compressed frame has another format than the header says")


def _options(layout: Layout, **more: int | str) -> Any:  # pydicom's DecodeOptions
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
        **more,
    }


def _order(syntax: UID) -> tuple[str, ...]:
    """Measured on films of 3 to 14 megapixels: GDCM is twice as fast for lossless JPEG, and slower for the rest."""
    if syntax in (JPEGLossless, JPEGLosslessSV1):
        return ("gdcm", "pylibjpeg", "pyjpegls", "pillow", "pydicom")
    return ("pyjpegls", "pylibjpeg", "pillow", "gdcm", "pydicom")


def _stored(
    array: npt.NDArray[np.integer[Any]], photometric: str, layout: Layout, precision: int, *, lossy: bool
) -> Stored:
    array = array.astype(array.dtype.newbyteorder("="), copy=False)  # big endian files leave it as it lay there
    unsigned = array.view(f"u{array.dtype.itemsize}")
    if layout.samples == 3:
        # Y of full-range YBR is the luminance already (PS3.3 C.7.6.3.1.2).
        grey = unsigned[..., 0] if photometric.startswith("YBR") else cv2.cvtColor(unsigned, cv2.COLOR_RGB2GRAY)
        return Stored(grey.astype(np.uint16), layout, colour=True)
    words = unsigned.astype(np.uint16, copy=False)
    # Bits above or below the stored ones may hold overlays (PS3.5 8.1.1 of 2004 and before). A codec that kept
    # no more bits than are stored has no room for them, and nothing to shift.
    shift = layout.high_bit + 1 - layout.stored if precision > layout.stored and not lossy else 0
    if shift:
        words = words >> np.uint16(shift)
    # A lossy codec may overshoot the stored range; there the bits above are no overlay but part of the value.
    bits = precision if lossy else min(layout.stored, precision)
    if layout.signed or int(words.max(initial=0)) >> bits:
        words = words & np.uint16((1 << bits) - 1)
    if layout.signed:
        words = words ^ np.uint16(1 << bits - 1)  # two's complement, moved so that the lowest value is 0
    return Stored(_aligned(words, bits, layout), layout, colour=False)


def _aligned(words: Words, bits: int, layout: Layout) -> Words:
    """Values of `bits` bits as those of the stored ones: 0 stands for the lowest of these."""
    lowest = (1 << bits - 1) - (1 << layout.stored - 1) if layout.signed else 0
    if bits > layout.stored:
        words = np.clip(words, lowest, lowest + layout.levels - 1)
    if lowest:
        words = words - np.uint16(lowest) if lowest > 0 else words + np.uint16(-lowest)
    return np.ascontiguousarray(words)
