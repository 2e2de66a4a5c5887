"""The way to any destination, by its protocol; what delivers need not know which."""

from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from node.destination import Destination
from node.ris.fhir import FhirLink
from node.ris.mllp import MllpLink
from node.scu import Context, Link, Parcel, Unsendable
from node.scu import echo as dicom_echo
from node.settings import Deliver


class AnyLink(Protocol):
    """What the line to a destination needs of its link."""

    def open(self, contexts: Iterable[Context]) -> None:
        """Be ready to send these kinds. Raises Unreachable."""

    def takes(self, kind: Context) -> bool:
        """Whether the destination has said that it takes this kind."""

    def store(self, sent: Parcel) -> int:
        """Send one, and return the status with which it was taken. Raises Unreachable, Lost, Declined, Unsendable."""

    def echo(self) -> None:
        """The destination is there. Raises Unreachable or Declined."""

    def close(self) -> None:
        """Nothing more is sent."""

    def cut(self) -> None:
        """Break off from another thread."""


def link_to(destination: Destination, patience: Deliver) -> AnyLink:
    """The link of the destination's protocol."""
    if destination.protocol == "mllp":
        return MllpLink(destination, patience)
    return FhirLink(destination, patience) if destination.protocol == "fhir" else Link(destination, patience)


def message(path: Path, uid: str) -> Parcel:
    """A message that can be sent; what is in the file is looked at when it is. Raises Unsendable."""
    try:
        return Parcel(path, uid, Context("", ()), path.stat().st_size)
    except OSError as error:
        raise Unsendable(f"{path} cannot be read: {error.strerror}") from error


def echo(destination: Destination, patience: Deliver) -> None:
    """The destination has answered, in its protocol. Raises Unreachable or Declined, which say why not."""
    if destination.protocol == "dicom":
        dicom_echo(destination, patience)
        return
    link = link_to(destination, patience)
    try:
        link.open([])
        link.echo()
    finally:
        link.close()


def probe(destination: Destination, patience: Deliver) -> tuple[str, bool]:
    """
    What a RIS says of itself, and whether what it is to get can be sent to it.

    MLLP has no question that means nothing: the connection is all that can be tried. A FHIR service describes itself.
    """
    if destination.protocol == "mllp":
        echo(destination, patience)
        return "takes the connection; MLLP has no way to ask for more", True
    link = FhirLink(destination, patience)
    try:
        link.open([])
        return link.described()
    finally:
        link.close()
