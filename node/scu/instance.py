"""What is needed of a DICOM file to send it: its UIDs, its transfer syntax, its size."""

from dataclasses import dataclass
from pathlib import Path

from pydicom.errors import InvalidDicomError
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom.dsutils import split_dataset
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from node.scu.errors import UnsendableFile

_LITTLE_ENDIAN = (str(ExplicitVRLittleEndian), str(ImplicitVRLittleEndian))


@dataclass(frozen=True)
class ProposedContext:
    """A presentation context to propose: a SOP class and its transfer syntaxes, that of the file first."""

    sop_class_uid: str
    transfer_syntax_uids: tuple[str, ...]


VERIFICATION = ProposedContext(str(Verification), _LITTLE_ENDIAN[::-1])


@dataclass(frozen=True)
class SendableInstance:
    """A file that can be sent, and the presentation context that it needs; `size` in bytes."""

    path: Path
    sop_instance_uid: str
    context: ProposedContext
    size: int


def sendable_instance(path: Path) -> SendableInstance:
    """Read what is needed of a DICOM file to send it. Raises UnsendableFile."""
    try:
        meta, _ = split_dataset(path)
        syntax, sop_class = str(meta.TransferSyntaxUID), str(meta.MediaStorageSOPClassUID)
        sop_instance = str(meta.MediaStorageSOPInstanceUID)
        size = path.stat().st_size
    except OSError as error:
        raise UnsendableFile(f"{path} cannot be read: {error.strerror}") from error
    except (InvalidDicomError, AttributeError, ValueError, EOFError) as error:
        raise UnsendableFile(
            f"{path} is not a DICOM file", hint="a Part 10 file with file meta information is needed"
        ) from error
    return SendableInstance(path, sop_instance, ProposedContext(sop_class, _transfer_syntaxes(syntax)), size)


def _transfer_syntaxes(stored: str) -> tuple[str, ...]:
    """
    The transfer syntaxes in which a file of this one can be sent, this one first.

    Uncompressed objects may be sent in either VR encoding; every destination must accept the implicit one (PS3.5 10.1).
    """
    if stored in (*_LITTLE_ENDIAN, str(DeflatedExplicitVRLittleEndian)):
        return tuple(dict.fromkeys((stored, *_LITTLE_ENDIAN)))
    return (stored,)
