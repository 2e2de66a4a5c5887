"""A lossy JPEG film that did not declare it gave a Secondary Capture marked as never compressed with loss."""

from pathlib import Path

import pytest
from pydicom.uid import JPEG2000, UID, JPEG2000Lossless, JPEGBaseline8Bit

from tests.peers.archives import needs
from tests.samples.radiograph_files import Encoding, full_window, write
from tests.samples.source_films import CARD, MADE_AT, RIGHT, heat, reading
from workers.read import Reader
from workers.report import report


@needs("dcmcjpeg")
@pytest.mark.parametrize(("syntax", "wanted"), [(JPEGBaseline8Bit, "01"), (JPEG2000, "01"), (JPEG2000Lossless, "00")])
def test_the_transfer_syntax_marks_what_the_header_does_not(tmp_path: Path, syntax: UID, wanted: str) -> None:
    """The reader returns the transfer syntax of the pixels, and the result is marked (PS3.3 C.7.6.1.1.5)."""
    stored, allocated = (8, 8) if syntax == JPEGBaseline8Bit else (12, 16)
    attributes = {"LossyImageCompression": None}
    way = full_window(Encoding("lossy", stored=stored, allocated=allocated, syntax=syntax, attributes=attributes))
    reader = Reader(seconds=30, memory_mb=1024, max_megapixels=40)
    try:
        (film,) = reader.read(write(way, tmp_path / "film.dcm"))
    finally:
        reader.close()
    del film.header.LossyImageCompression
    instances = report(film, reading(RIGHT), [heat()], CARD, sr_class="comprehensive", made_at=MADE_AT)
    (picture,) = [instance.dataset for instance in instances if instance.kind == "SC"]
    assert picture.LossyImageCompression == wanted
