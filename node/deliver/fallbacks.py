"""
The encodings in which an object can be sent, the preferred first: each association decides, by what is accepted.

- As it is stored, uncompressed: what every destination accepts.
- Images in JPEG-LS, lossless, where `[[destination]] compress` is set: for slow networks.
- The pages of a multi-frame Secondary Capture as single frames, where multi-frame is not accepted.
- A Comprehensive 3D SR as a Comprehensive SR, with the same content: all its coordinates are two-dimensional.
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

from node.scu import ProposedContext, SendableInstance, sendable_instance
from node.single_frames import single_frames
from node.uids import derived_uid

Conversion = Callable[[Dataset], Iterator[Dataset]]

SECONDARY_CAPTURES = (MultiFrameTrueColorSecondaryCaptureImageStorage, SecondaryCaptureImageStorage)


@dataclass(frozen=True)
class Fallback:
    """One encoding of an object: the context that the destination has to accept, and what is sent then."""

    context: ProposedContext
    write_instances: Callable[[Path], Iterator[SendableInstance]]
    """Yields the files to send. New ones are written into the folder, and deleted when the next is requested."""


def fallbacks(stored: SendableInstance, *, compress: bool = False) -> list[Fallback]:
    """The encodings in which a stored object can be sent, the preferred first."""
    encodings = [Fallback(stored.context, lambda _: iter((stored,)))]
    sop_class = stored.context.sop_class_uid
    if compress and sop_class in SECONDARY_CAPTURES:
        context = ProposedContext(sop_class, (str(JPEGLSLossless),))
        encodings.insert(
            0, Fallback(context, lambda folder: _written(iter((compressed(dcmread(stored.path)),)), folder))
        )
    if sop_class in FALLBACK_SOP_CLASSES:
        other_class, converted = FALLBACK_SOP_CLASSES[sop_class]
        other_context = ProposedContext(other_class, stored.context.transfer_syntax_uids)
        encodings.append(Fallback(other_context, lambda folder: _written(converted(dcmread(stored.path)), folder)))
    return encodings


def compressed(ds: Dataset) -> Dataset:
    """`ds`, changed in place, with its pixels in JPEG-LS, lossless, and under the same UID: the content is the same."""
    ds.compress(UID(JPEGLSLossless), generate_instance_uid=False)
    return ds


def as_comprehensive_sr(ds: Dataset) -> Iterator[Dataset]:
    """A Comprehensive 3D SR, changed in place, as a Comprehensive SR with a UID of its own."""
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = ComprehensiveSRStorage
    uid = derived_uid("comprehensive", str(ds.SOPInstanceUID))
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = uid
    yield ds


FALLBACK_SOP_CLASSES: Mapping[str, tuple[str, Conversion]] = {
    str(MultiFrameTrueColorSecondaryCaptureImageStorage): (str(SecondaryCaptureImageStorage), single_frames),
    str(Comprehensive3DSRStorage): (str(ComprehensiveSRStorage), as_comprehensive_sr),
}
"""By SOP class that a destination may not accept: the one that is sent instead, and the conversion to it."""


def _written(datasets: Iterator[Dataset], folder: Path) -> Iterator[SendableInstance]:
    for number, ds in enumerate(datasets):
        path = folder / f"{number}.dcm"
        ds.save_as(path, enforce_file_format=True)
        yield sendable_instance(path)
        path.unlink()
