"""The client of a RIS: results as HL7 v2 messages over MLLP, or as FHIR resources over HTTP."""

from node.ris.clients import AnyLink, echo, link_to, message, probe
from node.ris.fhir import FhirLink
from node.ris.mllp import MllpLink

__all__ = ["AnyLink", "FhirLink", "MllpLink", "echo", "link_to", "message", "probe"]
