"""UIDs of Genu's own that are derived, never drawn: what is made twice has one UID (PS3.5 B.2)."""

import uuid

from pydicom.uid import UID

_OBJECTS = uuid.UUID("27e309b3-5e24-512f-a79d-75ec21210d8e")


def derived_uid(*parts: str) -> UID:
    """The UID that those parts, and no others, give: 2.25 and a name-based UUID."""
    return UID(f"2.25.{uuid.uuid5(_OBJECTS, chr(0).join(parts)).int}")
