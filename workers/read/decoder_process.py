"""
The process that may be killed: everything that touches the bytes of an untrusted file happens here.

    python -m workers.read.decoder_process SOCKET SECONDS MEMORY_MB MAX_MEGAPIXELS FOR_PROCESSING

It imports once, then reads one file after the other: a line of JSON in, a message out (see `send`). It may not
write files, keeps no patient data between films, logs nothing, and ends when its parent does.
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
from workers.read.decoder import Limits
from workers.read.exposed_field import Mask, find_borders, told_field
from workers.read.header import encode
from workers.read.photometric import look_up, upright
from workers.read.source_file import open_source
from workers.read.spacing import Spacing, spacing_of
from workers.read.stored_values import Stored, stored_frames

ONE_VALUE = 0.995
"""An exposed field of which so much has one value shows nothing."""

SAMPLED = 200_000
"""Pixels of the field from which its grey levels are judged."""


@dataclass(frozen=True)
class Developed:
    """One frame as it goes to the parent."""

    pixels: Grey
    field: npt.NDArray[np.bool_]
    spacing: Spacing
    notes: tuple[str, ...]


def inflated_bytes(limits: Limits) -> int:
    """The most that a deflated data set may grow to: three samples of 16 bits a pixel, and a header."""
    return int(limits.max_megapixels * 6e6) + (16 << 20)


def develop(stored: Stored, header: Dataset) -> Developed:
    """A frame's stored values as an upright film with its exposed field, or Ungradable: BLANK."""
    told = told_field(stored, header)
    shown = upright(stored, header, _sample(stored, told.exposed))
    exposed = find_borders(stored.words, told.exposed, rising=bool(shown.table[-1] >= shown.table[0]))
    if exposed is not told.exposed:
        shown = upright(stored, header, _sample(stored, exposed))
    pixels = look_up(stored, shown.table)
    if told.hidden is not None:
        pixels[told.hidden] = told.shade
    return Developed(pixels, exposed, spacing_of(header), (*shown.notes, *told.notes))


def _sample(stored: Stored, exposed: Mask) -> npt.NDArray[np.intp]:
    """Some of the field's values, or Ungradable: BLANK."""
    step = max(1, int((stored.words.size / SAMPLED) ** 0.5))
    sample = stored.words[::step, ::step][exposed[::step, ::step]].astype(np.intp)
    if not sample.size or np.bincount(sample).max() >= ONE_VALUE * sample.size:
        raise Ungradable(reason("BLANK"))
    return sample


def answer(request: dict[str, Any], limits: Limits, channel: socket.socket) -> None:
    """
    One file read, or refused with a code; whatever went wrong in its bytes ends here as one.

    Nothing of an exception's text is passed on: it may quote the file, and that is a patient's.
    """
    told: dict[str, Any] = {}
    parts: list[bytes | memoryview] = []
    try:
        source = open_source(Path(request["path"]), max_inflated_bytes=inflated_bytes(limits))
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
                films = [develop(frame, source.header) for frame in stored]
                told["films"] = [_described(film) for film in films]
                parts = [part for film in films for part in (film.pixels.data, film.field.view(np.uint8).data)]
        told["header"], told["syntax"] = len(header), str(source.transfer_syntax)
        parts.insert(0, header)
    except (Ungradable, Permanent) as refusal:
        told, parts = _refusal(refusal), []
    except MemoryError:
        told, parts = _refusal(Permanent(reason("DECODER_LIMIT"), "not enough memory")), []
    except RecursionError:
        told, parts = _refusal(Ungradable(reason("UNREADABLE"), "the file is nested too deeply")), []
    except (FileNotFoundError, PermissionError) as fault:
        told, parts = _refusal(Permanent(reason("FILE_LOST"), type(fault).__name__)), []
    except Exception as fault:  # noqa: BLE001 - the edge: hostile bytes make pydicom raise whatever they like
        told, parts = _refusal(Ungradable(reason("UNREADABLE"), _where(fault))), []
    send(channel, {**told, "kept_mb": address_space_mb()}, parts)


def _where(fault: Exception) -> str:
    """The kind of an exception and the line of ours that met it: enough to find a mistake by, and nobody's name."""
    ours = [
        each
        for each in traceback.extract_tb(fault.__traceback__)
        if Path(each.filename).parent == Path(__file__).parent
    ]
    return f"its bytes make no sense ({type(fault).__name__} at {Path(ours[-1].filename).name}:{ours[-1].lineno})"


def _described(film: Developed) -> dict[str, Any]:
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


def send(channel: socket.socket, told: dict[str, Any], parts: list[bytes | memoryview] | None = None) -> None:
    """A message: its length in 4 bytes, JSON, then the parts as they are, whose sizes the JSON tells."""
    text = json.dumps(told).encode()
    channel.sendall(pack(">I", len(text)) + text)
    for part in parts or ():
        channel.sendall(part)


def main(arguments: list[str]) -> None:
    """Serve the parent until it goes."""
    channel = socket.socket(fileno=int(arguments[0]))
    seconds, memory_mb, megapixels, raw = arguments[1:]
    limits = Limits(float(seconds), int(memory_mb), float(megapixels), raw == "True")
    threading.Thread(target=_end_with_parent, args=(channel, os.getppid()), daemon=True).start()
    warnings.simplefilter("ignore")
    config.settings.reading_validation_mode = config.IGNORE
    for syntax in TRANSFER_SYNTAXES:
        get_decoder(syntax)  # imports the codecs
    confine(limits.memory_mb)
    send(channel, {"ready": True, "kept_mb": address_space_mb()})
    with channel.makefile("rb") as requests:
        for line in requests:
            allow_cpu(limits.seconds)
            answer(json.loads(line), limits, channel)


def _end_with_parent(channel: socket.socket, parent: int) -> None:
    poll = select.poll()
    poll.register(channel, 0)  # hang-up and errors are always told
    while not poll.poll(1000) and os.getppid() == parent:
        pass
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
