"""DICOM objects and pictures of a reading and its heat maps: created, validated and read back."""

from workers.report.identity import require_patient_id
from workers.report.layout.rendering import film_png, overlay_png
from workers.report.objects import ResultInstance, report, report_refusal
from workers.report.read_back import read_result
from workers.report.structured_report.predecessor import Predecessor, predecessor
from workers.report.validation import validate

__all__ = [
    "Predecessor",
    "ResultInstance",
    "film_png",
    "overlay_png",
    "predecessor",
    "read_result",
    "report",
    "report_refusal",
    "require_patient_id",
    "validate",
]
