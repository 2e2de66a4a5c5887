"""
The whole answer inside the objects that tell it: the JSON of `genu grade` in a private attribute (PS3.5 7.8).

What viewers show is coded, drawn and rounded; this is what researchers and a RIS read back without loss
(`genu read`). No patient is in it. A PACS may take private attributes away; then the report's codes still say the
most of it (coded.py).
"""

import json
from dataclasses import replace

from pydicom.dataset import Dataset

from node.finding import ModelIdentity, Reading

GROUP, CREATOR, OFFSET = 0x0099, "GENU", 0x01


def carry(made: Dataset, reading: Reading, card: ModelIdentity) -> None:
    """The object has the answer in (0099,xx01) of the private creator GENU, in ASCII."""
    told = replace(reading, model=card).as_json()
    block = made.private_block(GROUP, CREATOR, create=True)
    block.add_new(OFFSET, "UT", json.dumps(told, separators=(",", ":"), allow_nan=False))


def carried(made: Dataset) -> Reading | None:
    """The answer that the object has in it; None if it has none. Raises ValueError if it is damaged."""
    try:
        value = made.private_block(GROUP, CREATOR)[OFFSET].value
    except KeyError:
        return None
    text = value.decode("ascii") if isinstance(value, bytes) else str(value)  # bytes from Implicit VR
    try:
        return Reading.from_json(json.loads(text.rstrip("\0 ")))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"the answer in it lacks {error}") from error
