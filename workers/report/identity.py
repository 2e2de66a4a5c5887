"""
Patient and study of a result, copied from the source.

An archive must file a result beside its film, so matching keys are copied unchanged, even invalid ones. Other
values that the standard forbids (a sex of 'U', a birth date of 'unknown') would make the whole result invalid:
they are left empty or left out, and the log names the attributes, never their values. A date in another form
('2024-05-01') is written as the standard has it.
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
from workers.read.header import INVALID_VALUE_ERRORS
from workers.read.header_facts import date_of
from workers.report.modules import PATIENT, STUDY, TYPE_2

log = structlog.get_logger()

REFERENCES = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")
"""Without them a result can neither be filed nor refer to its source; they are never invented."""

MATCHING_KEYS = ("PatientID", "PatientName", "IssuerOfPatientID", "AccessionNumber", "StudyInstanceUID", "StudyID")
"""The attributes by which a PACS matches: copied even where a value breaks a rule."""

_UTC_OFFSET = re.compile(r"[+-][01]\d[0-5]\d")


def require_references(header: Dataset) -> None:
    """Raise Permanent(IDENTITY_MISSING) with the names of the UIDs that the source lacks."""
    missing = [keyword for keyword in REFERENCES if not is_uid(text_of(header, keyword))]
    if missing:
        raise Permanent(reason("IDENTITY_MISSING"), "without a usable " + ", ".join(missing))


def require_patient_id(header: Dataset) -> None:
    """Raise Permanent(IDENTITY_MISSING) if the source has no Patient ID: its result would belong to no patient."""
    if not text_of(header, "PatientID"):
        raise Permanent(reason("IDENTITY_MISSING"), "without a Patient ID")


def copy_identity(header: Dataset, ds: Dataset, *, utf8: bool) -> None:
    """
    Copy the attributes of patient and study from the source's header to `ds`.

    `utf8`: where the source's character set has several values, UTF-8 replaces it; dsr2html, with which
    viewers render reports, cannot read some of those. UTF-8 also replaces an unknown character set, whose
    text is decoded as far as possible.
    """
    terms = character_set(header)
    if (utf8 and len(terms) > 1) or any(term and term not in python_encoding for term in terms):
        terms = ["ISO_IR 192"]
    if terms:
        ds.SpecificCharacterSet = terms if len(terms) > 1 else terms[0]
    dropped = copy_attributes(header, (*PATIENT, *STUDY), ds)
    for keyword in TYPE_2:
        if keyword not in ds:
            setattr(ds, keyword, None)
    offset = timezone_of(header)
    if offset:
        ds.TimezoneOffsetFromUTC = offset
    if dropped:
        log.warning(
            "identity_attributes_dropped", sop_instance_uid=text_of(header, "SOPInstanceUID"), attributes=dropped
        )


def copy_attributes(header: Dataset, keywords: Iterable[str], ds: Dataset) -> list[str]:
    """Copy to `ds` the attributes that are present and valid; returns the keywords of the invalid ones."""
    invalid = []
    with warnings.catch_warnings():
        # pydicom's warnings quote the value, and that is a patient's.
        warnings.simplefilter("ignore")
        for keyword in keywords:
            tag = tag_for_keyword(keyword)
            if tag is None or tag not in header:
                continue
            try:
                element = copy.deepcopy(header[tag])
                decode_items(element)
            except INVALID_VALUE_ERRORS:
                invalid.append(keyword)
                continue
            if element.VR == "DA" and element.VM == 1 and (day := date_of(str(element.value))):
                element.value = f"{day:%Y%m%d}"
            if keyword in MATCHING_KEYS or is_valid(element):
                ds.add(element)
            else:
                invalid.append(keyword)
    return invalid


def decode_items(element: DataElement) -> None:
    """Decode the text in the items of a sequence, at every depth, from the source's character set."""
    if element.VR == "SQ":
        for item in element.value:
            item.decode()
            for nested in item:
                decode_items(nested)
            # The result's own character set applies to its items too.
            item.pop("SpecificCharacterSet", None)


def is_valid(element: DataElement) -> bool:
    """Whether the standard allows the value, and for a sequence those of its items."""
    if element.VR == "SQ":
        return all(is_valid(nested) for item in element.value for nested in item)
    values = element.value if element.VM > 1 else [element.value]
    try:
        for value in values:
            if value is not None and element.VR not in ("PN", "OB", "OW", "UN"):
                text = (
                    value if isinstance(value, bytes | int | float) and element.VR not in ("DS", "IS") else str(value)
                )
                validate_value(element.VR, text, config.RAISE)
            if element.VR == "DA" and value:
                DA(str(value))
    except INVALID_VALUE_ERRORS:
        return False
    return element.keyword != "PatientSex" or not element.value or element.value in ("M", "F", "O")


def text_of(header: Dataset, keyword: str) -> str:
    """The attribute's (first) value as text; empty if it is absent, empty or cannot be read."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            value = header.get(keyword)
        except INVALID_VALUE_ERRORS:
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
    """Timezone Offset From UTC (0008,0201) of the source; empty if it is absent or not an offset."""
    offset = text_of(header, "TimezoneOffsetFromUTC")
    return offset if _UTC_OFFSET.fullmatch(offset) else ""
