"""The objects that a setting asks for: presentation state, key object, parametric map, PDF."""

import io
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from node.finding import Finding
from node.reasons import Flag
from tests.peers.archives import needs
from tests.samples.source_films import (
    CUT_OFF,
    DIRTY,
    LEFT,
    READINGS,
    RIGHT,
    dciodvfy,
    header,
    heat,
    reading,
    result_list,
    results_of,
)
from workers.preprocessing import Box, Pose
from workers.report import ResultInstance
from workers.report.layout.contours import contour_polygons

KINDS = ("PR", "KO", "PM", "PDF")
GRADED = ["graded", "two knees", "mixed", "side unknown", "empty map", "unsure"]


def flagged(finding: Finding, *, red: bool) -> Finding:
    return replace(finding, flags=(Flag("SIDE_CONFLICT", "The sides differ", "Check them.", red),))


def optional_results(
    of: Dataset, *knees: Finding, kinds: tuple[str, ...] = KINDS, red: bool = True
) -> dict[str, ResultInstance]:
    return {instance.kind: instance for instance in result_list(of, reading(*knees), kinds=kinds, is_red=lambda _: red)}


def read_back(instance: ResultInstance) -> Dataset:
    return pydicom.dcmread(io.BytesIO(instance.encode()))


UNAVOIDABLE = (
    "Unrecognized defined term <QUANTITY> for value 4",  # of Image Type in a Parametric Map: PS3.3 C.8.32.2 wants it
    "is only permitted to be empty when actually unknown",  # a series about both knees has no side; absent is an error
)


def complaints(instance: ResultInstance, folder: Path) -> list[str]:
    """The messages of dciodvfy about an object, without two unavoidable warnings."""
    excused = UNAVOIDABLE if instance.kind in ("PM", "PR") else ()
    return [line for line in dciodvfy(instance, folder) if not any(warning in line for warning in excused)]


@needs("dcentvfy")
def test_dcentvfy_finds_one_patient_and_study_in_all_objects(tmp_path: Path) -> None:
    """Two answers to one film, each object beside the others: what describes an entity is the same in all."""
    answers = (READINGS["two knees"], READINGS["mixed"])
    instances = [
        instance
        for answer in answers
        for instance in result_list(header(), answer, kinds=("SC", "SC1", "SR", "SEG", *KINDS), is_red=lambda _: True)
    ]
    header().save_as(tmp_path / "film.dcm", enforce_file_format=True)
    for number, instance in enumerate(instances):
        (tmp_path / f"{number}.dcm").write_bytes(instance.encode())
    result = subprocess.run(["dcentvfy", *map(str, tmp_path.glob("*.dcm"))], capture_output=True, text=True, timeout=60)
    # Its table puts the Accession Number of a Parametric Map into the series; PS3.3 C.7.2.1 has it in the study.
    lines = [
        line for line in (result.stdout + result.stderr).splitlines() if "<AccessionNumber> IE <Study>" not in line
    ]
    assert lines == []


@needs("dciodvfy")
@pytest.mark.parametrize("name", GRADED)
def test_dciodvfy_finds_nothing(name: str, tmp_path: Path) -> None:
    """Each of them for every kind of answer."""
    instances = result_list(header(), READINGS[name], kinds=KINDS, is_red=lambda _: True)
    assert {instance.kind for instance in instances} >= {"PR", "KO", "PDF"}
    assert {instance.kind: complaints(instance, tmp_path) for instance in instances} == {
        instance.kind: [] for instance in instances
    }


@needs("dciodvfy")
@pytest.mark.parametrize("name", DIRTY)
def test_dirty_sources_have_valid_ones_too(name: str, tmp_path: Path) -> None:
    """highdicom sees none of what the modality sent."""
    instances = result_list(DIRTY[name](), READINGS["two knees"], kinds=KINDS, is_red=lambda _: True)
    assert {instance.kind: complaints(instance, tmp_path) for instance in instances} == {
        instance.kind: [] for instance in instances
    }


def test_they_are_not_created_by_default() -> None:
    """By default a destination gets pages, report and segmentation."""
    assert set(results_of(header(), READINGS["two knees"])) == {"SC", "SR", "SEG"}


def test_created_twice_they_are_the_same() -> None:
    """No time of day, no invented UID, no random number, the PDF's included."""
    first, second = (optional_results(header(), RIGHT, LEFT) for _ in range(2))
    assert {kind: instance.encode() for kind, instance in first.items()} == {
        k: result.encode() for k, result in second.items()
    }
    assert set(first) == set(KINDS)


def test_every_object_has_the_sources_patient_and_study_and_a_series_of_its_own() -> None:
    """Identity as in every result; maker, model and Device UID with it."""
    source = header()
    datasets = [read_back(instance) for instance in optional_results(source, RIGHT, LEFT).values()]
    assert {str(ds.PatientName) for ds in datasets} == {str(source.PatientName)}
    assert {str(ds.StudyInstanceUID) for ds in datasets} == {str(source.StudyInstanceUID)}
    assert len({str(ds.SeriesInstanceUID) for ds in datasets} | {str(source.SeriesInstanceUID)}) == len(datasets) + 1
    for ds in datasets:
        assert (ds.Manufacturer, ds.ManufacturerModelName) == ("Genu", "Genu")
        purposes = [item.PurposeOfReferenceCodeSequence[0].CodeValue for item in ds.ContributingEquipmentSequence]
        assert purposes == ["109101", "109102", "Newcode1"]
        assert ds.SeriesDescription.startswith("Genu KL ")
        assert len(ds.SeriesDescription) <= 64
        when = "PresentationCreation" if "PresentationCreationDate" in ds else "Content"
        assert (ds[f"{when}Date"].value, ds[f"{when}Time"].value) == ("20260504", "132205")


def test_a_refused_film_has_none_but_the_key_object() -> None:
    """There is nothing to draw; a red flag on a refused knee is still one."""
    what = reading(CUT_OFF, refused="JOINT_CUT_OFF")
    assert [instance.kind for instance in result_list(header(), what, kinds=("SR", *KINDS), is_red=lambda _: True)] == [
        "SR",
        "KO",
    ]
    assert [instance.kind for instance in result_list(header(), what, kinds=KINDS, is_red=lambda _: False)] == []


def test_only_a_red_flag_makes_a_key_object() -> None:
    """A remark, or no flag at all, does not."""
    for knee, expected in ((RIGHT, []), (flagged(RIGHT, red=False), []), (flagged(RIGHT, red=True), ["KO"])):
        instances = result_list(header(), reading(knee), kinds=("KO",))
        assert [instance.kind for instance in instances] == expected
    note = read_back(instances[0])
    words = [item.TextValue for item in note.ContentSequence if "TextValue" in item]
    assert "AI red flag. Right knee: The sides differ. Check them." in words
    assert note.ConceptNameCodeSequence[0].CodeMeaning == "Of Interest"
    assert (
        read_back(instances[0]).ContentSequence[-1].ReferencedSOPSequence[0].ReferencedSOPInstanceUID
        == header().SOPInstanceUID
    )


@needs("dcmpschk")
@pytest.mark.parametrize("name", GRADED)
def test_dcmtk_takes_the_presentation_state(name: str, tmp_path: Path) -> None:
    """
    dcmpschk checks what dciodvfy does not: that the parts of a presentation state fit together.

    It knows no date with an offset from UTC behind it (PS3.5 6.2, DT has one), so that one complaint is excused.
    """
    path = tmp_path / "pr.dcm"
    path.write_bytes(result_list(header(), READINGS[name], kinds=("PR",))[0].encode())
    done = subprocess.run(["dcmpschk", str(path)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    output = (done.stdout + done.stderr).splitlines()
    wrong = [output[at + 1] for at, line in enumerate(output) if line.startswith("E: Error")]
    assert {line.split("(0018,a002)")[0] for line in wrong} <= {"E:    Affected attribute: ContributionDateTime "}


def test_lines_of_the_presentation_state_are_closed_lie_in_the_box_and_words_beside_it() -> None:
    """Some viewers draw closed unfilled lines only; text over the joint would hide it."""
    state = optional_results(header(), RIGHT, LEFT)["PR"].dataset
    (annotation,) = state.GraphicAnnotationSequence
    boxes = [RIGHT.box, LEFT.box]
    for line in annotation.GraphicObjectSequence:
        points = np.array(line.GraphicData).reshape(-1, 2)
        assert line.GraphicFilled == "N"
        assert np.array_equal(points[0], points[-1])
        assert any((points >= box[:2]).all() and (points <= box[2:]).all() for box in boxes)
    for text, box in zip(annotation.TextObjectSequence, boxes, strict=True):
        assert text.BoundingBoxBottomRightHandCorner[1] <= box[1] or text.BoundingBoxTopLeftHandCorner[1] >= box[3]
    texts = [text.UnformattedTextValue for text in annotation.TextObjectSequence]
    assert texts[0] == "Right knee: KL 3, 71 %. AI, not for primary diagnosis"


def test_the_presentation_state_keeps_the_films_grey_levels_and_shape() -> None:
    """It replaces them in a viewer: window, rescale, polarity and the pixels' aspect have to be those of the film."""
    source = header(
        PhotometricInterpretation="MONOCHROME1",
        WindowCenter=["1700", "900"],
        WindowWidth=["3000", "500"],
        RescaleIntercept="-10",
        RescaleSlope="2",
        ImagerPixelSpacing=["0.4", "0.2"],
    )
    state = optional_results(source, RIGHT)["PR"].dataset
    assert state.PresentationLUTShape == "INVERSE"
    assert (state.RescaleIntercept, state.RescaleSlope, state.RescaleType) == (-10, 2, "US")
    window = state.SoftcopyVOILUTSequence[0]
    assert (window.WindowCenter, window.WindowWidth) == (1700, 3000)
    assert list(state.DisplayedAreaSelectionSequence[0].PresentationPixelAspectRatio) == [2, 1]
    plain = optional_results(header(PhotometricInterpretation="MONOCHROME2"), RIGHT)["PR"].dataset
    assert plain.PresentationLUTShape == "IDENTITY"
    assert "SoftcopyVOILUTSequence" not in plain
    assert "RescaleSlope" not in plain


@needs("dciodvfy")
@pytest.mark.parametrize(
    "attributes",
    [
        {"WindowCenter": "1700"},
        {"WindowCenter": "", "WindowWidth": ""},
        {"WindowCenter": b"middle", "WindowWidth": b"wide"},
        {"WindowCenter": "5", "WindowWidth": "0"},
        {"RescaleSlope": "1"},
        {"VOILUTSequence": []},
    ],
)
def test_half_a_window_is_none(attributes: dict[str, object], tmp_path: Path) -> None:
    """An incomplete window is left out, and the object is valid."""
    state = optional_results(header(**attributes), RIGHT)["PR"]
    assert "SoftcopyVOILUTSequence" not in state.dataset
    assert dciodvfy(state, tmp_path) == []


def test_outlines_follow_the_map() -> None:
    """On the line the map, spread smoothly, has the level's strength; higher levels lie inside lower ones."""
    box = Box(100, 200, 500, 600)
    lengths = []
    for level in (0.25, 0.5, 0.75):
        (line,) = contour_polygons(heat().strength, Pose.of(box), level)
        assert np.array_equal(line[0], line[-1])
        lengths.append(np.hypot(*np.diff(line, axis=0).T).sum())
        cells = (line - [box.x0, box.y0]) / 50 - 0.5
        model = 0.9 * np.exp(-((cells[:, 0] - 2.4) ** 2 + (cells[:, 1] - 4) ** 2) / 3)
        assert np.abs(model - level).max() < 0.06
    assert lengths == sorted(lengths, reverse=True)


def test_a_map_along_the_edge_has_closed_lines_and_noise_has_none() -> None:
    """Where the evidence runs off the box its line runs along the box's edge."""
    strength = np.zeros((8, 8), np.float32)
    strength[:, 0] = 1
    (line,) = contour_polygons(strength, Pose((40, 40), 80), 0.5)
    assert np.array_equal(line[0], line[-1])
    assert line.min() >= 0
    assert line[:, 1].max() > 75
    assert contour_polygons(np.zeros((8, 8), np.float32), Pose((40, 40), 80), 0.5) == []


def test_the_parametric_map_holds_the_strengths_of_both_knees() -> None:
    """Float numbers on the film's pixels, as they are drawn."""
    back = read_back(optional_results(header(), RIGHT, LEFT)["PM"])
    numbers = back.pixel_array.reshape(back.Rows, back.Columns)
    assert (back.Rows, back.Columns) == (1000, 1200)
    assert numbers.dtype == np.float32
    assert numbers.max() == pytest.approx(heat().strength.max(), abs=0.06)  # the cubic between cells
    assert not numbers[:300].any()
    assert numbers[300:700, 100:500].any()
    assert numbers[300:700, 700:1100].any()
    mapping = back.SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence[0]
    assert (mapping.RealWorldValueSlope, mapping.RealWorldValueIntercept) == (1, 0)


def test_without_millimetres_or_evidence_there_is_no_parametric_map() -> None:
    """Its pixels must have a size, and none is invented."""
    assert "PM" not in optional_results(header(ImagerPixelSpacing=...), RIGHT)
    assert [instance.kind for instance in result_list(header(), READINGS["empty map"], kinds=("PM",))] == []


def test_the_pdf_is_one_sheet_that_names_no_patient() -> None:
    """It has searchable text with the result, and no patient's name."""
    document = read_back(optional_results(header(PatientName="Secret^Person"), RIGHT, CUT_OFF)["PDF"])
    content = document.EncapsulatedDocument[: document.EncapsulatedDocumentLength]
    assert content.startswith(b"%PDF-")
    assert content.rstrip().endswith(b"%%EOF")
    assert document.MIMETypeOfEncapsulatedDocument == "application/pdf"
    assert b"Secret" not in content
    assert document.SourceInstanceSequence[0].ReferencedSOPInstanceUID == header().SOPInstanceUID


@needs("pdftotext")
def test_the_pdf_has_the_text_of_the_pages(tmp_path: Path) -> None:
    """Grade, shares, refusal, model and warning, as text."""
    document = read_back(optional_results(header(), RIGHT, CUT_OFF)["PDF"])
    path = tmp_path / "page.pdf"
    path.write_bytes(document.EncapsulatedDocument)
    words = subprocess.run(["pdftotext", "-layout", str(path), "-"], capture_output=True, text=True, timeout=60).stdout
    for pdf_text in ("KL 3", "70.8 %", "Not graded", "kl-lite2 1.0.0", "not for primary diagnosis", "Left knee"):
        assert pdf_text in words
    assert words.count("\f") == 1
