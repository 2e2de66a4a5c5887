"""
The whole reading inside the result objects: the JSON of `genu grade` in a private attribute (PS3.5 7.8).

What viewers show is coded, drawn and rounded; this is read back without loss (`genu read`), for research and for a
RIS. It has no patient data. A PACS may remove private attributes; then the report's codes still contain most of the
reading (structured_report/parse.py).
"""

import json
from dataclasses import replace

from pydicom.dataset import Dataset

from node.finding import ModelIdentity, Reading

GROUP, CREATOR, OFFSET = 0x0099, "GENU", 0x01


def embed_json(ds: Dataset, reading: Reading, card: ModelIdentity) -> None:
    """Store the reading of the model `card` in (0099,xx01) of the private creator GENU, in ASCII."""
    content = replace(reading, model=card).as_json()
    block = ds.private_block(GROUP, CREATOR, create=True)
    block.add_new(OFFSET, "UT", json.dumps(content, separators=(",", ":"), allow_nan=False))


def embedded_json(ds: Dataset) -> Reading | None:
    """The reading in the private attribute; None if there is none. Raises ValueError if it is damaged."""
    try:
        value = ds.private_block(GROUP, CREATOR)[OFFSET].value
    except KeyError:
        return None
    text = value.decode("ascii") if isinstance(value, bytes) else str(value)  # bytes from Implicit VR
    try:
        return Reading.from_json(json.loads(text.rstrip("\0 ")))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"the embedded JSON lacks {error}") from error
