"""A report as a message for a RIS: valid by HL7's and FHIR's own definitions, with every code of the report."""

import json
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import hl7
import pytest
from fhir.resources.bundle import Bundle as BundleR5
from fhir.resources.R4B.bundle import Bundle as BundleR4
from hl7apy.consts import VALIDATION_LEVEL
from hl7apy.parser import parse_message
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from node.finding import ScaleSource
from node.reasons import FLAGS
from node.ris.fhir import in_version
from node.settings import Settings
from tests.paths import ROOT
from tests.samples.source_films import (
    CARD,
    DIRTY,
    LEFT,
    MADE_AT,
    NAMES,
    RIGHT,
    SOURCE_UID,
    STUDY_UID,
    UNSURE,
    header,
    named,
    reading,
    results_of,
)
from tests.samples.source_films import READINGS as CLEAN
from workers.messages import messages
from workers.messages.oru import escape, oru, person_names
from workers.messages.report_content import Code, Quantity, parse_report
from workers.report import codes

FLAGGED = replace(
    RIGHT, flags=(FLAGS["MARKER"], FLAGS["SIDE_CONFLICT"]), field_of_view_mm=81.2, scale_source=ScaleSource.CALIBRATED
)
READINGS = {**CLEAN, "flagged": reading(FLAGGED, LEFT, notes=("a note | with a bar", "another"))}


def of(name: str, source: Dataset | None = None) -> dict[str, bytes]:
    """The messages of one of the readings, by kind."""
    report = results_of(source or header(), READINGS[name])["SR"].dataset
    return {message.kind: message.content for message in messages([report], ("HL7", "FHIR"), MADE_AT)}


def oru_of(name: str, source: Dataset | None = None) -> str:
    return of(name, source)["HL7"].decode()


def bundle_of(name: str, source: Dataset | None = None) -> dict[str, Any]:
    bundle: dict[str, Any] = json.loads(of(name, source)["FHIR"])
    return bundle


def resources(bundle: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [entry["resource"] for entry in bundle["entry"] if entry["resource"]["resourceType"] == kind]


def answers(message: str) -> list[tuple[str, str, list[str], str]]:
    """Of each OBX: code and sub-identifier, its values' codes or texts, and its status; read by the library."""
    read = hl7.parse(message)
    found = []
    for segment in read.segments("OBX"):
        values = [str(value[0]) if isinstance(value, hl7.Repetition) else str(value) for value in segment[5]]
        found.append((str(segment[3][0][0]), str(segment[4]), values, str(segment[11])))
    return found


def items(root: Dataset) -> Iterator[Dataset]:
    for item in root.get("ContentSequence", ()):
        yield item
        yield from items(item)


def items_of_report(report: Dataset) -> list[tuple[str, str]]:
    """Names and values of every item in the report's groups that describes the knee, straight from the elements."""
    groups = [
        item
        for item in items(report)
        if item.get("ConceptNameCodeSequence", [Dataset()])[0].get("CodeValue") == "125007"
    ]
    pairs = []
    for item in (inner for group in groups for inner in group.ContentSequence):
        if item.RelationshipType != "CONTAINS" or item.ValueType == "IMAGE":
            continue
        name = item.ConceptNameCodeSequence[0].CodeValue
        if item.ValueType == "CODE" and name != "121071":
            pairs.append((name, item.ConceptCodeSequence[0].CodeValue))
        elif item.ValueType == "NUM":
            pairs.append((name, str(item.MeasuredValueSequence[0].NumericValue)))
        elif item.ValueType == "TEXT":
            pairs.append((name, item.TextValue))
    return pairs


@pytest.mark.parametrize("name", READINGS)
def test_hl7s_own_definitions_find_no_error_in_a_message(name: str, tmp_path: Path) -> None:
    """Segments, their order, fields, types and tables of v2.5.1; private codes and SNOMED's name are only remarked."""
    text = oru_of(name)
    parse_message(text, validation_level=VALIDATION_LEVEL.STRICT)
    report = tmp_path / "report.txt"
    assert parse_message(text).validate(report_file=str(report))
    remarks = {line.split(" not in ")[0] for line in report.read_text().splitlines() if line}
    assert remarks <= {f"Warning: Value {item}" for item in ("99GENU", "SCT", "UCUM", "CWE")}


def test_hl7s_own_definitions_find_the_errors_that_there_are() -> None:
    """The premise of the test above: a message without its order, or with a field too many, is rejected."""
    text = oru_of("graded")
    assert text.startswith("MSH|^~\\&|GENU||||20260504132205+0000||ORU^R01^ORU_R01|")
    for wrong in (text.replace("ORU^R01^ORU_R01", "ORU^R01^ORU_R99"), text.replace("\rOBR|", "\rZZZ|")):
        with pytest.raises(Exception, match=r"."):
            parse_message(wrong, validation_level=VALIDATION_LEVEL.STRICT).validate()


@pytest.mark.parametrize("name", READINGS)
def test_fhirs_own_definitions_hold_of_a_bundle_in_both_versions(name: str) -> None:
    """Every resource, and in R5 its newer shape; unknown elements would be errors."""
    bundle = bundle_of(name)
    BundleR4.model_validate(bundle)
    with pytest.raises(ValueError, match="imagingStudy"):
        BundleR5.model_validate(bundle)
    BundleR5.model_validate(in_version(bundle, "R5"))
    assert resources(bundle, "DiagnosticReport")[0]["study"][0]["identifier"]["value"] == f"urn:oid:{STUDY_UID}"


@pytest.mark.parametrize("name", READINGS)
def test_a_message_has_every_code_of_the_report_and_no_other(name: str) -> None:
    """HL7 and FHIR have the names and values that the report has for every knee."""
    report = results_of(header(), READINGS[name])["SR"].dataset
    wanted = sorted(items_of_report(report))
    read = hl7.parse(oru_of(name))
    about = {"113014", "260753009", "111001", "111002", "111003", "363698007", "272741003"}
    items = [
        (code, read.unescape(value))
        for code, _, values, _ in answers(oru_of(name))
        for value in values
        if code not in about
    ]
    notice = "AI second opinion, not for primary diagnosis. Not verified by a physician."
    items.remove(("121106", notice))
    assert sorted(items) == wanted
    in_fhir = []
    for knee in resources(bundle_of(name), "Observation"):
        value = knee.get("valueCodeableConcept", {"coding": [{"code": "KLNG"}]})
        in_fhir += [("KL", value["coding"][0]["code"]), ("121106", knee["note"][0]["text"])]
        in_fhir += [(item["code"]["coding"][0]["code"], _value(item)) for item in knee["component"]]
    assert sorted((item for item in in_fhir if item[0] not in about), key=str) == [
        (code, _number(value)) for code, value in wanted
    ]


def _value(component: dict[str, Any]) -> str:
    if "valueQuantity" in component:
        return _number(str(component["valueQuantity"]["value"]))
    if "valueCodeableConcept" in component:
        return str(component["valueCodeableConcept"]["coding"][0]["code"])
    return str(component["valueString"])


def _number(text: str) -> str:
    """The same number however many noughts are behind its point."""
    try:
        return f"{float(text):g}"
    except ValueError:
        return text


def test_a_ris_reads_grade_and_side_from_fixed_places() -> None:
    """OBX-3 names the answer and OBX-4 the side; ends of the set, neighbours and probabilities are there."""
    values_of = {(code, side): values for code, side, values, _ in answers(oru_of("unsure"))}
    assert values_of["KL", "R"] == ["KL3"]
    assert values_of["KL", "L"] == ["KL2"]
    assert values_of["KLLOWEST", "R"] == ["KL1"]
    assert values_of["UNDECIDED", "L"] == ["KL1", "KL2"]
    assert values_of["PKL3", "R"] == ["70.8"]
    assert values_of["272741003", "L"] == ["7771000"]
    assert values_of["113014", ""] == [STUDY_UID]
    assert values_of["260753009", ""] == [SOURCE_UID]
    assert [code for code, side, _, _ in answers(oru_of("unsure")) if (code, side) == ("UNDECIDED", "L")] == [
        "UNDECIDED"
    ]


def test_a_message_is_marked_preliminary_and_not_for_diagnosis() -> None:
    """OBR-25 and OBX-11 are P, the notice precedes every item; DiagnosticReport and Observation have the same."""
    read = hl7.parse(oru_of("graded"))
    assert str(read["OBR"][0][25]) == "P"
    assert {status for code, _, _, status in answers(oru_of("graded"))} == {"P", "O"}
    first = answers(oru_of("graded"))[2]
    assert first[0] == "121106"
    assert "not for primary diagnosis" in first[2][0]
    bundle = bundle_of("graded")
    found = [*resources(bundle, "DiagnosticReport"), *resources(bundle, "Observation")]
    assert {resource["status"] for resource in found} == {"preliminary"}
    assert "not for primary diagnosis" in found[0]["conclusion"]
    assert "not for primary diagnosis" in found[1]["note"][1]["text"]


@pytest.mark.parametrize(("name", "code"), [("no knee", "NOT_A_KNEE"), ("mixed", "JOINT_CUT_OFF")])
def test_a_refusal_has_its_reason_and_no_grade(name: str, code: str) -> None:
    """KLNG with the status "cannot be obtained", and the reason; in FHIR no value, and why it is absent."""
    items = [(name, values, status) for name, side, values, status in answers(oru_of(name)) if side in ("", "L")]
    assert ("KL", ["KLNG"], "X") in items
    assert ("NGREASON", [code], "P") in items
    assert not [name for name, _, _ in items if name.startswith("PKL")]
    knee = resources(bundle_of(name), "Observation")[-1]
    assert "valueCodeableConcept" not in knee
    assert [name["code"] for name in knee["dataAbsentReason"]["coding"]] == ["not-performed", code]


def test_who_made_it_and_which_examination_it_is() -> None:
    """Accession number, study, model, version and weights are where a RIS reads them."""
    read = hl7.parse(oru_of("graded"))
    order = read["OBR"][0]
    assert (str(order[3]), str(order[18]), str(order[4][0][0])) == ("A1", "A1", "KOAA")
    assert str(order[7]) == "20240501101500"
    assert {str(item[18]).split("^")[0] for item in read.segments("OBX")} == {f"{CARD.name} {CARD.version}"}
    bundle = bundle_of("graded")
    (device,) = resources(bundle, "Device")
    assert device["modelNumber"] == CARD.name
    assert [item["value"] for item in device["version"]] == [CARD.version, f"weights sha256: {CARD.sha256}"]
    (report,) = resources(bundle, "DiagnosticReport")
    assert report["imagingStudy"][0]["identifier"] == {"system": "urn:dicom:uid", "value": f"urn:oid:{STUDY_UID}"}
    assert report["basedOn"][0]["identifier"]["value"] == "A1"
    assert report["subject"]["identifier"] == {"value": "P1"}


def test_issuers_procedure_and_time_zone_are_sent_where_the_film_has_them() -> None:
    """Assigning authorities in HL7, system and assigner in FHIR, the procedure as the second code of OBR-4."""
    issuer, accession, procedure = Dataset(), Dataset(), Dataset()
    issuer.UniversalEntityID, issuer.UniversalEntityIDType = "1.2.3", "ISO"
    accession.LocalNamespaceEntityID = "RIS & CO"
    procedure.CodeValue, procedure.CodingSchemeDesignator, procedure.CodeMeaning = "XRK", "99RIS", "Knee"
    source = header(
        IssuerOfPatientID="HOSP",
        IssuerOfPatientIDQualifiersSequence=[issuer],
        IssuerOfAccessionNumberSequence=[accession],
        ProcedureCodeSequence=[procedure],
        TimezoneOffsetFromUTC="+0900",
    )
    patient, order = (oru_of("graded", source).split("\r")[at].split("|") for at in (1, 2))
    assert patient[3] == "P1^^^HOSP&1.2.3&ISO^PI"
    assert order[3] == "A1^RIS \\T\\ CO"
    assert order[4].split("^")[3:] == ["XRK", "Knee", "99RIS"]
    assert (order[7], order[22]) == ("20240501101500+0900", "20260504222205+0900")
    bundle = bundle_of("graded", source)
    (report,) = resources(bundle, "DiagnosticReport")
    assert report["subject"]["identifier"] == {
        "value": "P1",
        "system": "urn:oid:1.2.3",
        "assigner": {"display": "HOSP"},
    }
    assert report["basedOn"][0]["identifier"]["assigner"] == {"display": "RIS & CO"}
    assert (report["effectiveDateTime"], report["issued"]) == ("2024-05-01T10:15:00+09:00", "2026-05-04T22:22:05+09:00")


@pytest.mark.parametrize("script", NAMES)
def test_names_of_every_script_arrive(script: str) -> None:
    """Family and given name of each representation, in UTF-8, whatever character set the film has."""
    text = oru_of("graded", named(script))
    assert hl7.parse(text)["MSH"][0][18] == ["UNICODE UTF-8"]
    names_sent = str(hl7.parse(text)["PID"][0][5]).split("~")
    wanted = [group.split("^") for group in NAMES[script][1].split("=")]
    assert [name.split("^")[:2] for name in names_sent] == wanted
    assert [name.split("^")[7] for name in names_sent] == ["A", "I", "P"][: len(wanted)]
    shown = resources(bundle_of("graded", named(script)), "DiagnosticReport")[0]["subject"]["display"]
    assert shown == " ".join(wanted[0])


@pytest.mark.parametrize("what", DIRTY)
def test_a_dirty_header_makes_no_invalid_message(what: str) -> None:
    """Without names and dates, or with invalid ones: both stay valid, and nothing is invented."""
    source = DIRTY[what]()
    parse_message(oru_of("graded", source), validation_level=VALIDATION_LEVEL.STRICT)
    bundle = bundle_of("graded", source)
    BundleR4.model_validate(bundle)
    if what == "nothing but UIDs":
        assert "subject" not in resources(bundle, "DiagnosticReport")[0]
        assert hl7.parse(oru_of("graded", source))["OBR"][0][3] == [STUDY_UID]


@pytest.mark.parametrize("name", READINGS)
def test_created_twice_a_message_is_the_same_and_another_answer_is_another(name: str) -> None:
    """Bytes, control id and identifiers; none of the identifiers is shared with another answer of the film."""
    report = results_of(header(), READINGS[name])["SR"].dataset
    first, second = (messages([report], ("HL7", "FHIR"), MADE_AT) for _ in range(2))
    assert first == second
    other = of("no knee" if name != "no knee" else "graded")
    control, others = (hl7.parse(message.decode())["MSH"][0][10] for message in (first[0].content, other["HL7"]))
    assert control != others
    assert len(str(control)) == 20
    conditions = [
        {
            entry["request"]["ifNoneExist"]
            for entry in json.loads(message)["entry"]
            if entry["request"]["url"] != "Device"
        }
        for message in (first[1].content, other["FHIR"])
    ]
    assert not conditions[0] & conditions[1]
    assert len({message.sop_instance_uid for message in first}) == 2


def test_only_wanted_kinds_are_created_and_the_creation_time_counts() -> None:
    """A destination that takes HL7 alone costs no Bundle."""
    report = results_of(header(), READINGS["graded"])["SR"].dataset
    assert [message.kind for message in messages([report], ("SR", "FHIR"), MADE_AT)] == ["FHIR"]
    assert messages([report], ("SC", "SR"), MADE_AT) == []
    later = messages([report], ("HL7",), MADE_AT + timedelta(days=1))[0].content.decode()
    assert "20260505132205" in later


def test_two_knees_of_one_side_keep_apart() -> None:
    """A RIS that identifies items by OBX-3 and OBX-4 must not take one knee's grade for the other's."""
    twice = reading(RIGHT, replace(LEFT, laterality=RIGHT.laterality))
    report = results_of(header(), twice)["SR"].dataset
    (message,) = messages([report], ("HL7",), MADE_AT)
    grades = [(side, values) for code, side, values, _ in answers(message.content.decode()) if code == "KL"]
    assert grades == [("R", ["KL3"]), ("R2", ["KL1"])]


REPORT = parse_report(results_of(header(), READINGS["graded"])["SR"].dataset, MADE_AT)
TEXT = st.text(st.characters(exclude_categories=("Cs",)) | st.sampled_from("|^~\\&\r\n\x0b\x1c"), max_size=30)


@given(text=TEXT)
@settings(max_examples=300, deadline=None)
def test_any_text_survives_escaping(text: str) -> None:
    """Delimiters of HL7 and MLLP are not in an escaped text, and another parser reads it back."""
    escaped = escape(text)
    assert not set(escaped) & set("|^~&\r\n\x0b\x1c")
    message = hl7.parse("MSH|^~\\&|x\rNTE|1||" + escaped + "|end\r")
    field = message["NTE"][0]
    assert str(field[4]) == "end"
    assert message.unescape(str(field[3])) == text


PART = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="^="), min_size=1, max_size=12)


@given(name_parts=st.lists(PART, min_size=5, max_size=5), patient_id=TEXT)
@settings(max_examples=200, deadline=None)
def test_any_name_and_any_patient_id_survive_a_message(name_parts: list[str], patient_id: str) -> None:
    """Family, given, middle, prefix, suffix arrive in HL7's order; nothing of them reaches another field or segment."""
    family, given_, middle, prefix, suffix = (part.strip() for part in name_parts)
    patient = {"id": patient_id, "name": "^".join(name_parts), "birth_date": "19550312", "sex": "F"}
    text = oru(replace(REPORT, patient=patient)).decode()
    assert [line[:3] for line in text.split("\r")] == [line[:3] for line in oru(REPORT).decode().split("\r")]
    read = hl7.parse(text)
    fields = text.split("\r")[1].split("|")
    assert fields[7:9] == ["19550312", "F"]
    if patient_id:
        assert read.unescape(fields[3].split("^")[0]) == patient_id
    if "".join((family, given_, middle, prefix, suffix)):
        components = [read.unescape(component) for component in fields[5].split("^")]
        assert components == [family, given_, middle, suffix, prefix, "", "L", "A"]


def test_a_name_without_a_character_is_no_name() -> None:
    """Nothing but separators gives an empty PID-5, as an absent name does."""
    assert person_names("") == person_names("^^=^") == ""
    assert person_names("Doe^Jane==") == "Doe^Jane^^^^^L^A"


def test_a_report_is_parsed_by_its_codes() -> None:
    """The grade first, numbers with their unit, and no more than the knee's group contains."""
    (knee,) = REPORT.groups
    assert knee.grade == codes.GRADES[RIGHT.grade]  # type: ignore[index]
    assert knee.items[0].name == codes.GRADE
    assert knee.value(codes.SET_LEVEL) is None
    assert knee.value(codes.PROBABILITIES[RIGHT.grade]) == Quantity("70.8", codes.PERCENT)  # type: ignore[index]
    assert isinstance(knee.laterality, Code)


PAGE = (ROOT / "deploy" / "RIS.md").read_text()


def test_the_example_for_administrators_is_what_is_sent() -> None:
    """Line by line, except what the page declares as left out, and MSH-10, which changes with every version."""
    shown = ("MSH" + PAGE.split("```\nMSH", 1)[1].split("\n```", 1)[0]).split("\n")
    source = header(IssuerOfPatientID="HOSPITAL", TimezoneOffsetFromUTC="+0100")
    report = results_of(source, reading(UNSURE))["SR"].dataset
    (sent,) = messages([report], ("HL7",), MADE_AT)
    lines = sent.content.decode().removesuffix("\r").split("\r")
    head, *rest = ["|".join(line.split("|")[:12]) if line.startswith("OBX") else line for line in lines]
    assert shown[1:] == rest
    first, wanted = shown[0].split("|"), head.split("|")
    assert [*first[:9], *first[10:]] == [*wanted[:9], *wanted[10:]]


def test_the_settings_for_administrators_are_settings() -> None:
    """Copied from the page they load, and the coding scheme's name is the one that is sent."""
    text = PAGE.split("```toml\n", 1)[1].split("```", 1)[0]
    found = Settings(**tomllib.loads(text)).destination
    assert [(destination.protocol, destination.objects) for destination in found] == [
        ("mllp", ("HL7",)),
        ("fhir", ("FHIR",)),
    ]
    assert f"`urn:oid:{codes.SCHEME_UID}`" in PAGE
