"""A Key Object Selection that marks a film with a red flag as one to look at (PS3.16 TID 2010)."""

import highdicom as hd
from pydicom.dataset import Dataset
from pydicom.uid import KeyObjectSelectionDocumentStorage

from node.finding import Reading
from node.uids import derived_uid
from workers.report import codes
from workers.report.clean_source import adopt, equipment, stand_in
from workers.report.content import Answer
from workers.report.layout.wording import SIDES, flags_of
from workers.report.provenance import MANUFACTURER, MODEL_NAME, ascii_only, device_uid, object_uid, result
from workers.report.source import in_study

SERIES_NUMBER = 9060


def has_red_flag(reading: Reading) -> bool:
    """Whether a grave flag stands on any knee."""
    return any(flag.red for knee in reading.knees for flag in flags_of(knee))


def key_object(answer: Answer) -> Dataset:
    """The film as "Of Interest", with its grave flags in words."""
    uid = object_uid("KO", answer.reading, answer.card)
    made = result(
        answer.header,
        answer.card,
        sop_class=KeyObjectSelectionDocumentStorage,
        sop_instance_uid=uid,
        made_at=answer.made_at,
        utf8=True,
    )
    made.SeriesNumber = SERIES_NUMBER
    made.SeriesDescription = "Genu KL red flag (AI, NOT FOR PRIMARY DIAGNOSIS)"
    made.ReferencedPerformedProcedureStepSequence = []
    made.CurrentRequestedProcedureEvidenceSequence = [in_study(answer.header)]
    adopt(_built(answer, uid), made)
    made.pop("DeviceSerialNumber", None)
    for item in made.ContentSequence:
        if item.ValueType == "IMAGE":  # TID 2010 has no concept name here
            item.pop("ConceptNameCodeSequence", None)
    return made


def _built(answer: Answer, uid: str) -> Dataset:
    film = stand_in(answer.header, 1, 1)
    device = hd.sr.DeviceObserverIdentifyingAttributes(
        uid=device_uid(answer.card), name=MODEL_NAME, manufacturer_name=MANUFACTURER, model_name=MODEL_NAME
    )
    content = hd.ko.KeyObjectSelection(
        document_title=codes.OF_INTEREST,
        referenced_objects=[film],
        observer_device_context=hd.sr.ObserverContext(hd.sr.CodedConcept("121007", "DCM", "Device"), device),
        description=_words(answer.reading),
    )
    return hd.ko.KeyObjectSelectionDocument(
        evidence=[film],
        content=content,
        series_instance_uid=derived_uid("series", uid),
        series_number=SERIES_NUMBER,
        sop_instance_uid=uid,
        instance_number=1,
        **equipment(answer.card),
    )


def _words(reading: Reading) -> str:
    told = [
        f"{SIDES[knee.laterality]}: {flag.meaning}. {flag.advice}"
        for knee in reading.knees
        for flag in flags_of(knee)
        if flag.red
    ]
    return ascii_only(" ".join(["AI red flag.", *told]))
