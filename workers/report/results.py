"""
The answer as DICOM objects: a Secondary Capture to look at, a Structured Report to read by machine.

Identity from the source, picture and report, put together here. The same film, reading, model and time of
making give the same bytes.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from pydicom.dataset import Dataset

from node.finding import ModelIdentity, Outcome, Reading
from workers.read import Film
from workers.report.draw import Row
from workers.report.identity import must_have_references, text_of
from workers.report.secondary_capture import secondary_capture
from workers.report.structured_report import structured_report
from workers.report.view import Heat

UNREPORTED = ("OWN_OBJECT", "NOT_AN_IMAGE", "NOT_A_RADIOGRAPH", "FOR_PROCESSING")
"""
Of these a report is never made, whatever the settings say: own objects would come back and be reported again, and a
study of 300 CT slices, or the raw data beside each film, would be answered with as many reports that help nobody.
"""


@dataclass(frozen=True)
class MadeObject:
    """A DICOM object that was made for a radiograph."""

    kind: Literal["SC", "SR"]
    dataset: Dataset

    @property
    def sop_instance_uid(self) -> str:
        return str(self.dataset.SOPInstanceUID)

    @property
    def sop_class_uid(self) -> str:
        return str(self.dataset.SOPClassUID)

    def encode(self) -> bytes:
        """The object as a DICOM file (PS3.10), explicit VR little endian."""
        stream = io.BytesIO()
        self.dataset.save_as(stream, enforce_file_format=True)
        return stream.getvalue()


def report(
    film: Film,
    reading: Reading,
    heat_maps: Sequence[Heat | None],
    card: ModelIdentity,
    *,
    sr_class: str,
    made_at: datetime,
) -> list[MadeObject]:
    """
    The objects of one film: picture and report where a knee was graded, the report alone where none was.

    `heat_maps` are those of reading.knees, in their order, None for a knee that was not graded. `made_at`
    is fixed by the caller (not "now"), so that a second attempt makes the same objects.

    Raises
    ------
    Permanent
        IDENTITY_MISSING, if the source lacks a UID without which a result cannot be filed.
    """
    made = refusal(film.header, reading, card, sr_class=sr_class, made_at=made_at, shape=film.pixels.shape)
    if made and any(knee.grade is not None for knee in reading.knees):
        # A refused film has no maps; a refused knee on a graded film has none of its own.
        maps = list(heat_maps) or [None] * len(reading.knees)
        rows = [Row(knee, heat_map) for knee, heat_map in zip(reading.knees, maps, strict=True)]
        made.insert(0, MadeObject("SC", secondary_capture(film, reading, rows, card, made_at=made_at)))
    return made


def refusal(
    header: Dataset,
    reading: Reading,
    card: ModelIdentity,
    *,
    sr_class: str,
    made_at: datetime,
    shape: tuple[int, ...] | None = None,
) -> list[MadeObject]:
    """
    The report alone; it needs no more than the header, so a film that cannot be read has one too.

    `shape` (rows, columns) is the header's unless given. Nothing is reported of failures, which a person
    will mend, and of objects that Genu itself has made.
    """
    if reading.outcome is Outcome.FAILED or (reading.reason is not None and reading.reason.code in UNREPORTED):
        return []
    must_have_references(header)
    rows, columns = (shape or (_count(header, "Rows"), _count(header, "Columns")))[:2]
    made = structured_report(header, (rows, columns), reading, card, sr_class=sr_class, made_at=made_at)
    return [MadeObject("SR", made)]


def _count(header: Dataset, keyword: str) -> int:
    told = text_of(header, keyword)
    return max(int(told), 1) if told.isdigit() else 1
