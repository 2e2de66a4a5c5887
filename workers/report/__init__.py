"""A reading and its heat maps become DICOM objects and pictures; the rooms behind `report`."""

from workers.report.identity import must_have_patient
from workers.report.layout.rendering import film_png, overlay_png
from workers.report.objects import MadeObject, refusal, report
from workers.report.read_back import read_result
from workers.report.structured_report.predecessor import Predecessor, predecessor
from workers.report.validation import release

__all__ = [
    "MadeObject",
    "Predecessor",
    "film_png",
    "must_have_patient",
    "overlay_png",
    "predecessor",
    "read_result",
    "refusal",
    "release",
    "report",
]
