"""
A report as an HL7 v2.5.1 message: ORU^R01^ORU_R01 (chapter 7.3.1), segments MSH, PID, OBR and OBX.

The study is named as IHE names it (RAD-128: an OBX with 113014, DICOM Study, and the accession number in OBR-18).
Written without a library: a message is lines of fields, and the libraries there are leave the escaping to the caller.
"""

from collections import Counter
from collections.abc import Iterator

from pydicom.sr.coding import Code

from node.radiograph import is_uid
from node.uids import derived_uid
from workers.messages.report_content import NOTICE, Group, Item, Quantity, Said
from workers.report import codes

DICOM_STUDY = Code("113014", "DCM", "DICOM Study")
PRELIMINARY, NO_RESULT, DESCRIPTION = "P", "X", "O"
"""Of table 0085 (OBX-11): not verified; cannot be obtained; says what the order is about and is no result."""
CONTROL_ID = 20
"""Characters that MSH-10 may have (ST, chapter 2.14.9.10)."""
_ESCAPES = {"|": "F", "^": "S", "&": "T", "~": "R", "\\": "E"}
_NAME_TYPES = ("A", "I", "P")
"""Alphabetic, ideographic, phonetic: the order of DICOM's component groups (PS3.5 6.2.1), table 0465 of HL7."""


def oru(said: Said) -> bytes:
    """The message, each segment ended by a carriage return, in UTF-8."""
    segments = [_msh(said), _pid(said), _obr(said)]
    segments += [_obx(number, said, *each) for number, each in enumerate(_observations(said), start=1)]
    return "".join("|".join(segment).rstrip("|") + "\r" for segment in segments).encode("utf-8", "replace")


def escaped(text: str) -> str:
    """Text without what separates fields, components, repetitions and segments (HL7 v2.5.1, chapter 2.7)."""
    return "".join(
        f"\\{_ESCAPES[each]}\\" if each in _ESCAPES else f"\\X{ord(each):02X}\\" if _is_control(each) else each
        for each in text
    )


def _is_control(each: str) -> bool:
    return each < " " or each == "\x7f"


def _msh(said: Said) -> list[str]:
    """Message header. MSH-3 to MSH-6 are the settings' and are put in when it is sent."""
    control_id = f"{int(derived_uid('control id', said.uid).split('.')[-1]):x}"[:CONTROL_ID].upper()
    header = ["MSH", "^~\\&", "GENU", "", "", "", f"{said.made_at:%Y%m%d%H%M%S%z}", "", "ORU^R01^ORU_R01", control_id]
    return [*header, "P", "2.5.1", "", "", "", "", "", "UNICODE UTF-8"]


def _pid(said: Said) -> list[str]:
    """Patient identification (chapter 3.4.2); the issuer is the assigning authority of PID-3."""
    qualifiers = "IssuerOfPatientIDQualifiersSequence"
    issuer = _authority(
        said.text("IssuerOfPatientID"),
        said.inner(qualifiers, "UniversalEntityID"),
        said.inner(qualifiers, "UniversalEntityIDType"),
    )
    patient_id = f"{escaped(said.patient['id'])}^^^{issuer}^PI" if said.patient["id"] else ""
    born, sex = said.patient["birth_date"], said.patient["sex"]
    return ["PID", "1", "", patient_id, "", names(said.patient["name"]), "", escaped(born), escaped(sex)]


def names(name: str) -> str:
    """
    A DICOM person name as repetitions of XPN (chapter 2.A.88).

    DICOM has family, given, middle, prefix, suffix; HL7 family, given, further, suffix, prefix.
    """
    told = []
    for group, representation in zip(name.split("="), _NAME_TYPES, strict=False):
        if not group.strip("^ "):
            continue
        family, given, middle, prefix, suffix = (escaped(part.strip()) for part in (*group.split("^"), *[""] * 5)[:5])
        told.append("^".join((family, given, middle, suffix, prefix, "", "L", representation)))
    return "~".join(told)


def _obr(said: Said) -> list[str]:
    """
    The order (chapter 4.5.3), preliminary. OBR-3 is the accession number, by which a RIS knows its examination.

    Films do not tell the placer's number (OBR-2). Without an accession number the study's UID stands in OBR-3.
    """
    issuer = "IssuerOfAccessionNumberSequence"
    authority = (
        said.inner(issuer, "LocalNamespaceEntityID"),
        said.inner(issuer, "UniversalEntityID"),
        said.inner(issuer, "UniversalEntityIDType"),
    )
    accession, study = said.text("AccessionNumber"), said.text("StudyInstanceUID")
    filler = "^".join((escaped(accession or study), *map(escaped, authority))).rstrip("^")
    service = _coded(codes.ASSESSMENT)
    if procedure := said.inner("ProcedureCodeSequence", "CodeValue"):
        sequence = "ProcedureCodeSequence"
        designator, meaning = said.inner(sequence, "CodingSchemeDesignator"), said.inner(sequence, "CodeMeaning")
        service += "^" + _coded(Code(procedure, designator, meaning))
    fields = [""] * 26
    fields[0], fields[1], fields[3], fields[4], fields[7] = "OBR", "1", filler, service, _observed(said)
    fields[18], fields[22] = escaped(accession), f"{said.made_at:%Y%m%d%H%M%S%z}"
    fields[24], fields[25] = "RAD", PRELIMINARY
    return fields


def _observations(said: Said) -> Iterator[tuple[list[Item], str, str]]:
    """Every answer with the sub-identifier of its knee and its status; first what the message is about."""
    yield [Item(DICOM_STUDY, said.text("StudyInstanceUID"))], "", DESCRIPTION
    yield [Item(codes.SOURCE, said.source_uid)], "", DESCRIPTION
    yield [Item(codes.COMMENT, NOTICE)], "", PRELIMINARY
    yield from (([item], "", PRELIMINARY) for item in said.algorithm)
    met: Counter[str] = Counter()
    for group in said.groups:
        met[group.letter] += 1
        again = str(met[group.letter]) if met[group.letter] > 1 else ""
        yield from ((items, group.letter + again, _status(items[0])) for items in _of_group(group))


def _of_group(group: Group) -> Iterator[list[Item]]:
    """The answers of a knee; those of one name together, for OBX-3 and OBX-4 are to name one OBX alone."""
    if group.site is not None:
        yield [Item(codes.FINDING_SITE, group.site)]
    if group.side is not None:
        yield [Item(codes.LATERALITY, group.side)]
    named: dict[tuple[str, str], list[Item]] = {}
    for item in group.items:
        named.setdefault((item.name.value, item.name.scheme_designator), []).append(item)
    yield from named.values()


def _status(item: Item) -> str:
    refused = isinstance(item.value, Code) and item.value == codes.NOT_GRADABLE
    return NO_RESULT if refused else PRELIMINARY


def _obx(number: int, said: Said, items: list[Item], knee: str, status: str) -> list[str]:
    """One answer, or several of one name (chapter 7.4.2). OBX-4 is R, L or U: a form is filled by code and side."""
    fields = [""] * 19
    told = [_value(item.value) for item in items]
    kind, _, unit = told[0]
    value = "~".join(each for _, each, _ in told)
    fields[:7] = ["OBX", str(number), kind, _coded(items[0].name), knee, value, unit]
    fields[11], fields[14] = status, _observed(said)
    fields[17] = _coded(codes.ARTIFICIAL_INTELLIGENCE)
    model = " ".join(str(each.value) for each in said.algorithm[:2])
    fields[18] = f"{escaped(model)}^^{said.device_uid}^ISO"
    return fields


def _value(value: Code | Quantity | str) -> tuple[str, str, str]:
    """Type, value and unit: OBX-2, OBX-5, OBX-6."""
    if isinstance(value, Quantity):
        return "NM", value.text, _coded(value.unit)
    if isinstance(value, Code):
        return "CWE", _coded(value), ""
    return ("ST" if is_uid(value) else "TX"), escaped(value), ""


def _coded(code: Code) -> str:
    return "^".join(escaped(part) for part in (code.value, code.meaning, code.scheme_designator))


def _observed(said: Said) -> str:
    """When the film was made, as far as the study tells (OBR-7, OBX-14: TS, chapter 2.A.77)."""
    date, time = said.text("StudyDate"), said.text("StudyTime").replace(":", "")
    if len(date) != 8 or not date.isdigit():
        return ""
    whole = time[:6] if len(time) >= 6 and time[:6].isdigit() else ""
    return date + (whole + said.zone if whole else "")


def _authority(namespace: str, universal: str, kind: str) -> str:
    """An assigning authority within a field (HD as a component, chapter 2.A.33)."""
    return "&".join(map(escaped, (namespace, universal, kind))).rstrip("&")
