"""
The result of a film as DICOM objects: pages as pictures, a Structured Report, and the other kinds that settings enable.

Patient and study are copied from the source. The same film, reading, model and creation time give the same bytes.
"""

import io
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from pydicom.dataset import Dataset

from node.finding import ModelIdentity, Outcome, Reading
from node.settings import DEFAULT_OBJECTS, ObjectKind
from node.single_frames import single_frames
from workers.read import Film
from workers.report.content import ResultContent
from workers.report.identity import require_references, text_of
from workers.report.key_object import has_red_flag, key_object
from workers.report.layout.wording import DrawableHeatMap
from workers.report.parametric_map import parametric_map
from workers.report.pdf import encapsulated_pdf
from workers.report.presentation_state import presentation_state
from workers.report.private_json import embed_json
from workers.report.secondary_capture import LONG_SIDE, content_pages, multi_frame
from workers.report.segmentation import segmentation
from workers.report.structured_report.document import structured_report
from workers.report.structured_report.predecessor import Predecessor

NEVER_REPORTED = ("OWN_OBJECT", "NOT_AN_IMAGE", "NOT_A_RADIOGRAPH", "FOR_PROCESSING")
"""
Reasons for which no report is created, whatever the settings: own objects would come back and be reported again, and a
study of 300 CT slices, or the raw data beside each film, would cause as many useless reports.
"""


@dataclass(frozen=True)
class ResultInstance:
    """A DICOM object that was created for a radiograph."""

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
    heat_maps: Sequence[DrawableHeatMap | None],
    card: ModelIdentity,
    *,
    sr_class: str,
    made_at: datetime,
    kinds: Collection[ObjectKind] = DEFAULT_OBJECTS,
    long_side: int = LONG_SIDE,
    is_red: Callable[[Reading], bool] = has_red_flag,
    replaces: Predecessor | None = None,
) -> list[ResultInstance]:
    """
    The result objects of one film, of the `kinds` that a destination wants: the report alone where no knee is graded.

    `heat_maps` are those of reading.knees, in their order, None for a knee that was not graded. The caller fixes
    `made_at` (not "now"), so that a second attempt creates the same objects. `long_side` is the height of a page in
    pixels. `is_red` decides whether a Key Object Selection marks the film. `replaces` is the predecessor that the
    new report names.

    Raises
    ------
    Permanent
        IDENTITY_MISSING, if the source lacks a UID without which a result cannot be filed.
    """
    if not _is_reported(film.header, reading):
        return []
    content = ResultContent(film, reading, heat_maps, card, made_at)
    page_objects = list(_page_objects(content, kinds, long_side)) if content.has_grade else []
    overlays = list(_overlays(content, kinds)) if content.has_grade else []
    results: list[ResultInstance] = []
    if "SR" in kinds:
        related = [instance.dataset for instance in (*page_objects, *overlays)]
        results.append(
            _report_instance(film.header, film.pixels.shape, reading, card, sr_class, made_at, replaces, related)
        )
    if "KO" in kinds and is_red(reading):
        results.append(ResultInstance("KO", key_object(content)))
    return [*page_objects, *results, *overlays]


def _page_objects(content: ResultContent, kinds: Collection[ObjectKind], long_side: int) -> Iterator[ResultInstance]:
    """The pages, drawn once, as each kind of object that is wanted."""
    if not {"SC", "SC1", "PDF"} & set(kinds):
        return
    page_images = content_pages(content, long_side)
    multi_frame_ds = multi_frame(content, page_images)
    embed_json(multi_frame_ds, content.reading, content.card)
    if "SC" in kinds:
        yield ResultInstance("SC", multi_frame_ds)
    if "SC1" in kinds:
        yield from (ResultInstance("SC1", ds) for ds in single_frames(multi_frame_ds))
    if "PDF" in kinds:
        yield ResultInstance("PDF", encapsulated_pdf(content, page_images))


def _overlays(content: ResultContent, kinds: Collection[ObjectKind]) -> Iterator[ResultInstance]:
    """Objects that viewers draw over the film."""
    if "SEG" in kinds and (segments := segmentation(content)) is not None:
        embed_json(segments, content.reading, content.card)
        yield ResultInstance("SEG", segments)
    if "PR" in kinds:
        yield ResultInstance("PR", presentation_state(content))
    if "PM" in kinds and (strengths := parametric_map(content)) is not None:
        yield ResultInstance("PM", strengths)


def report_refusal(
    header: Dataset,
    reading: Reading,
    card: ModelIdentity,
    *,
    sr_class: str,
    made_at: datetime,
    replaces: Predecessor | None = None,
) -> list[ResultInstance]:
    """
    The report alone. It needs no more than the header, so a film that cannot be decoded can have one.

    Failures, which an administrator resolves, and the reasons of NEVER_REPORTED have no report: the list is empty.

    Raises
    ------
    Permanent
        IDENTITY_MISSING, if the source lacks a UID without which a result cannot be filed.
    """
    if not _is_reported(header, reading):
        return []
    shape = _count(header, "Rows"), _count(header, "Columns")
    return [_report_instance(header, shape, reading, card, sr_class, made_at, replaces)]


def _report_instance(
    header: Dataset,
    shape: tuple[int, int],
    reading: Reading,
    card: ModelIdentity,
    sr_class: str,
    made_at: datetime,
    replaces: Predecessor | None,
    related: Sequence[Dataset] = (),
) -> ResultInstance:
    """The report, with the reading as JSON in its private attribute."""
    ds = structured_report(
        header, shape, reading, card, sr_class=sr_class, made_at=made_at, replaces=replaces, related=related
    )
    embed_json(ds, reading, card)
    return ResultInstance("SR", ds)


def _is_reported(header: Dataset, reading: Reading) -> bool:
    """Whether the reading has a report. Raises Permanent(IDENTITY_MISSING) if it has one that cannot be filed."""
    if reading.outcome is Outcome.FAILED or (reading.reason is not None and reading.reason.code in NEVER_REPORTED):
        return False
    require_references(header)
    return True


def _count(header: Dataset, keyword: str) -> int:
    text = text_of(header, keyword)
    return max(int(text), 1) if text.isdigit() else 1
