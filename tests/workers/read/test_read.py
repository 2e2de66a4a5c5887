"""A film is upright, whichever way it was stored; what is no film is refused with the code that says why."""

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.pixels.processing import convert_color_space
from pydicom.uid import (
    JPEG2000,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLosslessSV1,
    JPEGLSNearLossless,
    RLELossless,
    SecondaryCaptureImageStorage,
)

from node.errors import Permanent, Ungradable
from node.radiograph import TRANSFER_SYNTAXES
from node.reasons import REASONS
from tests.paths import DATA
from tests.peers.archives import needs
from tests.samples.radiograph_files import (
    COMPRESSED,
    DCMTK,
    NATIVE,
    Encoding,
    dataset,
    full_window,
    radiograph,
    save,
    truth,
    write,
)
from tests.samples.real_knees import needs_not_knees
from tests.samples.source_films import NAMES, named
from workers.read import Reader, SpacingKind, patient_facts, read_picture

needs_malformed = pytest.mark.skipif(not (DATA / "malformed").is_dir(), reason="not there: ../shared/data/malformed")

LOSSY = (JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless, JPEG2000)


@pytest.fixture(scope="module")
def reader() -> Iterator[Reader]:
    """One warm reader for all tests."""
    made = Reader(seconds=20, memory_mb=2048, max_megapixels=40)
    yield made
    made.close()


def lut(first: int, entries: list[int], bits: int, *, vr: str = "US", first_vr: str = "US") -> Dataset:
    """A look-up table as an item of a LUT sequence; OW packs 8-bit entries two to a word."""
    item = Dataset()
    item.add_new("LUTDescriptor", first_vr, [len(entries) % 65536, first, bits])
    packed = np.array(entries, "<u1" if bits == 8 else "<u2").tobytes()
    item.add_new("LUTData", vr, entries if vr == "US" else packed)
    return item


def gamma(size: int, most: int) -> list[int]:
    return [int(each) for each in np.rint((np.arange(size) / (size - 1)) ** 1.5 * most)]


WINDOW = {"WindowCenter": "2048", "WindowWidth": "4096"}
ABSURD = "0"


def linear(centre: float, width: float) -> Any:
    return lambda grey: (grey - 0.5) * (width - 1) + centre - 0.5


def _voi() -> Iterator[Encoding]:
    yield Encoding(
        "LINEAR_EXACT",
        curve=lambda grey: (grey - 0.5) * 3000 + 2000,
        attributes={"WindowCenter": "2000", "WindowWidth": "3000", "VOILUTFunction": "LINEAR_EXACT"},
    )
    yield Encoding(
        "SIGMOID",
        curve=lambda grey: 2000 - 900 / 4 * np.log(1 / grey - 1),
        attributes={"WindowCenter": "2000", "WindowWidth": "900", "VOILUTFunction": "SIGMOID"},
        tolerance=0.005,
    )
    entries = gamma(4096, 65535)
    curve = lambda grey: grey ** (1 / 1.5) * 4095  # noqa: E731
    yield Encoding("VOI LUT as US", curve=curve, attributes={"VOILUTSequence": [lut(0, entries, 16)]})
    yield Encoding("VOI LUT as OW", curve=curve, attributes={"VOILUTSequence": [lut(0, entries, 16, vr="OW")]})
    yield Encoding("VOI LUT as UN", curve=curve, attributes={"VOILUTSequence": [lut(0, entries, 16, vr="UN")]})
    yield Encoding(
        "VOI LUT of 8 bits, packed",
        curve=curve,
        attributes={"VOILUTSequence": [lut(0, gamma(4096, 255), 8, vr="OW")]},
        tolerance=0.006,
    )
    yield Encoding(
        "VOI LUT that claims 16 bits and uses 12",
        curve=curve,
        attributes={"VOILUTSequence": [lut(0, gamma(4096, 4095), 16)]},
    )
    yield Encoding(
        "VOI LUT before window",
        curve=curve,
        attributes={"VOILUTSequence": [lut(0, entries, 16)], "WindowCenter": "1000", "WindowWidth": "3000"},
    )
    yield Encoding(
        "VOI LUT of negative values, first value written unsigned",
        signed=True,
        curve=lambda grey: grey ** (1 / 1.5) * 4095 - 2048,
        attributes={"VOILUTSequence": [lut(65536 - 2048, entries, 16)]},
    )
    yield Encoding(
        "VOI LUT of negative values",
        signed=True,
        curve=lambda grey: grey ** (1 / 1.5) * 4095 - 2048,
        attributes={"VOILUTSequence": [lut(-2048, entries, 16, first_vr="SS")]},
    )
    yield Encoding(
        "VOI LUT that inverts",
        curve=lambda grey: (1 - grey) * 4095,
        attributes={"VOILUTSequence": [lut(0, [65535 - 16 * each for each in range(4096)], 16)]},
        tolerance=0.005,
    )
    for name, centres, widths in (
        ("first of two windows", ["2048", "500"], ["4096", "900"]),
        ("first sane window", ["-30000", "2048"], ["1", "4096"]),
        ("first window with a width", ["2048", "2048"], ["0", "4096"]),
    ):
        yield Encoding(name, curve=linear(2048, 4096), attributes={"WindowCenter": centres, "WindowWidth": widths})


def _modality() -> Iterator[Encoding]:
    for slope, intercept in ((2.0, -1000.0), (0.25, 0.0), (-1.0, 4095.0)):
        centre, width = slope * 2048 + intercept, abs(slope) * 4096
        yield Encoding(
            f"slope {slope}",
            curve=linear(centre, width),
            rescale=lambda value, slope=slope, intercept=intercept: (value - intercept) / slope,
            attributes={
                "RescaleSlope": str(slope),
                "RescaleIntercept": str(intercept),
                "WindowCenter": str(centre),
                "WindowWidth": str(width),
            },
            tolerance=0.003,
        )
    falling = [4095 - each for each in range(4096)]
    for vr in ("US", "OW"):
        yield Encoding(
            f"falling Modality LUT as {vr}",
            curve=linear(2048, 4096),
            rescale=lambda value: 4095 - value,
            attributes={"ModalityLUTSequence": [lut(0, falling, 16, vr=vr)], **WINDOW},
            tolerance=0.003,
        )
    yield Encoding(
        "Modality LUT before slope",
        curve=linear(2048, 4096),
        rescale=lambda value: 4095 - value,
        attributes={"ModalityLUTSequence": [lut(0, falling, 16)], "RescaleSlope": "7", **WINDOW},
        tolerance=0.003,
    )
    yield full_window(Encoding("a slope of zero", attributes={"RescaleSlope": "0", "RescaleIntercept": "5"}))


def _bits() -> Iterator[Encoding]:
    for stored in (8, 10, 12, 14, 16):
        for signed in (False, True):
            for photometric in ("MONOCHROME1", "MONOCHROME2"):
                yield full_window(
                    Encoding(
                        f"{stored} bits{', signed' * signed}, {photometric}",
                        stored=stored,
                        signed=signed,
                        photometric=photometric,
                        inverted=photometric == "MONOCHROME1",
                    )
                )
    yield full_window(Encoding("8 bits of 8", stored=8, allocated=8))
    yield full_window(Encoding("8 bits of 8, signed", stored=8, allocated=8, signed=True))
    yield Encoding("8 bits without a window", stored=8, allocated=8, curve=lambda grey: grey * 255)
    for signed in (False, True):
        yield full_window(Encoding(f"overlay above the stored bits, signed {signed}", signed=signed, junk=True))
        yield full_window(Encoding(f"12 bits from the top, signed {signed}", signed=signed, high_bit=15))
        yield full_window(
            Encoding(f"12 bits from the top, overlay below, signed {signed}", signed=signed, high_bit=15, junk=True)
        )
        yield full_window(
            Encoding(f"10 bits in the middle, signed {signed}", stored=10, high_bit=12, signed=signed, junk=True)
        )


def _polarity() -> Iterator[Encoding]:
    for photometric, shape, inverted in (
        ("MONOCHROME1", "INVERSE", True),
        ("MONOCHROME2", "IDENTITY", False),
        ("MONOCHROME2", "INVERSE", True),
        ("MONOCHROME1", "IDENTITY", False),
    ):
        yield full_window(
            Encoding(
                f"{photometric} and {shape}",
                photometric=photometric,
                inverted=inverted,
                attributes={"PresentationLUTShape": shape},
            )
        )


def _syntaxes() -> Iterator[Encoding]:
    for syntax in NATIVE:
        for signed in (False, True):
            yield full_window(Encoding(f"{syntax.name}, signed {signed}", syntax=syntax, signed=signed))
    yield full_window(Encoding("8 bits big endian", syntax=ExplicitVRBigEndian, stored=8, allocated=8))
    for syntax in COMPRESSED:
        for signed in (False, True):
            stored = 8 if syntax == JPEGBaseline8Bit else 12
            if signed and syntax in (JPEGBaseline8Bit, JPEGExtended12Bit):
                continue  # the codec knows no negative numbers, and no encoder writes such a file
            yield full_window(
                Encoding(
                    f"{syntax.name}, signed {signed}",
                    syntax=syntax,
                    stored=stored,
                    allocated=8 if stored == 8 else 16,
                    signed=signed,
                    tolerance=0.06 if syntax in LOSSY else 0,
                )
            )
        if syntax not in (JPEGBaseline8Bit, JPEGExtended12Bit):
            yield full_window(
                Encoding(f"{syntax.name}, 16 bits", syntax=syntax, stored=16, tolerance=0.06 * (syntax in LOSSY))
            )
    for syntax in (RLELossless, JPEGLosslessSV1):
        yield full_window(Encoding(f"{syntax.name} with an overlay in the unused bits", syntax=syntax, junk=True))


WAYS = [*_bits(), *_polarity(), *_modality(), *_voi(), *_syntaxes()]


@needs("dcmcjpeg")
@pytest.mark.parametrize("way", WAYS, ids=[way.name for way in WAYS])
def test_the_upright_film_is_the_true_image(way: Encoding, reader: Reader, tmp_path: Path) -> None:
    """Bits, sign, polarity, look-up tables, windows and transfer syntaxes all end in the same picture."""
    (film,) = reader.read(write(way, tmp_path / "film.dcm"))
    assert film.pixels.dtype == np.float32
    off = np.abs(film.pixels - truth())
    # A lossy codec rings at the edge of the disc: there the mean counts, elsewhere every pixel does.
    assert (off.mean() if way.syntax in LOSSY else off.max()) < way.within() / (10 if way.syntax in LOSSY else 1)
    assert film.field.all()


def test_every_syntax_that_is_accepted_is_in_the_matrix() -> None:
    """The matrix above covers all transfer syntaxes that the node says it takes."""
    assert {way.syntax for way in WAYS} == set(TRANSFER_SYNTAXES)


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"WindowCenter": "2048", "WindowWidth": "0"},
        {"WindowCenter": "2048", "WindowWidth": "-5"},
        {"WindowCenter": "60000", "WindowWidth": "100"},
        {"WindowCenter": "-60000", "WindowWidth": "100"},
        {"WindowCenter": "2048", "WindowWidth": "1"},
        {"WindowCenter": "32768", "WindowWidth": "999999"},
        {"WindowCenter": "700", "WindowWidth": "200"},
        {"VOILUTSequence": [Dataset()]},
        {"VOILUTSequence": [lut(0, [0] * 4096, 16)]},
    ],
    ids=str,
)
def test_a_film_is_visible_without_a_sane_window(attributes: dict[str, Any], reader: Reader, tmp_path: Path) -> None:
    """A window that is missing, impossible, or leaves the field black, white or grey is replaced, and that is said."""
    way = Encoding("x", curve=lambda grey: 500 + 3000 * grey, attributes=attributes)
    (film,) = reader.read(write(way, tmp_path / "film.dcm"))
    low, high = np.percentile(truth(), (0.5, 99.5))
    assert np.abs(film.pixels - np.clip((truth() - low) / (high - low), 0, 1)).max() < 0.02
    assert any("window" in note for note in film.notes)


@pytest.mark.parametrize("signed", [False, True])
def test_padding_is_neither_field_nor_statistics(signed: bool, reader: Reader, tmp_path: Path) -> None:
    """Pixels within the padding range are outside the field, black on the film, and no part of the percentiles."""
    image = truth()
    image[:, :60] = 1.2
    way = Encoding(
        "padded",
        stored=16,
        signed=signed,
        curve=lambda grey: np.where(grey > 1, 32000, 500 + 3000 * grey),
        attributes={"PixelPaddingValue": 31990, "PixelPaddingRangeLimit": 32010},
    )
    (film,) = reader.read(write(way, tmp_path / "film.dcm", image))
    assert not film.field[:, :60].any()
    assert film.field[:, 60:].all()
    assert film.pixels[:, :60].max() == 0
    assert film.pixels[:, 60:].max() == 1
    assert film.pixels[:, 60:].std() > 0.2


def test_a_negative_padding_value_is_understood_in_either_sign(reader: Reader, tmp_path: Path) -> None:
    """63536 on a signed image means -2000: senders write the bits with the wrong VR."""
    image = truth()
    image[:40] = -1
    for value, vr in ((-2000, "SS"), (63536, "US")):
        way = Encoding("x", stored=16, signed=True, curve=lambda grey: np.where(grey < 0, -2000, 3000 * grey))
        path = write(way, tmp_path / f"{vr}.dcm", image)
        made = pydicom.dcmread(path)
        made.add_new("PixelPaddingValue", vr, value)
        made.save_as(path)
        assert not reader.read(path)[0].field[:40].any()


@pytest.mark.parametrize("planar", [0, 1])
@pytest.mark.parametrize("photometric", ["RGB", "YBR_FULL"])
def test_a_colour_capture_becomes_grey(photometric: str, planar: int, reader: Reader, tmp_path: Path) -> None:
    """The luminance of a colour picture is its grey level."""
    rgb = np.repeat(np.rint(truth() * 255).astype(np.uint8)[..., None], 3, axis=2)
    pixels = rgb if photometric == "RGB" else convert_color_space(rgb, "RGB", "YBR_FULL")
    made = capture(pixels if planar == 0 else np.moveaxis(pixels, 2, 0), photometric, planar)
    (film,) = reader.read(save(made, tmp_path / "sc.dcm"))
    assert np.abs(film.pixels - truth()).max() < 0.01
    assert any("colour" in note for note in film.notes)


@needs("dcmcjpeg")
def test_a_colour_jpeg_becomes_grey(reader: Reader, tmp_path: Path) -> None:
    """YBR_FULL_422, as JPEG stores colour."""
    rgb = np.repeat(np.rint(truth() * 255).astype(np.uint8)[..., None], 3, axis=2)
    path = save(capture(rgb, "RGB", 0), tmp_path / "sc.dcm", JPEGBaseline8Bit)
    assert pydicom.dcmread(path).PhotometricInterpretation.startswith("YBR")
    assert np.abs(reader.read(path)[0].pixels - truth()).mean() < 0.01


def test_a_palette_becomes_grey(reader: Reader, tmp_path: Path) -> None:
    """The palette decides how bright an index is, not the index."""
    made = capture(np.rint((1 - truth()) * 255).astype(np.uint8), "PALETTE COLOR", 0)
    for colour in ("Red", "Green", "Blue"):
        setattr(made, f"{colour}PaletteColorLookupTableDescriptor", [256, 0, 16])
        falling = (65535 - 257 * np.arange(256)).astype("<u2").tobytes()
        setattr(made, f"{colour}PaletteColorLookupTableData", falling)
    assert np.abs(reader.read(save(made, tmp_path / "sc.dcm"))[0].pixels - truth()).max() < 0.01


def capture(pixels: Any, photometric: str, planar: int) -> Dataset:
    """A Secondary Capture of 8 bits, derived and secondary as wrapped films are."""
    rows, columns = truth().shape
    made = dataset(rows=rows, columns=columns, SOPClassUID=SecondaryCaptureImageStorage, Modality="OT")
    made.ImageType, made.PhotometricInterpretation = ["DERIVED", "SECONDARY"], photometric
    made.SamplesPerPixel = 3 if pixels.ndim == 3 else 1
    if made.SamplesPerPixel == 3:
        made.PlanarConfiguration = planar
    made.BitsAllocated = made.BitsStored = 8
    made.HighBit, made.PixelRepresentation = 7, 0
    made.PixelData = np.ascontiguousarray(pixels).tobytes()
    made["PixelData"].VR = "OB"
    return made


@pytest.mark.parametrize("syntax", [None, RLELossless])
def test_every_frame_is_a_film_of_its_own(syntax: Any, reader: Reader, tmp_path: Path) -> None:
    """Two frames are two films, in order."""
    path = radiograph(tmp_path / "film.dcm")
    made = pydicom.dcmread(path)
    one = made.pixel_array
    made.NumberOfFrames, made.PixelData = 2, np.stack([one, one[::-1]]).tobytes()
    if syntax:
        made.compress(syntax)
    made.save_as(path)
    films = reader.read(path)
    assert len(films) == 2
    assert np.abs(films[0].pixels - truth()).max() < 0.01
    assert np.array_equal(films[1].pixels, films[0].pixels[::-1])


def test_a_header_comes_along_without_its_pixels(reader: Reader, tmp_path: Path) -> None:
    """Everything else is there, private values too; pixels and huge blobs are not, nor what cannot be read."""
    path = radiograph(tmp_path / "film.dcm", WindowCenter="2048")
    made = pydicom.dcmread(path)
    made.PatientAge, made.ViewPosition = "065Y", "AP"
    made.private_block(0x0019, "ACME", create=True).add_new(1, "LO", "small")
    made.private_block(0x0021, "ACME", create=True).add_new(1, "OB", bytes(100_000))
    item = Dataset()
    item.CodeValue = "T-1"
    made.AnatomicRegionSequence = [item]
    made.save_as(path)
    content = path.read_bytes()
    path.write_bytes(content.replace(b"CS\x02\x00AP", b"UL\x02\x00AP"))  # half a number
    for header in (reader.read(path)[0].header, reader.header(path)):
        assert (header.PatientAge, header.AnatomicRegionSequence[0].CodeValue) == ("065Y", "T-1")
        assert header[0x0019, 0x1001].value == "small"
        assert not {"PixelData", "ViewPosition"} & set(header.dir())
        assert (0x0021, 0x1001) not in header
        json.dumps(header.to_json_dict())


@pytest.mark.parametrize("script", NAMES)
def test_patient_facts_are_readable(script: str, reader: Reader, tmp_path: Path) -> None:
    """The name comes out of a file in Unicode, whichever character set it was written in."""
    made, path = named(script), radiograph(tmp_path / "film.dcm")
    made.update({each.tag: each for each in pydicom.dcmread(path) if each.tag.group in (0x0028, 0x7FE0)})
    made.save_as(path)
    facts = patient_facts(reader.read(path)[0].header)
    assert facts["name"] == NAMES[script][1]
    assert (facts["id"], facts["birth_date"], facts["study_date"]) == ("P1", "19550312", "20240501")
    assert (facts["description"], facts["accession"]) == ("XR KNEE", "A1")
    json.dumps(facts)


def test_a_name_in_undeclared_utf_8_is_readable() -> None:
    """Without a character set, bytes that are UTF-8 are read as that, others as Latin-1."""
    for encoding in ("utf-8", "latin-1"):
        stream = io.BytesIO()
        made = dataset(rows=1, columns=1)
        made.PatientName = b"M\xfcller^J\xf6rg" if encoding == "latin-1" else "Müller^Jörg".encode()
        pydicom.dcmwrite(stream, made, implicit_vr=False, little_endian=True)
        stream.seek(0)
        assert patient_facts(pydicom.dcmread(stream, force=True))["name"] == "Müller^Jörg"


def test_patient_facts_of_an_empty_header_are_empty() -> None:
    """A picture without a header has no patient, and that is no error."""
    assert set(patient_facts(Dataset()).values()) == {""}


def test_a_picture_is_a_film_without_header(tmp_path: Path) -> None:
    """PNG and JPEG of 8 and 16 bits, grey, colour and with transparency, give their grey levels."""
    eight = np.rint(truth() * 255).astype(np.uint8)
    colour = np.repeat(eight[..., None], 4, axis=2)
    pictures = {"8.png": eight, "16.png": eight.astype(np.uint16) * 257, "bgr.png": colour[..., :3], "a.png": colour}
    for name, picture in {**pictures, "8.jpg": eight}.items():
        cv2.imwrite(str(tmp_path / name), picture)
        film = read_picture(tmp_path / name)
        assert film.pixels.dtype == np.float32
        assert np.abs(film.pixels - truth()).mean() < 0.005
        assert film.field.all()
        assert film.spacing.kind is SpacingKind.NONE
        assert len(film.header) == 0


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "UNREADABLE"),
        (b"not a picture", "UNREADABLE"),
        (cv2.imencode(".png", np.zeros((99, 99), np.uint8))[1].tobytes(), "BLANK"),
        (cv2.imencode(".png", np.eye(9, dtype=np.uint8))[1].tobytes(), "TOO_SMALL"),
    ],
)
def test_what_is_no_picture_is_refused(content: bytes, code: str, tmp_path: Path) -> None:
    """A file without a picture to grade has a coded reason."""
    (tmp_path / "x.png").write_bytes(content)
    with pytest.raises(Ungradable) as refusal:
        read_picture(tmp_path / "x.png")
    assert refusal.value.reason.code == code


@needs_not_knees
def test_real_films_of_other_body_parts_are_read(reader: Reader) -> None:
    """Each NEMA sample is read, and all codings of one film show the same picture."""
    with (DATA / "not_knees" / "manifest.csv").open() as manifest:
        rows = list(csv.DictReader(manifest))
    pictures: dict[str, list[Any]] = {}
    for row in rows:
        path = DATA / "not_knees" / row["file"]
        if row["modality"] == "XA":
            with pytest.raises(Ungradable, match="NOT_A_RADIOGRAPH"):
                reader.read(path)
            continue
        (film,) = reader.read(path)
        assert film.pixels.shape == (int(row["rows"]), int(row["columns"]))
        assert film.pixels.std() > 0.1
        pictures.setdefault(row["file"].split("_")[0], []).append(film)
    for codings in (pictures["RG2"], pictures["RG3"]):
        for film in codings[1:]:
            assert np.abs(film.pixels - codings[0].pixels).mean() < 0.01
    for tibia in pictures["RG3"]:  # collimated at both sides, with scatter behind the blades
        assert 0.35 < tibia.field.mean() < 0.6
        assert tibia.field[:, 880].all()


@needs_malformed
def test_hostile_files_end_in_a_code(reader: Reader) -> None:
    """Every file of the corpus is read or refused with a coded reason, and none takes the process down."""
    paths = sorted((DATA / "malformed").glob("*/*.dcm"))
    assert len(paths) > 300
    before = reader.process_id()
    for path in paths:
        assert outcome(reader, path) in {"film", *REASONS} - {"INTERNAL"}
    assert reader.process_id() == before


@needs_malformed
def test_hostile_files_that_claim_to_be_radiographs_end_in_a_code(reader: Reader, tmp_path: Path) -> None:
    """The same corpus past the gate: made into CR images, so that its pixels and tables are looked at too."""
    copy = tmp_path / "x.dcm"
    for path in sorted((DATA / "malformed").glob("cat0[249]*/*.dcm")):
        content = path.read_bytes().replace(b"1.2.840.10008.5.1.4.1.1.2\0", b"1.2.840.10008.5.1.4.1.1.1\0")
        copy.write_bytes(content.replace(b"\x08\0\x60\0CS\x02\0CT", b"\x08\0\x60\0CS\x02\0CR"))
        assert outcome(reader, copy) in {"film", *REASONS} - {"INTERNAL"}


def outcome(reader: Reader, path: Path) -> str:
    """The code of a refusal, or "film"; anything else that is raised is a failure."""
    try:
        films = reader.read(path)
    except (Ungradable, Permanent) as refusal:
        return refusal.reason.code
    assert all(np.isfinite(film.pixels).all() for film in films)
    return "film"


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """A valid film of each kind of coding, small enough to break often."""
    folder = tmp_path_factory.mktemp("sound")
    small = truth(64, 72)
    table = {"VOILUTSequence": [lut(0, gamma(4096, 65535), 16)], "PatientName": "A^B"}
    ways = [
        full_window(Encoding("plain")),
        full_window(Encoding("implicit", syntax=ImplicitVRLittleEndian, attributes={"PixelPaddingValue": 0})),
        Encoding("table", curve=lambda grey: grey * 4095, attributes=table),
        *(full_window(Encoding("coded", syntax=each)) for each in COMPRESSED if each not in DCMTK),
    ]
    return [write(replace(way, tolerance=1), folder / "x.dcm", small).read_bytes() for way in ways]


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)
@given(data=st.data())
def test_no_broken_byte_gets_through(data: st.DataObject, sound: list[bytes], reader: Reader, tmp_path: Path) -> None:
    """Flipped bytes and cut files are films or coded refusals; nothing else is ever raised."""
    content = bytearray(data.draw(st.sampled_from(sound)))
    for place, value in data.draw(
        st.lists(st.tuples(st.integers(0, min(len(content) - 1, 3000)), st.integers(0, 255)), max_size=12)
    ):
        content[place] = value
    path = tmp_path / "broken.dcm"
    path.write_bytes(content[: data.draw(st.one_of(st.just(len(content)), st.integers(0, len(content))))])
    assert outcome(reader, path) in {"film", *REASONS} - {"INTERNAL"}
