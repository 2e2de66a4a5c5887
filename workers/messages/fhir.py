"""
A report as a FHIR transaction Bundle: a DiagnosticReport, an Observation for each knee, and the Device.

By FHIR R4 (diagnosticreport.html, observation.html, device.html, http.html#transaction), without elements that R5
removed or changed except DiagnosticReport.imagingStudy, which the sender renames for an R5 service. Each resource is
created conditionally, on an identifier that derives from the report: a Bundle sent twice creates no resource twice.
"""

import json
import uuid
from typing import Any

from pydicom.sr.coding import Code

from node.uids import derived_uid
from workers.messages.report_content import NOTICE, GroupContent, Item, Quantity, ReportContent
from workers.report import codes
from workers.report.provenance import MANUFACTURER

Json = dict[str, Any]

SYSTEMS = {
    codes.SCHEME: f"urn:oid:{codes.SCHEME_UID}",
    "SCT": "http://snomed.info/sct",
    "DCM": "http://dicom.nema.org/resources/ontology/DCM",
    "UCUM": "http://unitsofmeasure.org",
    "RADLEX": "urn:oid:2.16.840.1.113883.6.256",  # as PS3.16 table 8-1 registers it
}
_TERMINOLOGY = "http://terminology.hl7.org/CodeSystem/"
_UIDS = "urn:dicom:uid"


def bundle(content: ReportContent) -> bytes:
    """The Bundle as JSON, in UTF-8."""
    device_uid = str(derived_uid("device of a message", content.device_uid, *_model(content)))
    observations = [
        (str(derived_uid("observation", content.uid, group.tracking_uid)), group) for group in content.groups
    ]
    entries = [_entry(device_uid, _device(content, device_uid))]
    entries += [_entry(uid, _observation(content, uid, group, device_uid)) for uid, group in observations]
    report_uid = str(derived_uid("diagnostic report", content.uid))
    entries.append(_entry(report_uid, _report(content, report_uid, [uid for uid, _ in observations])))
    resource: Json = {"resourceType": "Bundle", "type": "transaction"}
    resource |= {"timestamp": content.made_at.isoformat(), "entry": entries}
    return json.dumps(resource, ensure_ascii=False, indent=1).encode("utf-8", "replace")


def _entry(uid: str, resource: Json) -> Json:
    identifier = resource["identifier"][0]
    condition = f"identifier={identifier['system']}|{identifier['value']}"
    request = {"method": "POST", "url": resource["resourceType"], "ifNoneExist": condition}
    return {"fullUrl": _full_url(uid), "resource": resource, "request": request}


def _full_url(uid: str) -> str:
    """The fullUrl of a resource in the Bundle: the UUID from which its UID derives (PS3.5 B.2)."""
    return f"urn:uuid:{uuid.UUID(int=int(uid.split('.')[-1]))}"


def _device(content: ReportContent, uid: str) -> Json:
    """The model, its version and its weights."""
    name, version, weights = _model(content)
    return {
        "resourceType": "Device",
        "identifier": [_uid_identifier(uid), _uid_identifier(content.device_uid)],
        "status": "active",
        "manufacturer": MANUFACTURER,
        "modelNumber": name,
        "version": [{"type": {"text": "model"}, "value": version}, {"type": {"text": "weights"}, "value": weights}],
    }


def _model(content: ReportContent) -> tuple[str, str, str]:
    name, version, weights = (str(item.value) for item in content.algorithm)
    return name, version, weights


def _observation(content: ReportContent, uid: str, group: GroupContent, device_uid: str) -> Json:
    """A knee's grade, or the reason for its absence; all other items as components."""
    category = _single_coding(f"{_TERMINOLOGY}observation-category", "imaging")
    resource = _preliminary(content, "Observation", uid, category, codes.GRADE)
    if group.grade is not None:
        resource["valueCodeableConcept"] = _concept(group.grade)
    else:
        reason = group.value(codes.NOT_GRADABLE_REASON)
        absent = _single_coding(f"{_TERMINOLOGY}data-absent-reason", "not-performed")
        if isinstance(reason, Code):
            absent = {"coding": [*absent["coding"], _coding(reason)], "text": reason.meaning}
        resource["dataAbsentReason"] = absent
    if group.site is not None:
        side = f"{group.laterality.meaning} knee joint" if group.laterality else "Knee joint, side unknown"
        resource["bodySite"] = {"coding": [_coding(group.site)], "text": side}
    resource["method"] = _concept(codes.ARTIFICIAL_INTELLIGENCE)
    resource["device"] = {"reference": _full_url(device_uid)}
    resource["derivedFrom"] = [_study(content)]
    resource["note"] = [{"text": text} for text in (group.comment, NOTICE) if text]
    sides = [Item(codes.LATERALITY, group.laterality)] if group.laterality else []
    rest = [item for item in group.items if item.name not in (codes.GRADE, codes.COMMENT)]
    resource["component"] = [{"code": _concept(item.name), **_value(item.value)} for item in (*sides, *rest)]
    return resource


def _preliminary(content: ReportContent, kind: str, uid: str, category: Json, code: Code) -> Json:
    """The elements that an Observation and a DiagnosticReport share: both are preliminary, not verified."""
    return {
        "resourceType": kind,
        "identifier": [_uid_identifier(uid)],
        "status": "preliminary",
        "category": [category],
        "code": _concept(code),
        **_subject(content),
        **_times(content),
    }


def _report(content: ReportContent, uid: str, results: list[str]) -> Json:
    resource = _preliminary(
        content, "DiagnosticReport", uid, _single_coding(f"{_TERMINOLOGY}v2-0074", "RAD"), codes.ASSESSMENT
    )
    resource["result"] = [{"reference": _full_url(uid)} for uid in results]
    resource["imagingStudy"] = [_study(content)]
    resource["conclusion"] = "\n".join((*(group.comment for group in content.groups), NOTICE))
    if accession := _plain_text(content.text("AccessionNumber")):
        identifier = {"type": _single_coding(f"{_TERMINOLOGY}v2-0203", "ACSN"), "value": accession}
        identifier |= _assigner(*content.accession_issuer)
        resource["basedOn"] = [{"type": "ServiceRequest", "identifier": identifier}]
    return resource


def _subject(content: ReportContent) -> Json:
    """The patient by identifier (Reference.identifier): only the service knows the Patient resource."""
    value = _plain_text(content.patient["id"])
    name = _plain_text(" ".join(content.patient["name"].split("=")[0].split("^")))
    if not value:
        return {}
    identifier = {"value": value} | _assigner(*content.patient_id_issuer)
    return {"subject": {"type": "Patient", "identifier": identifier} | ({"display": name} if name else {})}


def _assigner(local: str, universal: str, kind: str) -> Json:
    """The assigner of an identifier: its system where that is globally unique, otherwise a display name."""
    prefix = {"ISO": "urn:oid:", "UUID": "urn:uuid:", "URI": ""}.get(kind)
    identifier: Json = {"system": f"{prefix}{universal}"} if universal and prefix is not None else {}
    if local := _plain_text(local):
        identifier["assigner"] = {"display": local}
    return identifier


def _times(content: ReportContent) -> Json:
    """Study date, with its time where the time zone is known (a dateTime with a time needs one), and issued."""
    date, time = content.text("StudyDate"), content.text("StudyTime")
    elements: Json = {"issued": content.made_at.isoformat()}
    if len(date) == 8 and date.isdigit():
        date_time = f"{date[:4]}-{date[4:6]}-{date[6:]}"
        if (utc_offset := content.utc_offset) and len(time) >= 6 and time[:6].isdigit():
            date_time += f"T{time[:2]}:{time[2:4]}:{time[4:6]}{utc_offset[:3]}:{utc_offset[3:]}"
        elements["effectiveDateTime"] = date_time
    return elements


def _study(content: ReportContent) -> Json:
    return {"type": "ImagingStudy", "identifier": _uid_identifier(content.text("StudyInstanceUID"))}


def _uid_identifier(uid: str) -> Json:
    """A DICOM UID as an identifier (FHIR, imagingstudy.html 5.4.4)."""
    return {"system": _UIDS, "value": f"urn:oid:{uid}"}


def _value(value: Code | Quantity | str) -> Json:
    if isinstance(value, Code):
        return {"valueCodeableConcept": _concept(value)}
    if isinstance(value, Quantity):
        number = float(value.text) if "." in value.text else int(value.text)
        unit = {"unit": value.unit.meaning, "system": SYSTEMS["UCUM"], "code": value.unit.value}
        return {"valueQuantity": {"value": number, **unit}}
    return {"valueString": _plain_text(value)}


def _concept(code: Code) -> Json:
    return {"coding": [_coding(code)], "text": code.meaning}


def _coding(code: Code) -> Json:
    return {"system": SYSTEMS[code.scheme_designator], "code": code.value, "display": code.meaning}


def _single_coding(system: str, code: str) -> Json:
    return {"coding": [{"system": system, "code": code}]}


def _plain_text(text: str) -> str:
    """`text` without control characters, which a FHIR string must not have (datatypes.html#string)."""
    return " ".join("".join(character if character.isprintable() else " " for character in text).split())
