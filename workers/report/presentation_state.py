"""
The outlines and the answer as a Grayscale Softcopy Presentation State: lines over the film that can be switched off.

The film's own grey levels are repeated in it, since a presentation state replaces them (PS3.4 N.2). Lines are closed
and unfilled: some viewers draw no others.
"""

from collections.abc import Iterator
from fractions import Fraction

import highdicom as hd
import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import GrayscaleSoftcopyPresentationStateStorage

from node.uids import derived_uid
from workers.read.photometric import is_inverted
from workers.report.clean_source import adopt, equipment, stand_in
from workers.report.content import Answer
from workers.report.identity import copy_attributes
from workers.report.layout.contours import LEVELS, outlines
from workers.report.layout.pages import pixel_aspect
from workers.report.layout.wording import SIDES, Row, grade_words
from workers.report.provenance import ascii_only, object_uid, result
from workers.report.source import side_of_series
from workers.report.tracking import tracking

SERIES_NUMBER = 9020
LAYER = "GENU"
COLOUR = (82.0, 6.0, 62.0)
"""CIELab of the lines and words, the amber of the pictures; nearly white without colour."""
TEXT_HEIGHT = 0.06
"""Of the film, taken by a line of words."""


def presentation_state(answer: Answer) -> Dataset:
    """Outlines and words of every knee on the film."""
    header = answer.header
    uid = object_uid("PR", answer.reading, answer.card)
    made = result(
        header,
        answer.card,
        sop_class=GrayscaleSoftcopyPresentationStateStorage,
        sop_instance_uid=uid,
        made_at=answer.made_at,
        utf8=False,
    )
    made.SeriesNumber = SERIES_NUMBER
    made.SeriesDescription = "Genu KL outlines (AI, NOT FOR PRIMARY DIAGNOSIS)"
    made.PresentationCreationDate, made.PresentationCreationTime = made.ContentDate, made.ContentTime
    del made.ContentDate, made.ContentTime  # this IOD has none
    _grey_levels(header, made)
    adopt(_built(answer, uid), made)
    side_of_series(answer.reading.knees, made)
    area = made.DisplayedAreaSelectionSequence[0]
    area.pop("PixelOriginInterpretation", None)  # it is for slides
    ratio = Fraction(pixel_aspect(answer.film)).limit_denominator(1000)
    area.PresentationPixelAspectRatio = [ratio.numerator, ratio.denominator]
    return made


def _built(answer: Answer, uid: str) -> Dataset:
    film = stand_in(answer.header, *answer.film.pixels.shape)
    layer = hd.pr.GraphicLayer(LAYER, 1, "Genu", display_color=hd.color.CIELabColor(*COLOUR))
    lines, words = [], []
    for place, row in enumerate(answer.rows, start=1):
        lines += list(_lines(answer, row, place))
        words.append(_words(answer, row))
    annotation = hd.pr.GraphicAnnotation([film], layer, graphic_objects=lines or None, text_objects=words)
    return hd.pr.GrayscaleSoftcopyPresentationState(
        [film],
        series_instance_uid=derived_uid("series", uid),
        series_number=SERIES_NUMBER,
        sop_instance_uid=uid,
        instance_number=1,
        content_label="GENU_KL",
        content_description="Grad-CAM outlines and KL grade",
        graphic_annotations=[annotation],
        graphic_layers=[layer],
        **equipment(answer.card),
    )


def _lines(answer: Answer, row: Row, place: int) -> Iterator[hd.pr.GraphicObject]:
    if row.heat_map is None or row.heat_map.empty:
        return
    name, uid = tracking(answer.header, row.finding, place)
    rows, columns = answer.film.pixels.shape
    for level in LEVELS:
        for line in outlines(row.heat_map.strength, row.heat_map.pose, level):
            points = np.clip(line, 0, [columns, rows])
            yield hd.pr.GraphicObject("POLYLINE", points, "PIXEL", tracking_id=name, tracking_uid=uid)


def _words(answer: Answer, row: Row) -> hd.pr.TextObject:
    """Above the joint's box if there is room, else below it, else along the film's edge: never over the joint."""
    rows, columns = answer.film.pixels.shape
    box, height = row.finding.box, max(round(rows * TEXT_HEIGHT), 1)
    top = box[1] - height if box[1] >= height else box[3] if box[3] + height <= rows else 0
    left = min(max(box[0], 0), columns - 1)
    told = f"{SIDES[row.finding.laterality]}: {grade_words(row.finding)}. AI, not for primary diagnosis"
    place = (float(left), float(top), float(min(max(box[2], left + 1), columns)), float(top + height))
    return hd.pr.TextObject(ascii_only(told), "PIXEL", bounding_box=place, anchor_point_visible=False)


def _grey_levels(header: Dataset, made: Dataset) -> None:
    """What the header says of them: first window or table, and whether low values are white."""
    copy_attributes(header, ("RescaleIntercept", "RescaleSlope", "RescaleType"), made)
    rescale = [made.get(keyword) for keyword in ("RescaleIntercept", "RescaleSlope")]
    if any(value is None for value in rescale):
        for keyword in ("RescaleIntercept", "RescaleSlope", "RescaleType"):
            made.pop(keyword, None)
        copy_attributes(header, ("ModalityLUTSequence",), made)
    elif not made.get("RescaleType"):
        made.RescaleType = "US"
    window = Dataset()
    copy_attributes(header, ("VOILUTSequence",), window)
    if window.get("VOILUTSequence"):
        window.VOILUTSequence = window.VOILUTSequence[:1]
    else:
        window.pop("VOILUTSequence", None)
        copy_attributes(header, ("WindowCenter", "WindowWidth", "VOILUTFunction"), window)
        _first_window(window)
    if len(window):
        made.SoftcopyVOILUTSequence = [window]
    made.PresentationLUTShape = "INVERSE" if is_inverted(header, []) else "IDENTITY"


def _first_window(window: Dataset) -> None:
    """One centre and one width, or neither."""
    ends = [window.get(keyword) for keyword in ("WindowCenter", "WindowWidth")]
    firsts = [end[0] if hasattr(end, "__getitem__") and len(end) else end for end in ends]
    if any(first is None or first == "" for first in firsts) or float(firsts[1]) < 1:
        window.clear()
    else:
        window.WindowCenter, window.WindowWidth = firsts
