"""A Key Object Selection that marks a film with a red flag as "Of Interest" (PS3.16 TID 2010)."""

import highdicom as hd
from pydicom.dataset import Dataset
from pydicom.uid import KeyObjectSelectionDocumentStorage

from node.finding import Reading
from workers.report import codes
from workers.report.clean_source import add_missing, clean_source, highdicom_arguments
from workers.report.content import ResultContent
from workers.report.layout.wording import KNEE_LABELS, sorted_flags
from workers.report.provenance import MANUFACTURER, MODEL_NAME, ascii_only, device_uid, object_uid
from workers.report.source import study_reference

SERIES_NUMBER = 9060


def has_red_flag(reading: Reading) -> bool:
    """Whether any knee has a red flag."""
    return any(flag.red for knee in reading.knees for flag in sorted_flags(knee))


def key_object(content: ResultContent) -> Dataset:
    """The Key Object Selection of a film, with its red flags in words."""
    uid = object_uid("KO", content.reading, content.card)
    ds = content.new_data_set(
        KeyObjectSelectionDocumentStorage,
        uid,
        SERIES_NUMBER,
        "Genu KL red flag (AI, NOT FOR PRIMARY DIAGNOSIS)",
        utf8=True,
    )
    ds.ReferencedPerformedProcedureStepSequence = []
    ds.CurrentRequestedProcedureEvidenceSequence = [study_reference(content.header)]
    add_missing(_build_with_highdicom(content, uid), ds)
    ds.pop("DeviceSerialNumber", None)
    for item in ds.ContentSequence:
        if item.ValueType == "IMAGE":  # TID 2010 has no concept name here
            item.pop("ConceptNameCodeSequence", None)
    return ds


def _build_with_highdicom(content: ResultContent, uid: str) -> Dataset:
    source = clean_source(content.header, 1, 1)
    device = hd.sr.DeviceObserverIdentifyingAttributes(
        uid=device_uid(content.card), name=MODEL_NAME, manufacturer_name=MANUFACTURER, model_name=MODEL_NAME
    )
    selection = hd.ko.KeyObjectSelection(
        document_title=codes.OF_INTEREST,
        referenced_objects=[source],
        observer_device_context=hd.sr.ObserverContext(hd.sr.CodedConcept("121007", "DCM", "Device"), device),
        description=_description(content.reading),
    )
    return hd.ko.KeyObjectSelectionDocument(
        evidence=[source],
        content=selection,
        **highdicom_arguments(content.card, uid, SERIES_NUMBER),
    )


def _description(reading: Reading) -> str:
    texts = [
        f"{KNEE_LABELS[knee.laterality]}: {flag.meaning}. {flag.advice}"
        for knee in reading.knees
        for flag in sorted_flags(knee)
        if flag.red
    ]
    return ascii_only(" ".join(["AI red flag.", *texts]))
