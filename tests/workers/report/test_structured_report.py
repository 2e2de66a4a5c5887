"""The Structured Report: its template, its codes, the traps that crash or blind viewers, and reading it back."""

import io
import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code

from node.evidence import KLGrade, LateralitySource
from node.finding import Finding, Laterality
from tests.paths import ROOT
from tests.peers.archives import needs
from tests.samples.source_films import (
    CARD,
    NAMES,
    READINGS,
    RIGHT,
    SHARES,
    SOURCE_UID,
    dciodvfy,
    header,
    named,
    reading,
    result_list,
    results_of,
)
from workers.report import ResultInstance, codes

CLASSES = {"comprehensive": "1.2.840.10008.5.1.4.1.1.88.33", "comprehensive-3d": "1.2.840.10008.5.1.4.1.1.88.34"}
JAVA = "-Djdk.xml.xpathTotalOpLimit=0 -Djdk.xml.xpathExprOpLimit=0 -Djdk.xml.xpathExprGrpLimit=0"


def report_on(name: str, *, sr_class: str = "comprehensive") -> ResultInstance:
    return results_of(header(), READINGS[name], sr_class=sr_class)["SR"]


def items(root: Dataset) -> Iterator[Dataset]:
    yield root
    for inner in root.get("ContentSequence", ()):
        yield from items(inner)


def code_of(item: Dataset) -> str:
    return str(item.ConceptNameCodeSequence[0].CodeValue) if item.get("ConceptNameCodeSequence") else ""


def groups(report: ResultInstance) -> list[Dataset]:
    return [item for item in items(report.dataset) if code_of(item) == "125007"]


def item_of(group: Dataset, name: str) -> Dataset:
    found: Dataset = next(item for item in group.ContentSequence if code_of(item) == name)
    return found


@needs("dciodvfy")
@pytest.mark.parametrize("sr_class", CLASSES)
@pytest.mark.parametrize("name", READINGS)
def test_dciodvfy_finds_nothing_but_the_private_scheme(name: str, sr_class: str, tmp_path: Path) -> None:
    """Graded, refused, mixed, bilateral, side unknown, empty map, in both classes."""
    report = report_on(name, sr_class=sr_class)
    assert dciodvfy(report, tmp_path) == []
    assert report.sop_class_uid == CLASSES[sr_class]


@needs("DicomSRValidator")
@pytest.mark.parametrize("name", ["mixed", "blank", "unsure"])
def test_pixelmed_finds_no_error_against_the_template(name: str, tmp_path: Path) -> None:
    """The one validator that knows TID 1500; what it warns of are extensions, which the template allows."""
    path = tmp_path / "sr.dcm"
    path.write_bytes(report_on(name).encode())
    environment = {**os.environ, "JAVA_TOOL_OPTIONS": JAVA}
    run = subprocess.run(["DicomSRValidator", str(path)], capture_output=True, text=True, env=environment, timeout=280)
    lines = (run.stdout + run.stderr).splitlines()
    assert any("TID_1500" in line for line in lines)
    assert any("IOD validation complete" in line for line in lines)
    assert [line for line in lines if line.startswith("Error")] == []
    assert all("not in template" in line for line in lines if line.startswith("Warning"))


@needs("dsr2html")
@pytest.mark.parametrize("name", ["two knees", "unsure"])
def test_dcmtk_shows_every_label_and_the_grade(name: str, tmp_path: Path) -> None:
    """dsr2html, with which Horos renders reports, and dsrdump leave nothing out."""
    path = tmp_path / "sr.dcm"
    path.write_bytes(report_on(name).encode())
    labels = [item.ConceptNameCodeSequence[0].CodeMeaning for item in items(groups(report_on(name))[-1])][1:]
    assert len(labels) > 15
    page = subprocess.run(["dsr2html", "+X1", str(path)], capture_output=True, text=True, timeout=60)
    dump = subprocess.run(["dsrdump", "+Pl", str(path)], capture_output=True, text=True, timeout=60)
    assert (page.returncode, dump.returncode) == (0, 0)
    # The name of coordinates is shown by the dump; the page draws a link in its place.
    assert [label for label in labels if label not in page.stdout] in ([], ["Source"])
    assert [label for label in labels if label not in dump.stdout] == []
    for shown in (page.stdout, dump.stdout):
        for words in ("Kellgren-Lawrence grade 3", "Kellgren-Lawrence grade 1", "70.8", "AI R: KL 3", CARD.sha256[:11]):
            assert words in shown


@needs("dsr2html")
@pytest.mark.parametrize("script", NAMES)
def test_dcmtk_reads_names_in_every_script(script: str, tmp_path: Path) -> None:
    """Where dsr2html could not read the source's character sets, the report is in UTF-8."""
    path = tmp_path / "sr.dcm"
    path.write_bytes(results_of(named(script), READINGS["graded"])["SR"].encode())
    run = subprocess.run(["dsr2html", "+U8", str(path)], capture_output=True, timeout=60)
    assert run.returncode == 0, run.stderr
    family = re.split(r"[\^=]", NAMES[script][1])[0]
    assert family in run.stdout.decode("utf-8")
    kept = results_of(named(script), READINGS["graded"])["SR"].dataset.SpecificCharacterSet
    assert kept == ("ISO_IR 192" if isinstance(NAMES[script][0], list) else NAMES[script][0])


def test_highdicom_reads_the_same_answers_back() -> None:
    """One TID 1501 group a knee: grade, exact probabilities, side, box, model, tracking, source image."""
    report = hd.sr.srread(io.BytesIO(report_on("two knees").encode()))
    content: Any = report.content
    read = content.get_image_measurement_groups()
    assert len(read) == 2
    for group, knee in zip(read, READINGS["two knees"].knees, strict=True):
        assert knee.probabilities is not None
        assert knee.grade is not None
        evaluations = {item.name.value: item.value for item in group.get_qualitative_evaluations()}
        assert evaluations["KL"] == codes.GRADES[knee.grade]
        shares = {item.name.value: item.value / 100 for item in group.get_measurements()}
        assert [shares[f"PKL{grade}"] for grade in range(5)] == pytest.approx(knee.probabilities, abs=1e-12)
        assert group.finding_sites[0].laterality == codes.LATERALITIES[knee.laterality]
        assert group.source_images[0].referenced_sop_instance_uid == SOURCE_UID
        assert group.tracking_uid.startswith("2.25.")
        [outline] = group.get_measurements()[0].referenced_coordinates
        x0, y0, x1, y1 = knee.box
        assert np.array_equal(outline.value, [[x0, y0], [x1, y0], [x1, y1], [x0, y1], [x0, y0]])
    assert len({group.tracking_uid for group in read}) == 2


@pytest.mark.parametrize("name", READINGS)
def test_every_group_has_a_closed_outline_within_the_image_under_its_first_number(name: str) -> None:
    """OHIF crashes on a group without coordinates, and Stone draws nothing but polylines."""
    found = groups(report_on(name))
    assert found
    for group in found:
        numbers = [item for item in group.ContentSequence if item.ValueType == "NUM"]
        [outline] = numbers[0].ContentSequence
        assert (outline.ValueType, outline.GraphicType) == ("SCOORD", "POLYLINE")
        points = np.array(outline.GraphicData).reshape(-1, 2)
        assert (points[0] == points[-1]).all()
        assert (points >= 0).all()
        assert (points <= (1200, 1000)).all()
        assert outline.ContentSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID == SOURCE_UID
        assert all(item.MeasuredValueSequence[0].NumericValue is not None for item in numbers)
        assert item_of(group, "112039").TextValue
        assert item_of(group, "112040").UID


def test_the_reported_grade_comes_first_and_the_comment_repeats_it() -> None:
    """OHIF shows the comment and the first four numbers, and no coded answer at all: the four likeliest grades."""
    for group, knee in zip(groups(report_on("two knees")), READINGS["two knees"].knees, strict=True):
        numbers = [code_of(item) for item in group.ContentSequence if item.ValueType == "NUM"]
        shares = knee.probabilities or ()
        assert numbers == [*(f"PKL{grade}" for grade in sorted(range(5), key=lambda g: -shares[g])), "NGRADED"]
        assert numbers[0] == f"PKL{knee.grade}"
        assert (
            item_of(group, "121106").TextValue
            == f"AI {knee.laterality}: KL {knee.grade}, {knee.confidence_text} - not for diagnosis"
        )
        first = next(item for item in group.ContentSequence if item.ValueType == "NUM")
        assert re.fullmatch(r"\d+\.\d", str(first.MeasuredValueSequence[0].NumericValue.original_string))


@pytest.mark.parametrize("name", [*READINGS, "certain"])
def test_no_probability_and_no_count_is_nought(name: str) -> None:
    """OHIF writes nothing in its place, then the unit: a refused knee read "Knee joints graded: 1"."""
    certain = reading(replace(RIGHT, probabilities=(0.00001, 0.0004, 0.00002, 0.99957, 2e-9)))
    report = results_of(header(), certain)["SR"] if name == "certain" else report_on(name)
    for group in groups(report):
        values = [item.MeasuredValueSequence[0] for item in group.ContentSequence if item.ValueType == "NUM"]
        assert all(float(str(value.NumericValue)) > 0 for value in values)
        assert not any("e" in str(value.NumericValue) for value in values)  # which NM of HL7 has not


def test_a_refusal_gives_a_coded_reason_and_no_number_that_could_pass_for_a_grade() -> None:
    """The film as a whole is outlined, the answer is 'not gradable', and there are no probabilities."""
    for name, code, quality in (("no knee", "NOT_A_KNEE", False), ("blank", "BLANK", True)):
        [group] = groups(report_on(name))
        names = [code_of(item) for item in group.ContentSequence]
        assert item_of(group, "KL").ConceptCodeSequence[0].CodeValue == "KLNG"
        assert item_of(group, "NGREASON").ConceptCodeSequence[0].CodeValue == code
        assert not any(name.startswith("PKL") for name in names)
        assert ("111050" in names) is quality
        [number] = [item for item in group.ContentSequence if item.ValueType == "NUM"]
        assert code_of(number) == "NOTGRADED"
        assert number.MeasuredValueSequence[0].MeasurementUnitsCodeSequence[0].CodeValue == "{film}"
        assert list(number.ContentSequence[0].GraphicData) == [0, 0, 1200, 0, 1200, 1000, 0, 1000, 0, 0]
        assert "NOT GRADABLE" in item_of(group, "121106").TextValue
        assert "363698007" not in names  # no finding site: nobody knows what is on the film


def test_one_knee_may_be_refused_beside_a_graded_one() -> None:
    """Both have their own group; the refused one is outlined as far as it is on the film."""
    graded, refused = groups(report_on("mixed"))
    assert item_of(graded, "KL").ConceptCodeSequence[0].CodeValue == "KL3"
    assert item_of(refused, "NGREASON").ConceptCodeSequence[0].CodeValue == "JOINT_CUT_OFF"
    assert item_of(refused, "121106").TextValue.startswith("AI L: NOT GRADABLE")
    first = next(item for item in refused.ContentSequence if item.ValueType == "NUM")
    assert max(first.ContentSequence[0].GraphicData[::2]) == 1200


def test_a_graded_knee_refers_to_pictures_segments_and_map() -> None:
    """As whole objects, each listed as evidence below its series; a refused knee has none of its own."""
    instances = result_list(header(), READINGS["mixed"], kinds=("SC", "SR", "SEG", "PM"))
    report = next(instance for instance in instances if instance.kind == "SR")
    others = {
        instance.sop_instance_uid: instance.dataset.SeriesInstanceUID for instance in instances if instance.kind != "SR"
    }
    graded, refused = groups(report)
    named = {code_of(item): item for item in graded.ContentSequence if item.ValueType == "IMAGE"}
    shown = {instance.kind: instance.sop_instance_uid for instance in instances}
    for name, kind in {"PICTURES": "SC", "SEGMENTS": "SEG", "STRENGTHS": "PM"}.items():
        assert named[name].ReferencedSOPSequence[0].ReferencedSOPInstanceUID == shown[kind]
    assert not {"PICTURES", "SEGMENTS", "STRENGTHS"} & {code_of(item) for item in refused.ContentSequence}
    [study] = report.dataset.CurrentRequestedProcedureEvidenceSequence
    listed = {
        series.ReferencedSOPSequence[0].ReferencedSOPInstanceUID: series.SeriesInstanceUID
        for series in study.ReferencedSeriesSequence
    }
    assert listed == {SOURCE_UID: header().SeriesInstanceUID, **others}


def test_a_report_that_refers_to_other_objects_is_another_object() -> None:
    """A PACS keeps the first of two with one UID: pages of another height, or a map beside them, are new references."""
    uids = set()
    for more in ({}, {"long_side": 640}, {"kinds": ("SC", "SR", "SEG", "PM")}):
        instances = result_list(header(), READINGS["graded"], **{"kinds": ("SC", "SR", "SEG"), **more})
        uids |= {instance.sop_instance_uid for instance in instances if instance.kind == "SR"}
    assert len(uids) == 3


def test_a_report_refers_to_nothing_that_was_not_made() -> None:
    """Where the settings want the report alone."""
    [report] = result_list(header(), READINGS["graded"], kinds=("SR",))
    [study] = report.dataset.CurrentRequestedProcedureEvidenceSequence
    assert len(study.ReferencedSeriesSequence) == 1
    assert not {"PICTURES", "SEGMENTS"} & {code_of(item) for item in items(report.dataset)}


@needs("dciodvfy")
def test_dciodvfy_takes_every_reference(tmp_path: Path) -> None:
    """With all objects that a report can refer to."""
    instances = result_list(header(), READINGS["two knees"], kinds=("SC", "SR", "SEG", "PM"))
    assert dciodvfy(next(instance for instance in instances if instance.kind == "SR"), tmp_path) == []


def test_an_unknown_side_is_not_coded_but_in_the_comment() -> None:
    """No laterality modifier, and the comment states that the side is unknown."""
    [group] = groups(report_on("side unknown"))
    assert "ContentSequence" not in item_of(group, "363698007")
    assert item_of(group, "121106").TextValue == "AI knee of unknown side: KL 0, 90 % - not for diagnosis"


def test_the_certainty_of_the_grade_is_coded() -> None:
    """The ends of the set as grades, its level in percent, two undecided grades, the spread in grades."""
    report = hd.sr.srread(io.BytesIO(report_on("unsure").encode()))
    content: Any = report.content
    for group, knee in zip(content.get_image_measurement_groups(), READINGS["unsure"].knees, strict=True):
        sure = knee.certainty
        assert sure is not None
        values: dict[str, list[Any]] = {}
        for item in group.get_qualitative_evaluations():
            values.setdefault(item.name.value, []).append(item.value)
        assert values["KL"] == [codes.GRADES[knee.grade or KLGrade.KL0]]
        assert values["KLLOWEST"] == [codes.GRADES[sure.lowest]]
        assert values["KLHIGHEST"] == [codes.GRADES[sure.highest]]
        assert values.get("UNDECIDED", []) == [codes.GRADES[grade] for grade in sure.undecided or ()]
        numbers = {item.name.value: item for item in group.get_measurements()}
        assert (numbers["SETLEVEL"].value, numbers["SETLEVEL"].unit.value) == (90, "%")
        assert (numbers["KLSPREAD"].value, numbers["KLSPREAD"].unit.value) == (sure.spread, "{grade}")


def test_the_certainty_of_the_grade_is_within_what_ohif_shows() -> None:
    """In the comment, in ASCII and short; the first four numbers are probabilities, the grade's own the first."""
    comments = []
    for name in ("sure", "unsure"):
        for group, knee in zip(groups(report_on(name)), READINGS[name].knees, strict=True):
            comments.append(item_of(group, "121106").TextValue)
            numbers = [code_of(item) for item in group.ContentSequence if item.ValueType == "NUM"]
            assert numbers[0] == f"PKL{knee.grade}"
            assert all(name.startswith("PKL") for name in numbers[:4])
    assert comments == [
        "AI R: KL 3 (only 3), 71 % - not for diagnosis",
        "AI R: KL 3 (1 to 3), 71 % - not for diagnosis",
        "AI L: KL 2 (0 to 4), 41 %, KL 1/2 not told apart - not for diagnosis",
    ]
    assert all(comment.isascii() for comment in comments)


def test_what_is_not_known_of_certainty_is_not_coded() -> None:
    """No spread of a model that takes one view, and nothing at all in an answer of before there was certainty."""
    [one_view], [old] = groups(report_on("sure")), groups(report_on("graded"))
    names = [code_of(item) for item in one_view.ContentSequence]
    assert "SETLEVEL" in names
    assert not {"KLSPREAD", "UNDECIDED"} & set(names)
    assert not {"KLLOWEST", "KLHIGHEST", "SETLEVEL", "KLSPREAD", "UNDECIDED"} & {
        code_of(item) for item in old.ContentSequence
    }


def test_an_empty_map_is_coded() -> None:
    """Whether there was any evidence to show is part of the answer."""
    [empty], [shown] = groups(report_on("empty map")), groups(report_on("graded"))
    assert item_of(empty, "MAP").ConceptCodeSequence[0].CodeValue == "MAPNONE"
    assert item_of(shown, "MAP").ConceptCodeSequence[0].CodeValue == "MAPPOS"


def test_no_container_is_continuous() -> None:
    """With CONTINUOUS containers dsr2html and Weasis leave out every label."""
    flags = {item.ContinuityOfContent for item in items(report_on("mixed").dataset) if item.ValueType == "CONTAINER"}
    assert flags == {"SEPARATE"}


def test_the_report_is_complete_preliminary_and_unverified() -> None:
    """No person has verified it, and it is marked so; evidence and observer are the film and the device."""
    report = report_on("two knees").dataset
    assert (report.CompletionFlag, report.PreliminaryFlag, report.VerificationFlag) == (
        "COMPLETE",
        "PRELIMINARY",
        "UNVERIFIED",
    )
    evidence = report.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0]
    assert evidence.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == SOURCE_UID
    assert code_of(report) == "126000"
    assert report.ContentTemplateSequence[0].TemplateIdentifier == "1500"
    observer = {code_of(item): item for item in report.ContentSequence}
    assert observer["121005"].ConceptCodeSequence[0].CodeValue == "121007"
    assert observer["121049"].ConceptCodeSequence[0].CodeValue == "en-US"
    algorithm = {code_of(item): item for item in groups(report_on("graded"))[0].ContentSequence}
    assert algorithm["111001"].TextValue == CARD.name
    assert algorithm["111003"].TextValue == CARD.version
    assert algorithm["111002"].TextValue == f"weights sha256: {CARD.sha256}"
    assert algorithm["111000"].ConceptCodeSequence[0].CodeValue == "123110"


def test_every_private_code_is_declared_and_fits() -> None:
    """One scheme with UID, name, version and organisation; values of 16, meanings of 64 characters at most."""
    report = report_on("mixed").dataset
    [scheme] = report.CodingSchemeIdentificationSequence
    assert (scheme.CodingSchemeDesignator, scheme.CodingSchemeUID) == ("99GENU", codes.SCHEME_UID)
    assert scheme.CodingSchemeName
    assert scheme.CodingSchemeVersion
    assert scheme.CodingSchemeResponsibleOrganization
    table = [*vars(codes).values(), *codes.GRADES.values(), *codes.PROBABILITIES.values(), *codes.REASON_CODES.values()]
    own = [code for code in table if isinstance(code, Code) and code.scheme_designator == codes.SCHEME]
    assert len(own) > 30
    assert len({code.value for code in own}) == len(own)
    assert all(len(code.value) <= 16 and len(code.meaning) <= 64 for code in own)


def test_the_conformance_statement_lists_every_private_concept() -> None:
    """Who reads the reports by machine finds each code, and each unit that is not a public one."""
    statement = (ROOT / "deploy" / "CONFORMANCE.md").read_text()
    own = [code for code in vars(codes).values() if isinstance(code, Code) and code.scheme_designator == codes.SCHEME]
    assert [code.value for code in own if not re.search(rf"\b{code.value}\b", statement)] == []
    assert codes.GRADE_STEPS.value in statement


def test_notes_and_the_source_of_the_side_are_in_the_report() -> None:
    """Notes and the source of the side are in each group; what is not ASCII is replaced, as any set can hold it."""
    report = results_of(header(), reading(RIGHT, notes=("Polarity put right", "§ 2")))["SR"]
    [group] = groups(report)
    notes = [item.TextValue for item in group.ContentSequence if code_of(item) == "READNOTE"]
    assert notes == ["Polarity put right", "? 2"]
    assert item_of(group, "SIDESRC").TextValue == "position"


def test_the_library_has_the_descriptors_of_the_header() -> None:
    """Descriptors that computed radiography lacks are left out, not invented."""
    full = [code_of(item) for item in items(report_on("graded").dataset.ContentSequence[-2])]
    bare_header = header(Modality="CR", PatientOrientation=..., ImagerPixelSpacing=...)
    bare = [
        code_of(item) for item in items(results_of(bare_header, READINGS["graded"])["SR"].dataset.ContentSequence[-2])
    ]
    assert {"111044", "111043", "111026", "111066"} <= set(full)
    assert not {"111044", "111043", "111026", "111066"} & set(bare)
    assert {"121139", "110910", "110911"} <= set(bare)


def test_a_knee_without_grade_and_reason_cannot_be_reported() -> None:
    """Neither a grade nor an empty group is invented."""
    mute = Finding(Laterality.RIGHT, LateralitySource.POSITION, RIGHT.box)
    with pytest.raises(ValueError, match="reason"):
        results_of(
            header(), reading(mute, Finding(Laterality.LEFT, LateralitySource.POSITION, RIGHT.box, KLGrade.KL3, SHARES))
        )
