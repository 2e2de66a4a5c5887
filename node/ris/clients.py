"""The client of any destination, by its protocol, behind one interface."""

from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from node.destination import Destination
from node.ris.fhir import FhirClient
from node.ris.mllp import MllpClient
from node.scu import ProposedContext, ScuAssociation, SendableInstance, UnsendableFile
from node.scu import echo as dicom_echo
from node.settings import Deliver


class DestinationClient(Protocol):
    """What delivery needs of a client of any protocol."""

    def open(self, contexts: Iterable[ProposedContext]) -> None:
        """Prepare to send objects of these contexts. Raises DestinationUnavailable."""

    def accepts(self, context: ProposedContext) -> bool:
        """Whether the destination has accepted this context, or the protocol has no negotiation."""

    def store(self, instance: SendableInstance) -> int:
        """
        Send one object and return the status with which it was stored.

        Raises DestinationUnavailable, NoResponse, RequestRejected, PermanentRejection or UnsendableFile.
        """

    def echo(self) -> None:
        """Test the destination. Raises DestinationUnavailable, NoResponse or RequestRejected."""

    def close(self) -> None:
        """End the connection; nothing more is sent."""

    def interrupt(self) -> None:
        """End the connection from another thread."""


def client_for(destination: Destination, timing: Deliver) -> DestinationClient:
    """The client of the destination's protocol."""
    if destination.protocol == "mllp":
        return MllpClient(destination, timing)
    return FhirClient(destination, timing) if destination.protocol == "fhir" else ScuAssociation(destination, timing)


def sendable_message(path: Path, uid: str) -> SendableInstance:
    """A message that can be sent; its content is checked when it is sent. Raises UnsendableFile."""
    try:
        return SendableInstance(path, uid, ProposedContext("", ()), path.stat().st_size)
    except OSError as error:
        raise UnsendableFile(f"{path} cannot be read: {error.strerror}") from error


def check_connection(destination: Destination, timing: Deliver) -> None:
    """Test a destination in its protocol. Raises DestinationUnavailable, NoResponse or RequestRejected."""
    if destination.protocol == "dicom":
        dicom_echo(destination, timing)
        return
    client = client_for(destination, timing)
    try:
        client.open([])
        client.echo()
    finally:
        client.close()


def probe_ris(destination: Destination, timing: Deliver) -> tuple[str, bool]:
    """
    A description of a RIS, and whether it can take what is to be sent to it.

    MLLP has no query, so only the connection is tested. A FHIR service is asked for its CapabilityStatement. Raises
    DestinationUnavailable, NoResponse or RequestRejected.
    """
    if destination.protocol == "mllp":
        check_connection(destination, timing)
        return "accepts the connection; MLLP has no way to query more", True
    client = FhirClient(destination, timing)
    try:
        client.open([])
        return client.describe()
    finally:
        client.close()
