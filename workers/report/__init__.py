"""A reading and its heat maps become DICOM objects and pictures; the rooms behind `report`."""

from workers.report.results import MadeObject, refusal, report
from workers.report.view import film_png, overlay_png

__all__ = ["MadeObject", "film_png", "overlay_png", "refusal", "report"]
