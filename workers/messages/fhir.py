"""
A report as a FHIR transaction Bundle: a DiagnosticReport, an Observation for each knee, the Device that spoke.

After FHIR R4 (diagnosticreport.html, observation.html, device.html, http.html#transaction), without what R5 took away
or changed but for DiagnosticReport.imagingStudy, which the sender renames for an R5 service. Each resource is created
conditionally, on an identifier that derives from the report: a Bundle that comes twice creates nothing twice.
"""

import json
import uuid
from typing import Any

from pydicom.sr.coding import Code

from node.uids import derived_uid
from workers.messages.report_content import NOTICE, Group, Item, Quantity, Said
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


def bundle(said: Said) -> bytes:
    """The Bundle as JSON, in UTF-8."""
    device_uid = str(derived_uid("device of a message", said.device_uid, *_model(said)))
    observations = [(str(derived_uid("observation", said.uid, each.tracking_uid)), each) for each in said.groups]
    entries = [_entry(device_uid, _device(said, device_uid))]
    entries += [_entry(uid, _observation(said, uid, group, device_uid)) for uid, group in observations]
    report_uid = str(derived_uid("diagnostic report", said.uid))
    entries.append(_entry(report_uid, _report(said, report_uid, [uid for uid, _ in observations])))
    made = {"resourceType": "Bundle", "type": "transaction", "timestamp": said.made_at.isoformat(), "entry": entries}
    return json.dumps(made, ensure_ascii=False, indent=1).encode("utf-8", "replace")


def _entry(uid: str, resource: Json) -> Json:
    identifier = resource["identifier"][0]
    condition = f"identifier={identifier['system']}|{identifier['value']}"
    request = {"method": "POST", "url": resource["resourceType"], "ifNoneExist": condition}
    return {"fullUrl": _within(uid), "resource": resource, "request": request}


def _within(uid: str) -> str:
    """The name of a resource inside the Bundle: the UUID that a derived UID is made of (PS3.5 B.2)."""
    return f"urn:uuid:{uuid.UUID(int=int(uid.split('.')[-1]))}"


def _device(said: Said, uid: str) -> Json:
    """The model, its version and its weights."""
    name, version, weights = _model(said)
    return {
        "resourceType": "Device",
        "identifier": [_uid(uid), _uid(said.device_uid)],
        "status": "active",
        "manufacturer": MANUFACTURER,
        "modelNumber": name,
        "version": [{"type": {"text": "model"}, "value": version}, {"type": {"text": "weights"}, "value": weights}],
    }


def _model(said: Said) -> tuple[str, str, str]:
    name, version, weights = (str(item.value) for item in said.algorithm)
    return name, version, weights


def _observation(said: Said, uid: str, group: Group, device_uid: str) -> Json:
    """A knee's grade, or why it has none; everything else that is said of it as components."""
    category = _of(f"{_TERMINOLOGY}observation-category", "imaging")
    made = _preliminary(said, "Observation", uid, category, codes.GRADE)
    if group.grade is not None:
        made["valueCodeableConcept"] = _concept(group.grade)
    else:
        why = group.value(codes.WHY_NOT)
        absent = _of(f"{_TERMINOLOGY}data-absent-reason", "not-performed")
        if isinstance(why, Code):
            absent = {"coding": [*absent["coding"], _coding(why)], "text": why.meaning}
        made["dataAbsentReason"] = absent
    if group.site is not None:
        side = f"{group.side.meaning} knee joint" if group.side else "Knee joint, side unknown"
        made["bodySite"] = {"coding": [_coding(group.site)], "text": side}
    made["method"] = _concept(codes.ARTIFICIAL_INTELLIGENCE)
    made["device"] = {"reference": _within(device_uid)}
    made["derivedFrom"] = [_study(said)]
    made["note"] = [{"text": each} for each in (group.comment, NOTICE) if each]
    sides = [Item(codes.LATERALITY, group.side)] if group.side else []
    rest = [item for item in group.items if item.name not in (codes.GRADE, codes.COMMENT)]
    made["component"] = [{"code": _concept(item.name), **_value(item.value)} for item in (*sides, *rest)]
    return made


def _preliminary(said: Said, kind: str, uid: str, category: Json, code: Code) -> Json:
    """What an Observation and a DiagnosticReport begin with: both say of a patient's film what nobody has verified."""
    return {
        "resourceType": kind,
        "identifier": [_uid(uid)],
        "status": "preliminary",
        "category": [category],
        "code": _concept(code),
        **_whose(said),
        **_when(said),
    }


def _report(said: Said, uid: str, results: list[str]) -> Json:
    made = _preliminary(said, "DiagnosticReport", uid, _of(f"{_TERMINOLOGY}v2-0074", "RAD"), codes.ASSESSMENT)
    made["result"] = [{"reference": _within(each)} for each in results]
    made["imagingStudy"] = [_study(said)]
    made["conclusion"] = "\n".join((*(group.comment for group in said.groups), NOTICE))
    if accession := _clean(said.text("AccessionNumber")):
        identifier = {"type": _of(f"{_TERMINOLOGY}v2-0203", "ACSN"), "value": accession}
        issuer = "IssuerOfAccessionNumberSequence"
        identifier |= _assigned(
            said.inner(issuer, "LocalNamespaceEntityID"),
            said.inner(issuer, "UniversalEntityID"),
            said.inner(issuer, "UniversalEntityIDType"),
        )
        made["basedOn"] = [{"type": "ServiceRequest", "identifier": identifier}]
    return made


def _whose(said: Said) -> Json:
    """The patient by identifier (Reference.identifier): which resource that is, only the service knows."""
    value, name = _clean(said.patient["id"]), _clean(" ".join(said.patient["name"].split("=")[0].split("^")))
    if not value:
        return {}
    qualifiers = "IssuerOfPatientIDQualifiersSequence"
    identifier = {"value": value} | _assigned(
        said.text("IssuerOfPatientID"),
        said.inner(qualifiers, "UniversalEntityID"),
        said.inner(qualifiers, "UniversalEntityIDType"),
    )
    return {"subject": {"type": "Patient", "identifier": identifier} | ({"display": name} if name else {})}


def _assigned(local: str, universal: str, kind: str) -> Json:
    """Who gave an identifier: as its system where that is a name for all the world, otherwise in words."""
    prefix = {"ISO": "urn:oid:", "UUID": "urn:uuid:", "URI": ""}.get(kind)
    made: Json = {"system": f"{prefix}{universal}"} if universal and prefix is not None else {}
    if local := _clean(local):
        made["assigner"] = {"display": local}
    return made


def _when(said: Said) -> Json:
    """When the film was made, to the day where no time zone is told (a dateTime with a time needs one), and now."""
    date, time = said.text("StudyDate"), said.text("StudyTime")
    made: Json = {"issued": said.made_at.isoformat()}
    if len(date) == 8 and date.isdigit():
        moment = f"{date[:4]}-{date[4:6]}-{date[6:]}"
        if (zone := said.zone) and len(time) >= 6 and time[:6].isdigit():
            moment += f"T{time[:2]}:{time[2:4]}:{time[4:6]}{zone[:3]}:{zone[3:]}"
        made["effectiveDateTime"] = moment
    return made


def _study(said: Said) -> Json:
    return {"type": "ImagingStudy", "identifier": _uid(said.text("StudyInstanceUID"))}


def _uid(uid: str) -> Json:
    """A DICOM UID as an identifier (FHIR, imagingstudy.html 5.4.4)."""
    return {"system": _UIDS, "value": f"urn:oid:{uid}"}


def _value(value: Code | Quantity | str) -> Json:
    if isinstance(value, Code):
        return {"valueCodeableConcept": _concept(value)}
    if isinstance(value, Quantity):
        number = float(value.text) if "." in value.text else int(value.text)
        unit = {"unit": value.unit.meaning, "system": SYSTEMS["UCUM"], "code": value.unit.value}
        return {"valueQuantity": {"value": number, **unit}}
    return {"valueString": _clean(value)}


def _concept(code: Code) -> Json:
    return {"coding": [_coding(code)], "text": code.meaning}


def _coding(code: Code) -> Json:
    return {"system": SYSTEMS[code.scheme_designator], "code": code.value, "display": code.meaning}


def _of(system: str, code: str) -> Json:
    return {"coding": [{"system": system, "code": code}]}


def _clean(text: str) -> str:
    """A FHIR string has no control characters, and is not empty (datatypes.html#string)."""
    return " ".join("".join(each if each.isprintable() else " " for each in text).split())
