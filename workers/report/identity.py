"""
Whose the results are: patient and study are copied from the source as they came.

A result must file itself beside its film, so matching keys are never mended, whatever they look like. Other
values that the standard forbids (a sex of 'U', a date of '2024-05-01') would make the whole result invalid:
they are left empty or left out, and the log says which attributes, never what they held.
"""

import copy
import re
import warnings
from collections.abc import Iterable

import structlog
from pydicom import config
from pydicom.charset import python_encoding
from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.valuerep import DA, validate_value

from node.errors import Permanent
from node.radiograph import is_uid
from node.reasons import reason
from workers.read.header import STRANGE
from workers.report.modules import PATIENT, STUDY, TYPE_2

log = structlog.get_logger()

REFERENCES = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")
"""Without them a result can neither be filed nor say what it speaks of; they are never invented."""

KEYS = ("PatientID", "PatientName", "IssuerOfPatientID", "AccessionNumber", "StudyInstanceUID", "StudyID")
"""What a PACS matches by: copied even where a value breaks a rule."""

_TIMEZONE = re.compile(r"[+-][01]\d[0-5]\d")


def must_have_references(header: Dataset) -> None:
    """The source can be referred to, or Permanent(IDENTITY_MISSING) says which UID it lacks."""
    lacking = [keyword for keyword in REFERENCES if not is_uid(text_of(header, keyword))]
    if lacking:
        raise Permanent(reason("IDENTITY_MISSING"), "without a usable " + ", ".join(lacking))


def must_have_patient(header: Dataset) -> None:
    """The source has a Patient ID, or Permanent(IDENTITY_MISSING): without one a result is filed under nobody."""
    if not text_of(header, "PatientID"):
        raise Permanent(reason("IDENTITY_MISSING"), "without a Patient ID")


def copy_identity(header: Dataset, into: Dataset, *, utf8: bool) -> None:
    """
    `into` belongs to the same patient and study as the source.

    `utf8`: a source whose character set has several values is written in UTF-8 instead; dsr2html, which
    viewers render reports with, cannot read some of those. A character set that is none is read as
    well as it can be and written in UTF-8 too.
    """
    terms = character_set(header)
    if (utf8 and len(terms) > 1) or any(term and term not in python_encoding for term in terms):
        terms = ["ISO_IR 192"]
    if terms:
        into.SpecificCharacterSet = terms if len(terms) > 1 else terms[0]
    mended = copy_attributes(header, (*PATIENT, *STUDY), into)
    for keyword in TYPE_2:
        if keyword not in into:
            setattr(into, keyword, None)
    zone = timezone_of(header)
    if zone:
        into.TimezoneOffsetFromUTC = zone
    if mended:
        log.warning("identity_mended", sop_instance_uid=text_of(header, "SOPInstanceUID"), attributes=mended)


def copy_attributes(header: Dataset, keywords: Iterable[str], into: Dataset) -> list[str]:
    """`into` has those of the attributes that are present and sound; returns those that were not sound."""
    unsound = []
    with warnings.catch_warnings():
        # pydicom's warnings quote the value, and that is a patient's.
        warnings.simplefilter("ignore")
        for keyword in keywords:
            tag = tag_for_keyword(keyword)
            if tag is None or tag not in header:
                continue
            try:
                element = copy.deepcopy(header[tag])
                decode(element)
            except STRANGE:
                unsound.append(keyword)
                continue
            if keyword in KEYS or is_sound(element):
                into.add(element)
            else:
                unsound.append(keyword)
    return unsound


def decode(element: DataElement) -> None:
    """The items of a sequence, all the way down, hold text rather than bytes in the source's character set."""
    if element.VR == "SQ":
        for item in element.value:
            item.decode()
            for inner in item:
                decode(inner)
            # The result's own character set holds for its items too.
            item.pop("SpecificCharacterSet", None)


def is_sound(element: DataElement) -> bool:
    """Whether the standard allows the value, and for a sequence those of its items."""
    if element.VR == "SQ":
        return all(is_sound(inner) for item in element.value for inner in item)
    values = element.value if element.VM > 1 else [element.value]
    try:
        for value in values:
            if value is not None and element.VR not in ("PN", "OB", "OW", "UN"):
                told = (
                    value if isinstance(value, bytes | int | float) and element.VR not in ("DS", "IS") else str(value)
                )
                validate_value(element.VR, told, config.RAISE)
            if element.VR == "DA" and value:
                DA(str(value))
    except STRANGE:
        return False
    return element.keyword != "PatientSex" or not element.value or element.value in ("M", "F", "O")


def text_of(header: Dataset, keyword: str) -> str:
    """The attribute's (first) value as text; empty if it is absent, empty or cannot be read."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            value = header.get(keyword)
        except STRANGE:
            return ""
    if value is None:
        return ""
    if not isinstance(value, str | bytes) and hasattr(value, "__getitem__"):
        value = value[0] if len(value) else ""
    return str(value).strip()


def character_set(header: Dataset) -> list[str]:
    """The terms of Specific Character Set (0008,0005); none means ASCII only."""
    value = header.get("SpecificCharacterSet")
    if value is None or value == "":
        return []
    return [value] if isinstance(value, str) else [str(term or "") for term in value]


def timezone_of(header: Dataset) -> str:
    """Timezone Offset From UTC (0008,0201) of the source, empty if it is absent or no offset."""
    zone = text_of(header, "TimezoneOffsetFromUTC")
    return zone if _TIMEZONE.fullmatch(zone) else ""
