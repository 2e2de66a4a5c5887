"""The DICOM client (SCU): associations, C-ECHO and C-STORE, and what a destination answers, as error messages."""

from node.scu.association import ScuAssociation, open_association
from node.scu.errors import (
    ContextRejected,
    DestinationUnavailable,
    NoResponse,
    PermanentRejection,
    RequestRejected,
    UnsendableFile,
)
from node.scu.instance import VERIFICATION, ProposedContext, SendableInstance, sendable_instance
from node.scu.send import SendResult, adhoc_destination, echo, probe, send

__all__ = [
    "VERIFICATION",
    "ContextRejected",
    "DestinationUnavailable",
    "NoResponse",
    "PermanentRejection",
    "ProposedContext",
    "RequestRejected",
    "ScuAssociation",
    "SendResult",
    "SendableInstance",
    "UnsendableFile",
    "adhoc_destination",
    "echo",
    "open_association",
    "probe",
    "send",
    "sendable_instance",
]
