"""
The content of a report as a message for a RIS: HL7 v2 or FHIR.

A message is created from the Structured Report alone: it has the same codes and the same refusals, and without a report
there is no message.
"""

from workers.messages.objects import Message, messages

__all__ = ["Message", "messages"]
