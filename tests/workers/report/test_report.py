"""The objects of a reading: their identity, that they are the same when created twice, and that they are valid."""

import io
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.valuerep import PersonName

from node.errors import Permanent
from node.evidence import KLGrade
from node.finding import ModelIdentity, Outcome, Reading
from node.reasons import REASONS, reason
from tests.peers.archives import needs
from tests.samples.source_films import (
    CARD,
    DIRTY,
    LEFT,
    MADE_AT,
    NAMES,
    READINGS,
    RIGHT,
    SHARES,
    SOURCE_UID,
    UNSURE,
    dciodvfy,
    film,
    header,
    named,
    reading,
    results_of,
)
from workers.report import report, report_refusal
from workers.report.identity import REFERENCES, text_of
from workers.report.modules import PATIENT, STUDY
from workers.report.objects import NEVER_REPORTED

RETRAINED = ModelIdentity(CARD.name, CARD.version, "0" * 64)


def read_back(content: bytes) -> Dataset:
    return pydicom.dcmread(io.BytesIO(content))


def test_a_graded_film_has_a_picture_and_a_report_and_a_refused_one_the_report_alone() -> None:
    """One SC and one SR for every film with a grade; no pictures where there is none."""
    kinds = {name: sorted(results_of(header(), what)) for name, what in READINGS.items()}
    refused = {name for name, instances in kinds.items() if instances == ["SR"]}
    assert refused == {"no knee", "blank"}
    assert kinds["empty map"] == ["SC", "SR"]  # there is nothing to switch on and off
    assert all(
        instances == ["SC", "SEG", "SR"] for name, instances in kinds.items() if name not in {*refused, "empty map"}
    )


@pytest.mark.parametrize("code", NEVER_REPORTED)
def test_what_would_come_back_for_ever_is_never_reported(code: str) -> None:
    """A report on a report would be routed back and reported on again."""
    assert results_of(header(), reading(refused=code)) == {}


def test_a_failure_is_not_reported() -> None:
    """A failure is the administrator's business, not the reader's."""
    failed = Reading(SOURCE_UID, Outcome.FAILED, CARD, reason=reason("DECODER_LIMIT"))
    assert report(film(header()), failed, [], CARD, sr_class="comprehensive", made_at=MADE_AT) == []


def test_a_film_that_cannot_be_read_is_refused_from_its_header_alone() -> None:
    """No pixels are needed to report why there is no grade; the image's size is the header's, or unknown."""
    for source in (header(Rows=2500, Columns=3000), header()):
        [instances] = report_refusal(
            source, reading(refused="UNREADABLE"), CARD, sr_class="comprehensive", made_at=MADE_AT
        )
        assert instances.kind == "SR"
        assert read_back(instances.encode()).StudyInstanceUID == source.StudyInstanceUID


@pytest.mark.parametrize("name", READINGS)
def test_created_twice_the_bytes_are_the_same(name: str) -> None:
    """A second attempt at the same film sends the same objects, so nothing doubles."""
    first, second = results_of(header(), READINGS[name]), results_of(header(), READINGS[name])
    assert {kind: instances.encode() for kind, instances in first.items()} == {
        k: instances.encode() for k, instances in second.items()
    }


def test_uids_follow_from_source_model_kind_and_answer() -> None:
    """Whatever changes an object's content changes its UID, since a PACS silently keeps the first of two."""
    two = READINGS["two knees"]
    answers = [
        results_of(header(), two),
        results_of(header(), two, card=RETRAINED),
        results_of(header(), two, card=ModelIdentity(CARD.name, "1.0.1", CARD.sha256)),
        results_of(header(), two, sr_class="comprehensive-3d"),
        results_of(header(), reading(RIGHT)),
        results_of(header(), reading(refused="NOT_A_KNEE")),
    ]
    reports = [results["SR"].sop_instance_uid for results in answers]
    pictures = [results["SC"].sop_instance_uid for results in answers if "SC" in results]
    assert len({*reports, *pictures}) == len(reports) + len(set(pictures))
    assert len(set(pictures)) == 4  # the class of the report does not change the picture
    other = Reading("1.2.3", two.outcome, CARD, knees=two.knees)
    assert results_of(header(SOPInstanceUID="1.2.3"), other)["SR"].sop_instance_uid not in reports
    assert all(uid.startswith("2.25.") and len(uid) <= 64 for uid in reports + pictures)


def test_another_certainty_changes_the_uid_and_other_last_digits_do_not() -> None:
    """Another set, level or doubt is another answer; the noise of two engines in probabilities and spread is not."""
    sure = UNSURE.certainty
    assert sure is not None
    knees = [
        RIGHT,
        UNSURE,
        replace(UNSURE, certainty=replace(sure, lowest=KLGrade.KL2)),
        replace(UNSURE, certainty=replace(sure, highest=KLGrade.KL4)),
        replace(UNSURE, certainty=replace(sure, level=0.95)),
        replace(UNSURE, certainty=replace(sure, undecided=(KLGrade.KL2, KLGrade.KL3))),
    ]
    uids = [instances.sop_instance_uid for knee in knees for instances in results_of(header(), reading(knee)).values()]
    assert len(set(uids)) == 3 * len(knees)
    noisy = replace(UNSURE, probabilities=tuple(p + 1e-6 for p in SHARES), certainty=replace(sure, spread=0.23450001))
    again = [instances.sop_instance_uid for instances in results_of(header(), reading(noisy)).values()]
    assert again == uids[3:6]


def test_the_time_of_making_changes_no_uid() -> None:
    """The caller fixes the time; a UID that depended on it would double results when the caller did not."""
    later = results_of(header(), READINGS["two knees"], at=MADE_AT + timedelta(days=2))
    first = results_of(header(), READINGS["two knees"])
    assert {instance.sop_instance_uid for instance in later.values()} == {
        instance.sop_instance_uid for instance in first.values()
    }


def test_every_object_has_its_own_series_in_the_source_study() -> None:
    """Results never mix into the modality's series, nor with each other."""
    source = header()
    instances = results_of(source, READINGS["two knees"])
    series = {str(instance.dataset.SeriesInstanceUID) for instance in instances.values()}
    assert len(series | {str(source.SeriesInstanceUID)}) == 4
    assert {str(instance.dataset.StudyInstanceUID) for instance in instances.values()} == {str(source.StudyInstanceUID)}


@pytest.mark.parametrize("script", NAMES)
@pytest.mark.parametrize("kind", ["SC", "SR", "SEG"])
def test_patient_and_study_are_those_of_the_source(script: str, kind: str) -> None:
    """Every attribute of the patient and study modules is equal, names and nested items in every script."""
    source = named(script)
    instances = read_back(results_of(source, READINGS["two knees"])[kind].encode())
    shared = [keyword for keyword in (*PATIENT, *STUDY) if keyword in source]
    assert len(shared) > 10
    for keyword in shared:
        assert plain(instances[keyword].value) == plain(source[keyword].value), keyword
    assert str(instances.PatientName) == NAMES[script][1]


def plain(value: object) -> object:
    """A value without its bytes and character set: what it means."""
    if isinstance(value, pydicom.Sequence):
        return [{element.keyword: plain(element.value) for element in item} for item in value]
    return str(value) if isinstance(value, PersonName) else value


def test_the_picture_has_the_same_bytes_of_a_name() -> None:
    """In the source's own character set nothing is decoded and encoded anew without need."""
    for script, (terms, _) in NAMES.items():
        source = named(script)
        sent = source.get_item("PatientName").value
        instances = read_back(results_of(source, reading(RIGHT))["SC"].encode())
        assert instances.get_item("PatientName").value == sent, script
        assert instances.SpecificCharacterSet == terms


@needs("dciodvfy")
@pytest.mark.parametrize("name", DIRTY)
def test_results_of_dirty_sources_are_valid(name: str, tmp_path: Path) -> None:
    """dciodvfy finds nothing in either object, whatever the modality sent."""
    instances = results_of(DIRTY[name](), READINGS["two knees"])
    assert {kind: dciodvfy(instance, tmp_path) for kind, instance in instances.items()} == {
        "SC": [],
        "SR": [],
        "SEG": [],
    }


def test_matching_keys_are_copied_even_if_invalid() -> None:
    """A PACS matches by them: mended, the result would be another patient's."""
    source = header(PatientID="P" * 80, AccessionNumber="A" * 20)
    for instances in results_of(source, READINGS["two knees"]).values():
        assert read_back(instances.encode()).PatientID == "P" * 80
        assert read_back(instances.encode()).AccessionNumber == "A" * 20


@pytest.mark.parametrize("written", ["2024-05-01", "2024.05.01", "20240501"])
def test_a_date_in_another_form_is_written_as_the_standard_has_it(written: str) -> None:
    """The form of ACR-NEMA and that of ISO 8601: the day is known, and the result stays valid."""
    for instance in results_of(header(StudyDate=written, PatientBirthDate=written), READINGS["graded"]).values():
        assert (instance.dataset.StudyDate, instance.dataset.PatientBirthDate) == ("20240501", "20240501")


def test_what_is_no_date_and_no_sex_is_left_empty_and_named_in_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    """An invalid value would make the result invalid; the log names the attribute and not what it held."""
    instances = results_of(header(PatientSex="U", StudyDate="1 May 2024", PatientAge="65"), READINGS["graded"])
    for instance in instances.values():
        assert (instance.dataset.PatientSex, instance.dataset.StudyDate) == (None, None) or (
            not instance.dataset.PatientSex and not instance.dataset.StudyDate
        )
        assert "PatientAge" not in instance.dataset
    log = "".join(capsys.readouterr())
    assert "identity_attributes_dropped" in log
    assert "PatientSex" in log
    assert "May" not in log


@pytest.mark.parametrize("keyword", REFERENCES)
@pytest.mark.parametrize("value", [..., "", "no uid"])
def test_a_source_that_cannot_be_referred_to_is_a_failure_with_a_reason(keyword: str, value: object) -> None:
    """A UID that is missing or none is never invented."""
    with pytest.raises(Permanent) as failure:
        results_of(_without(keyword, value), READINGS["graded"])
    assert failure.value.reason.code == "IDENTITY_MISSING"
    assert keyword in failure.value.detail


def _without(keyword: str, value: object) -> Dataset:
    source = header()
    if value is ...:
        del source[keyword]
    else:
        source[keyword].value = value
    return source


def test_times_follow_the_time_zone_that_the_source_names() -> None:
    """Timezone Offset From UTC applies to every time of an object, so also to those that Genu adds."""
    instances = results_of(header(TimezoneOffsetFromUTC="+0930"), READINGS["graded"])
    for instance in instances.values():
        assert instance.dataset.TimezoneOffsetFromUTC == "+0930"
        assert (instance.dataset.ContentDate, instance.dataset.ContentTime) == ("20260504", "225205")
        assert instance.dataset.ContributingEquipmentSequence[-1].ContributionDateTime == "20260504225205+0930"
    plain_time = results_of(header(), READINGS["graded"])["SR"].dataset
    assert "TimezoneOffsetFromUTC" not in plain_time
    assert plain_time.ContentTime == "132205"


def test_maker_and_model_are_named_and_the_device_uid_follows_the_weights() -> None:
    """Manufacturer Genu, software and model versions, and an algorithm whose Device UID changes with training."""
    devices = set()
    for card in (CARD, RETRAINED):
        for instance in results_of(header(), READINGS["graded"], card=card).values():
            instances = read_back(instance.encode())
            assert (instances.Manufacturer, instances.ManufacturerModelName) == ("Genu", "Genu")
            assert any(CARD.name in version for version in instances.SoftwareVersions)
            purposes = [item.PurposeOfReferenceCodeSequence[0] for item in instances.ContributingEquipmentSequence]
            assert [code.CodeValue for code in purposes] == ["109101", "109102", "Newcode1"]
            assert instances.ContributingEquipmentSequence[0].Manufacturer == "ACME"
            algorithm = instances.ContributingEquipmentSequence[2]
            assert card.sha256 in algorithm.ContributionDescription
            devices.add((card.sha256, str(algorithm.DeviceUID)))
    assert len(devices) == 2
    assert len({uid for _, uid in devices}) == 2


def test_a_source_without_text_gives_no_text() -> None:
    """Reading an absent or empty attribute is empty text, not an exception."""
    assert text_of(header(), "Laterality") == ""
    assert text_of(header(PatientOrientation=...), "PatientOrientation") == ""
    assert text_of(header(), "PatientOrientation") == "L"
    assert text_of(header(PatientOrientation=["", ""]), "PatientOrientation") == ""


def test_every_reason_of_a_refusal_can_be_reported() -> None:
    """No coded reason is too long for a code value, nor its meaning for a code meaning."""
    failures = {"DECODER_LIMIT", "ATTEMPTS_EXHAUSTED", "FILE_LOST", "IDENTITY_MISSING", "INTERNAL"}
    for code in REASONS.keys() - failures - set(NEVER_REPORTED):
        [instances] = results_of(header(), reading(refused=code)).values()
        texts = str(read_back(instances.encode()))
        assert code in texts
        assert REASONS[code].meaning in texts


def test_two_knees_of_one_film_keep_their_own_answers() -> None:
    """Whatever the order of the knees, every result stays with its side."""
    swapped = results_of(header(), reading(LEFT, RIGHT))["SR"].dataset
    groups = swapped.ContentSequence[-1].ContentSequence
    comments = [
        item.TextValue
        for group in groups
        for item in group.ContentSequence
        if item.ConceptNameCodeSequence[0].CodeValue == "121106"
    ]
    assert comments == ["AI L: KL 1, 60 % - not for diagnosis", "AI R: KL 3, 71 % - not for diagnosis"]
