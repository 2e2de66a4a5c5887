"""
The pages of a result as a Secondary Capture, which every viewer and every PACS can show.

It is one multi-frame object (1.2.840.10008.5.1.4.1.1.7.4); node/single_frames.py splits it for destinations that accept
none. It is built with plain pydicom, since highdicom's class has neither frames nor source image nor lossy compression
attributes. A page is not on the film's grid, so it has no pixel spacing that someone could measure with.
"""

from collections.abc import Sequence

import numpy as np
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.uid import UID, MultiFrameTrueColorSecondaryCaptureImageStorage

from workers.report.content import ResultContent
from workers.report.layout.colours import Bytes
from workers.report.layout.pages import Page, draw_pages
from workers.report.layout.wording import WARNING
from workers.report.provenance import (
    MANUFACTURER,
    MODEL_NAME,
    object_uid,
    software_versions,
    to_source_time_zone,
)
from workers.report.source import set_anatomy, set_lossy_compression, source_image_item

LONG_SIDE = 480
"""Default height of a page in pixels: 7.7 MB for the fourteen pages of two knees."""
SERIES_NUMBER = 9001
PAGE_NUMBERS, FRAME_LABELS = Tag("PageNumberVector"), Tag("FrameLabelVector")


def content_pages(content: ResultContent, long_side: int = LONG_SIDE) -> list[Page]:
    """The pages of a result, `long_side` pixels high."""
    made_at = to_source_time_zone(content.made_at, content.header)
    return draw_pages(content.film, content.knees, card=content.card, made_at=made_at, long_side=long_side)


def multi_frame(content: ResultContent, page_images: Sequence[Page]) -> Dataset:
    """All pages in one object, with their names in Frame Label Vector."""
    uid = object_uid("SC", content.reading, content.card, str(page_images[0].pixels.shape[0]))
    ds = _without_pixels(content, uid)
    ds.NumberOfFrames = len(page_images)
    ds.FrameIncrementPointer = [PAGE_NUMBERS, FRAME_LABELS]
    ds.PageNumberVector = list(range(1, len(page_images) + 1))
    ds.FrameLabelVector = [page.name for page in page_images]
    _set_pixels([page.pixels for page in page_images], ds)
    return ds


def _without_pixels(content: ResultContent, uid: UID) -> Dataset:
    """The object without its pixels."""
    header, card = content.header, content.card
    sop_class = MultiFrameTrueColorSecondaryCaptureImageStorage
    ds = content.new_data_set(sop_class, uid, SERIES_NUMBER, "Genu KL heat map (AI, NOT FOR PRIMARY DIAGNOSIS)")
    ds.Modality = "OT"
    ds.ImageType = ["DERIVED", "SECONDARY", "OTHER"]
    ds.ConversionType = "WSD"
    ds.SecondaryCaptureDeviceManufacturer = MANUFACTURER
    ds.SecondaryCaptureDeviceManufacturerModelName = MODEL_NAME
    ds.SecondaryCaptureDeviceSoftwareVersions = software_versions(card)
    ds.DateOfSecondaryCapture, ds.TimeOfSecondaryCapture = ds.ContentDate, ds.ContentTime
    ds.DerivationDescription = "Knees, their Grad-CAM heat maps, and Kellgren-Lawrence grades in words"
    ds.ImageComments = WARNING
    ds.BurnedInAnnotation, ds.RecognizableVisualFeatures = "YES", "NO"
    ds.SourceImageSequence = [source_image_item(header, same_grid=False)]
    set_anatomy(header, content.reading.knees, ds)
    set_lossy_compression(header, ds)
    return ds


def _set_pixels(frames: Sequence[Bytes], ds: Dataset) -> None:
    ds.Rows, ds.Columns = frames[0].shape[:2]
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PlanarConfiguration = 3, "RGB", 0
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 8, 8, 7, 0
    pixel_data = b"".join(np.ascontiguousarray(frame).tobytes() for frame in frames)
    ds.PixelData = pixel_data + b"\0" * (len(pixel_data) % 2)
    ds["PixelData"].VR = "OB"
