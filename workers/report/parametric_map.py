"""
The heat maps as one Parametric Map: their numbers, 0 to 1, on the film's grid, for who wants to compute with them.

The IOD wants a place in space, which a projection has none of: the film is laid at the origin of a Frame of Reference
of its own. OHIF then draws the map over the film, with letters of orientation that mean nothing; hence off by default.
"""

import highdicom as hd
import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from pydicom.uid import ParametricMapStorage

from node.uids import derived_uid
from workers.report import codes
from workers.report.clean_source import adopt, equipment, stand_in
from workers.report.content import Answer
from workers.report.identity import copy_attributes, text_of
from workers.report.layout.rendering import on_grid
from workers.report.provenance import object_uid, result
from workers.report.segmentation import named_dimensions
from workers.report.source import lossy_history, side_of_series, spacing_shown

SERIES_NUMBER = 9040


def parametric_map(answer: Answer) -> Dataset | None:
    """The map of a film; None if there is no evidence on it, or if its header knows no millimetres."""
    spacing, strength = spacing_shown(answer.header), _on_film(answer)
    if spacing is None or strength is None:
        return None
    header = answer.header
    uid = object_uid("PM", answer.reading, answer.card)
    made = result(
        header,
        answer.card,
        sop_class=ParametricMapStorage,
        sop_instance_uid=uid,
        made_at=answer.made_at,
        utf8=False,
    )
    made.SeriesNumber = SERIES_NUMBER
    made.SeriesDescription = "Genu KL Grad-CAM (AI, NOT FOR PRIMARY DIAGNOSIS)"
    adopt(_built(answer, uid, spacing), made)
    named_dimensions(made, derived_uid("dimensions", uid))
    side_of_series(answer.reading.knees, made)
    copy_attributes(header, ("PatientOrientation",), made)
    lossy_history(header, made)
    made.Rows, made.Columns = strength.shape
    made.FloatPixelData = strength.astype("<f4").tobytes()
    return made


def _on_film(answer: Answer) -> npt.NDArray[np.float32] | None:
    """The strengths of all knees on the film's pixels; where boxes overlap, the stronger."""
    rows, columns = answer.film.pixels.shape
    whole = None
    for row in answer.rows:
        if row.heat_map is None or row.heat_map.empty:
            continue
        top, strength = on_grid(row.heat_map, columns, rows)
        if whole is None:
            whole = np.zeros((rows, columns), np.float32)
        part = whole[top : top + strength.shape[0]]
        np.maximum(part, strength, out=part)
    return whole


def _built(answer: Answer, uid: str, spacing: list[float]) -> Dataset:
    film = stand_in(answer.header, 2, 2)
    film.FrameOfReferenceUID = derived_uid("frame of reference", text_of(answer.header, "SOPInstanceUID"))
    film.PositionReferenceIndicator = ""
    film.ImagePositionPatient, film.ImageOrientationPatient = [0, 0, 0], [1, 0, 0, 0, 1, 0]
    film.PixelSpacing, film.SliceThickness = spacing, 1
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
        [film],
        np.zeros((1, 2, 2), np.float32),
        series_instance_uid=derived_uid("series", uid),
        series_number=SERIES_NUMBER,
        sop_instance_uid=uid,
        instance_number=1,
        contains_recognizable_visual_features=False,
        real_world_value_mappings=[mapping],
        voi_lut_transformations=[hd.VOILUTTransformation(window_center=0.5, window_width=1.0)],
        content_label="GENU_GRADCAM",
        content_description="Grad-CAM of the KL grade",
        content_qualification=hd.ContentQualificationValues.RESEARCH,
        **equipment(answer.card),
    )
