"""What is no radiograph is refused by its header alone, with the code that says why; wrapped films are not."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import (
    BasicTextSRStorage,
    ComputedRadiographyImageStorage,
    CTImageStorage,
    DigitalMammographyXRayImageStorageForPresentation,
    DigitalXRayImageStorageForPresentation,
    DigitalXRayImageStorageForProcessing,
    EncapsulatedPDFStorage,
    GrayscaleSoftcopyPresentationStateStorage,
    KeyObjectSelectionDocumentStorage,
    MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
    SecondaryCaptureImageStorage,
    UltrasoundImageStorage,
)

from node.errors import Permanent, Ungradable
from tests.samples.radiograph_files import dataset, radiograph
from workers.read import Reader
from workers.read.admission import admit, is_own


@pytest.fixture(scope="module")
def reader() -> Iterator[Reader]:
    """One warm reader for these tests."""
    made = Reader(seconds=20, memory_mb=512, max_megapixels=40)
    yield made
    made.close()


def item(**attributes: Any) -> Dataset:
    made = Dataset()
    for keyword, value in attributes.items():
        setattr(made, keyword, value)
    return made


OWN = item(Manufacturer="Genu", ManufacturerModelName="kl-lite2")

CASES: list[tuple[str, dict[str, Any], str]] = [
    ("DX", {}, ""),
    ("CR", {"SOPClassUID": ComputedRadiographyImageStorage, "Modality": "CR"}, ""),
    ("DX that calls itself DR", {"Modality": "DR"}, ""),
    ("CR that calls itself XR", {"SOPClassUID": ComputedRadiographyImageStorage, "Modality": "XR"}, ""),
    ("CR that calls itself RG", {"SOPClassUID": ComputedRadiographyImageStorage, "Modality": "RG"}, ""),
    (
        "a wrapped film",
        {"SOPClassUID": SecondaryCaptureImageStorage, "Modality": "OT", "ImageType": ["DERIVED", "SECONDARY"]},
        "",
    ),
    ("a wrapped film that keeps its modality", {"SOPClassUID": SecondaryCaptureImageStorage, "Modality": "CR"}, ""),
    ("a wrapped film without modality", {"SOPClassUID": SecondaryCaptureImageStorage, "Modality": ""}, ""),
    (
        "multi-frame capture",
        {"SOPClassUID": MultiFrameGrayscaleByteSecondaryCaptureImageStorage, "NumberOfFrames": 2},
        "",
    ),
    ("knee in Latin", {"SeriesDescription": "Genu AP", "StudyDescription": "Genu dextrum"}, ""),
    ("a film rendered by us", {"Manufacturer": "Genu", "ManufacturerModelName": "Rendered knee"}, ""),
    ("no frames number", {"NumberOfFrames": 0}, ""),
    ("CT", {"SOPClassUID": CTImageStorage, "Modality": "CT"}, "NOT_A_RADIOGRAPH"),
    ("CT in a capture", {"SOPClassUID": SecondaryCaptureImageStorage, "Modality": "CT"}, "NOT_A_RADIOGRAPH"),
    ("MR modality", {"Modality": "MR"}, "NOT_A_RADIOGRAPH"),
    ("ultrasound", {"SOPClassUID": UltrasoundImageStorage, "Modality": "US"}, "NOT_A_RADIOGRAPH"),
    (
        "mammogram",
        {"SOPClassUID": DigitalMammographyXRayImageStorageForPresentation, "Modality": "MG"},
        "NOT_A_RADIOGRAPH",
    ),
    ("mammogram as DX", {"Modality": "MG"}, "NOT_A_RADIOGRAPH"),
    ("report", {"SOPClassUID": BasicTextSRStorage, "Modality": "SR"}, "NOT_AN_IMAGE"),
    ("key object", {"SOPClassUID": KeyObjectSelectionDocumentStorage, "Modality": "KO"}, "NOT_AN_IMAGE"),
    (
        "presentation state",
        {"SOPClassUID": GrayscaleSoftcopyPresentationStateStorage, "Modality": "PR"},
        "NOT_AN_IMAGE",
    ),
    ("PDF", {"SOPClassUID": EncapsulatedPDFStorage, "Modality": "DOC"}, "NOT_AN_IMAGE"),
    ("private image", {"SOPClassUID": "1.2.3.4.5"}, "NOT_A_RADIOGRAPH"),
    ("nothing told", {"SOPClassUID": ""}, "UNREADABLE"),
    ("raw", {"SOPClassUID": DigitalXRayImageStorageForProcessing}, "FOR_PROCESSING"),
    ("raw by intent", {"PresentationIntentType": "FOR PROCESSING"}, "FOR_PROCESSING"),
    ("ours", {"Manufacturer": "Genu", "ManufacturerModelName": "Genu"}, "OWN_OBJECT"),
    ("ours in lower case", {"Manufacturer": "GENU ", "ManufacturerModelName": "genu"}, "OWN_OBJECT"),
    (
        "ours after a PACS renamed the maker",
        {"ContributingEquipmentSequence": [item(Manufacturer="A"), OWN]},
        "OWN_OBJECT",
    ),
    ("ours by its series", {"SeriesDescription": "Genu KL report (AI, NOT FOR PRIMARY DIAGNOSIS)"}, "OWN_OBJECT"),
    ("our report", {"SOPClassUID": BasicTextSRStorage, "ContributingEquipmentSequence": [OWN]}, "OWN_OBJECT"),
    ("no study", {"StudyInstanceUID": ""}, "IDENTITY_MISSING"),
    ("a study that is no UID", {"StudyInstanceUID": "../../etc"}, "IDENTITY_MISSING"),
    ("no instance", {"SOPInstanceUID": ""}, "IDENTITY_MISSING"),
    ("no rows", {"Rows": None}, "NO_PIXELS"),
    ("a preview", {"Rows": 63}, "TOO_SMALL"),
    ("a wall", {"Rows": 20000, "Columns": 3000}, "TOO_LARGE"),
    ("a run of films", {"NumberOfFrames": 5}, "MANY_FRAMES"),
]


@pytest.mark.parametrize(("attributes", "code"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_the_header_decides_what_is_read(attributes: dict[str, Any], code: str) -> None:
    """A radiograph passes; everything else has its own reason."""
    header = dataset(rows=200, columns=200, **attributes)
    assert admitted(header) == code
    assert is_own(header) == (code == "OWN_OBJECT")


def admitted(header: Dataset, *, for_processing: bool = False) -> str:
    try:
        admit(header, max_megapixels=50, for_processing=for_processing)
    except (Ungradable, Permanent) as refusal:
        return refusal.reason.code
    return ""


def test_raw_data_are_read_where_the_settings_ask_for_it() -> None:
    """`grade_for_processing` opens the gate for raw detector data, and for nothing else."""
    raw = dataset(rows=200, columns=200, SOPClassUID=DigitalXRayImageStorageForProcessing)
    assert admitted(raw, for_processing=True) == ""
    assert admitted(dataset(rows=200, columns=200, Modality="MR"), for_processing=True) == "NOT_A_RADIOGRAPH"


def test_dx_for_presentation_is_the_default_of_these_tests() -> None:
    """The cases above start from a header that passes."""
    assert dataset(rows=1, columns=1).SOPClassUID == DigitalXRayImageStorageForPresentation


@pytest.mark.parametrize(
    ("attributes", "code"),
    [
        ({"PixelData": b""}, "NO_PIXELS"),
        ({"PixelData": None}, "NO_PIXELS"),
        ({"PixelData": bytes(200 * 240 * 2)}, "BLANK"),
        ({"PixelData": bytes(200)}, "UNREADABLE"),
        ({"BitsAllocated": 1, "BitsStored": 1}, "NOT_A_RADIOGRAPH"),
        ({"BitsAllocated": 32, "BitsStored": 32}, "UNREADABLE"),
        ({"BitsStored": 17}, "UNREADABLE"),
        ({"SamplesPerPixel": 3}, "UNREADABLE"),
        ({"PhotometricInterpretation": ""}, "UNREADABLE"),
        ({"FloatPixelData": bytes(200 * 240 * 4), "PixelData": None}, "UNREADABLE"),
    ],
    ids=str,
)
def test_pixels_that_are_none_are_refused(
    attributes: dict[str, Any], code: str, reader: Reader, tmp_path: Path
) -> None:
    """A radiograph's header without a radiograph's pixels has a code too."""
    path = radiograph(tmp_path / "film.dcm")
    made = pydicom.dcmread(path)
    for keyword, value in attributes.items():
        if value is None:
            delattr(made, keyword)
        else:
            setattr(made, keyword, value)
    made.save_as(path)
    with pytest.raises((Ungradable, Permanent)) as refusal:
        reader.read(path)
    assert refusal.value.reason.code == code
