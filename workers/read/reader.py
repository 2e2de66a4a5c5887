"""
From a DICOM file to a film with bright bones and its pixel spacing, where that is known.

    file -> header -> admission -> stored values -> exposed field -> Modality LUT, VOI LUT, polarity -> film

All of it happens in a process that can be killed (decoder_process.py), which returns pixels, a mask and a rewritten
header. A codec that crashes is left out and the next one tried; a crash elsewhere is tried once more. If it crashes
again, or the file cannot be parsed, the film is UNREADABLE: final, and no fault of the node's. Out of time or memory
it is DECODER_LIMIT: a person may raise the limits and retry.
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
from workers.read.admission import MAX_FRAMES, MIN_SIDE
from workers.read.decoder import Decoder, DecoderLimits, DecoderStopped
from workers.read.exposed_field import exclude_borders
from workers.read.header import MAX_HEADER_BYTES, decode
from workers.read.header_facts import age_of, other_body_part
from workers.read.spacing import UNKNOWN, Spacing, SpacingKind

# A warning of pydicom about a value quotes it, and it would be a patient's, on the standard error of a node.
config.settings.reading_validation_mode = config.IGNORE


@dataclass(frozen=True)
class Film:
    """One radiograph with bright bones, on the grid of the stored image: not rotated, not mirrored, not resized."""

    pixels: Grey
    """(rows, columns), 0 black to 1 white, bone bright."""
    field: npt.NDArray[np.bool_]
    """True where the detector was exposed: no shutter, no collimated border, no frame, no padding."""
    spacing: Spacing
    header: Dataset
    """Everything but pixel data, private blobs and other values of more than 60 kB."""
    notes: tuple[str, ...]
    """Notes for the reader of a report on how the film was read."""

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
    Reads files, one at a time, in one running process that is replaced when it had to be killed.

    `seconds` and `memory_mb` limit the work on one file; the memory comes on top of the codecs' own.
    """

    def __init__(self, *, seconds: float, memory_mb: int, max_megapixels: float, for_processing: bool = False) -> None:
        self._limits = DecoderLimits(seconds, memory_mb, max_megapixels, for_processing)
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
        return [film for film in self._request(path, header_only=False) if isinstance(film, Film)]

    @classmethod
    def from_settings(cls, work: Work) -> "Reader":
        """A reader with the limits of [work]."""
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
        return next(header for header in self._request(path, header_only=True) if isinstance(header, Dataset))

    def process_id(self) -> int:
        """Of the current decoder process; another one after a kill."""
        with self._lock:
            return self._ready().pid

    def close(self) -> None:
        """End the process. Reading again starts another."""
        with self._lock:
            self._drop()

    def _request(self, path: Path, *, header_only: bool) -> list[Film] | list[Dataset]:
        crashed: list[str] = []
        with self._lock:
            while True:
                decoder = self._ready()
                until = time.monotonic() + self._limits.seconds
                try:
                    decoder.send_request(path, avoid=crashed, header_only=header_only, until=until)
                    return _receive(decoder, self._limits, until)
                except DecoderStopped as stopped:
                    self._replace()
                    if not stopped.crashed:
                        raise Permanent(reason("DECODER_LIMIT"), stopped.why) from stopped
                    if decoder.current_codec in crashed:
                        raise Ungradable(reason("UNREADABLE"), stopped.why) from stopped
                    crashed.append(decoder.current_codec)
                finally:
                    if decoder.leaking:
                        self._replace()

    def _ready(self) -> Decoder:
        # After a fork the process belongs to the parent: two must not share it.
        if self._decoder is None or self._decoder.owner != os.getpid() or self._decoder.ended:
            self._replace()
        assert self._decoder is not None
        self._decoder.wait_until_ready()
        return self._decoder

    def _replace(self) -> None:
        """Start a new process, without waiting for it."""
        self._drop()
        self._decoder = Decoder(self._limits)

    def _drop(self) -> None:
        if self._decoder is not None:
            self._decoder.kill()
            self._decoder = None


def read_picture(path: Path) -> Film:
    """
    A PNG or JPEG file as a film with an empty header, its grey levels as they are.

    Such files come from the user of the command line, not from the network; they are decoded in this process.

    Raises
    ------
    Ungradable
        UNREADABLE, TOO_SMALL or BLANK.
    """
    try:
        image = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        image = None
    if image is None or image.dtype not in (np.uint8, np.uint16):
        raise Ungradable(reason("UNREADABLE"), "neither a PNG nor a JPEG of 8 or 16 bits")
    grey = image if image.ndim == 2 else cv2.cvtColor(np.ascontiguousarray(image[..., :3]), cv2.COLOR_BGR2GRAY)
    if min(grey.shape) < MIN_SIDE:
        raise Ungradable(reason("TOO_SMALL"), f"{grey.shape[0]} x {grey.shape[1]} pixels")
    if grey.min() == grey.max():
        raise Ungradable(reason("BLANK"))
    field = exclude_borders(grey.astype(np.uint16), np.ones(grey.shape, np.bool_), rising=True)
    white = 255 if image.dtype == np.uint8 else 65535
    pixels: Grey = grey.astype(np.float32) / np.float32(white)
    return Film(pixels, field, UNKNOWN, Dataset(), ())


def _receive(decoder: Decoder, limits: DecoderLimits, until: float) -> list[Film] | list[Dataset]:
    """The response as films or as a header. It is validated: the process parsed an untrusted file."""
    response = decoder.receive(until)
    if "refused" in response:
        code = response["refused"] if response["refused"] in REASONS else "UNREADABLE"
        raise (Permanent if response.get("permanent") else Ungradable)(reason(code), str(response.get("detail", "")))
    descriptions = response.get("films", [])
    shapes = [(int(description["rows"]), int(description["columns"])) for description in descriptions]
    max_pixels = limits.max_megapixels * 1e6
    if len(shapes) > MAX_FRAMES or any(min(shape) < 1 or shape[0] * shape[1] > max_pixels for shape in shapes):
        raise Ungradable(reason("UNREADABLE"), "the decoder's answer makes no sense")
    if not 0 <= int(response["header"]) <= MAX_HEADER_BYTES:
        raise Ungradable(reason("UNREADABLE"), "the decoder's answer makes no sense")
    header = bytes(decoder.receive_bytes(int(response["header"]), until))
    headers = [decode(header, str(response["syntax"])) for _ in descriptions or [None]]
    if "films" not in response:
        return headers
    return [_receive_film(decoder, *film, until) for film in zip(descriptions, shapes, headers, strict=True)]


def _receive_film(
    decoder: Decoder, description: Mapping[str, Any], shape: tuple[int, int], header: Dataset, until: float
) -> Film:
    count = shape[0] * shape[1]
    pixels = np.frombuffer(decoder.receive_bytes(count * 4, until), np.float32).reshape(shape)
    field = np.frombuffer(decoder.receive_bytes(count, until), np.uint8).reshape(shape) != 0
    row_mm, column_mm, kind = description["spacing"]
    notes = tuple(str(note) for note in description["notes"])
    return Film(pixels, field, Spacing(row_mm, column_mm, SpacingKind(kind)), header, notes)
