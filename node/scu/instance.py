"""What has to be known of a DICOM file to send it: its UIDs, its transfer syntax, its size."""

from dataclasses import dataclass
from pathlib import Path

from pydicom.errors import InvalidDicomError
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom.dsutils import split_dataset
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from node.scu.errors import Unsendable

_LITTLE_ENDIAN = (str(ExplicitVRLittleEndian), str(ImplicitVRLittleEndian))


@dataclass(frozen=True)
class Context:
    """A kind of object: its SOP class, and the transfer syntaxes that it can be sent in, as stored first."""

    sop_class_uid: str
    transfer_syntax_uids: tuple[str, ...]


VERIFICATION = Context(str(Verification), _LITTLE_ENDIAN[::-1])


@dataclass(frozen=True)
class Parcel:
    """A DICOM file that can be sent."""

    path: Path
    sop_instance_uid: str
    context: Context
    size: int


def parcel(path: Path) -> Parcel:
    """Return what has to be known of a file to send it. Raises Unsendable."""
    try:
        meta, _ = split_dataset(path)
        syntax, sop_class = str(meta.TransferSyntaxUID), str(meta.MediaStorageSOPClassUID)
        sop_instance = str(meta.MediaStorageSOPInstanceUID)
        size = path.stat().st_size
    except OSError as error:
        raise Unsendable(f"{path} cannot be read: {error.strerror}") from error
    except (InvalidDicomError, AttributeError, ValueError, EOFError) as error:
        raise Unsendable(
            f"{path} is no DICOM file", hint="a Part 10 file with file meta information is needed"
        ) from error
    return Parcel(path, sop_instance, Context(sop_class, _alternatives(syntax)), size)


def _alternatives(syntax: str) -> tuple[str, ...]:
    """Uncompressed objects may go out in either VR; every destination has to know the implicit one (PS3.5 10.1)."""
    if syntax in (*_LITTLE_ENDIAN, str(DeflatedExplicitVRLittleEndian)):
        return tuple(dict.fromkeys((syntax, *_LITTLE_ENDIAN)))
    return (syntax,)
