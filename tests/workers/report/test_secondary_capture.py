"""The Secondary Captures around the pages, in both forms, and the pictures of the admin page."""

import copy
import io
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pydicom
import pytest

from node.deliver.fallbacks import compressed
from tests.peers.archives import needs
from tests.samples.source_films import (
    CARD,
    LEFT,
    MADE_AT,
    READINGS,
    RIGHT,
    dciodvfy,
    film,
    header,
    heat,
    reading,
    result_list,
    results_of,
)
from workers.preprocessing import Box, Pose
from workers.report import film_png, overlay_png
from workers.report.layout.colours import Bytes
from workers.report.layout.contours import contour_polygons
from workers.report.layout.rendering import strength_on_film

GRADED = [name for name, what in READINGS.items() if any(knee.grade is not None for knee in what.knees)]
MULTI, SINGLE = "1.2.840.10008.5.1.4.1.1.7.4", "1.2.840.10008.5.1.4.1.1.7"


def decoded(png: bytes) -> Bytes:
    return np.asarray(cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED), dtype=np.uint8)


@needs("dciodvfy")
@pytest.mark.parametrize("name", GRADED)
def test_dciodvfy_finds_nothing(name: str, tmp_path: Path) -> None:
    """One knee, two, one of them refused, side unknown, an empty map; all pages in one and a page each."""
    instances = result_list(header(), READINGS[name], kinds=("SC", "SC1"))
    assert len(instances) > 2
    assert [dciodvfy(instance, tmp_path) for instance in instances] == [[]] * len(instances)


@pytest.mark.parametrize("name", GRADED)
def test_it_holds_all_pages_in_rgb_within_bounds_and_without_a_pixel_spacing(name: str) -> None:
    """On pages that are not on the film's grid no one may measure."""
    ds = pydicom.dcmread(io.BytesIO(results_of(header(PixelSpacing=["0.2", "0.2"]), READINGS[name])["SC"].encode()))
    assert ds.SOPClassUID == MULTI
    assert max(ds.Rows, ds.Columns) == 480
    assert ds.pixel_array.shape == (ds.NumberOfFrames, ds.Rows, ds.Columns, 3)
    assert len(ds.PixelData) <= 8_000_000
    assert not any(keyword in ds for keyword in ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing"))
    assert ds.SourceImageSequence[0].ReferencedSOPInstanceUID == header().SOPInstanceUID
    assert ds.SourceImageSequence[0].SpatialLocationsPreserved == "NO"
    assert ds.BurnedInAnnotation == "YES"
    assert ds.ImageType[:2] == ["DERIVED", "SECONDARY"]


def test_the_frames_are_numbered_and_named() -> None:
    """What a viewer lists: knee and page, each name within 16 characters; vectors that are pointed to are there."""
    ds = results_of(header(), READINGS["two knees"])["SC"].dataset
    assert ds.NumberOfFrames == 14
    assert list(ds.FrameIncrementPointer) == [0x00182001, 0x00182002]
    assert list(ds.PageNumberVector) == list(range(1, 15))
    assert ds.FrameLabelVector[0] == "R original"
    assert ds.FrameLabelVector[-1] == "L explanation"
    assert max(map(len, ds.FrameLabelVector)) <= 16


def test_single_frames_are_the_same_pages_in_one_series() -> None:
    """For who takes no multi-frame: each page an object, in order, with the side of its knee and its name."""
    source = header()
    (multi,) = result_list(source, READINGS["two knees"], kinds=("SC",))
    singles = [instance.dataset for instance in result_list(source, READINGS["two knees"], kinds=("SC1",))]
    assert {str(instance.SOPClassUID) for instance in singles} == {SINGLE}
    assert len({str(instance.SOPInstanceUID) for instance in singles}) == 14
    assert len({str(instance.SeriesInstanceUID) for instance in singles} | {str(multi.dataset.SeriesInstanceUID)}) == 2
    assert [instance.InstanceNumber for instance in singles] == list(range(1, 15))
    assert [instance.ImageLaterality for instance in singles] == ["R"] * 7 + ["L"] * 7
    frames = multi.dataset.PixelData
    size = len(frames) // 14
    for number, instance in enumerate(singles):
        assert instance.ImageComments.startswith(multi.dataset.FrameLabelVector[number])
        assert instance.PixelData == frames[number * size : (number + 1) * size]


def test_both_forms_are_the_same_twice_and_follow_the_long_side() -> None:
    """The same bytes a second time; another size is another object, since a PACS keeps the first of two."""
    first, again, larger = (
        result_list(header(), READINGS["two knees"], kinds=("SC", "SC1"), long_side=side) for side in (480, 480, 600)
    )
    assert [instance.encode() for instance in first] == [instance.encode() for instance in again]
    assert not {instance.sop_instance_uid for instance in first} & {instance.sop_instance_uid for instance in larger}
    assert {instance.dataset.Rows for instance in larger} == {600}


@needs("dciodvfy")
@pytest.mark.parametrize("kind", ["SC", "SC1"])
def test_compressed_it_has_the_same_content(kind: str, tmp_path: Path) -> None:
    """Another transfer syntax, the same UID, attributes and pixels; the compressed object is valid."""
    ds = result_list(header(), reading(RIGHT), kinds=(kind,))[2 if kind == "SC1" else 0]
    packed = type(ds)(ds.kind, compressed(copy.deepcopy(ds.dataset)))
    back = pydicom.dcmread(io.BytesIO(packed.encode()))
    assert back.file_meta.TransferSyntaxUID == pydicom.uid.JPEGLSLossless
    assert packed.sop_instance_uid == ds.sop_instance_uid
    assert np.array_equal(back.pixel_array, ds.dataset.pixel_array)
    assert dciodvfy(packed, tmp_path) == []


def test_the_image_has_a_side_only_if_it_shows_one_knee_of_known_side() -> None:
    """A side at image level would be wrong for one of two knees, and a guess for an unknown one."""
    sides = {
        name: results_of(header(Laterality="L"), READINGS[name])["SC"].dataset.get("Laterality") for name in GRADED
    }
    assert sides == {
        "graded": "R",
        "two knees": None,
        "mixed": None,
        "side unknown": None,
        "empty map": "R",
        "sure": "R",
        "unsure": None,
    }


def test_a_film_once_compressed_with_loss_stays_one() -> None:
    """Loss cannot be undone by drawing on the film, so the mark stays with its ratio and method."""
    lossy = header(
        LossyImageCompression="01", LossyImageCompressionRatio="12.5", LossyImageCompressionMethod="ISO_10918_1"
    )
    for kind in ("SC", "SC1", "SEG"):
        ds = result_list(lossy, READINGS["graded"], kinds=(kind,))[0].dataset
        assert (ds.LossyImageCompression, ds.LossyImageCompressionRatio) == ("01", 12.5)
        assert ds.LossyImageCompressionMethod == "ISO_10918_1"
    assert results_of(header(), READINGS["graded"])["SC"].dataset.LossyImageCompression == "00"


@pytest.mark.parametrize(
    ("syntax", "declared", "marked"),
    [
        (pydicom.uid.JPEGBaseline8Bit, ..., "01"),
        (pydicom.uid.JPEGBaseline8Bit, "00", "01"),
        (pydicom.uid.JPEG2000, ..., "01"),
        (pydicom.uid.JPEG2000, "00", "00"),
        (pydicom.uid.JPEGLSLossless, ..., "00"),
    ],
)
def test_a_lossy_transfer_syntax_marks_a_film_that_does_not_say_so(syntax: str, declared: object, marked: str) -> None:
    """JPEG baseline is always lossy; JPEG 2000 is not, if the header declares it."""
    source = header(LossyImageCompression=declared)
    source.file_meta.TransferSyntaxUID = pydicom.uid.UID(syntax)
    assert results_of(source, READINGS["graded"])["SC"].dataset.LossyImageCompression == marked


def test_overlays_lie_on_the_grid_of_the_shown_film() -> None:
    """Same size, transparent outside the box, strongest where the map is, for a box over the edge too."""
    big = film(header(), rows=2400, columns=3200)
    shown = decoded(film_png(big))
    assert shown.shape == (1200, 1600)
    for box in (Box(1600, 800, 2400, 1600), Box(2800, -200, 3600, 600)):
        laid = decoded(overlay_png(big, heat(box)))
        assert laid.shape == (1200, 1600, 4)
        rows, columns = np.nonzero(laid[..., 3])
        assert columns.min() >= box.x0 / 2 - 1
        assert columns.max() <= box.x1 / 2
        assert rows.max() <= box.y1 / 2
        y, x = np.unravel_index(laid[..., 3].argmax(), laid.shape[:2])
        assert abs(x - (box.x0 + 0.36 * box.width) / 2) < 0.1 * box.width
        assert abs(y - (box.y0 + 0.56 * box.height) / 2) < 0.1 * box.height
        blue, _, red, _ = laid[y, x].astype(int)
        assert red > blue  # hot is yellow, not light blue: the channels are in order


@pytest.mark.parametrize("turn", [-25, 0, 8, 40])
def test_a_joint_that_lies_turned_has_its_map_turned(turn: float) -> None:
    """On the film the strongest pixel is at its cell's position on the turned joint, and outlines follow the map."""
    shown, pose = film(header(), rows=900, columns=1100), Pose((500, 420), 400, turn)
    heat_map = replace(heat(), pose=pose)
    laid = decoded(overlay_png(shown, heat_map))[..., 3].astype(float)
    # The peak lies in the middle of cells 2.4 across and 4 down of 8: see `heat`.
    x, y = (np.array([2.9, 4.5]) / 8 - 0.5) * 400 @ pose.axes + np.array(pose.middle)
    row, column = np.unravel_index(laid.argmax(), laid.shape)
    assert np.hypot(column + 0.5 - x, row + 0.5 - y) < 25
    rows, columns = np.nonzero(laid)
    within = pose.within(np.stack([columns, rows], 1) + 0.5)
    assert -0.01 < within.min() < within.max() < 1.01
    for level in (0.25, 0.5, 0.75):
        (line,) = contour_polygons(heat_map.strength, pose, level)
        _, strength = strength_on_film(heat_map, 1100, 900)
        top = int(np.floor(pose.around.y0))
        there = [strength[int(py) - top, int(px)] for px, py in line]
        assert np.abs(np.array(there) - level).max() < 0.1


def test_another_model_is_another_picture() -> None:
    """Its name and version are on every page, and its hash is in the text."""
    newer = type(CARD)(CARD.name, "2.0.0", "a" * 64)
    one, other = (
        result_list(header(), reading(RIGHT, LEFT), kinds=("SC",), card=card)[0].dataset for card in (CARD, newer)
    )
    assert one.SOPInstanceUID != other.SOPInstanceUID
    for here, there in zip(one.pixel_array, other.pixel_array, strict=True):
        assert not np.array_equal(here[-40:], there[-40:])
    assert one.ContentTime == other.ContentTime == MADE_AT.strftime("%H%M%S")
