"""
The ways in which an object can be sent, the preferred first: what a destination accepts decides, at each association.

- As it is kept, uncompressed: what every destination takes.
- Pictures in JPEG-LS, without loss, where `[[destination]] compress` asks for it: for slow lines.
- The pages of a multi-frame Secondary Capture as single frames, where it takes no multi-frame.
- A Comprehensive 3D report as a Comprehensive one, which says the same: all its coordinates are two-dimensional.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import (
    UID,
    Comprehensive3DSRStorage,
    ComprehensiveSRStorage,
    JPEGLSLossless,
    MultiFrameTrueColorSecondaryCaptureImageStorage,
    SecondaryCaptureImageStorage,
)

from node.scu import Context, Parcel, parcel
from node.single_frames import single_frames
from node.uids import derived_uid

Remade = Callable[[Dataset], Iterator[Dataset]]

PICTURES = (MultiFrameTrueColorSecondaryCaptureImageStorage, SecondaryCaptureImageStorage)


@dataclass(frozen=True)
class Way:
    """A kind of object that the destination has to take, and what is sent then; `sends` writes into that folder."""

    context: Context
    sends: Callable[[Path], Iterator[Parcel]]


def ways(kept: Parcel, *, compress: bool = False) -> list[Way]:
    """How a kept object can be sent."""
    told = [Way(kept.context, lambda _: iter((kept,)))]
    kind = kept.context.sop_class_uid
    if compress and kind in PICTURES:
        packed = Context(kind, (str(JPEGLSLossless),))
        told.insert(0, Way(packed, lambda folder: _written(iter((compressed(dcmread(kept.path)),)), folder)))
    if kind in INSTEAD:
        other, remade = INSTEAD[kind]
        plain = Context(other, kept.context.transfer_syntax_uids)
        told.append(Way(plain, lambda folder: _written(remade(dcmread(kept.path)), folder)))
    return told


def compressed(made: Dataset) -> Dataset:
    """`made` with its pixels in JPEG-LS, without loss and under the same UID: it says the same."""
    made.compress(UID(JPEGLSLossless), generate_instance_uid=False)
    return made


def comprehensive(made: Dataset) -> Iterator[Dataset]:
    """A Comprehensive 3D report as a Comprehensive one, under a UID of its own."""
    made.SOPClassUID = made.file_meta.MediaStorageSOPClassUID = ComprehensiveSRStorage
    uid = derived_uid("comprehensive", str(made.SOPInstanceUID))
    made.SOPInstanceUID = made.file_meta.MediaStorageSOPInstanceUID = uid
    yield made


INSTEAD: Mapping[str, tuple[str, Remade]] = {
    str(MultiFrameTrueColorSecondaryCaptureImageStorage): (str(SecondaryCaptureImageStorage), single_frames),
    str(Comprehensive3DSRStorage): (str(ComprehensiveSRStorage), comprehensive),
}
"""Of a SOP class that a destination may not take: the one that goes in its place, and what makes it."""


def _written(made: Iterator[Dataset], folder: Path) -> Iterator[Parcel]:
    for number, each in enumerate(made):
        path = folder / f"{number}.dcm"
        each.save_as(path, enforce_file_format=True)
        yield parcel(path)
        path.unlink()
