"""The clients of a RIS: results as HL7 v2 messages over MLLP, or as FHIR resources over HTTP."""

from node.ris.clients import DestinationClient, check_connection, client_for, probe_ris, sendable_message

__all__ = [
    "DestinationClient",
    "check_connection",
    "client_for",
    "probe_ris",
    "sendable_message",
]
