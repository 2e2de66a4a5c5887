"""Films as hospitals send them, one difference at a time: each ends in the same grade or the right coded refusal."""

import io
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom import Dataset, config
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.sequence import Sequence
from pydicom.tag import Tag
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    DigitalXRayImageStorageForProcessing,
    EncapsulatedPDFStorage,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    MRImageStorage,
    MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
    RLELossless,
    SecondaryCaptureImageStorage,
    XRayRadiofluoroscopicImageStorage,
)

from node.errors import Ungradable
from node.finding import Laterality, Outcome, Reading
from node.settings import Work
from workers.analysis import analyse
from workers.detection.detection_models import DetectionModels, load_detection_models
from workers.models.registry import Model, load
from workers.phantom import Header, KneeShape, as_cr, as_dx, render
from workers.read import Reader

Change = Callable[[Dataset], None]
Case = tuple[str, Change, str]
"""Name, what is done to the film, and what is expected: "" for the grade of the film as it was, or the refusal."""

FLAG = "flag "
"""Before the code of a flag: graded as before, and flagged with it."""


def film(maker: str = "dx") -> Dataset:
    """A right knee with a narrow joint space and osteophytes: its grade is far from the next one."""
    shape = KneeShape(Laterality.RIGHT, medial_mm=0.6, osteophytes=1.0)
    rendered = render([shape], rows=640, columns=560, spacing_mm=0.25, marker=False, collimation=False)
    return {"dx": as_dx, "cr": as_cr}[maker](rendered, Header(description="Knee AP"))


def put(**attributes: object) -> Change:
    """Set attributes; `...` takes one away."""

    def change(made: Dataset) -> None:
        with config.disable_value_validation():
            for keyword, value in attributes.items():
                if value is ...:
                    made.pop(keyword, None)
                elif isinstance(value, bytes):  # what no library would write
                    tag = Tag(keyword)
                    made[tag] = RawDataElement(tag, dictionary_VR(keyword), len(value), value, 0, False, True)
                else:
                    setattr(made, keyword, value)

    return change


def pixels(change: Callable[[np.ndarray], np.ndarray], **attributes: object) -> Change:
    """Change the stored pixels, and set attributes."""

    def apply(made: Dataset) -> None:
        stored = change(made.pixel_array)
        made.PixelData = np.ascontiguousarray(stored).tobytes()
        made.Rows, made.Columns = stored.shape[-2:]
        put(**attributes)(made)

    return apply


def to_bits(bits: int, *, signed: bool = False) -> Change:
    """The same picture with other depth, and below zero if `signed`."""

    def apply(made: Dataset) -> None:
        grey = made.pixel_array.astype(np.float64) / 4095 * (2**bits - 1)
        low = 2 ** (bits - 1) if signed else 0
        kind = (np.int16 if signed else np.uint16) if bits > 8 else (np.int8 if signed else np.uint8)
        made.PixelData = (grey - low).round().astype(kind).tobytes()
        made.BitsAllocated, made.BitsStored, made.HighBit = (16 if bits > 8 else 8), bits, bits - 1
        made.PixelRepresentation = int(signed)
        put(
            WindowCenter=2 ** (bits - 1) - low,
            WindowWidth=2**bits,
            SmallestImagePixelValue=...,
            LargestImagePixelValue=...,
        )(made)
        if signed:
            made.RescaleIntercept = str(low)
            made.WindowCenter = 2 ** (bits - 1)

    return apply


def negative(*, told: bool) -> Change:
    """The values of a MONOCHROME1 film, whose header says so or does not."""

    def apply(made: Dataset) -> None:
        made.PixelData = (4095 - made.pixel_array).astype(np.uint16).tobytes()
        if told:
            made.PhotometricInterpretation, made.PresentationLUTShape = "MONOCHROME1", "INVERSE"

    return apply


def lut(made: Dataset) -> None:
    """A VOI LUT that does what no window did."""
    item = Dataset()
    item.LUTDescriptor, item.LUTExplanation = [4096, 0, 12], "plain"
    item.add_new("LUTData", "OW", np.arange(4096, dtype=np.uint16).tobytes())
    made.VOILUTSequence = Sequence([item])
    put(WindowCenter=..., WindowWidth=...)(made)


def modality_lut(made: Dataset) -> None:
    """A Modality LUT in place of slope and intercept."""
    item = Dataset()
    item.LUTDescriptor, item.ModalityLUTType = [4096, 0, 16], "US"
    item.add_new("LUTData", "OW", (np.arange(4096, dtype=np.uint16) * 16).tobytes())
    made.ModalityLUTSequence = Sequence([item])
    put(RescaleSlope=..., RescaleIntercept=..., RescaleType=..., WindowCenter=32768, WindowWidth=65536)(made)


def syntax(uid: str) -> Change:
    """Compressed, or written in another order."""

    def apply(made: Dataset) -> None:
        if uid == ExplicitVRBigEndian:
            made.PixelData = made.pixel_array.byteswap().tobytes()
        if uid in (JPEG2000Lossless, JPEGLSLossless, RLELossless):
            made.compress(pydicom.uid.UID(uid), generate_instance_uid=False)
        made.file_meta.TransferSyntaxUID = pydicom.uid.UID(uid)

    return apply


def frames(count: int) -> Change:
    def apply(made: Dataset) -> None:
        made.PixelData = made.pixel_array.tobytes() * count
        made.NumberOfFrames = count
        put(SOPClassUID=MultiFrameGrayscaleWordSecondaryCaptureImageStorage, Modality="OT")(made)
        made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID

    return apply


def kind(sop_class: str, modality: str, **more: object) -> Change:
    def apply(made: Dataset) -> None:
        put(SOPClassUID=pydicom.uid.UID(sop_class), Modality=modality, **more)(made)
        made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID

    return apply


def grey_rgb(made: Dataset) -> None:
    """What a screenshot tool makes of it."""
    colour = np.repeat((made.pixel_array >> 4).astype(np.uint8)[None], 3, 0)
    made.PixelData = colour.tobytes()
    made.PhotometricInterpretation, made.SamplesPerPixel, made.PlanarConfiguration = "RGB", 3, 1
    put(WindowCenter=..., WindowWidth=...)(made)
    made.BitsAllocated, made.BitsStored, made.HighBit = 8, 8, 7


elephant = put(PixelSpacing=["0.9", "0.9"], ImagerPixelSpacing=["1.0", "1.0"], PixelSpacingCalibrationType="FIDUCIAL")
raw = kind(DigitalXRayImageStorageForProcessing, "DX", PresentationIntentType="FOR PROCESSING")
wrongly_told = put(PhotometricInterpretation="MONOCHROME1", PresentationLUTShape=...)


def side_by_side(stored: np.ndarray) -> np.ndarray:
    return np.pad(stored, ((0, 0), (0, 240)), mode="edge")


SYNTAXES = (
    ImplicitVRLittleEndian,
    ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

CASES: list[Case] = [
    ("as it is", put(), ""),
    # SOP classes and modalities
    ("secondary capture", kind(SecondaryCaptureImageStorage, "OT", ConversionType="DF"), ""),
    ("secondary capture without a modality", kind(SecondaryCaptureImageStorage, "", ConversionType="WSD"), ""),
    ("fluoroscopy", kind(XRayRadiofluoroscopicImageStorage, "RF"), "NOT_A_RADIOGRAPH"),
    ("raw detector data", raw, "FOR_PROCESSING"),
    ("a CT slice", kind(CTImageStorage, "CT"), "NOT_A_RADIOGRAPH"),
    ("an MR slice", kind(MRImageStorage, "MR"), "NOT_A_RADIOGRAPH"),
    ("a document", kind(EncapsulatedPDFStorage, "DOC", PixelData=...), "NOT_AN_IMAGE"),
    ("no pixels", put(PixelData=...), "NO_PIXELS"),
    ("two frames", frames(2), "MANY_FRAMES"),
    ("one frame that says so", put(NumberOfFrames=1), ""),
    # depth and sign
    *((f"{bits} bits", to_bits(bits), "") for bits in (8, 10, 11, 14, 15, 16)),
    *((f"{bits} bits, signed", to_bits(bits, signed=True), "") for bits in (8, 12, 16)),
    ("high bits dirty", pixels(lambda p: p | np.uint16(0x3000)), ""),
    # polarity
    ("MONOCHROME1", negative(told=True), ""),
    ("a negative that nobody told", negative(told=False), FLAG + "POLARITY"),
    ("MONOCHROME1 told of a positive", wrongly_told, FLAG + "POLARITY"),
    ("RGB grey", grey_rgb, ""),
    # tables and windows
    ("VOI LUT", lut, ""),
    ("modality LUT", modality_lut, ""),
    ("rescaled", put(RescaleSlope="2", RescaleIntercept="-100", WindowCenter=3995, WindowWidth=8190), ""),
    ("no window", put(WindowCenter=..., WindowWidth=...), ""),
    ("two windows", put(WindowCenter=["2048", "900"], WindowWidth=["4096", "300"]), ""),
    ("empty window", put(WindowCenter="", WindowWidth=""), ""),
    ("half a window", put(WindowWidth=...), ""),
    ("window of no width", put(WindowWidth="0"), ""),
    ("window in words", put(WindowCenter=b"middle", WindowWidth=b"wide"), ""),
    ("window far below", put(WindowCenter="-30000", WindowWidth="10"), ""),
    ("sigmoid", put(VOILUTFunction="SIGMOID"), ""),
    # exposure
    ("one grey level", pixels(lambda p: np.full_like(p, 700)), "BLANK"),
    ("black", pixels(lambda p: np.zeros_like(p)), "BLANK"),
    ("half as bright", pixels(lambda p: p // 2), ""),
    # spacing
    ("no spacing", put(ImagerPixelSpacing=...), ""),
    ("calibrated", put(PixelSpacing=["0.22", "0.22"], PixelSpacingCalibrationType="FIDUCIAL"), ""),
    ("equal spacings", put(PixelSpacing=["0.25", "0.25"]), ""),
    ("spacing of nothing", put(ImagerPixelSpacing=["0", "0"]), ""),
    ("spacing in words", put(ImagerPixelSpacing=b"fine"), ""),
    ("a mouse's knee", put(PixelSpacing=["0.02", "0.02"], PixelSpacingCalibrationType="FIDUCIAL"), "WRONG_SIZE"),
    ("an elephant's knee", elephant, "WRONG_SIZE"),
    # side
    ("no side", put(ImageLaterality=...), ""),
    ("both sides", put(ImageLaterality="B"), ""),
    ("a side that there is not", put(ImageLaterality="X"), ""),
    ("the side of the series", put(ImageLaterality=..., Laterality="R"), ""),
    ("the side in words", put(ImageLaterality=..., SeriesDescription="Knie rechts a.p."), ""),
    # view and part: the image decides
    ("called lateral", put(ViewPosition="LL"), ""),
    ("called PA", put(ViewPosition="PA"), ""),
    ("called a hand", put(BodyPartExamined="HAND"), ""),
    ("no view", put(ViewCodeSequence=...), ""),
    # patient
    ("a child", put(PatientAge="011Y"), "CHILD"),
    ("an adult", put(PatientAge="061Y"), ""),
    ("an age of nobody", put(PatientAge="400Y"), ""),
    # transfer syntax
    *((uid.name, syntax(uid), "") for uid in SYNTAXES),
    # size and place
    ("a wide film", pixels(side_by_side), ""),
    ("a thumbnail", pixels(lambda p: p[::12, ::12]), "TOO_SMALL"),
    ("its lower half", pixels(lambda p: p[330:]), "NOT_A_KNEE"),
    ("noise", pixels(lambda p: np.random.default_rng(0).integers(0, 4096, p.shape, np.uint16)), "NOT_A_KNEE"),
]  # fmt: skip


@pytest.fixture(scope="module")
def bench() -> Iterator[tuple[Reader, DetectionModels, Model]]:
    reader = Reader.from_settings(Work())
    try:
        yield reader, load_detection_models(), load("kl-lite2")
    finally:
        reader.close()


def read(made: Dataset, path: Path, bench: tuple[Reader, DetectionModels, Model]) -> Reading | str:
    """What is said of a file, or the code of what the reader refuses it for."""
    reader, models, model = bench
    stream = io.BytesIO()
    little = made.file_meta.TransferSyntaxUID != ExplicitVRBigEndian
    with config.disable_value_validation():
        implicit = made.file_meta.TransferSyntaxUID == ImplicitVRLittleEndian
        made.save_as(stream, enforce_file_format=True, little_endian=little, implicit_vr=implicit)
    path.write_bytes(stream.getvalue())
    try:
        return analyse("1.2.3", reader.film(path), models=models, grader=model).reading
    except Ungradable as refusal:
        return refusal.reason.code


@pytest.fixture(scope="module")
def expected(bench: tuple[Reader, DetectionModels, Model], tmp_path_factory: pytest.TempPathFactory) -> Reading:
    told = read(film(), tmp_path_factory.mktemp("matrix") / "film.dcm", bench)
    assert isinstance(told, Reading)
    assert told.outcome is Outcome.GRADED
    return told


def test_the_matrix_is_a_matrix() -> None:
    """At least sixty cases, each with a name of its own."""
    assert len({name for name, _, _ in CASES}) == len(CASES) >= 60


@pytest.mark.parametrize("maker", ["dx", "cr"])
@pytest.mark.parametrize(("name", "change", "ends"), CASES, ids=[name for name, _, _ in CASES])
def test_it_ends_in_the_right_grade_or_the_right_refusal(
    name: str,
    change: Change,
    ends: str,
    maker: str,
    bench: tuple[Reader, DetectionModels, Model],
    expected: Reading,
    tmp_path: Path,
) -> None:
    """Whatever the header and the encoding say of the same picture."""
    made = film(maker)
    change(made)
    told = read(made, tmp_path / "film.dcm", bench)
    if ends and not ends.startswith(FLAG):
        assert (told if isinstance(told, str) else told.reason and told.reason.code) == ends
        return
    assert isinstance(told, Reading), told
    assert told.outcome is Outcome.GRADED, told.reason
    (knee,), (before,) = told.knees, expected.knees
    assert knee.grade == before.grade
    red = {flag.code for flag in knee.flags} - {"AGE_UNKNOWN"}
    assert red == ({ends.removeprefix(FLAG)} if ends else {flag.code for flag in before.flags} - {"AGE_UNKNOWN"})
