"""The messages of a report, as objects that are stored and sent like the others."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from pydicom.dataset import Dataset

from node.settings import ObjectKind
from node.uids import derived_uid
from workers.messages.fhir import bundle
from workers.messages.oru import oru
from workers.messages.report_content import ReportContent, parse_report


@dataclass(frozen=True)
class Message:
    """A message that was created from a report; like an object it has its own UID, by which the ledger records it."""

    kind: ObjectKind
    sop_instance_uid: str
    content: bytes
    suffix: str
    sop_class_uid: str = ""
    transfer_syntax_uid: str = ""

    def encode(self) -> bytes:
        """The bytes that are stored; the sender adds what depends on the receiver's settings."""
        return self.content


ENCODERS: Mapping[ObjectKind, tuple[Callable[[ReportContent], bytes], str]] = {
    "HL7": (oru, "hl7"),
    "FHIR": (bundle, "json"),
}


def messages(reports: Iterable[Dataset], kinds: Collection[ObjectKind], made_at: datetime) -> list[Message]:
    """
    The messages of each report, of the `kinds` that a destination wants.

    Everything in them derives from the report and `made_at`, which the caller fixes: created twice, they have the
    same bytes, UID and identifiers.
    """
    encoders = {kind: encode for kind, encode in ENCODERS.items() if kind in kinds}
    return [
        Message(kind, str(derived_uid("message", kind, content.uid)), encode(content), suffix)
        for content in (parse_report(report, made_at) for report in reports if encoders)
        for kind, (encode, suffix) in encoders.items()
    ]
