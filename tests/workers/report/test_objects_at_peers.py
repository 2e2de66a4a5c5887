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
from tests.samples.source_films import CUT_OFF, LEFT, RIGHT, header, named, reading, result_list
from workers.report import ResultInstance

KINDS = ("SC", "SC1", "SR", "SEG", "PR", "KO", "PM", "PDF")
PICTURES = {"SC", "SC1", "SEG"}
"""Kinds of which Orthanc has a preview."""


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    with orthanc(tmp_path_factory.mktemp("orthanc")) as running:
        yield running


def store_at(archive: Orthanc, instances: list[ResultInstance], folder: Path, *options: str) -> None:
    """Store the objects with DCMTK's storescu."""
    paths = []
    for number, instance in enumerate(instances):
        paths.append(folder / f"{number}.dcm")
        paths[-1].write_bytes(instance.encode())
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
    """Two knees with all kinds of objects: every one is returned as it was sent, and the pictures have previews."""
    instances = result_list(named(script), reading(RIGHT, LEFT), kinds=KINDS, is_red=lambda _: True)
    assert {instance.kind for instance in instances} == set(KINDS)
    uids = [instance.sop_instance_uid for instance in instances]
    for uid in set(uids) & set(archive.received()):
        archive.fetch(f"/instances/{archive.received()[uid]}", method="DELETE")
    store_at(archive, instances, tmp_path)
    for instance in instances:
        back = pydicom.dcmread(io.BytesIO(archive.file(instance.sop_instance_uid)))
        assert back == pydicom.dcmread(io.BytesIO(instance.encode())), instance.kind
        assert is_shown(archive, instance.sop_instance_uid) == (instance.kind in PICTURES), instance.kind


@needs("Orthanc", "storescu")
def test_orthanc_decodes_compressed_pages(tmp_path: Path) -> None:
    """JPEG-LS pages, one knee refused: each frame can be drawn."""
    (instance,) = result_list(header(), reading(RIGHT, CUT_OFF), kinds=("SC",))
    packed = ResultInstance("SC", compressed(instance.dataset))
    with orthanc(tmp_path / "orthanc") as archive:
        store_at(archive, [packed], tmp_path, "-xt")
        name = archive.received()[instance.sop_instance_uid]
        for frame in range(8):
            assert archive.fetch(f"/instances/{name}/frames/{frame}/preview").startswith(b"\x89PNG")
