"""What a header states about the patient and the body part, as far as it is reliable."""

import re
from datetime import date

from pydicom import Dataset

from workers.read.header import text

OLDEST = 120
"""Years; a greater age in a header is a mistake."""

KNEE_PARTS = frozenset(
    ("", "KNEE", "KNEES", "LEG", "LOWLEG", "LOWER LEG", "UPRLEG", "THIGH", "EXTREMITY", "LOWER LIMB")
)
KNEE_PARTS |= frozenset(
    ("JOINT", "LEXTREMITY", "LOWEREXTREMITY", "LOWER EXTREMITY", "PATELLA", "FEMUR", "TIBIA", "KNIE")
)
"""Values of Body Part Examined (PS3.16 annex L, and what is written instead) that a knee may have."""


def age_of(header: Dataset) -> float | None:
    """
    The patient's age in years: Patient's Age, else the time between birth and acquisition or study.

    An age without a unit (PS3.5 6.2 asks for one) is in years, as consoles that leave it out mean it.
    None where neither gives an age that a person can have.
    """
    stated = re.fullmatch(r"(\d{1,3})\s?([DWMY]?)", text(header, "PatientAge").upper())
    if stated:
        age = int(stated[1]) / {"D": 365.25, "W": 52.18, "M": 12, "Y": 1, "": 1}[stated[2]]
        # Consoles write "000Y" for an unknown age (a newborn is "001D").
        if age <= OLDEST and int(stated[1]) > 0:
            return age
    born = date_of(text(header, "PatientBirthDate"))
    when = date_of(text(header, "AcquisitionDate")) or date_of(text(header, "StudyDate"))
    if born is None or when is None or not 0 <= when.year - born.year <= OLDEST or born > when:
        return None
    return when.year - born.year - ((when.month, when.day) < (born.month, born.day))


def other_body_part(header: Dataset) -> str:
    """What the header calls the body part if it is none that a knee may have; "" if it is, or is no word."""
    part = text(header, "BodyPartExamined").upper()
    return "" if part in KNEE_PARTS or not re.fullmatch(r"[A-Z ]{1,16}", part) else part


def date_of(value: str) -> date | None:
    """
    The day of a DA value, None where it is none.

    Beside YYYYMMDD (PS3.5 6.2) also YYYY.MM.DD, the form of ACR-NEMA, and YYYY-MM-DD, which some senders write.
    """
    parts = re.fullmatch(r"(\d{4})([.-]?)(\d\d)\2(\d\d)", value.strip())
    try:
        return date(int(parts[1]), int(parts[3]), int(parts[4])) if parts else None
    except ValueError:
        return None
