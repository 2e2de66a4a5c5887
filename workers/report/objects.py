"""
The answer as DICOM objects: pictures to look at, a report to read by machine, and what else the settings ask for.

Identity from the source, content from the rooms beside this one, put together here. The same film, reading, model
and time of making give the same bytes.
"""

import io
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydicom.dataset import Dataset

from node.finding import ModelIdentity, Outcome, Reading
from node.settings import DEFAULT_OBJECTS, ObjectKind
from node.single_frames import single_frames
from workers.read import Film
from workers.report.content import Answer
from workers.report.identity import must_have_references, text_of
from workers.report.key_object import has_red_flag, key_object
from workers.report.layout.wording import Heat
from workers.report.parametric_map import parametric_map
from workers.report.pdf import encapsulated_pdf
from workers.report.presentation_state import presentation_state
from workers.report.private_json import carry
from workers.report.secondary_capture import LONG_SIDE, draw, multi_frame
from workers.report.segmentation import segmentation
from workers.report.structured_report.document import structured_report
from workers.report.structured_report.predecessor import Predecessor

UNREPORTED = ("OWN_OBJECT", "NOT_AN_IMAGE", "NOT_A_RADIOGRAPH", "FOR_PROCESSING")
"""
Of these a report is never made, whatever the settings say: own objects would come back and be reported again, and a
study of 300 CT slices, or the raw data beside each film, would be answered with as many reports that help nobody.
"""


@dataclass(frozen=True)
class MadeObject:
    """A DICOM object that was made for a radiograph."""

    kind: ObjectKind
    dataset: Dataset

    @property
    def sop_instance_uid(self) -> str:
        return str(self.dataset.SOPInstanceUID)

    @property
    def sop_class_uid(self) -> str:
        return str(self.dataset.SOPClassUID)

    suffix = "dcm"

    @property
    def transfer_syntax_uid(self) -> str:
        return str(self.dataset.file_meta.TransferSyntaxUID)

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
    kinds: Collection[ObjectKind] = DEFAULT_OBJECTS,
    long_side: int = LONG_SIDE,
    is_red: Callable[[Reading], bool] = has_red_flag,
    replaces: Predecessor | None = None,
) -> list[MadeObject]:
    """
    The objects of one film, of the `kinds` that someone wants: where no knee was graded, the report alone.

    `heat_maps` are those of reading.knees, in their order, None for a knee that was not graded. `made_at`
    is fixed by the caller (not "now"), so that a second attempt makes the same objects. `long_side` is the
    height of a page in pixels. `is_red` decides whether a Key Object Selection marks the film. `replaces` is the
    report of before, which the new one names.

    Raises
    ------
    Permanent
        IDENTITY_MISSING, if the source lacks a UID without which a result cannot be filed.
    """
    if not _is_reported(film.header, reading):
        return []
    answer = Answer(film, reading, heat_maps, card, made_at)
    pictures = list(_pictures(answer, kinds, long_side)) if answer.graded else []
    over = list(_over_the_film(answer, kinds)) if answer.graded else []
    said: list[MadeObject] = []
    if "SR" in kinds:
        beside = [each.dataset for each in (*pictures, *over)]
        asked = {"sr_class": sr_class, "made_at": made_at, "replaces": replaces, "beside": beside}
        said.append(_told(film.header, film.pixels.shape, reading, card, **asked))
    if "KO" in kinds and is_red(reading):
        said.append(MadeObject("KO", key_object(answer)))
    return [*pictures, *said, *over]


def _pictures(answer: Answer, kinds: Collection[ObjectKind], long_side: int) -> Iterator[MadeObject]:
    """The pages in the forms that are wanted, drawn once."""
    if not {"SC", "SC1", "PDF"} & set(kinds):
        return
    drawn = draw(answer, long_side)
    paged = multi_frame(answer, drawn)
    carry(paged, answer.reading, answer.card)
    if "SC" in kinds:
        yield MadeObject("SC", paged)
    if "SC1" in kinds:
        yield from (MadeObject("SC1", each) for each in single_frames(paged))
    if "PDF" in kinds:
        yield MadeObject("PDF", encapsulated_pdf(answer, drawn))


def _over_the_film(answer: Answer, kinds: Collection[ObjectKind]) -> Iterator[MadeObject]:
    """What viewers lay over the film."""
    if "SEG" in kinds and (bands := segmentation(answer)) is not None:
        carry(bands, answer.reading, answer.card)
        yield MadeObject("SEG", bands)
    if "PR" in kinds:
        yield MadeObject("PR", presentation_state(answer))
    if "PM" in kinds and (numbers := parametric_map(answer)) is not None:
        yield MadeObject("PM", numbers)


def refusal(
    header: Dataset,
    reading: Reading,
    card: ModelIdentity,
    *,
    sr_class: str,
    made_at: datetime,
    replaces: Predecessor | None = None,
) -> list[MadeObject]:
    """
    The report alone; it needs no more than the header, for a film that cannot be read.

    Nothing is reported of failures, which a person will mend, and of objects that Genu itself has made.
    """
    if not _is_reported(header, reading):
        return []
    shape = _count(header, "Rows"), _count(header, "Columns")
    return [_told(header, shape, reading, card, sr_class=sr_class, made_at=made_at, replaces=replaces)]


def _told(header: Dataset, shape: tuple[int, int], reading: Reading, card: ModelIdentity, **asked: Any) -> MadeObject:
    """The report, with the answer in its private attribute."""
    made = structured_report(header, shape, reading, card, **asked)
    carry(made, reading, card)
    return MadeObject("SR", made)


def _is_reported(header: Dataset, reading: Reading) -> bool:
    """Whether anything may be made of it. Raises Permanent(IDENTITY_MISSING) if it may and cannot be filed."""
    if reading.outcome is Outcome.FAILED or (reading.reason is not None and reading.reason.code in UNREPORTED):
        return False
    must_have_references(header)
    return True


def _count(header: Dataset, keyword: str) -> int:
    told = text_of(header, keyword)
    return max(int(told), 1) if told.isdigit() else 1
