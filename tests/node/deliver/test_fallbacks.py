"""An object goes out in the way that its destination takes: as single frames, as a plain report, compressed."""

import io
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.uid import (
    Comprehensive3DSRStorage,
    ComprehensiveSRStorage,
    JPEGLSLossless,
    MultiFrameTrueColorSecondaryCaptureImageStorage,
    SecondaryCaptureImageStorage,
)

from node.deliver.fallbacks import compressed
from node.settings import Destination
from node.single_frames import single_frames
from tests.peers.archives import HOST, needs, storescp, wait_until
from tests.peers.delivering_node import Node
from tests.samples.pending_deliveries import Owed, delivered, encoded, owe
from tests.samples.source_films import LEFT, RIGHT, header, made_of, reading

PROFILE = """
[[TransferSyntaxes]]
[Known]
{syntaxes}
[[PresentationContexts]]
[Taken]
{contexts}
[[Profiles]]
[Default]
PresentationContexts = Taken
"""
PLAIN = ("LocalEndianExplicit", "LittleEndianImplicit")


def taking(folder: Path, *classes: str, syntaxes: tuple[str, ...] = PLAIN) -> tuple[str, ...]:
    """Options with which storescp takes those SOP classes alone."""
    folder.mkdir(exist_ok=True)
    path = folder / "taken.cfg"
    path.write_text(
        PROFILE.format(
            syntaxes="\n".join(f"TransferSyntax{n} = {each}" for n, each in enumerate(syntaxes, start=1)),
            contexts="\n".join(f"PresentationContext{n} = {each}\\Known" for n, each in enumerate(classes, start=1)),
        )
    )
    return "-xf", str(path), "Default"


def owed_of(node: Node, *, sr_class: str = "comprehensive") -> tuple[Owed, dict[str, pydicom.Dataset]]:
    """A real answer of two knees, owed to the destination."""
    made = made_of(header(), reading(RIGHT, LEFT), sr_class=sr_class)
    owed = owe(
        node.ledger, node.vault, {"pacs": ("SC", "SR")}, made={kind: made[kind].dataset for kind in ("SC", "SR")}
    )
    return owed, {kind: each.dataset for kind, each in made.items()}


def to(peer_port: int, *, compress: bool = False) -> Destination:
    return Destination(name="pacs", ae_title="STORESCP", host=HOST, port=peer_port, compress=compress)


@needs("storescp")
def test_pages_go_as_single_frames_where_no_multi_frame_is_taken(node: Node, tmp_path: Path) -> None:
    """Each page arrives as an object of its own, equal to the frame, and the answer is DELIVERED; twice is once."""
    owed, made = owed_of(node)
    options = taking(tmp_path / "scp", SecondaryCaptureImageStorage, ComprehensiveSRStorage)
    with storescp(tmp_path / "scp", *options) as peer, node.delivering(to(peer.port)):
        assert wait_until(lambda: delivered(node.ledger, owed), 30)
        came = [pydicom.dcmread(path) for path in peer.received().values()]
    pages = sorted((each for each in came if each.Modality == "OT"), key=lambda each: int(each.InstanceNumber))
    assert {each.SOPClassUID for each in pages} == {SecondaryCaptureImageStorage}
    frames = made["SC"].pixel_array
    assert len(pages) == len(frames) == 14
    assert all(np.array_equal(page.pixel_array, frame) for page, frame in zip(pages, frames, strict=True))
    assert [page.ImageLaterality for page in pages] == ["R"] * 7 + ["L"] * 7
    assert [str(each.SOPInstanceUID) for each in single_frames(made["SC"])] == [str(p.SOPInstanceUID) for p in pages]
    assert not list(node.vault.results_folder(owed.source_uid).glob(".sending-*"))


@needs("storescp")
def test_a_3d_report_goes_as_a_plain_one_where_no_3d_is_taken(node: Node, tmp_path: Path) -> None:
    """The same content under another SOP class and a UID of its own."""
    owed, made = owed_of(node, sr_class="comprehensive-3d")
    multi = MultiFrameTrueColorSecondaryCaptureImageStorage
    options = taking(tmp_path / "scp", multi, ComprehensiveSRStorage)
    with storescp(tmp_path / "scp", *options) as peer, node.delivering(to(peer.port)):
        assert wait_until(lambda: delivered(node.ledger, owed), 30)
        (came,) = (d for d in map(pydicom.dcmread, peer.received().values()) if d.Modality == "SR")
    assert made["SR"].SOPClassUID == Comprehensive3DSRStorage
    assert came.SOPClassUID == ComprehensiveSRStorage
    assert came.SOPInstanceUID != made["SR"].SOPInstanceUID
    assert came.ContentSequence == made["SR"].ContentSequence


@needs("storescp")
@pytest.mark.parametrize(("taken", "syntax"), [(("JPEGLSLossless", *PLAIN), JPEGLSLossless), (PLAIN, None)])
def test_pictures_are_compressed_where_that_is_asked_for_and_taken(
    taken: tuple[str, ...], syntax: str | None, node: Node, tmp_path: Path
) -> None:
    """JPEG-LS where the destination takes it, uncompressed where it does not; the pixels are the same."""
    owed, made = owed_of(node)
    multi = MultiFrameTrueColorSecondaryCaptureImageStorage
    options = taking(tmp_path / "scp", multi, ComprehensiveSRStorage, syntaxes=taken)
    with storescp(tmp_path / "scp", *options) as peer, node.delivering(to(peer.port, compress=True)):
        assert wait_until(lambda: delivered(node.ledger, owed), 30)
        came = pydicom.dcmread(peer.received()[str(made["SC"].SOPInstanceUID)])
    assert (came.file_meta.TransferSyntaxUID == JPEGLSLossless) is (syntax is not None)
    assert np.array_equal(came.pixel_array, made["SC"].pixel_array)


def test_compressing_says_the_same_in_less() -> None:
    """The same UID, attributes and pixels, in less than two thirds of the bytes."""
    made = made_of(header(), reading(RIGHT))["SC"]
    packed = compressed(pydicom.dcmread(io.BytesIO(made.encode())))
    assert packed.SOPInstanceUID == made.sop_instance_uid
    assert np.array_equal(packed.pixel_array, made.dataset.pixel_array)
    assert len(encoded(packed)) < len(made.encode()) * 2 / 3
    assert packed.LossyImageCompression == made.dataset.LossyImageCompression == "00"
