"""Results with pending deliveries, in a real vault and a real ledger, for the tests of delivery."""

import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    UID,
    ComprehensiveSRStorage,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
    generate_uid,
)

from node.ledger import Ledger, ResultObject, State
from node.radiograph import Radiograph
from node.storage import Vault

CLASSES = {"SC": SecondaryCaptureImageStorage, "SR": ComprehensiveSRStorage, "SEG": SegmentationStorage}


def instance(kind: str, *, side: int = 32, seed: int = 0, sop_class: str = "") -> Dataset:
    """Return a small Secondary Capture or Structured Report with all that storing one needs."""
    dataset = Dataset()
    dataset.SOPClassUID = UID(sop_class or CLASSES[kind])
    dataset.SOPInstanceUID = generate_uid()
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = generate_uid(), generate_uid()
    dataset.PatientName, dataset.PatientID = "Knee^Test", "T1"
    dataset.PatientBirthDate = dataset.PatientSex = dataset.StudyDate = dataset.StudyTime = ""
    dataset.StudyID = dataset.AccessionNumber = dataset.ReferringPhysicianName = ""
    dataset.SeriesNumber = dataset.InstanceNumber = 1
    dataset.Modality = {"SC": "OT", "SR": "SR", "SEG": "SEG"}[kind]
    if kind == "SC":
        dataset.ConversionType = "WSD"
        dataset.Rows = dataset.Columns = side
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PlanarConfiguration = 3, "RGB", 0
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 8, 8, 7, 0
        noise = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
        dataset.PixelData = noise.tobytes() + b"\0" * (side * side * 3 % 2)
    elif kind == "SR":
        dataset.ValueType, dataset.ContinuityOfContent = "CONTAINER", "SEPARATE"
        dataset.CompletionFlag, dataset.VerificationFlag = "COMPLETE", "UNVERIFIED"
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return dataset


def encoded(dataset: Dataset) -> bytes:
    """Return the Part 10 file."""
    file = io.BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()


@dataclass(frozen=True)
class Pending:
    """The objects of one radiograph whose deliveries are pending."""

    source_uid: str
    sc: str
    sr: str


def add_pending(
    ledger: Ledger,
    vault: Vault,
    destinations: Sequence[str] | Mapping[str, Sequence[str]],
    *,
    side: int = 32,
    kinds: Sequence[str] = ("SC", "SR"),
    datasets: Mapping[str, Dataset] | None = None,
) -> Pending:
    """Record a radiograph and deliveries of its objects of `kinds`: `datasets`, or small ones. Return the UIDs."""
    kinds_by_destination = destinations if isinstance(destinations, Mapping) else dict.fromkeys(destinations, kinds)
    source = generate_uid()
    sha256 = hashlib.sha256(source.encode()).hexdigest()
    ledger.record_received(
        Radiograph(
            sop_instance_uid=source,
            sop_class_uid=DigitalXRayImageStorageForPresentation,
            transfer_syntax_uid=ExplicitVRLittleEndian,
            sha256=sha256,
            size=1,
            calling_ae_title="MODALITY",
            calling_host="127.0.0.1",
            received_at=datetime.now(UTC),
        )
    )
    assert ledger.claim(source, "tests", lease_seconds=60, attempts=3) is not None
    objects = []
    for kind in kinds:
        dataset = datasets[kind] if datasets else instance(kind, side=side, seed=int(sha256[:8], 16))
        content, name = encoded(dataset), f"{kind.lower()}.dcm"
        vault.write_result(source, name, content)
        found = hashlib.sha256(content).hexdigest()
        syntax = str(dataset.file_meta.TransferSyntaxUID)
        objects.append(
            ResultObject(kind, str(dataset.SOPClassUID), str(dataset.SOPInstanceUID), syntax, name, found)  # type: ignore[arg-type]
        )
    assert ledger.report(source, "tests", {"outcome": "graded"}, objects, kinds_by_destination)
    return Pending(source, objects[0].sop_instance_uid, objects[1].sop_instance_uid)


def delivered(ledger: Ledger, *radiographs: Pending) -> bool:
    """Return whether the radiographs are DELIVERED."""
    entries = [ledger.find(pending.source_uid) for pending in radiographs]
    return all(entry is not None and entry.state == State.DELIVERED for entry in entries)


def file_of(vault: Vault, pending: Pending, kind: str) -> Path:
    """Return the path of the result in the vault."""
    return vault.results_folder(pending.source_uid) / f"{kind.lower()}.dcm"
