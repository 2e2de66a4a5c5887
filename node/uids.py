"""UIDs of Genu's objects, derived from their origin and never random: an object made twice has one UID (PS3.5 B.2)."""

import uuid

from pydicom.uid import UID

_NAMESPACE = uuid.UUID("27e309b3-5e24-512f-a79d-75ec21210d8e")


def derived_uid(*components: str) -> UID:
    """The UID that is derived from exactly these components: 2.25 and a name-based UUID."""
    return UID(f"2.25.{uuid.uuid5(_NAMESPACE, chr(0).join(components)).int}")
