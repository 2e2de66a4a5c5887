"""
The film in a report's Image Library (TID 1600), with the descriptors that its header has.

highdicom's own library requires a Patient Orientation and an Imager Pixel Spacing of every radiograph, which
computed radiography often lacks (TID 1603 requires them only where they are known).
"""

import highdicom as hd
from pydicom.dataset import Dataset

from workers.report import codes
from workers.report.identity import text_of
from workers.report.source import positive_pair

_CONTEXT = hd.sr.RelationshipTypeValues.HAS_ACQ_CONTEXT
_CONTAINS = hd.sr.RelationshipTypeValues.CONTAINS


def image_library(header: Dataset, shape: tuple[int, int]) -> hd.sr.ContainerContentItem:
    """An Image Library container with one group of one image."""
    image = hd.sr.ImageContentItem(
        codes.SOURCE, text_of(header, "SOPClassUID"), text_of(header, "SOPInstanceUID"), relationship_type=_CONTAINS
    )
    image.ContentSequence = hd.sr.ContentSequence(_descriptors(header, shape))
    group = hd.sr.ContainerContentItem(codes.IMAGE_LIBRARY_GROUP, relationship_type=_CONTAINS)
    group.ContentSequence = hd.sr.ContentSequence([image])
    library = hd.sr.ContainerContentItem(codes.IMAGE_LIBRARY, relationship_type=_CONTAINS)
    library.ContentSequence = hd.sr.ContentSequence([group])
    return library


def _descriptors(header: Dataset, shape: tuple[int, int]) -> list[hd.sr.ContentItem]:
    items: list[hd.sr.ContentItem] = []
    modality = codes.MODALITIES.get(text_of(header, "Modality"))
    if modality is not None:
        items.append(hd.sr.CodeContentItem(codes.MODALITY, modality, _CONTEXT))
    for name, count in zip((codes.PIXEL_ROWS, codes.PIXEL_COLUMNS), shape, strict=True):
        item = hd.sr.NumContentItem(name, int(count), codes.PIXELS, relationship_type=_CONTEXT)
        item.MeasuredValueSequence[0].NumericValue = str(count)
        items.append(item)
    orientation = header.get("PatientOrientation") or ()
    if len(orientation) == 2 and all(orientation):
        for name, direction in zip((codes.ORIENTATION_ROW, codes.ORIENTATION_COLUMN), orientation, strict=True):
            items.append(hd.sr.TextContentItem(name, str(direction), _CONTEXT))
    spacing = positive_pair(header, "ImagerPixelSpacing")
    if spacing:
        for name, millimetres in zip((codes.VERTICAL_SPACING, codes.HORIZONTAL_SPACING), spacing, strict=True):
            items.append(hd.sr.NumContentItem(name, millimetres, codes.MILLIMETRE, relationship_type=_CONTEXT))
    return items
