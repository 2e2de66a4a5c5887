"""An object is sent in an encoding that the destination accepts: single frames, Comprehensive SR, JPEG-LS."""

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
from tests.samples.pending_deliveries import Pending, add_pending, delivered, encoded
from tests.samples.source_films import LEFT, RIGHT, header, reading, results_of

PROFILE = """
[[TransferSyntaxes]]
[Known]
{syntaxes}
[[PresentationContexts]]
[Accepted]
{contexts}
[[Profiles]]
[Default]
PresentationContexts = Accepted
"""
PLAIN = ("LocalEndianExplicit", "LittleEndianImplicit")


def accept_only(folder: Path, *classes: str, syntaxes: tuple[str, ...] = PLAIN) -> tuple[str, ...]:
    """Options with which storescp accepts those SOP classes alone."""
    folder.mkdir(exist_ok=True)
    path = folder / "accepted.cfg"
    path.write_text(
        PROFILE.format(
            syntaxes="\n".join(f"TransferSyntax{n} = {syntax}" for n, syntax in enumerate(syntaxes, start=1)),
            contexts="\n".join(
                f"PresentationContext{n} = {sop_class}\\Known" for n, sop_class in enumerate(classes, start=1)
            ),
        )
    )
    return "-xf", str(path), "Default"


def owed_of(node: Node, *, sr_class: str = "comprehensive") -> tuple[Pending, dict[str, pydicom.Dataset]]:
    """The result objects of two knees, to be delivered to the destination."""
    made = results_of(header(), reading(RIGHT, LEFT), sr_class=sr_class)
    owed = add_pending(
        node.ledger, node.vault, {"pacs": ("SC", "SR")}, datasets={kind: made[kind].dataset for kind in ("SC", "SR")}
    )
    return owed, {kind: result.dataset for kind, result in made.items()}


def to(peer_port: int, *, compress: bool = False) -> Destination:
    return Destination(name="pacs", ae_title="STORESCP", host=HOST, port=peer_port, compress=compress)


@needs("storescp")
def test_pages_are_sent_as_single_frames_if_multi_frame_is_rejected(node: Node, tmp_path: Path) -> None:
    """Each page arrives as an object of its own, equal to the frame, and the radiograph is DELIVERED."""
    owed, made = owed_of(node)
    options = accept_only(tmp_path / "scp", SecondaryCaptureImageStorage, ComprehensiveSRStorage)
    with storescp(tmp_path / "scp", *options) as peer, node.delivering(to(peer.port)):
        assert wait_until(lambda: delivered(node.ledger, owed), 30)
        received = [pydicom.dcmread(path) for path in peer.received().values()]
    pages = sorted((ds for ds in received if ds.Modality == "OT"), key=lambda ds: int(ds.InstanceNumber))
    assert {page.SOPClassUID for page in pages} == {SecondaryCaptureImageStorage}
    frames = made["SC"].pixel_array
    assert len(pages) == len(frames) == 14
    assert all(np.array_equal(page.pixel_array, frame) for page, frame in zip(pages, frames, strict=True))
    assert [page.ImageLaterality for page in pages] == ["R"] * 7 + ["L"] * 7
    assert [str(ds.SOPInstanceUID) for ds in single_frames(made["SC"])] == [str(ds.SOPInstanceUID) for ds in pages]
    assert not list(node.vault.results_folder(owed.source_uid).glob(".sending-*"))


@needs("storescp")
def test_a_comprehensive_3d_sr_is_sent_as_comprehensive_sr_if_it_is_rejected(node: Node, tmp_path: Path) -> None:
    """The same content under another SOP class and a UID of its own."""
    owed, made = owed_of(node, sr_class="comprehensive-3d")
    multi = MultiFrameTrueColorSecondaryCaptureImageStorage
    options = accept_only(tmp_path / "scp", multi, ComprehensiveSRStorage)
    with storescp(tmp_path / "scp", *options) as peer, node.delivering(to(peer.port)):
        assert wait_until(lambda: delivered(node.ledger, owed), 30)
        (received,) = (d for d in map(pydicom.dcmread, peer.received().values()) if d.Modality == "SR")
    assert made["SR"].SOPClassUID == Comprehensive3DSRStorage
    assert received.SOPClassUID == ComprehensiveSRStorage
    assert received.SOPInstanceUID != made["SR"].SOPInstanceUID
    assert received.ContentSequence == made["SR"].ContentSequence


@needs("storescp")
@pytest.mark.parametrize(("accepted", "syntax"), [(("JPEGLSLossless", *PLAIN), JPEGLSLossless), (PLAIN, None)])
def test_images_are_compressed_if_configured_and_accepted(
    accepted: tuple[str, ...], syntax: str | None, node: Node, tmp_path: Path
) -> None:
    """JPEG-LS if the destination accepts it, uncompressed otherwise; the pixels are the same."""
    owed, made = owed_of(node)
    multi = MultiFrameTrueColorSecondaryCaptureImageStorage
    options = accept_only(tmp_path / "scp", multi, ComprehensiveSRStorage, syntaxes=accepted)
    with storescp(tmp_path / "scp", *options) as peer, node.delivering(to(peer.port, compress=True)):
        assert wait_until(lambda: delivered(node.ledger, owed), 30)
        received = pydicom.dcmread(peer.received()[str(made["SC"].SOPInstanceUID)])
    assert (received.file_meta.TransferSyntaxUID == JPEGLSLossless) is (syntax is not None)
    assert np.array_equal(received.pixel_array, made["SC"].pixel_array)


def test_compression_changes_only_the_size() -> None:
    """The same UID, attributes and pixels, in less than two thirds of the bytes."""
    made = results_of(header(), reading(RIGHT))["SC"]
    smaller = compressed(pydicom.dcmread(io.BytesIO(made.encode())))
    assert smaller.SOPInstanceUID == made.sop_instance_uid
    assert np.array_equal(smaller.pixel_array, made.dataset.pixel_array)
    assert len(encoded(smaller)) < len(made.encode()) * 2 / 3
    assert smaller.LossyImageCompression == made.dataset.LossyImageCompression == "00"
