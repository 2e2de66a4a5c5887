"""
Outlines and grade as a Grayscale Softcopy Presentation State: graphics over the film that a viewer can switch off.

It repeats the film's own grey levels, since a presentation state replaces them (PS3.4 N.2). Polylines are closed
and unfilled: some viewers draw no others.
"""

from collections.abc import Iterator
from fractions import Fraction

import highdicom as hd
import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import GrayscaleSoftcopyPresentationStateStorage

from workers.read.photometric import is_inverted
from workers.report.clean_source import add_missing, clean_source, highdicom_arguments
from workers.report.content import ResultContent
from workers.report.identity import copy_attributes
from workers.report.layout.contours import LEVELS, contour_polygons
from workers.report.layout.pages import pixel_aspect
from workers.report.layout.wording import KNEE_LABELS, KneeContent, grade_text
from workers.report.provenance import ascii_only, object_uid
from workers.report.source import set_series_laterality
from workers.report.tracking import knee_tracking

SERIES_NUMBER = 9020
LAYER = "GENU"
COLOUR = (82.0, 6.0, 62.0)
"""CIELab of outlines and text, the amber of the pages; nearly white without colour."""
TEXT_HEIGHT = 0.06
"""Height of a line of text, as a fraction of the film's height."""


def presentation_state(content: ResultContent) -> Dataset:
    """The presentation state with outlines and text of every knee."""
    header = content.header
    uid = object_uid("PR", content.reading, content.card)
    ds = content.new_data_set(
        GrayscaleSoftcopyPresentationStateStorage,
        uid,
        SERIES_NUMBER,
        "Genu KL outlines (AI, NOT FOR PRIMARY DIAGNOSIS)",
    )
    ds.PresentationCreationDate, ds.PresentationCreationTime = ds.ContentDate, ds.ContentTime
    del ds.ContentDate, ds.ContentTime  # this IOD has none
    _copy_grey_levels(header, ds)
    add_missing(_build_with_highdicom(content, uid), ds)
    set_series_laterality(content.reading.knees, ds)
    area = ds.DisplayedAreaSelectionSequence[0]
    area.pop("PixelOriginInterpretation", None)  # it is for slides
    ratio = Fraction(pixel_aspect(content.film)).limit_denominator(1000)
    area.PresentationPixelAspectRatio = [ratio.numerator, ratio.denominator]
    return ds


def _build_with_highdicom(content: ResultContent, uid: str) -> Dataset:
    source = clean_source(content.header, *content.film.pixels.shape)
    layer = hd.pr.GraphicLayer(LAYER, 1, "Genu", display_color=hd.color.CIELabColor(*COLOUR))
    outline_objects, texts = [], []
    for number, knee in enumerate(content.knees, start=1):
        outline_objects += list(_outlines(content, knee, number))
        texts.append(_text(content, knee))
    annotation = hd.pr.GraphicAnnotation([source], layer, graphic_objects=outline_objects or None, text_objects=texts)
    return hd.pr.GrayscaleSoftcopyPresentationState(
        [source],
        content_label="GENU_KL",
        content_description="Grad-CAM outlines and KL grade",
        graphic_annotations=[annotation],
        graphic_layers=[layer],
        **highdicom_arguments(content.card, uid, SERIES_NUMBER),
    )


def _outlines(content: ResultContent, knee: KneeContent, number: int) -> Iterator[hd.pr.GraphicObject]:
    if knee.heat_map is None or knee.heat_map.empty:
        return
    name, uid = knee_tracking(content.header, knee.finding, number)
    rows, columns = content.film.pixels.shape
    for level in LEVELS:
        for outline in contour_polygons(knee.heat_map.strength, knee.heat_map.pose, level):
            points = np.clip(outline, 0, [columns, rows])
            yield hd.pr.GraphicObject("POLYLINE", points, "PIXEL", tracking_id=name, tracking_uid=uid)


def _text(content: ResultContent, knee: KneeContent) -> hd.pr.TextObject:
    """The grade above the box if there is space, else below, else at the film's edge: never over the joint."""
    rows, columns = content.film.pixels.shape
    box, height = knee.finding.box, max(round(rows * TEXT_HEIGHT), 1)
    top = box[1] - height if box[1] >= height else box[3] if box[3] + height <= rows else 0
    left = min(max(box[0], 0), columns - 1)
    text = f"{KNEE_LABELS[knee.finding.laterality]}: {grade_text(knee.finding)}. AI, not for primary diagnosis"
    bounding_box = (float(left), float(top), float(min(max(box[2], left + 1), columns)), float(top + height))
    return hd.pr.TextObject(ascii_only(text), "PIXEL", bounding_box=bounding_box, anchor_point_visible=False)


def _copy_grey_levels(header: Dataset, ds: Dataset) -> None:
    """Copy rescale, first window or VOI LUT, and polarity from the header."""
    copy_attributes(header, ("RescaleIntercept", "RescaleSlope", "RescaleType"), ds)
    rescale = [ds.get(keyword) for keyword in ("RescaleIntercept", "RescaleSlope")]
    if any(value is None for value in rescale):
        for keyword in ("RescaleIntercept", "RescaleSlope", "RescaleType"):
            ds.pop(keyword, None)
        copy_attributes(header, ("ModalityLUTSequence",), ds)
    elif not ds.get("RescaleType"):
        ds.RescaleType = "US"
    window = Dataset()
    copy_attributes(header, ("VOILUTSequence",), window)
    if window.get("VOILUTSequence"):
        window.VOILUTSequence = window.VOILUTSequence[:1]
    else:
        window.pop("VOILUTSequence", None)
        copy_attributes(header, ("WindowCenter", "WindowWidth", "VOILUTFunction"), window)
        _first_window(window)
    if len(window):
        ds.SoftcopyVOILUTSequence = [window]
    ds.PresentationLUTShape = "INVERSE" if is_inverted(header, []) else "IDENTITY"


def _first_window(window: Dataset) -> None:
    """One centre and one width, or neither."""
    window_values = [window.get(keyword) for keyword in ("WindowCenter", "WindowWidth")]
    first_values = [value[0] if hasattr(value, "__getitem__") and len(value) else value for value in window_values]
    if any(value is None or value == "" for value in first_values) or float(first_values[1]) < 1:
        window.clear()
    else:
        window.WindowCenter, window.WindowWidth = first_values
