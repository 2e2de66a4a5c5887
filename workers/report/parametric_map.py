"""
The heat maps as one Parametric Map: their strengths, 0 to 1, on the film's pixel grid, for computation.

The IOD requires a position in space, which a projection does not have: the film is placed at the origin of its own
Frame of Reference. OHIF then draws the map over the film with meaningless orientation letters; hence off by default.
"""

import highdicom as hd
import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from pydicom.uid import ParametricMapStorage

from node.uids import derived_uid
from workers.report import codes
from workers.report.clean_source import add_missing, clean_source, highdicom_arguments, set_dimension_uid
from workers.report.content import ResultContent
from workers.report.identity import copy_attributes, text_of
from workers.report.layout.rendering import strength_on_film
from workers.report.provenance import object_uid
from workers.report.source import set_lossy_compression, set_series_laterality, viewer_spacing

SERIES_NUMBER = 9040


def parametric_map(content: ResultContent) -> Dataset | None:
    """The map of a film; None if no heat map has evidence, or if the header has no pixel spacing."""
    spacing, strength = viewer_spacing(content.header), _strength_of_film(content)
    if spacing is None or strength is None:
        return None
    header = content.header
    uid = object_uid("PM", content.reading, content.card)
    ds = content.new_data_set(
        ParametricMapStorage, uid, SERIES_NUMBER, "Genu KL Grad-CAM (AI, NOT FOR PRIMARY DIAGNOSIS)"
    )
    add_missing(_build_with_highdicom(content, uid, spacing), ds)
    set_dimension_uid(ds, derived_uid("dimensions", uid))
    set_series_laterality(content.reading.knees, ds)
    copy_attributes(header, ("PatientOrientation",), ds)
    set_lossy_compression(header, ds)
    ds.Rows, ds.Columns = strength.shape
    ds.FloatPixelData = strength.astype("<f4").tobytes()
    return ds


def _strength_of_film(content: ResultContent) -> npt.NDArray[np.float32] | None:
    """The strengths of all knees on the film's pixels; where boxes overlap, the higher one. None without evidence."""
    rows, columns = content.film.pixels.shape
    total = None
    for knee in content.knees:
        if knee.heat_map is None or knee.heat_map.empty:
            continue
        top, strength = strength_on_film(knee.heat_map, columns, rows)
        if total is None:
            total = np.zeros((rows, columns), np.float32)
        window = total[top : top + strength.shape[0]]
        np.maximum(window, strength, out=window)
    return total


def _build_with_highdicom(content: ResultContent, uid: str, spacing: list[float]) -> Dataset:
    source = clean_source(content.header, 2, 2)
    source.FrameOfReferenceUID = derived_uid("frame of reference", text_of(content.header, "SOPInstanceUID"))
    source.PositionReferenceIndicator = ""
    source.ImagePositionPatient, source.ImageOrientationPatient = [0, 0, 0], [1, 0, 0, 0, 1, 0]
    source.PixelSpacing, source.SliceThickness = spacing, 1
    mapping = hd.pm.RealWorldValueMapping(
        "GRADCAM",
        "Grad-CAM on a fixed scale",
        codes.COUNT,
        value_range=(0.0, 1.0),
        slope=1.0,
        intercept=0.0,
        quantity_definition=codes.GRAD_CAM,
    )
    return hd.pm.ParametricMap(
        [source],
        np.zeros((1, 2, 2), np.float32),
        contains_recognizable_visual_features=False,
        real_world_value_mappings=[mapping],
        voi_lut_transformations=[hd.VOILUTTransformation(window_center=0.5, window_width=1.0)],
        content_label="GENU_GRADCAM",
        content_description="Grad-CAM of the KL grade",
        content_qualification=hd.ContentQualificationValues.RESEARCH,
        **highdicom_arguments(content.card, uid, SERIES_NUMBER),
    )
