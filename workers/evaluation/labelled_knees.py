"""Labelled crops of single knees on disk, laid out as a folder with a labels.csv, and their split by patient."""

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from node.errors import GenuError
from workers.preprocessing import Grey


class LabelsError(GenuError):
    """A folder of labelled knees cannot be used; the message names the line and the cause."""


@dataclass(frozen=True)
class LabelledKnee:
    """One labelled knee: image file, patient, side ("L" or "R"), KL grade, split, and whether its bones are dark."""

    path: Path
    patient: str
    side: str
    kl: int
    split: str
    inverted: bool

    def read(self) -> Grey:
        """The knee as a right one with bright bones, (rows, columns), 0 to 1."""
        return normalised(self._stored(), inverted=self.inverted, left=self.side == "L")

    def as_displayed(self) -> Grey:
        """The knee with bright bones, not mirrored: (rows, columns), 0 to 1."""
        return normalised(self._stored(), inverted=self.inverted, left=False)

    def _stored(self) -> Grey:
        stored = cv2.imread(str(self.path), cv2.IMREAD_GRAYSCALE)
        if stored is None:
            raise LabelsError(
                f"{self.path} is not an image that can be read",
                hint="only `genu calibrate` reads DICOM films",
            )
        return stored.astype(np.float32) / np.float32(255)


def normalised(knee: Grey, *, inverted: bool, left: bool) -> Grey:
    """Bones bright, and a left knee mirrored to a right one: the input that every grader is trained with."""
    knee = 1 - knee if inverted else knee
    return np.ascontiguousarray(knee[:, ::-1]) if left else knee


def read_labels(folder: Path, split: str | None = None) -> list[LabelledKnee]:
    """
    Read labels.csv of `folder` (path, patient, side, kl; split and inverted are optional).

    Raises
    ------
    LabelsError
        If it is absent, a line cannot be read, or one patient is in two splits: the two knees of a patient
        resemble each other, so figures of one after training on the other are too good.
    """
    table = folder / "labels.csv"
    if not table.is_file():
        raise LabelsError(f"{table} does not exist; name a folder that holds labels.csv and the images it lists")
    with table.open(newline="", encoding="utf-8-sig") as rows:
        knees = [_knee(folder, line, row) for line, row in enumerate(csv.DictReader(rows), start=2)]
    require_unsplit_patients(knees)
    chosen = [knee for knee in knees if split in (None, knee.split)]
    if not knees:
        raise LabelsError(f"{table} lists no knee")
    if not chosen:
        raise LabelsError(f"{table} lists no knee of split {split!r}; it has {split_names(knees)}")
    return chosen


def _knee(folder: Path, line: int, row: dict[str, str]) -> LabelledKnee:
    try:
        side, kl = row["side"].strip().upper(), int(row["kl"])
        if side not in ("L", "R") or kl not in range(5):
            raise ValueError(f"side {side!r} must be L or R and kl {kl} must be 0 to 4")
        inverted = row.get("inverted", "0").strip() == "1"
        return LabelledKnee(folder / row["path"], row["patient"], side, kl, (row.get("split") or "").strip(), inverted)
    except KeyError as error:
        raise LabelsError(f"{folder / 'labels.csv'} has no column {error}; columns are separated by commas") from error
    except (ValueError, AttributeError) as error:
        raise LabelsError(f"{folder / 'labels.csv'}, line {line}: {error}") from error


def both_knees(knees: Sequence[LabelledKnee]) -> list[tuple[LabelledKnee, LabelledKnee]]:
    """The right and the left knee of every patient who has both."""
    sides: dict[str, dict[str, LabelledKnee]] = {}
    for knee in knees:
        sides.setdefault(knee.patient, {})[knee.side] = knee
    return [(both["R"], both["L"]) for both in sides.values() if len(both) == 2]


def split_names(knees: Iterable[LabelledKnee]) -> list[str]:
    """The names of the splits that occur."""
    return sorted({knee.split for knee in knees})


def require_unsplit_patients(knees: Iterable[LabelledKnee]) -> None:
    """Raise LabelsError if the knees of one patient lie in more than one split."""
    splits: dict[str, set[str]] = {}
    for knee in knees:
        splits.setdefault(knee.patient, set()).add(knee.split)
    divided = sorted(patient for patient, found in splits.items() if len(found) > 1)
    if divided:
        raise LabelsError(f"{len(divided)} patients are in more than one split (first: {divided[0]}); split by patient")


def grade_counts(knees: Sequence[LabelledKnee]) -> list[int]:
    """How many knees there are of each grade, KL 0 to KL 4."""
    return [int(count) for count in np.bincount(true_grades(knees), minlength=5)]


def true_grades(knees: Sequence[LabelledKnee]) -> npt.NDArray[np.int64]:
    """The readers' grade of each knee, (n,)."""
    return np.array([knee.kl for knee in knees], np.int64)
