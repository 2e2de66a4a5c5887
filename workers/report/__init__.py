"""A reading and its heat maps become DICOM objects and pictures; the rooms behind `report`."""

from workers.report.identity import must_have_patient
from workers.report.predecessor import Predecessor, predecessor
from workers.report.read_back import read_result
from workers.report.release import release
from workers.report.results import MadeObject, refusal, report
from workers.report.view import film_png, overlay_png

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
