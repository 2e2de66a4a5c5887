"""
The pages of the answer as Secondary Captures: what every viewer and every PACS can show.

In one multi-frame object (1.2.840.10008.5.1.4.1.1.7.4); node/single_frames.py takes it apart for those that take none.
Written with plain pydicom, since highdicom's class has neither frames nor source image nor lossy history. A page is
not on the film's grid, so there is no spacing on it that someone could measure with.
"""

from collections.abc import Sequence

import numpy as np
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.uid import UID, MultiFrameTrueColorSecondaryCaptureImageStorage

from workers.report.content import Answer
from workers.report.layout.colours import Bytes
from workers.report.layout.pages import Page, pages
from workers.report.layout.wording import WARNING
from workers.report.provenance import MANUFACTURER, MODEL_NAME, local, object_uid, result, software_versions
from workers.report.source import anatomy, lossy_history, source_image

LONG_SIDE = 480
"""Height of a page unless the settings say otherwise: 7.7 MB for the fourteen pages of two knees."""
SERIES_NUMBER = 9001
PAGE_NUMBERS, PAGE_NAMES = Tag("PageNumberVector"), Tag("FrameLabelVector")


def draw(answer: Answer, long_side: int = LONG_SIDE) -> list[Page]:
    """The pages of the answer, as both forms have them."""
    made_at = local(answer.made_at, answer.header)
    return pages(answer.film, answer.rows, card=answer.card, made_at=made_at, long_side=long_side)


def multi_frame(answer: Answer, drawn: Sequence[Page]) -> Dataset:
    """All pages in one object; the name of each is in Frame Label Vector."""
    uid = object_uid("SC", answer.reading, answer.card, str(drawn[0].pixels.shape[0]))
    made = _around(answer, uid)
    made.NumberOfFrames = len(drawn)
    made.FrameIncrementPointer = [PAGE_NUMBERS, PAGE_NAMES]
    made.PageNumberVector = list(range(1, len(drawn) + 1))
    made.FrameLabelVector = [page.name for page in drawn]
    _pixels([page.pixels for page in drawn], made)
    return made


def _around(answer: Answer, uid: UID) -> Dataset:
    """Everything but the pixels."""
    header, card = answer.header, answer.card
    sop_class = MultiFrameTrueColorSecondaryCaptureImageStorage
    made = result(header, card, sop_class=sop_class, sop_instance_uid=uid, made_at=answer.made_at, utf8=False)
    made.Modality = "OT"
    made.SeriesNumber = SERIES_NUMBER
    made.SeriesDescription = "Genu KL heat map (AI, NOT FOR PRIMARY DIAGNOSIS)"
    made.ImageType = ["DERIVED", "SECONDARY", "OTHER"]
    made.ConversionType = "WSD"
    made.SecondaryCaptureDeviceManufacturer = MANUFACTURER
    made.SecondaryCaptureDeviceManufacturerModelName = MODEL_NAME
    made.SecondaryCaptureDeviceSoftwareVersions = software_versions(card)
    made.DateOfSecondaryCapture, made.TimeOfSecondaryCapture = made.ContentDate, made.ContentTime
    made.DerivationDescription = "Knees, their Grad-CAM heat maps, and Kellgren-Lawrence grades in words"
    made.ImageComments = WARNING
    made.BurnedInAnnotation, made.RecognizableVisualFeatures = "YES", "NO"
    made.SourceImageSequence = [source_image(header, same_places=False)]
    anatomy(header, answer.reading.knees, made)
    lossy_history(header, made)
    return made


def _pixels(frames: Sequence[Bytes], made: Dataset) -> None:
    made.Rows, made.Columns = frames[0].shape[:2]
    made.SamplesPerPixel, made.PhotometricInterpretation, made.PlanarConfiguration = 3, "RGB", 0
    made.BitsAllocated, made.BitsStored, made.HighBit, made.PixelRepresentation = 8, 8, 7, 0
    content = b"".join(np.ascontiguousarray(frame).tobytes() for frame in frames)
    made.PixelData = content + b"\0" * (len(content) % 2)
    made["PixelData"].VR = "OB"
