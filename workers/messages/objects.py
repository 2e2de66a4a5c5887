"""The messages that a report becomes, as objects to be kept and sent beside the others."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from pydicom.dataset import Dataset

from node.settings import ObjectKind
from node.uids import derived_uid
from workers.messages.fhir import bundle
from workers.messages.oru import oru
from workers.messages.report_content import Said, said_of


@dataclass(frozen=True)
class Message:
    """A message that was made of a report; the ledger knows it by a UID of its own, as it knows an object."""

    kind: ObjectKind
    sop_instance_uid: str
    content: bytes
    suffix: str
    sop_class_uid: str = ""
    transfer_syntax_uid: str = ""

    def encode(self) -> bytes:
        """The bytes that are kept; who sends it adds what only the receiver's settings tell."""
        return self.content


FORMS: Mapping[ObjectKind, tuple[Callable[[Said], bytes], str]] = {"HL7": (oru, "hl7"), "FHIR": (bundle, "json")}


def messages(reports: Iterable[Dataset], kinds: Collection[ObjectKind], made_at: datetime) -> list[Message]:
    """
    The messages of each report, of the `kinds` that someone wants.

    Everything in them derives from the report and the time of making, which the caller fixes: made twice, they are the
    same bytes under the same UID and the same identifiers.
    """
    wanted = {kind: form for kind, form in FORMS.items() if kind in kinds}
    return [
        Message(kind, str(derived_uid("message", kind, said.uid)), form(said), suffix)
        for said in (said_of(report, made_at) for report in reports if wanted)
        for kind, (form, suffix) in wanted.items()
    ]
