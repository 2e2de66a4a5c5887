"""
What a report says as a message for a RIS: HL7 v2 or FHIR.

A message is the Structured Report in other words, and is made of nothing else: the same codes, the same refusals, and
of what no report is made there is no message.
"""

from workers.messages.objects import Message, messages

__all__ = ["Message", "messages"]
