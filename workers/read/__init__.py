"""A DICOM file becomes an upright film, in a process that can be killed; the rooms behind `Reader`."""

from workers.read.patient import patient_facts
from workers.read.reader import Film, Reader, read_picture
from workers.read.spacing import Spacing, SpacingKind

__all__ = ["Film", "Reader", "Spacing", "SpacingKind", "patient_facts", "read_picture"]
