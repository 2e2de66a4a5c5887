"""
The heat maps as a Segmentation: three bands of strength for each knee, to be switched and faded in a viewer.

BINARY, on the film's own grid, with the film's edge as Plane Orientation (OHIF asks for one, Orthanc's preview
breaks off without), Pixel Measures even where the film has no spacing to put there (OHIF blanks its page without), and
no Frame of Reference, which a projection has none of. The bands do not overlap, so that a viewer's opacity means the
same everywhere. Where a map stays below the lowest band there is no segment, and where no map reaches it there is no
Segmentation.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import highdicom as hd
import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from pydicom.uid import SegmentationStorage
from pydicom.valuerep import format_number_as_ds

from node.finding import Finding, Laterality, ModelIdentity
from node.uids import derived_uid
from workers.preprocessing import Box
from workers.report import codes
from workers.report.clean_source import adopt, equipment, stand_in
from workers.report.content import Answer
from workers.report.identity import copy_attributes
from workers.report.layout.colours import Bytes
from workers.report.layout.contours import LEVELS
from workers.report.layout.rendering import on_grid
from workers.report.layout.wording import SIDES
from workers.report.provenance import MANUFACTURER, ascii_only, code_item, object_uid, result
from workers.report.source import lossy_history, spacing_shown
from workers.report.tracking import tracking

SERIES_NUMBER = 9030
BANDS = (("25-50 %", *LEVELS[:2]), ("50-75 %", *LEVELS[1:]), ("over 75 %", LEVELS[2], np.inf))
"""Name, and the strengths from and below which a pixel belongs to it."""
COLOURS = ((46.0, 43.0, 18.0), (65.0, 45.0, 60.0), (88.0, -2.0, 65.0))
"""CIELab of each band, from dark red to light yellow, as the maps are coloured in the pictures."""

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Segment:
    """A band of a knee: its pixels, (rows of the film from `top` on, all columns)."""

    place: int
    knee: Finding
    band: int
    top: int
    mask: Mask
    around: Box


def segmentation(answer: Answer) -> Dataset | None:
    """The Segmentation of a film; None if no map of it reaches the lowest band."""
    segments = list(_segments(answer))
    if not segments:
        return None
    header, card = answer.header, answer.card
    uid = object_uid("SEG", answer.reading, card)
    made = result(header, card, sop_class=SegmentationStorage, sop_instance_uid=uid, made_at=answer.made_at, utf8=False)
    made.SeriesNumber = SERIES_NUMBER
    made.SeriesDescription = "Genu KL attention (AI, NOT FOR PRIMARY DIAGNOSIS)"
    adopt(_built(answer, segments, uid), made)
    named_dimensions(made, derived_uid("dimensions", uid))
    copy_attributes(header, ("PatientOrientation",), made)
    if "PatientOrientation" not in made:
        made.PatientOrientation = None
    lossy_history(header, made)
    orientation = Dataset()
    orientation.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    shared = made.SharedFunctionalGroupsSequence[0]
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [orientation], [_measures(header)]
    for item, segment in zip(made.SegmentSequence, segments, strict=True):
        _side(item, segment.knee)
    made.Rows, made.Columns = answer.film.pixels.shape
    made.SegmentsOverlap = "YES" if _overlap(segments) else "NO"
    made.PixelData = packed(segments, made.Rows, made.Columns)
    made["PixelData"].VR = "OB"
    return made


def _measures(header: Dataset) -> Dataset:
    """
    The film's spacing, as viewers take it; 1 where it has none, since highdicom and OHIF read no segments without.

    A thickness says nothing of a projection.
    """
    measures = Dataset()
    measures.SliceThickness = 1
    measures.PixelSpacing = [format_number_as_ds(each) for each in spacing_shown(header) or (1.0, 1.0)]
    return measures


def _segments(answer: Answer) -> Iterator[Segment]:
    rows, columns = answer.film.pixels.shape
    for place, row in enumerate(answer.rows, start=1):
        if row.heat_map is None or row.heat_map.empty:
            continue
        top, strength = on_grid(row.heat_map, columns, rows)
        for band, (_, least, below) in enumerate(BANDS):
            mask = (strength >= least) & (strength < below)
            if mask.any():
                yield Segment(place, row.finding, band, top, mask, row.heat_map.pose.around)


def packed(segments: list[Segment], rows: int, columns: int) -> bytes:
    """One bit a pixel, frame after frame without a gap between them, the lowest bit first (PS3.5 8.1.1, D)."""
    length = -(-len(segments) * rows * columns // 8)
    content: Bytes = np.zeros(length + length % 2, np.uint8)
    for number, segment in enumerate(segments):
        first = number * rows * columns + segment.top * columns
        bits = np.concatenate([np.zeros(first % 8, bool), segment.mask.ravel()])
        here = np.packbits(bits, bitorder="little")
        content[first // 8 : first // 8 + len(here)] |= here
    return content.tobytes()


def _built(answer: Answer, segments: list[Segment], uid: str) -> Dataset:
    """What highdicom makes of as many segments on an image that has one pixel for each."""
    count, card = len(segments), answer.card
    pixels = np.eye(count, dtype=np.uint8)[None, None]
    return hd.seg.Segmentation(
        [stand_in(answer.header, 1, count)],
        pixels,
        hd.seg.SegmentationTypeValues.BINARY,
        [_description(number, each, answer) for number, each in enumerate(segments, start=1)],
        series_instance_uid=derived_uid("series", uid),
        series_number=SERIES_NUMBER,
        sop_instance_uid=uid,
        instance_number=1,
        content_label="GENU_ATTENTION",
        content_description="Grad-CAM of the KL grade in bands of strength",
        **_maker(card),
    )


def _maker(card: ModelIdentity) -> Any:  # highdicom has no types
    return equipment(card)


def _description(number: int, segment: Segment, answer: Answer) -> hd.seg.SegmentDescription:
    card, finding = answer.card, segment.knee
    name, uid = tracking(answer.header, finding, segment.place)
    return hd.seg.SegmentDescription(
        segment_number=number,
        segment_label=f"{SIDES[finding.laterality]}, attention {BANDS[segment.band][0]}",
        segmented_property_category=codes.SPATIAL_CONCEPT,
        segmented_property_type=codes.GRAD_CAM,
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=hd.AlgorithmIdentificationSequence(
            name=ascii_only(card.name)[:64],
            family=codes.ARTIFICIAL_INTELLIGENCE,
            version=ascii_only(card.version)[:64],
            source=MANUFACTURER,
            parameters={"weights sha256": card.sha256},
        ),
        tracking_uid=uid,
        tracking_id=name,
        anatomic_regions=[codes.KNEE_JOINT],
        display_color=hd.color.CIELabColor(*COLOURS[segment.band]),
    )


def _side(item: Dataset, knee: Finding) -> None:
    if knee.laterality is not Laterality.UNKNOWN:
        item.AnatomicRegionSequence[0].AnatomicRegionModifierSequence = [code_item(codes.SIDES[knee.laterality])]


def _overlap(segments: list[Segment]) -> bool:
    """Whether bands of two knees share a pixel; those of one never do."""
    knees = {each.place: each.around for each in segments}
    first, *more = knees.values()
    return any(
        min(first.x1, box.x1) > max(first.x0, box.x0) and min(first.y1, box.y1) > max(first.y0, box.y0) for box in more
    )


def named_dimensions(made: Dataset, uid: str) -> None:
    """The organisation of the frames' dimensions has this UID, where highdicom invents one each time."""
    for item in [*made.get("DimensionOrganizationSequence", ()), *made.get("DimensionIndexSequence", ())]:
        item.DimensionOrganizationUID = uid
