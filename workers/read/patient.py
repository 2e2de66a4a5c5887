"""Who a film is of, in readable characters: for the page that only signed-in people see, and for nothing else."""

import warnings

from pydicom import Dataset

from workers.read.header import text

FACTS = {
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
    Patient and study as Unicode text, decoded by Specific Character Set; empty strings for what is not told.

    Names keep their form of PS3.5 6.2.1: family^given, and alphabetic=ideographic=phonetic.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they quote the value
        return {key: _readable(text(header, keyword), header) for key, keyword in FACTS.items()}


def _readable(value: str, header: Dataset) -> str:
    """Without a character set pydicom takes bytes for Latin-1; senders that name none mostly mean UTF-8."""
    value = value.strip().strip("^=")
    if value.isascii() or text(header, "SpecificCharacterSet"):
        return value
    try:
        return value.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return value
