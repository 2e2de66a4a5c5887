"""The clients of a RIS: results as HL7 v2 messages over MLLP, or as FHIR resources over HTTP."""

from node.ris.clients import DestinationClient, check_connection, client_for, probe_ris, sendable_message
from node.ris.fhir import FhirClient
from node.ris.mllp import MllpClient

__all__ = [
    "DestinationClient",
    "FhirClient",
    "MllpClient",
    "check_connection",
    "client_for",
    "probe_ris",
    "sendable_message",
]
