"""
The decoder process, which may be killed: all parsing and decoding of untrusted files happens here.

    python -m workers.read.decoder_process SOCKET SECONDS MEMORY_MB MAX_MEGAPIXELS FOR_PROCESSING

It imports once, then reads one file after the other: a line of JSON in, a message out (see `send`). It must not
write files, holds no patient data between films, logs nothing, and ends when its parent does.
"""

import json
import os
import select
import socket
import sys
import threading
import traceback
import warnings
from dataclasses import dataclass
from pathlib import Path
from struct import pack
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom import Dataset, config
from pydicom.pixels.decoders.base import get_decoder

from node.errors import Permanent, Ungradable
from node.radiograph import TRANSFER_SYNTAXES
from node.reasons import reason
from workers.preprocessing import Grey
from workers.read.admission import admit
from workers.read.confinement import address_space_mb, allow_cpu, confine
from workers.read.decoder import DecoderLimits
from workers.read.exposed_field import Mask, exclude_borders, header_field
from workers.read.header import encode
from workers.read.photometric import apply_table, grey_scale_of
from workers.read.source_file import open_source
from workers.read.spacing import Spacing, spacing_of
from workers.read.stored_values import StoredFrame, stored_frames

ONE_VALUE = 0.995
"""An exposed field is blank if at least this part of it has one value."""

SAMPLE_PIXELS = 200_000
"""Pixels of the field from which its grey levels are estimated."""


@dataclass(frozen=True)
class DecodedFilm:
    """One frame as it is sent to the parent."""

    pixels: Grey
    field: npt.NDArray[np.bool_]
    spacing: Spacing
    notes: tuple[str, ...]


def max_inflated_bytes(limits: DecoderLimits) -> int:
    """The limit of an inflated data set: three samples of 16 bits a pixel, and a header."""
    return int(limits.max_megapixels * 6e6) + (16 << 20)


def render_film(stored: StoredFrame, header: Dataset) -> DecodedFilm:
    """A frame's stored values as a film with bright bones and its exposed field. Raises Ungradable BLANK."""
    field = header_field(stored, header)
    grey_scale = grey_scale_of(stored, header, _sample(stored, field.exposed))
    rising = bool(grey_scale.table[-1] >= grey_scale.table[0])
    exposed = exclude_borders(stored.words, field.exposed, rising=rising)
    if exposed is not field.exposed:
        grey_scale = grey_scale_of(stored, header, _sample(stored, exposed))
    pixels = apply_table(stored, grey_scale.table)
    if field.hidden is not None:
        pixels[field.hidden] = field.shade
    return DecodedFilm(pixels, exposed, spacing_of(header), (*grey_scale.notes, *field.notes))


def _sample(stored: StoredFrame, exposed: Mask) -> npt.NDArray[np.intp]:
    """A sample of the field's values. Raises Ungradable BLANK."""
    step = max(1, int((stored.words.size / SAMPLE_PIXELS) ** 0.5))
    sample = stored.words[::step, ::step][exposed[::step, ::step]].astype(np.intp)
    if not sample.size or np.bincount(sample).max() >= ONE_VALUE * sample.size:
        raise Ungradable(reason("BLANK"))
    return sample


def handle(request: dict[str, Any], limits: DecoderLimits, channel: socket.socket) -> None:
    """
    Read one file and send it, or the coded reason why it is refused; any exception becomes such a reason.

    The text of an exception is not sent: it may quote the file, which is a patient's.
    """
    response: dict[str, Any] = {}
    payloads: list[bytes | memoryview] = []
    try:
        source = open_source(Path(request["path"]), max_inflated_bytes=max_inflated_bytes(limits))
        with source.stream:
            header = encode(source.header)
            if not request["header_only"]:
                admit(source.header, max_megapixels=limits.max_megapixels, for_processing=limits.for_processing)
                stored = stored_frames(
                    source,
                    max_megapixels=limits.max_megapixels,
                    avoid=request["avoid"],
                    trying=lambda name: send(channel, {"trying": name}),
                )
                films = [render_film(frame, source.header) for frame in stored]
                response["films"] = [_description(film) for film in films]
                payloads = [data for film in films for data in (film.pixels.data, film.field.view(np.uint8).data)]
        response["header"], response["syntax"] = len(header), str(source.transfer_syntax)
        payloads.insert(0, header)
    except (Ungradable, Permanent) as refusal:
        response, payloads = _refusal(refusal), []
    except MemoryError:
        response, payloads = _refusal(Permanent(reason("DECODER_LIMIT"), "not enough memory")), []
    except RecursionError:
        response, payloads = _refusal(Ungradable(reason("UNREADABLE"), "the file is nested too deeply")), []
    except (FileNotFoundError, PermissionError) as fault:
        response, payloads = _refusal(Permanent(reason("FILE_LOST"), type(fault).__name__)), []
    except Exception as fault:  # noqa: BLE001 - the edge: for hostile bytes pydicom may raise anything
        response, payloads = _refusal(Ungradable(reason("UNREADABLE"), _location(fault))), []
    send(channel, {**response, "memory_mb": address_space_mb()}, payloads)


def _location(fault: Exception) -> str:
    """The type of an exception and the line of this package that it came from: enough to debug, and no patient data."""
    frames = traceback.extract_tb(fault.__traceback__)
    last = [frame for frame in frames if Path(frame.filename).parent == Path(__file__).parent][-1]
    return f"its bytes make no sense ({type(fault).__name__} at {Path(last.filename).name}:{last.lineno})"


def _description(film: DecodedFilm) -> dict[str, Any]:
    rows, columns = film.pixels.shape
    spacing = film.spacing
    return {
        "rows": rows,
        "columns": columns,
        "spacing": [spacing.row_mm, spacing.column_mm, spacing.kind.value],
        "notes": list(film.notes),
    }


def _refusal(fault: Ungradable | Permanent) -> dict[str, Any]:
    return {"refused": fault.reason.code, "permanent": isinstance(fault, Permanent), "detail": fault.detail}


def send(channel: socket.socket, message: dict[str, Any], payloads: list[bytes | memoryview] | None = None) -> None:
    """Send the length of the JSON in 4 bytes, the JSON, and the payloads, whose sizes follow from the JSON."""
    text = json.dumps(message).encode()
    channel.sendall(pack(">I", len(text)) + text)
    for payload in payloads or ():
        channel.sendall(payload)


def main(arguments: list[str]) -> None:
    """Serve the parent until it ends."""
    channel = socket.socket(fileno=int(arguments[0]))
    seconds, memory_mb, megapixels, for_processing = arguments[1:]
    limits = DecoderLimits(float(seconds), int(memory_mb), float(megapixels), for_processing == "True")
    threading.Thread(target=_end_with_parent, args=(channel, os.getppid()), daemon=True).start()
    warnings.simplefilter("ignore")
    config.settings.reading_validation_mode = config.IGNORE
    for syntax in TRANSFER_SYNTAXES:
        get_decoder(syntax)  # imports the codecs
    confine(limits.memory_mb)
    send(channel, {"ready": True, "memory_mb": address_space_mb()})
    with channel.makefile("rb") as requests:
        for line in requests:
            allow_cpu(limits.seconds)
            handle(json.loads(line), limits, channel)


def _end_with_parent(channel: socket.socket, parent: int) -> None:
    poll = select.poll()
    poll.register(channel, 0)  # hang-up and errors are always reported
    while not poll.poll(1000) and os.getppid() == parent:
        pass
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
