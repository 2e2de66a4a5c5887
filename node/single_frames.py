"""
A multi-frame Secondary Capture as single frames, one object a page: for those that take no multi-frame.

What they are follows from the multi-frame object alone, so whoever takes it apart has the same objects under the
same UIDs, and a second time doubles nothing.
"""

import copy
from collections.abc import Iterator

from pydicom.dataset import Dataset
from pydicom.uid import SecondaryCaptureImageStorage

from node.uids import derived_uid

SERIES_NUMBER = 9002
VECTORS = ("NumberOfFrames", "FrameIncrementPointer", "PageNumberVector", "FrameLabelVector")
SIDES = ("R", "L")


def single_frames(pages: Dataset) -> Iterator[Dataset]:
    """
    Each frame of `pages` as a Secondary Capture Image (PS3.3 A.8.1) in one series, in order.

    A frame's label, such as "R overlay 50 %", becomes the start of Image Comments and tells the side of its knee.
    `pages` is uncompressed and has PixelData.
    """
    count, labels = int(pages.NumberOfFrames), list(pages.FrameLabelVector)
    content = bytes(pages.PixelData)
    length = int(pages.Rows) * int(pages.Columns) * int(pages.SamplesPerPixel)
    around = Dataset()
    around.file_meta = copy.deepcopy(pages.file_meta)
    for element in pages:
        if element.keyword not in (*VECTORS, "PixelData"):
            around.add(copy.deepcopy(element))
    for number, label in zip(range(1, count + 1), labels, strict=True):
        made = copy.deepcopy(around)
        _named(made, pages, number, str(label))
        frame = content[(number - 1) * length : number * length]
        made.PixelData = frame + b"\0" * (len(frame) % 2)
        made["PixelData"].VR = "OB"
        yield made


def _named(made: Dataset, pages: Dataset, number: int, label: str) -> None:
    uid = str(pages.SOPInstanceUID)
    made.SOPClassUID = made.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    made.SOPInstanceUID = made.file_meta.MediaStorageSOPInstanceUID = derived_uid("frame", uid, str(number))
    made.SeriesInstanceUID, made.SeriesNumber, made.InstanceNumber = derived_uid("frames", uid), SERIES_NUMBER, number
    made.ImageComments = f"{label}. {pages.get('ImageComments', '')}"
    if label[:1] in SIDES:  # of the image: the series, whose Laterality would be, may show both knees
        made.ImageLaterality = label[:1]
        made.pop("Laterality", None)
