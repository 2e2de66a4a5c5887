"""
From stored values to grey levels: 0 black, 1 white, bone bright.

The whole chain of PS3.3 C.11 - Modality LUT, VOI LUT or window, Presentation LUT - depends on the stored value alone,
so it is computed once for each possible value, as a table, which is then applied to millions of pixels.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
from pydicom import Dataset
from pydicom.pixels.processing import apply_color_lut

from workers.read.header import INVALID_VALUE_ERRORS, integer, items, numbers, text, words
from workers.read.stored_values import StoredFrame

Table = npt.NDArray[np.float32]
"""One entry for each possible stored value, the lowest first."""

Sample = npt.NDArray[np.intp]
"""Table indices of pixels of the exposed field."""

MIN_SPREAD = 0.1
"""A film whose 2nd and 98th percentile lie closer is all black, all white or all grey."""
MIN_MIDTONES = 0.2
"""Least part of the field that is neither black nor white."""
MAX_WHITE = 0.5
"""Largest part of the field that is clipped at white, where bone is. At black, air may be clipped freely."""
CLIPPED = 0.004
"""One grey level of 8 bits: a value closer to black or white than this counts as clipped."""


@dataclass(frozen=True)
class GreyScale:
    """The table from stored values to grey levels, and notes for the reader on how it was chosen."""

    table: Table
    notes: tuple[str, ...]


def grey_scale_of(stored: StoredFrame, header: Dataset, sample: Sample) -> GreyScale:
    """The grey scale of a film, with bright bones; by the header's window if the exposed field is visible with it."""
    notes: list[str] = []
    colour = stored.colour or stored.layout.photometric == "PALETTE COLOR"
    if colour:
        values = _full_range(_stored_values(stored)) if stored.colour else _palette(stored, header)
        candidates = iter([("the picture's own grey levels", values)])
        inverted = False
        notes.append("a colour picture was turned to grey")
    else:
        values = modality_values(stored, header, notes)
        candidates = _candidates(values, stored, header)
        inverted = is_inverted(header, notes)
    for rejected, (name, table) in enumerate(candidates):
        displayed = 1 - table if inverted else table
        if is_visible(displayed[sample]):
            notes.extend([f"shown with {name}"] if rejected else [])
            return GreyScale(displayed, tuple(notes))
    notes.append(_replacement_note(header, colour))
    table = percentile_window(values, sample)
    return GreyScale(1 - table if inverted else table, tuple(notes))


def _replacement_note(header: Dataset, colour: bool) -> str:
    if colour:
        return "the picture's grey levels were spread"
    has_window = items(header, "VOILUTSequence") or text(header, "WindowCenter")
    return "the window in the header was replaced" if has_window else "no window in the header: one was chosen"


def apply_table(stored: StoredFrame, table: Table) -> npt.NDArray[np.float32]:
    """The grey levels of a frame, (rows, columns)."""
    if len(table) <= 256:
        bytes_ = stored.words.astype(np.uint8)
        return cv2.LUT(bytes_, np.resize(table, 256)).astype(np.float32, copy=False)
    return cv2.LUT(stored.words, np.resize(table, 65536)).astype(np.float32, copy=False)


def is_inverted(header: Dataset, notes: list[str]) -> bool:
    """
    Whether the grey scale is inverted, once at most.

    Presentation LUT Shape decides where it is given: it states whether values are P-values already. For DX it only
    repeats the photometric interpretation (MONOCHROME1 goes with INVERSE: PS3.3 C.8.11.3.1.2), so the two never add
    up to a double inversion. DCMTK and dcm4che do the same.
    """
    monochrome1 = text(header, "PhotometricInterpretation").upper() == "MONOCHROME1"
    shape = text(header, "PresentationLUTShape").upper()
    inverse = shape == "INVERSE" if shape in ("INVERSE", "IDENTITY") else monochrome1
    if inverse:
        notes.append("MONOCHROME1: put upright" if monochrome1 else "Presentation LUT Shape INVERSE: put upright")
    if monochrome1 != inverse:
        notes.append("the header contradicts itself about polarity; Presentation LUT Shape was followed")
    return inverse


def modality_values(stored: StoredFrame, header: Dataset, notes: list[str]) -> Table:
    """Each stored value after the Modality LUT or the rescaling (PS3.3 C.11.1)."""
    raw = _stored_values(stored)
    for item in items(header, "ModalityLUTSequence")[:1]:
        looked_up = _apply_lut(item, raw, stored.layout.signed)
        if looked_up is not None:
            return looked_up[0]
        notes.append("the Modality LUT in the header cannot be read and was left out")
    slope, intercept = numbers(header, "RescaleSlope") or [1.0], numbers(header, "RescaleIntercept") or [0.0]
    if slope[0] == 0 or abs(slope[0]) > 1e6 or abs(intercept[0]) > 1e9:
        notes.append("the rescaling in the header is impossible and was left out")
        return raw
    return raw * np.float32(slope[0]) + np.float32(intercept[0])


def is_visible(field: npt.NDArray[np.float32]) -> bool:
    """Whether a film is visible: a wide enough range of grey levels, and enough pixels neither black nor white."""
    if not field.size:
        return False
    low, high = np.percentile(field, (2, 98))
    white, black = np.mean(field > 1 - CLIPPED), np.mean(field < CLIPPED)
    return bool(high - low >= MIN_SPREAD and white <= MAX_WHITE and 1 - white - black >= MIN_MIDTONES)


def percentile_window(values: Table, sample: Sample) -> Table:
    """A linear window from the 0.5th to the 99.5th percentile of the exposed field."""
    field = values[sample]
    low, high = np.percentile(field, (0.5, 99.5)) if field.size else (values.min(), values.max())
    if high - low <= 0:
        low, high = field.min(), field.max()
    table: Table = np.clip((values - low) / max(float(high - low), 1e-6), 0, 1).astype(np.float32)
    return table


def _candidates(values: Table, stored: StoredFrame, header: Dataset) -> Iterator[tuple[str, Table]]:
    """Tables by the header, VOI LUTs before windows (PS3.3 C.11.2.1), then eight bits as they are; with their names."""
    for item in items(header, "VOILUTSequence"):
        looked_up = _apply_lut(item, values, signed=bool(values.min() < 0))
        if looked_up is not None:
            yield "another VOI LUT of the header", np.clip(looked_up[0] / looked_up[1], 0, 1)
    centres, widths = numbers(header, "WindowCenter"), numbers(header, "WindowWidth")
    function = text(header, "VOILUTFunction").upper()
    for centre, width in zip(centres, widths, strict=False):
        table = _window(values, centre, width, function)
        if table is not None:
            yield "another window of the header", table
    if stored.layout.stored == 8 and not centres:
        yield "all grey levels", _full_range(values)


def _window(values: Table, centre: float, width: float, function: str) -> Table | None:
    """A window as PS3.3 C.11.2.1.2 and C.11.2.1.3 define it; None where its width is not allowed."""
    x = values.astype(np.float64)
    if function == "SIGMOID":
        # exp of more than 700 overflows; beyond that the result is 0 or 1 anyway.
        return (
            (1 / (1 + np.exp(np.clip(-4 * (x - centre) / width, -700, 700)))).astype(np.float32) if width > 0 else None
        )
    if function == "LINEAR_EXACT":
        return np.clip((x - centre) / width + 0.5, 0, 1).astype(np.float32) if width > 0 else None
    if width < 1:
        return None
    return np.clip((x - (centre - 0.5)) / max(width - 1, 1e-6) + 0.5, 0, 1).astype(np.float32)


def _apply_lut(item: Dataset, values: Table, signed: bool) -> tuple[Table, float] | None:
    """
    A look-up table applied to `values`, and its largest possible output (PS3.3 C.11.1.1).

    LUT Data is encoded as US, OW or unknown bytes, with one or two 8-bit entries to a word; a negative first mapped
    value as US. A table that uses less than a quarter of its stated range would leave the film dark: then the bits in
    use count.
    """
    descriptor = [int(number) for number in numbers(item, "LUTDescriptor")]
    entries = _lut_entries(item, descriptor[0] or 65536) if len(descriptor) == 3 else None
    if entries is None:
        return None
    first, bits = descriptor[1], descriptor[2] if 1 <= descriptor[2] <= 16 else 16
    first = first - 65536 if signed and first >= 32768 else first
    index = np.clip(np.rint(values) - first, 0, len(entries) - 1).astype(np.intp)
    used = int(entries.max()).bit_length()
    return entries[index].astype(np.float32), float((1 << (used if 0 < used < bits - 1 else bits)) - 1)


def _lut_entries(item: Dataset, number: int) -> npt.NDArray[np.int64] | None:
    try:
        data = item["LUTData"].value
    except INVALID_VALUE_ERRORS:
        return None
    if isinstance(data, bytes):
        entries = (
            np.frombuffer(data, np.uint8).astype(np.int64) if len(data) < 2 * number else np.array(words(item, data))
        )
    else:
        entries = np.array([int(entry) & 0xFFFF for entry in numbers(item, "LUTData")])
        if len(entries) * 2 == number:  # 8-bit entries, two to a word, the first in the low byte
            entries = np.stack([entries & 0xFF, entries >> 8], axis=1).ravel()
    return entries[:number] if len(entries) >= number >= 2 else None


def _palette(stored: StoredFrame, header: Dataset) -> Table:
    """The luminance of each palette entry (PS3.3 C.7.9)."""
    index = np.arange(stored.layout.levels).reshape(1, -1)
    colours = apply_color_lut(index.astype(np.uint16), header)
    grey: Table = colours[0, :, :3].astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
    return grey / np.float32(np.iinfo(colours.dtype).max)


def _stored_values(stored: StoredFrame) -> Table:
    return np.arange(stored.layout.levels, dtype=np.float32) + np.float32(stored.layout.lowest)


def _full_range(values: Table) -> Table:
    low, high = values.min(), values.max()
    table: Table = ((values - low) / max(float(high - low), 1.0)).astype(np.float32)
    return table


def padding_range(stored: StoredFrame, header: Dataset) -> tuple[int, int] | None:
    """
    The range of words that represent padding: Pixel Padding Value and Range Limit (PS3.3 C.7.5.1.1.2).

    Both are often encoded with the wrong sign, so their bits count.
    """
    value, limit = integer(header, "PixelPaddingValue"), integer(header, "PixelPaddingRangeLimit")
    if value is None or stored.colour:
        return None
    ends = sorted(_word(end, stored) for end in (value, value if limit is None else limit))
    return ends[0], ends[1]


def _word(value: int, stored: StoredFrame) -> int:
    layout = stored.layout
    bits = value & ((1 << layout.allocated) - 1)
    if layout.signed and bits >> layout.allocated - 1:
        bits -= 1 << layout.allocated
    return bits - layout.lowest
