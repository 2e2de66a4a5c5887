"""Films to report on: clean and dirty headers, synthetic pixels, readings of every kind. No patient data."""

import io
import re
import subprocess
import sys
from collections.abc import Callable, Collection
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import numpy as np
import pydicom
from pydicom import config
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.tag import Tag
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    SecondaryCaptureImageStorage,
)

from node.evidence import Attention, Certainty, KLGrade, LateralitySource
from node.finding import Finding, Laterality, ModelIdentity, Outcome, Reading
from node.reasons import reason
from node.settings import ObjectKind
from tests.peers.archives import program_path
from workers.explanation.grad_cam import HeatMap
from workers.preprocessing import Box, Pose
from workers.read import Film, Spacing, SpacingKind
from workers.report import ResultInstance, report
from workers.report.codes import SCHEME, SCHEME_UID

CARD = ModelIdentity("kl-lite2", "1.0.0", "9f3c1a7be2d04c55" * 4)
MADE_AT = datetime(2026, 5, 4, 13, 22, 5, tzinfo=UTC)
SOURCE_UID = "2.25.329800735698586629295641978511506172918"
STUDY_UID = "2.25.300000000000000000000000000000000000001"

NAMES = {
    "latin": ("ISO_IR 100", "Müller^Jürgen"),
    "korean": (["", "ISO 2022 IR 149"], "Hong^Gildong=洪^吉洞=홍^길동"),
    "japanese": (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
    "kana": (["ISO 2022 IR 13", "ISO 2022 IR 87"], "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう"),
    "chinese": ("GB18030", "Wang^XiaoDong=王^小东"),
    "cyrillic": ("ISO_IR 144", "Люкceмбypг^Иван"),
    "greek": ("ISO_IR 126", "Διονυσιος^Νικος"),
    "arabic": ("ISO_IR 127", "قباني^لنزار"),
    "turkish": ("ISO_IR 148", "Çavuşoğlu^Ilker"),
    "thai": ("ISO_IR 166", "ประเสริฐ^สมชาย"),
    "utf-8": ("ISO_IR 192", "Šimůnková^Ольга=王^小东"),
}
"""Names in many scripts, in the character sets in which they are sent."""


def header(**attributes: object) -> Dataset:
    """A clean DX header of one film; given attributes are set (bytes as they are), those given as ... removed."""
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 100"
    ds.SOPClassUID, ds.SOPInstanceUID = DigitalXRayImageStorageForPresentation, SOURCE_UID
    ds.StudyInstanceUID, ds.SeriesInstanceUID = STUDY_UID, STUDY_UID + "1"
    ds.PatientName, ds.PatientID, ds.PatientBirthDate, ds.PatientSex = "Test^Knee", "P1", "19550312", "F"
    ds.StudyDate, ds.StudyTime, ds.AccessionNumber, ds.StudyID = "20240501", "101500", "A1", "1"
    ds.ReferringPhysicianName, ds.StudyDescription = "Doc^Ref", "XR KNEE"
    ds.Modality, ds.BodyPartExamined, ds.PatientOrientation = "DX", "KNEE", ["L", "F"]
    ds.Manufacturer, ds.ManufacturerModelName, ds.InstitutionName = "ACME", "DXR", "Test Hospital"
    ds.ImagerPixelSpacing = ["0.2", "0.2"]
    with config.disable_value_validation():
        for keyword, value in attributes.items():
            if value is ...:
                ds.pop(keyword, None)
            elif isinstance(value, bytes):
                tag, vr = Tag(keyword), dictionary_VR(keyword)
                ds[tag] = RawDataElement(tag, vr, len(value), value, 0, False, True)
            else:
                setattr(ds, keyword, value)
    return as_received(ds)


def as_received(ds: Dataset) -> Dataset:
    """The same header after a trip through a file: text is bytes in the declared character set."""
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    stream = io.BytesIO()
    with config.disable_value_validation():
        ds.save_as(stream, enforce_file_format=True)
    stream.seek(0)
    return pydicom.dcmread(stream)


def named(script: str) -> Dataset:
    """A header with a name in `script`, another in a nested item, and a description."""
    terms, name = NAMES[script]
    other = Dataset()
    other.PatientID, other.TypeOfPatientID = "X9", "TEXT"
    doctor = Dataset()
    doctor.PersonIdentificationCodeSequence = [_code("1", "DCM", name.split("=")[-1].replace("^", " "))]
    doctor.InstitutionName = name.split("=")[-1].replace("^", " ")
    return header(
        SpecificCharacterSet=terms,
        PatientName=name,
        ReferringPhysicianName=name,
        InstitutionName=name.split("=")[-1].replace("^", " "),
        OtherPatientIDsSequence=[other],
        ReferringPhysicianIdentificationSequence=[doctor],
    )


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def _sparse() -> Dataset:
    kept = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "Modality")
    ds = header()
    return header(**{element.keyword: ... for element in ds if element.keyword not in kept})


DIRTY: dict[str, Callable[[], Dataset]] = {
    "nothing but UIDs": _sparse,
    "sex U": lambda: header(PatientSex="U"),
    "ISO dates": lambda: header(StudyDate="2024-05-01", StudyTime="10:15:00", PatientBirthDate="12.03.1955"),
    "impossible date": lambda: header(StudyDate="20240231"),
    "CR without orientation and spacing": lambda: header(
        SOPClassUID=ComputedRadiographyImageStorage, Modality="CR", PatientOrientation=..., ImagerPixelSpacing=...
    ),
    "half an orientation": lambda: header(PatientOrientation=["", ""], ImagerPixelSpacing=["0.2"]),
    "a secondary capture": lambda: header(SOPClassUID=SecondaryCaptureImageStorage, Modality="OT"),
    "time zone": lambda: header(TimezoneOffsetFromUTC="+0900"),
    "no time zone at all": lambda: header(TimezoneOffsetFromUTC="KST"),
    "lossy": lambda: header(
        LossyImageCompression="01", LossyImageCompressionRatio="12.5", LossyImageCompressionMethod="ISO_10918_1"
    ),
    "no accession number": lambda: header(AccessionNumber=..., StudyID="7"),
    "odd age, weight and size": lambda: header(PatientAge="65", PatientWeight=b"heavy ", PatientSize=b"1,70"),
    "sound age": lambda: header(PatientAge="065Y", PatientWeight="70.5"),
    "character set that is none": lambda: header(SpecificCharacterSet="WINDOWS-1252"),
    "manufacturer unknown": lambda: header(Manufacturer="", BodyPartExamined=...),
    **{f"{script} name": (lambda script=script: named(script)) for script in NAMES},  # type: ignore[misc]
}


def film(of: Dataset, *, rows: int = 1000, columns: int = 1200, notes: tuple[str, ...] = ()) -> Film:
    """A film with two soft bright bars across a dark line, at both knees' places."""
    y, x = np.mgrid[0:rows, 0:columns].astype(np.float32)
    bone = 0.5 + 0.4 * np.cos(x / columns * 4 * np.pi) * (np.abs(y - rows / 2) > 8)
    return Film(
        pixels=np.clip(bone, 0, 1).astype(np.float32),
        field=np.ones((rows, columns), dtype=bool),
        spacing=Spacing(None, None, SpacingKind.NONE),
        header=of,
        notes=notes,
    )


PLACE = Box(100, 300, 500, 700)


def heat(box: Box = PLACE, *, empty: bool = False, cells: int = 8) -> HeatMap:
    """A map whose strongest cell lies left of the middle of an upright joint in `box`."""
    y, x = np.mgrid[0:cells, 0:cells].astype(np.float32)
    values = 0 * x if empty else 0.9 * np.exp(-((x - cells * 0.3) ** 2 + (y - cells * 0.5) ** 2) / 3)
    contrast = np.zeros_like(values) if empty else values - values[:, ::-1]
    strength = values.astype(np.float32)
    return HeatMap(strength, strength, empty, Pose.of(box), contrast.astype(np.float32))


SHARES = (0.021, 0.0512345, 0.18, 0.7077655, 0.04)
WHERE = Attention(
    KLGrade.KL2,
    1.5,
    {"medial compartment": 1.1, "lateral compartment": 0.3, "soft tissue": 0.2, "constant": -0.1},
    0.87,
    KLGrade.KL3,
    -0.12,
)
RIGHT = Finding(Laterality.RIGHT, LateralitySource.POSITION, (100, 300, 500, 700), KLGrade.KL3, SHARES, attention=WHERE)
LEFT = Finding(
    Laterality.LEFT,
    LateralitySource.POSITION,
    (700, 300, 1100, 700),
    KLGrade.KL1,
    (0.1, 0.6, 0.2, 0.06, 0.04),
    attention=WHERE,
)
UNKNOWN = Finding(
    Laterality.UNKNOWN,
    LateralitySource.NONE,
    (100, 300, 500, 700),
    KLGrade.KL0,
    (0.9, 0.04, 0.03, 0.02, 0.01),
    attention=WHERE,
)
EMPTY = Finding(
    Laterality.RIGHT, LateralitySource.IMAGE_LATERALITY, (100, 300, 500, 700), KLGrade.KL3, SHARES, empty_map=True
)
SURE = replace(RIGHT, certainty=Certainty(KLGrade.KL3, KLGrade.KL3, 0.9))
UNSURE = replace(RIGHT, certainty=Certainty(KLGrade.KL1, KLGrade.KL3, 0.9, spread=0.2345))
UNDECIDED = Finding(
    Laterality.LEFT,
    LateralitySource.POSITION,
    LEFT.box,
    KLGrade.KL2,
    (0.08, 0.42, 0.41, 0.06, 0.03),
    certainty=Certainty(KLGrade.KL0, KLGrade.KL4, 0.9, undecided=(KLGrade.KL1, KLGrade.KL2), spread=0.5),
)
"""Between KL 1 and KL 2; the grade that is given is not the most probable one."""
CUT_OFF = Finding(Laterality.LEFT, LateralitySource.POSITION, (900, 300, 1300, 700), reason=reason("JOINT_CUT_OFF"))


def reading(*knees: Finding, refused: str = "", model: ModelIdentity = CARD, notes: tuple[str, ...] = ()) -> Reading:
    """A reading of those knees, or a refusal of the film with that code."""
    outcome = Outcome.NOT_ANALYSED if refused else Outcome.GRADED
    why = reason(refused) if refused else None
    return Reading(SOURCE_UID, outcome, model, knees=knees, reason=why, notes=notes)


READINGS = {
    "graded": reading(RIGHT),
    "two knees": reading(RIGHT, LEFT),
    "mixed": reading(RIGHT, CUT_OFF),
    "side unknown": reading(UNKNOWN),
    "empty map": reading(EMPTY),
    "sure": reading(SURE),
    "unsure": reading(UNSURE, UNDECIDED),
    "no knee": reading(refused="NOT_A_KNEE"),
    "blank": reading(refused="BLANK"),
}


def results_of(
    of: Dataset, what: Reading, *, card: ModelIdentity = CARD, sr_class: str = "comprehensive", at: datetime = MADE_AT
) -> dict[str, ResultInstance]:
    """The objects of a film with that header and reading, by kind."""
    maps = [heat(Box(*knee.box), empty=knee.empty_map) if knee.grade is not None else None for knee in what.knees]
    instances = report(film(of, notes=what.notes), what, maps, card, sr_class=sr_class, made_at=at)
    return {instance.kind: instance for instance in instances}


def result_list(
    of: Dataset,
    what: Reading,
    *,
    kinds: Collection[str],
    card: ModelIdentity = CARD,
    **more: Any,
) -> list[ResultInstance]:
    """The objects of those kinds, in the order of creation."""
    maps = [heat(Box(*knee.box), empty=knee.empty_map) if knee.grade is not None else None for knee in what.knees]
    shown = film(of, notes=what.notes)
    wanted = cast("Collection[ObjectKind]", kinds)
    return report(shown, what, maps, card, sr_class="comprehensive", made_at=MADE_AT, kinds=wanted, **more)


def dciodvfy(instance: ResultInstance, folder: Path) -> list[str]:
    """
    What dciodvfy says against the object, Debian's edition and this year's, but for what they cannot know.

    They do not know the private scheme, nor that Contributing Equipment may have a Device UID (PS3.3 C.12.1
    has it; their tables are older). What a DICOMDIR would need and the source lacks, we must not invent.
    """
    path = folder / f"{instance.kind}.dcm"
    path.write_bytes(instance.encode())
    editions = (program_path("dciodvfy"), str(Path(sys.executable).with_name("dciodvfy")))
    runs = [
        subprocess.run([str(command), str(path)], capture_output=True, text=True, timeout=60) for command in editions
    ]
    lines = [line for run in runs for line in run.stderr.splitlines() if re.match("Error|Warning", line)]
    unknown = (f"<{SCHEME}>", f"<{SCHEME_UID}>", "UI Device UID", "this is a Standard Extended SOP Class", "DICOMDIR")
    return [line for line in lines if line.startswith("Error") or not any(known in line for known in unknown)]
