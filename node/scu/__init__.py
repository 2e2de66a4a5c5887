"""The DICOM client: associations, what is sent over them, and what destinations answer, in sentences."""

from node.scu.association import Link, linked
from node.scu.errors import STORED, Declined, Lost, NeverTaken, NotTaken, Unreachable, Unsendable
from node.scu.instance import VERIFICATION, Context, Parcel, parcel
from node.scu.send import Sent, echo, peer, probe, send

__all__ = [
    "STORED",
    "VERIFICATION",
    "Context",
    "Declined",
    "Link",
    "Lost",
    "NeverTaken",
    "NotTaken",
    "Parcel",
    "Sent",
    "Unreachable",
    "Unsendable",
    "echo",
    "linked",
    "parcel",
    "peer",
    "probe",
    "send",
]
