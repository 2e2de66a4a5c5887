"""From a DICOM file to a film with bright bones, decoded in a process that can be killed; the entry is `Reader`."""

from workers.read.patient import patient_facts
from workers.read.reader import Film, Reader, read_picture
from workers.read.spacing import Spacing, SpacingKind

__all__ = ["Film", "Reader", "Spacing", "SpacingKind", "patient_facts", "read_picture"]
