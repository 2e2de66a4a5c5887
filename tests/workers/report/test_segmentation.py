"""The Segmentation: bands of attention on the film's own pixels, whose they are, and that viewers can take it."""

import io
from dataclasses import replace
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from node.finding import Laterality
from tests.peers.archives import needs
from tests.samples.source_films import (
    CARD,
    CUT_OFF,
    DIRTY,
    LEFT,
    MADE_AT,
    READINGS,
    RIGHT,
    dciodvfy,
    film,
    header,
    heat,
    reading,
    results_of,
)
from workers.explanation.grad_cam import HeatMap
from workers.preprocessing import Box, Pose
from workers.report import ResultInstance, report
from workers.report.layout.rendering import resample_strength, strength_on_film


def segmented(
    of: Dataset, *knees: object, rows: int = 1000, columns: int = 1200, factor: float = 1.0
) -> list[ResultInstance]:
    what = reading(*knees)  # type: ignore[arg-type]
    maps = []
    for knee in what.knees:
        strength = (heat().strength * factor).astype(np.float32)
        maps.append(HeatMap(strength, strength, False, Pose.of(Box(*knee.box))) if knee.grade is not None else None)
    shown = film(of, rows=rows, columns=columns)
    return report(shown, what, maps, CARD, sr_class="comprehensive", made_at=MADE_AT, kinds=("SEG",))


def read_back(instance: ResultInstance) -> hd.seg.Segmentation:
    return hd.seg.segread(io.BytesIO(instance.encode()))


@needs("dciodvfy")
@pytest.mark.parametrize("name", ["graded", "two knees", "mixed", "side unknown", "unsure"])
def test_dciodvfy_finds_nothing(name: str, tmp_path: Path) -> None:
    """One knee, two, one refused, side unknown."""
    assert dciodvfy(results_of(header(), READINGS[name])["SEG"], tmp_path) == []


@needs("dciodvfy")
@pytest.mark.parametrize("name", DIRTY)
def test_dirty_sources_have_a_valid_one_too(name: str, tmp_path: Path) -> None:
    """Whatever the modality sent, highdicom never sees it."""
    assert dciodvfy(results_of(DIRTY[name](), READINGS["two knees"])["SEG"], tmp_path) == []


def test_three_bands_of_every_knee_have_the_pixels_of_their_strength() -> None:
    """On the film's grid, every pixel in the band of its strength, and in no other."""
    (made,) = segmented(header(), RIGHT, LEFT)
    seg = read_back(made)
    pixels = seg.pixel_array.astype(bool)
    assert pixels.shape == (6, 1000, 1200)
    assert seg.SegmentsOverlap == "NO"
    for knee, bands in ((RIGHT, pixels[:3]), (LEFT, pixels[3:])):
        x0, y0, x1, y1 = (int(edge) for edge in knee.box)
        strength = resample_strength(heat(Box(*knee.box)), Box(*knee.box), x1 - x0, y1 - y0)
        for band, (least, below) in zip(bands, ((0.25, 0.5), (0.5, 0.75), (0.75, 9)), strict=True):
            assert np.array_equal(band[y0:y1, x0:x1], (strength >= least) & (strength < below))
            assert band.sum() == band[y0:y1, x0:x1].sum()
    assert (pixels.sum(0) <= 1).all()


@pytest.mark.parametrize(("rows", "columns"), [(1000, 1200), (997, 1201), (333, 1203), (64, 67)])
def test_bits_are_packed_without_gaps_on_films_of_any_width(rows: int, columns: int) -> None:
    """A width that is no multiple of eight: frames begin within a byte, and other tools read them right."""
    box = (0.1 * columns, 0.2 * rows, 0.6 * columns, 0.8 * rows)
    (made,) = segmented(header(), replace(RIGHT, box=box), rows=rows, columns=columns)
    back = pydicom.dcmread(io.BytesIO(made.encode()))
    assert len(back.PixelData) % 2 == 0
    pixels = back.pixel_array
    top, strength = strength_on_film(heat(Box(*box)), columns, rows)
    laid = np.zeros((rows, columns), int)
    laid[top : top + len(strength)] = strength >= 0.25
    assert np.array_equal(pixels.sum(0), laid)


def test_a_box_over_the_edge_of_the_film_is_cut_there() -> None:
    """The part beyond has no pixel; the rest is at its place."""
    (made,) = segmented(header(), replace(RIGHT, box=(-80, -40, 400, 440)))
    pixels = read_back(made).pixel_array
    over = Box(-80, -40, 400, 440)
    strength = resample_strength(heat(over), over, 480, 480)[40:, 80:]
    assert np.array_equal(pixels.sum(0)[:440, :400], (strength >= 0.25).astype(int))


def test_segments_name_knee_band_site_and_side_and_share_the_reports_tracking() -> None:
    """What a viewer's list shows, and what ties a segment to the report's group."""
    made = results_of(header(), READINGS["two knees"])
    segments = made["SEG"].dataset.SegmentSequence
    labels = [segment.SegmentLabel for segment in segments]
    assert labels[0] == "Right knee, attention 25-50 %"
    assert labels[-1] == "Left knee, attention over 75 %"
    assert [
        segment.AnatomicRegionSequence[0].AnatomicRegionModifierSequence[0].CodeMeaning for segment in segments
    ] == [
        *["Right"] * 3,
        *["Left"] * 3,
    ]
    assert {segment.SegmentedPropertyTypeCodeSequence[0].CodeValue for segment in segments} == {"130403"}
    tracked = [
        item.UID
        for group in made["SR"].dataset.ContentSequence[-1].ContentSequence
        for item in group.ContentSequence
        if item.ValueType == "UIDREF" and item.ConceptNameCodeSequence[0].CodeValue == "112040"
    ]
    assert [segment.TrackingUID for segment in segments] == [uid for uid in tracked for _ in range(3)]


def test_a_knee_of_unknown_side_has_no_side() -> None:
    """None is invented."""
    made = results_of(header(), READINGS["side unknown"])["SEG"].dataset
    assert "AnatomicRegionModifierSequence" not in made.SegmentSequence[0].AnatomicRegionSequence[0]
    assert made.SegmentSequence[0].SegmentLabel.startswith("Side unknown")


def test_what_viewers_need_is_there() -> None:
    """An orientation (OHIF, Orthanc's preview), no Frame of Reference, the film as source on the same pixels."""
    source = header()
    made = results_of(source, READINGS["two knees"])["SEG"].dataset
    shared = made.SharedFunctionalGroupsSequence[0]
    assert list(shared.PlaneOrientationSequence[0].ImageOrientationPatient) == [1, 0, 0, 0, 1, 0]
    assert "FrameOfReferenceUID" not in made
    assert (made.Rows, made.Columns, made.NumberOfFrames) == (1000, 1200, 6)
    assert made.ReferencedSeriesSequence[0].SeriesInstanceUID == source.SeriesInstanceUID
    assert made.PatientOrientation == source.PatientOrientation
    for frame in made.PerFrameFunctionalGroupsSequence:
        image = frame.DerivationImageSequence[0].SourceImageSequence[0]
        assert image.ReferencedSOPInstanceUID == source.SOPInstanceUID
        assert image.SpatialLocationsPreserved == "YES"


def test_weak_maps_have_fewer_bands_and_none_has_no_object() -> None:
    """One scale for all films: a map that stays below a band has no segment of it."""
    assert [instance.dataset.NumberOfFrames for instance in segmented(header(), RIGHT, factor=0.6)] == [2]
    assert segmented(header(), RIGHT, factor=0.2) == []
    assert "SEG" not in results_of(header(), READINGS["empty map"])
    assert "SEG" not in results_of(header(), READINGS["no knee"])


def test_a_refused_knee_has_no_segment() -> None:
    """On a film where the other one is graded."""
    (made,) = segmented(header(), RIGHT, CUT_OFF)
    assert made.dataset.NumberOfFrames == 3


def test_boxes_that_overlap_are_declared() -> None:
    """Then a pixel may belong to bands of both knees."""
    (made,) = segmented(header(), RIGHT, replace(LEFT, box=(300, 300, 700, 700)))
    assert made.dataset.SegmentsOverlap == "YES"


def test_created_twice_it_is_the_same() -> None:
    """No time of day and no invented UID is in it."""
    first, second = (results_of(header(), READINGS["two knees"])["SEG"] for _ in range(2))
    assert first.encode() == second.encode()


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_the_films_polarity_does_not_matter(photometric: str) -> None:
    """It is laid over, not drawn into."""
    (made,) = segmented(header(PhotometricInterpretation=photometric), RIGHT)
    assert made.dataset.PhotometricInterpretation == "MONOCHROME2"


def test_the_box_of_a_huge_film_is_packed_alone() -> None:
    """48 megapixels: three bands of six megabytes each."""
    (made,) = segmented(header(), replace(RIGHT, box=(1000, 2000, 3000, 4000)), rows=8000, columns=6000)
    assert len(made.dataset.PixelData) == 3 * 8000 * 6000 // 8
    assert RIGHT.laterality is Laterality.RIGHT
    assert Box(*RIGHT.box).width == 400
