"""
Split a multi-frame Secondary Capture into single-frame ones, for destinations that accept no multi-frame.

The result depends on the multi-frame object alone: splitting it again gives the same objects under the same UIDs.
"""

import copy
from collections.abc import Iterator

from pydicom.dataset import Dataset
from pydicom.uid import SecondaryCaptureImageStorage

from node.uids import derived_uid

SERIES_NUMBER = 9002
MULTI_FRAME_KEYWORDS = ("NumberOfFrames", "FrameIncrementPointer", "PageNumberVector", "FrameLabelVector")
LATERALITIES = ("R", "L")


def single_frames(pages: Dataset) -> Iterator[Dataset]:
    """
    Each frame of `pages` as a Secondary Capture Image (PS3.3 A.8.1) in one series, in order.

    A frame's label, such as "R overlay 50 %", becomes the start of Image Comments; its first letter is the laterality
    of the knee. `pages` is uncompressed and has PixelData.
    """
    count, labels = int(pages.NumberOfFrames), list(pages.FrameLabelVector)
    content = bytes(pages.PixelData)
    length = int(pages.Rows) * int(pages.Columns) * int(pages.SamplesPerPixel)
    common_elements = Dataset()
    common_elements.file_meta = copy.deepcopy(pages.file_meta)
    for element in pages:
        if element.keyword not in (*MULTI_FRAME_KEYWORDS, "PixelData"):
            common_elements.add(copy.deepcopy(element))
    for number, label in zip(range(1, count + 1), labels, strict=True):
        frame = copy.deepcopy(common_elements)
        _identify(frame, pages, number, str(label))
        pixels = content[(number - 1) * length : number * length]
        frame.PixelData = pixels + b"\0" * (len(pixels) % 2)
        frame["PixelData"].VR = "OB"
        yield frame


def _identify(frame: Dataset, pages: Dataset, number: int, label: str) -> None:
    """Set the UIDs, the numbers, the comment and the laterality of the frame."""
    uid = str(pages.SOPInstanceUID)
    frame.SOPClassUID = frame.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    frame.SOPInstanceUID = frame.file_meta.MediaStorageSOPInstanceUID = derived_uid("frame", uid, str(number))
    frame.SeriesInstanceUID = derived_uid("frames", uid)
    frame.SeriesNumber, frame.InstanceNumber = SERIES_NUMBER, number
    frame.ImageComments = f"{label}. {pages.get('ImageComments', '')}"
    if label[:1] in LATERALITIES:  # Laterality would be that of the series, which may show both knees
        frame.ImageLaterality = label[:1]
        frame.pop("Laterality", None)
