"""
The heat maps as a Segmentation: three bands of strength for each knee, which a viewer can switch and fade.

It is BINARY, on the film's own grid, with a Plane Orientation along the film's edges (OHIF needs one, Orthanc's preview
fails without), with Pixel Measures even where the film has no spacing (OHIF shows a blank page without), and without
Frame of Reference, which a projection does not have. The bands do not overlap, so a viewer's opacity means the same
everywhere. A map below the lowest band has no segment, and without any segment there is no Segmentation.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import highdicom as hd
import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from pydicom.uid import SegmentationStorage
from pydicom.valuerep import format_number_as_ds

from node.finding import Finding, Laterality
from node.uids import derived_uid
from workers.preprocessing import Box
from workers.report import codes
from workers.report.clean_source import add_missing, clean_source, highdicom_arguments, set_dimension_uid
from workers.report.content import ResultContent
from workers.report.identity import copy_attributes
from workers.report.layout.colours import Bytes
from workers.report.layout.contours import LEVELS
from workers.report.layout.rendering import strength_on_film
from workers.report.layout.wording import KNEE_LABELS
from workers.report.provenance import MANUFACTURER, ascii_only, code_item, object_uid
from workers.report.source import set_lossy_compression, viewer_spacing
from workers.report.tracking import knee_tracking

SERIES_NUMBER = 9030
BANDS = (("25-50 %", *LEVELS[:2]), ("50-75 %", *LEVELS[1:]), ("over 75 %", LEVELS[2], np.inf))
"""Name, lowest strength (inclusive) and upper limit (exclusive) of each band."""
BAND_COLOURS = ((46.0, 43.0, 18.0), (65.0, 45.0, 60.0), (88.0, -2.0, 65.0))
"""CIELab of each band, from dark red to light yellow, as on the pages."""

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Segment:
    """A band of a knee: its mask is (rows of the film from `top` on, all columns), `box` contains the joint."""

    knee_number: int
    knee: Finding
    band: int
    top: int
    mask: Mask
    box: Box


def segmentation(content: ResultContent) -> Dataset | None:
    """The Segmentation of a film; None if none of its maps reaches the lowest band."""
    segments = list(_segments(content))
    if not segments:
        return None
    header, card = content.header, content.card
    uid = object_uid("SEG", content.reading, card)
    ds = content.new_data_set(
        SegmentationStorage, uid, SERIES_NUMBER, "Genu KL attention (AI, NOT FOR PRIMARY DIAGNOSIS)"
    )
    add_missing(_build_with_highdicom(content, segments, uid), ds)
    set_dimension_uid(ds, derived_uid("dimensions", uid))
    copy_attributes(header, ("PatientOrientation",), ds)
    if "PatientOrientation" not in ds:
        ds.PatientOrientation = None
    set_lossy_compression(header, ds)
    orientation = Dataset()
    orientation.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    shared = ds.SharedFunctionalGroupsSequence[0]
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [orientation], [_pixel_measures(header)]
    for item, segment in zip(ds.SegmentSequence, segments, strict=True):
        _set_laterality(item, segment.knee)
    ds.Rows, ds.Columns = content.film.pixels.shape
    ds.SegmentsOverlap = "YES" if _boxes_overlap(segments) else "NO"
    ds.PixelData = pack_bits(segments, ds.Rows, ds.Columns)
    ds["PixelData"].VR = "OB"
    return ds


def _pixel_measures(header: Dataset) -> Dataset:
    """
    The film's spacing, as viewers use it; 1 where it has none, since highdicom and OHIF read no segments without.

    The slice thickness has no meaning for a projection.
    """
    measures = Dataset()
    measures.SliceThickness = 1
    measures.PixelSpacing = [format_number_as_ds(distance) for distance in viewer_spacing(header) or (1.0, 1.0)]
    return measures


def _segments(content: ResultContent) -> Iterator[Segment]:
    rows, columns = content.film.pixels.shape
    for number, knee in enumerate(content.knees, start=1):
        if knee.heat_map is None or knee.heat_map.empty:
            continue
        top, strength = strength_on_film(knee.heat_map, columns, rows)
        for band, (_, lower, upper) in enumerate(BANDS):
            mask = (strength >= lower) & (strength < upper)
            if mask.any():
                yield Segment(number, knee.finding, band, top, mask, knee.heat_map.pose.around)


def pack_bits(segments: list[Segment], rows: int, columns: int) -> bytes:
    """One bit per pixel, frames without a gap between them, the lowest bit first (PS3.5 8.1.1, D)."""
    length = -(-len(segments) * rows * columns // 8)
    content: Bytes = np.zeros(length + length % 2, np.uint8)
    for number, segment in enumerate(segments):
        first_bit = number * rows * columns + segment.top * columns
        bits = np.concatenate([np.zeros(first_bit % 8, bool), segment.mask.ravel()])
        packed = np.packbits(bits, bitorder="little")
        content[first_bit // 8 : first_bit // 8 + len(packed)] |= packed
    return content.tobytes()


def _build_with_highdicom(content: ResultContent, segments: list[Segment], uid: str) -> Dataset:
    """The Segmentation as highdicom builds it, with these segments on an image of one pixel for each."""
    count = len(segments)
    pixels = np.eye(count, dtype=np.uint8)[None, None]
    return hd.seg.Segmentation(
        [clean_source(content.header, 1, count)],
        pixels,
        hd.seg.SegmentationTypeValues.BINARY,
        [_description(number, segment, content) for number, segment in enumerate(segments, start=1)],
        content_label="GENU_ATTENTION",
        content_description="Grad-CAM of the KL grade in bands of strength",
        **highdicom_arguments(content.card, uid, SERIES_NUMBER),
    )


def _description(number: int, segment: Segment, content: ResultContent) -> hd.seg.SegmentDescription:
    card, finding = content.card, segment.knee
    name, uid = knee_tracking(content.header, finding, segment.knee_number)
    return hd.seg.SegmentDescription(
        segment_number=number,
        segment_label=f"{KNEE_LABELS[finding.laterality]}, attention {BANDS[segment.band][0]}",
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
        display_color=hd.color.CIELabColor(*BAND_COLOURS[segment.band]),
    )


def _set_laterality(item: Dataset, knee: Finding) -> None:
    if knee.laterality is not Laterality.UNKNOWN:
        item.AnatomicRegionSequence[0].AnatomicRegionModifierSequence = [code_item(codes.LATERALITIES[knee.laterality])]


def _boxes_overlap(segments: list[Segment]) -> bool:
    """Whether the boxes of two knees overlap, so that their bands may share a pixel; bands of one knee never do."""
    boxes = {segment.knee_number: segment.box for segment in segments}
    first, *others = boxes.values()
    return any(
        min(first.x1, box.x1) > max(first.x0, box.x0) and min(first.y1, box.y1) > max(first.y0, box.y0)
        for box in others
    )
