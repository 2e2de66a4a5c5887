"""Patient and study as Unicode text, for pages behind the sign-in and for messages to the RIS."""

import warnings

from pydicom import Dataset

from workers.read.header import text

ATTRIBUTES = {
    "name": "PatientName",
    "id": "PatientID",
    "birth_date": "PatientBirthDate",
    "sex": "PatientSex",
    "study_date": "StudyDate",
    "description": "StudyDescription",
    "accession": "AccessionNumber",
}


def patient_facts(header: Dataset) -> dict[str, str]:
    """
    Patient and study as Unicode text, decoded by Specific Character Set; empty strings for absent attributes.

    Names have the form of PS3.5 6.2.1: family^given, and alphabetic=ideographic=phonetic.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a warning quotes the value
        return {key: _unicode(text(header, keyword), header) for key, keyword in ATTRIBUTES.items()}


def _unicode(value: str, header: Dataset) -> str:
    """Decode as UTF-8 where no character set is given: pydicom assumes Latin-1, but most such senders use UTF-8."""
    value = value.strip().strip("^=")
    if value.isascii() or text(header, "SpecificCharacterSet"):
        return value
    try:
        return value.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return value
