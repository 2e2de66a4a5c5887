"""Every kind of object at a real archive: stored, read back equal, and shown in its preview."""

import io
import subprocess
import urllib.error
from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest

from node.deliver.fallbacks import compressed
from tests.peers.archives import HOST, Orthanc, needs, orthanc
from tests.samples.source_films import CUT_OFF, LEFT, RIGHT, all_made, header, named, reading
from workers.report import MadeObject

KINDS = ("SC", "SC1", "SR", "SEG", "PR", "KO", "PM", "PDF")
PICTURES = {"SC", "SC1", "SEG"}
"""Those of which Orthanc makes a picture; of the others it says that there is none."""


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    with orthanc(tmp_path_factory.mktemp("orthanc")) as running:
        yield running


def sent(archive: Orthanc, made: list[MadeObject], folder: Path, *options: str) -> None:
    """Store the objects with DCMTK's storescu."""
    paths = []
    for number, each in enumerate(made):
        paths.append(folder / f"{number}.dcm")
        paths[-1].write_bytes(each.encode())
    command = ["storescu", "-R", "-aec", archive.ae_title, *options, HOST, str(archive.port), *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def is_shown(archive: Orthanc, uid: str) -> bool:
    """Whether Orthanc makes a picture of it, and is still there afterwards."""
    try:
        shown = archive.fetch(f"/instances/{archive.received()[uid]}/preview").startswith(b"\x89PNG")
    except urllib.error.HTTPError:
        shown = False
    assert archive.request("/system")
    return shown


@needs("Orthanc", "storescu")
@pytest.mark.parametrize("script", ["latin", "korean", "utf-8"])
def test_orthanc_keeps_and_shows_every_object(script: str, archive: Orthanc, tmp_path: Path) -> None:
    """Two knees with all kinds of objects: each comes back as it was sent, and the pictures have previews."""
    made = all_made(named(script), reading(RIGHT, LEFT), kinds=KINDS, is_red=lambda _: True)
    assert {each.kind for each in made} == set(KINDS)
    uids = [each.sop_instance_uid for each in made]
    for uid in set(uids) & set(archive.received()):
        archive.fetch(f"/instances/{archive.received()[uid]}", method="DELETE")
    sent(archive, made, tmp_path)
    for each in made:
        back = pydicom.dcmread(io.BytesIO(archive.file(each.sop_instance_uid)))
        assert back == pydicom.dcmread(io.BytesIO(each.encode())), each.kind
        assert is_shown(archive, each.sop_instance_uid) == (each.kind in PICTURES), each.kind


@needs("Orthanc", "storescu")
def test_orthanc_decodes_compressed_pages(tmp_path: Path) -> None:
    """JPEG-LS pages, one knee refused: each frame can be drawn."""
    (made,) = all_made(header(), reading(RIGHT, CUT_OFF), kinds=("SC",))
    packed = MadeObject("SC", compressed(made.dataset))
    with orthanc(tmp_path / "orthanc") as archive:
        sent(archive, [packed], tmp_path, "-xt")
        name = archive.received()[made.sop_instance_uid]
        for frame in range(8):
            assert archive.fetch(f"/instances/{name}/frames/{frame}/preview").startswith(b"\x89PNG")
