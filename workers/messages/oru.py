"""
A report as an HL7 v2.5.1 message: ORU^R01^ORU_R01 (chapter 7.3.1), segments MSH, PID, OBR and OBX.

The study is identified as in IHE RAD-128: an OBX with 113014, DICOM Study, and the accession number in OBR-18.
Written without a library: a message is lines of fields, and the available libraries leave the escaping to the caller.
"""

from collections import Counter
from collections.abc import Iterator

from pydicom.sr.coding import Code

from node.radiograph import is_uid
from node.uids import derived_uid
from workers.messages.report_content import NOTICE, GroupContent, Item, Quantity, ReportContent
from workers.report import codes

DICOM_STUDY = Code("113014", "DCM", "DICOM Study")
PRELIMINARY, NO_RESULT, DESCRIPTION = "P", "X", "O"
"""Of table 0085 (OBX-11): not verified; cannot be obtained; describes the order and is no result."""
CONTROL_ID = 20
"""Maximum length of MSH-10 (ST, chapter 2.14.9.10)."""
_ESCAPES = {"|": "F", "^": "S", "&": "T", "~": "R", "\\": "E"}
_NAME_TYPES = ("A", "I", "P")
"""Alphabetic, ideographic, phonetic: the order of DICOM's component groups (PS3.5 6.2.1), table 0465 of HL7."""


def oru(content: ReportContent) -> bytes:
    """The message, each segment ended by a carriage return, in UTF-8."""
    segments = [_msh(content), _pid(content), _obr(content)]
    segments += [
        _obx(number, content, *observation) for number, observation in enumerate(_observations(content), start=1)
    ]
    return "".join("|".join(segment).rstrip("|") + "\r" for segment in segments).encode("utf-8", "replace")


def escape(text: str) -> str:
    """`text` with escape sequences for the delimiters and control characters (HL7 v2.5.1, chapter 2.7)."""
    return "".join(
        f"\\{_ESCAPES[character]}\\"
        if character in _ESCAPES
        else f"\\X{ord(character):02X}\\"
        if _is_control(character)
        else character
        for character in text
    )


def _is_control(character: str) -> bool:
    return character < " " or character == "\x7f"


def _msh(content: ReportContent) -> list[str]:
    """Message header. The sender fills MSH-3 to MSH-6 from its settings."""
    control_id = f"{int(derived_uid('control id', content.uid).split('.')[-1]):x}"[:CONTROL_ID].upper()
    time = f"{content.made_at:%Y%m%d%H%M%S%z}"
    header = ["MSH", "^~\\&", "GENU", "", "", "", time, "", "ORU^R01^ORU_R01", control_id]
    return [*header, "P", "2.5.1", "", "", "", "", "", "UNICODE UTF-8"]


def _pid(content: ReportContent) -> list[str]:
    """Patient identification (chapter 3.4.2); the issuer is the assigning authority of PID-3."""
    issuer = _authority(*content.patient_id_issuer)
    patient_id = f"{escape(content.patient['id'])}^^^{issuer}^PI" if content.patient["id"] else ""
    birth_date, sex = content.patient["birth_date"], content.patient["sex"]
    return ["PID", "1", "", patient_id, "", person_names(content.patient["name"]), "", escape(birth_date), escape(sex)]


def person_names(name: str) -> str:
    """
    A DICOM person name as repetitions of XPN (chapter 2.A.88).

    DICOM has family, given, middle, prefix, suffix; HL7 family, given, further, suffix, prefix.
    """
    repetitions = []
    for group, representation in zip(name.split("="), _NAME_TYPES, strict=False):
        if not group.strip("^ "):
            continue
        family, given, middle, prefix, suffix = (escape(part.strip()) for part in (*group.split("^"), *[""] * 5)[:5])
        repetitions.append("^".join((family, given, middle, suffix, prefix, "", "L", representation)))
    return "~".join(repetitions)


def _obr(content: ReportContent) -> list[str]:
    """
    The order (chapter 4.5.3), preliminary. OBR-3 is the accession number, by which a RIS identifies the examination.

    Films do not have the placer's number (OBR-2). Without an accession number OBR-3 is the study's UID.
    """
    accession, study = content.text("AccessionNumber"), content.text("StudyInstanceUID")
    filler = "^".join((escape(accession or study), *map(escape, content.accession_issuer))).rstrip("^")
    service = _coded(codes.ASSESSMENT)
    if procedure := content.sequence_text("ProcedureCodeSequence", "CodeValue"):
        sequence = "ProcedureCodeSequence"
        designator = content.sequence_text(sequence, "CodingSchemeDesignator")
        meaning = content.sequence_text(sequence, "CodeMeaning")
        service += "^" + _coded(Code(procedure, designator, meaning))
    fields = [""] * 26
    fields[0], fields[1], fields[3], fields[4], fields[7] = "OBR", "1", filler, service, _study_time(content)
    fields[18], fields[22] = escape(accession), f"{content.made_at:%Y%m%d%H%M%S%z}"
    fields[24], fields[25] = "RAD", PRELIMINARY
    return fields


def _observations(content: ReportContent) -> Iterator[tuple[list[Item], str, str]]:
    """Items with the sub-identifier of their knee (OBX-4) and status (OBX-11); study and film come first."""
    yield [Item(DICOM_STUDY, content.text("StudyInstanceUID"))], "", DESCRIPTION
    yield [Item(codes.SOURCE, content.source_uid)], "", DESCRIPTION
    yield [Item(codes.COMMENT, NOTICE)], "", PRELIMINARY
    yield from (([item], "", PRELIMINARY) for item in content.algorithm)
    seen_letters: Counter[str] = Counter()
    for group in content.groups:
        seen_letters[group.letter] += 1
        repeat = str(seen_letters[group.letter]) if seen_letters[group.letter] > 1 else ""
        yield from ((items, group.letter + repeat, _status(items[0])) for items in _group_items(group))


def _group_items(group: GroupContent) -> Iterator[list[Item]]:
    """The items of a knee, grouped by name, because OBX-3 and OBX-4 must identify one OBX."""
    if group.site is not None:
        yield [Item(codes.FINDING_SITE, group.site)]
    if group.laterality is not None:
        yield [Item(codes.LATERALITY, group.laterality)]
    named: dict[tuple[str, str], list[Item]] = {}
    for item in group.items:
        named.setdefault((item.name.value, item.name.scheme_designator), []).append(item)
    yield from named.values()


def _status(item: Item) -> str:
    refused = isinstance(item.value, Code) and item.value == codes.NOT_GRADABLE
    return NO_RESULT if refused else PRELIMINARY


def _obx(number: int, content: ReportContent, items: list[Item], knee: str, status: str) -> list[str]:
    """One item, or several of one name (chapter 7.4.2). A RIS finds a value by its code (OBX-3) and knee (OBX-4)."""
    fields = [""] * 19
    repetitions = [_value(item.value) for item in items]
    value_type, _, unit = repetitions[0]
    value = "~".join(text for _, text, _ in repetitions)
    fields[:7] = ["OBX", str(number), value_type, _coded(items[0].name), knee, value, unit]
    fields[11], fields[14] = status, _study_time(content)
    fields[17] = _coded(codes.ARTIFICIAL_INTELLIGENCE)
    model = " ".join(str(item.value) for item in content.algorithm[:2])
    fields[18] = f"{escape(model)}^^{content.device_uid}^ISO"
    return fields


def _value(value: Code | Quantity | str) -> tuple[str, str, str]:
    """Type, value and unit: OBX-2, OBX-5, OBX-6."""
    if isinstance(value, Quantity):
        return "NM", value.text, _coded(value.unit)
    if isinstance(value, Code):
        return "CWE", _coded(value), ""
    return ("ST" if is_uid(value) else "TX"), escape(value), ""


def _coded(code: Code) -> str:
    return "^".join(escape(part) for part in (code.value, code.meaning, code.scheme_designator))


def _study_time(content: ReportContent) -> str:
    """Date and time of the study, as far as they are known (OBR-7, OBX-14: TS, chapter 2.A.77)."""
    date, time = content.text("StudyDate"), content.text("StudyTime").replace(":", "")
    if len(date) != 8 or not date.isdigit():
        return ""
    seconds = time[:6] if len(time) >= 6 and time[:6].isdigit() else ""
    return date + (seconds + content.utc_offset if seconds else "")


def _authority(namespace: str, universal: str, value_type: str) -> str:
    """An assigning authority within a field (HD as a component, chapter 2.A.33)."""
    return "&".join(map(escape, (namespace, universal, value_type))).rstrip("&")
