"""Real knees beside the checkout, wrapped as DX. Tests that need them are skipped by name where they are absent."""

import csv

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from pydicom import Dataset

from node.finding import Laterality
from tests.paths import DATA
from workers.phantom import Header, KneeShape, as_dx, render

KNEES = DATA / "knees"

needs_not_knees = pytest.mark.skipif(not (DATA / "not_knees").is_dir(), reason="../shared/data/not_knees is absent")
needs_knees = pytest.mark.skipif(not (KNEES / "labels.csv").is_file(), reason="../shared/data/knees is absent")


def some_knees(split: str, count: int, *, kl: int | None = None) -> list[dict[str, str]]:
    """Rows of labels.csv, those with bright bones, in a fixed order."""
    with (KNEES / "labels.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == split and row["inverted"] == "0"]
    rows = [row for row in rows if kl is None or int(row["kl"]) == kl]
    return rows[:: max(1, len(rows) // count)][:count]


def pixels(row: dict[str, str]) -> npt.NDArray[np.uint8]:
    """The crop as it is stored, 8-bit grey, as displayed."""
    read = cv2.imread(str(KNEES / row["path"]), cv2.IMREAD_GRAYSCALE)
    assert read is not None
    return read.astype(np.uint8)


def wrapped(row: dict[str, str], *, uid: str) -> Dataset:
    """A real knee as a 12-bit DX for presentation with an invented patient."""
    side = Laterality(row["side"])
    template = render([KneeShape(side)], rows=299, columns=299, spacing_mm=0.34, marker=False, collimation=False)
    dataset = as_dx(template, Header(sop_instance_uid=uid))
    dataset.PixelData = (pixels(row).astype(np.uint16) * 16).tobytes()
    dataset.WindowCenter, dataset.WindowWidth = 2048, 4096
    return dataset
