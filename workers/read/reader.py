"""
A DICOM file becomes an upright image with known, or honestly unknown, millimetres.

    file -> header -> gate -> stored values -> exposed field -> Modality LUT, VOI LUT, polarity -> film

All of it happens in a process that can be killed (decode.py); what comes back is pixels, a mask and a header
written anew. A codec that crashes is left out and the next one tried; a crash elsewhere is given a second try. If
it crashes again, or the bytes make no sense, the film is UNREADABLE: final, and no fault of the node's. Out of
time or memory it is DECODER_LIMIT: a person may raise the limits and ask again.
"""

import os
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from pydicom import Dataset, config

from node.errors import Permanent, Ungradable
from node.reasons import REASONS, reason
from node.settings import Work
from workers.preprocessing import Grey
from workers.read.admission import MOST_FRAMES, SMALLEST
from workers.read.decoder import Decoder, Limits, Stopped
from workers.read.exposed_field import find_borders
from workers.read.header import MAX_HEADER_BYTES, decode
from workers.read.header_facts import age_of, other_body_part
from workers.read.spacing import UNKNOWN, Spacing, SpacingKind

# A warning of pydicom about a value quotes it, and it would be a patient's, on the standard error of a node.
config.settings.reading_validation_mode = config.IGNORE


@dataclass(frozen=True)
class Film:
    """One radiograph, upright, on the grid of the stored image: not rotated, not mirrored, not resized."""

    pixels: Grey
    """(rows, columns), 0 black to 1 white, bone bright."""
    field: npt.NDArray[np.bool_]
    """True where the detector was exposed: no shutter, no collimated border, no frame, no padding."""
    spacing: Spacing
    header: Dataset
    """Everything but pixel data, private blobs and other values of more than 60 kB."""
    notes: tuple[str, ...]
    """What a reader should know of how the film was read."""

    @property
    def age(self) -> float | None:
        """The patient's age in years, None where the header states none."""
        return age_of(self.header)

    @property
    def other_body_part(self) -> str:
        """What the header calls the body part if it is none that a knee may have, otherwise ""."""
        return other_body_part(self.header)


class Reader:
    """
    Reads files, one at a time, in one warm process that is replaced whenever it had to be killed.

    `seconds` and `memory_mb` bound the work on one file; the memory is counted on top of the codecs' own.
    """

    def __init__(self, *, seconds: float, memory_mb: int, max_megapixels: float, for_processing: bool = False) -> None:
        self._limits = Limits(seconds, memory_mb, max_megapixels, for_processing)
        self._lock = threading.Lock()
        self._decoder: Decoder | None = Decoder(self._limits)

    def read(self, path: Path) -> list[Film]:
        """
        The film of each frame.

        Raises
        ------
        Ungradable
            With the reason why this is no radiograph that can be graded.
        Permanent
            DECODER_LIMIT, IDENTITY_MISSING or FILE_LOST.
        Transient
            If the process cannot be started.
        """
        return [film for film in self._ask(path, header_only=False) if isinstance(film, Film)]

    @classmethod
    def within(cls, work: Work) -> "Reader":
        """A reader with the limits of the settings."""
        return cls(
            seconds=work.decode_seconds,
            memory_mb=work.decode_memory_mb,
            max_megapixels=work.max_megapixels,
            for_processing=work.grade_for_processing,
        )

    def film(self, path: Path) -> Film:
        """The one film of a file; raises as `read` does, and Ungradable MANY_FRAMES where there are more."""
        films = self.read(path)
        if len(films) != 1:
            raise Ungradable(reason("MANY_FRAMES"), f"{len(films)} frames")
        return films[0]

    def header(self, path: Path) -> Dataset:
        """The header of a file, also of one that `read` refuses; raises as `read` does if it cannot be parsed."""
        return next(each for each in self._ask(path, header_only=True) if isinstance(each, Dataset))

    def process_id(self) -> int:
        """Of the process that reads now; another one after a kill."""
        with self._lock:
            return self._ready().pid

    def close(self) -> None:
        """The process has ended. Reading again starts another."""
        with self._lock:
            self._drop()

    def _ask(self, path: Path, *, header_only: bool) -> list[Film] | list[Dataset]:
        crashed: list[str] = []
        with self._lock:
            while True:
                decoder = self._ready()
                until = time.monotonic() + self._limits.seconds
                try:
                    decoder.ask(path, avoid=crashed, header_only=header_only, until=until)
                    return _received(decoder, self._limits, until)
                except Stopped as stopped:
                    self._replace()
                    if not stopped.crashed:
                        raise Permanent(reason("DECODER_LIMIT"), stopped.why) from stopped
                    if decoder.trying in crashed:
                        raise Ungradable(reason("UNREADABLE"), stopped.why) from stopped
                    crashed.append(decoder.trying)
                finally:
                    if decoder.leaking:
                        self._replace()

    def _ready(self) -> Decoder:
        # After a fork the process belongs to the parent: two must not talk to it.
        if self._decoder is None or self._decoder.owner != os.getpid() or self._decoder.ended:
            self._replace()
        assert self._decoder is not None
        self._decoder.wait_until_ready()
        return self._decoder

    def _replace(self) -> None:
        """A fresh process is starting; nobody waits for it yet."""
        self._drop()
        self._decoder = Decoder(self._limits)

    def _drop(self) -> None:
        if self._decoder is not None:
            self._decoder.kill()
            self._decoder = None


def read_picture(path: Path) -> Film:
    """
    A PNG or JPEG file as a film with an empty header, its grey levels as they are.

    Such files come from whoever runs the command line, not from the network; they are decoded right here.

    Raises
    ------
    Ungradable
        UNREADABLE, TOO_SMALL or BLANK.
    """
    try:
        read = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        read = None
    if read is None or read.dtype not in (np.uint8, np.uint16):
        raise Ungradable(reason("UNREADABLE"), "neither a PNG nor a JPEG of 8 or 16 bits")
    grey = read if read.ndim == 2 else cv2.cvtColor(np.ascontiguousarray(read[..., :3]), cv2.COLOR_BGR2GRAY)
    if min(grey.shape) < SMALLEST:
        raise Ungradable(reason("TOO_SMALL"), f"{grey.shape[0]} x {grey.shape[1]} pixels")
    if grey.min() == grey.max():
        raise Ungradable(reason("BLANK"))
    field = find_borders(grey.astype(np.uint16), np.ones(grey.shape, np.bool_), rising=True)
    white = 255 if read.dtype == np.uint8 else 65535
    pixels: Grey = grey.astype(np.float32) / np.float32(white)
    return Film(pixels, field, UNKNOWN, Dataset(), ())


def _received(decoder: Decoder, limits: Limits, until: float) -> list[Film] | list[Dataset]:
    """The answer as films or as a header. The process is not trusted: it parsed a stranger's file."""
    told = decoder.hear(until)
    if "refused" in told:
        code = told["refused"] if told["refused"] in REASONS else "UNREADABLE"
        raise (Permanent if told.get("permanent") else Ungradable)(reason(code), str(told.get("detail", "")))
    described = told.get("films", [])
    shapes = [(int(each["rows"]), int(each["columns"])) for each in described]
    most = limits.max_megapixels * 1e6
    if len(shapes) > MOST_FRAMES or any(min(shape) < 1 or shape[0] * shape[1] > most for shape in shapes):
        raise Ungradable(reason("UNREADABLE"), "the decoder's answer makes no sense")
    if not 0 <= int(told["header"]) <= MAX_HEADER_BYTES:
        raise Ungradable(reason("UNREADABLE"), "the decoder's answer makes no sense")
    header = bytes(decoder.take(int(told["header"]), until))
    headers = [decode(header, str(told["syntax"])) for _ in described or [None]]
    if "films" not in told:
        return headers
    return [
        _film(decoder, each, shape, own, until) for each, shape, own in zip(described, shapes, headers, strict=True)
    ]


def _film(decoder: Decoder, told: Mapping[str, Any], shape: tuple[int, int], header: Dataset, until: float) -> Film:
    cells = shape[0] * shape[1]
    pixels = np.frombuffer(decoder.take(cells * 4, until), np.float32).reshape(shape)
    field = np.frombuffer(decoder.take(cells, until), np.uint8).reshape(shape) != 0
    row_mm, column_mm, kind = told["spacing"]
    notes = tuple(str(note) for note in told["notes"])
    return Film(pixels, field, Spacing(row_mm, column_mm, SpacingKind(kind)), header, notes)
