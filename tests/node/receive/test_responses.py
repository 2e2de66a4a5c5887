"""The responses, encoded by hand for speed, are those that pynetdicom would encode; the notifier loses no UID."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE, build_context, evt
from pynetdicom.dimse_messages import C_ECHO_RSP, C_STORE_RSP
from pynetdicom.dimse_primitives import C_ECHO, C_STORE
from pynetdicom.dsutils import encode

from node.receive.dimse import CommandSet, encode_response
from node.receive.notifier import Notifier
from tests.peers.archives import HOST
from tests.peers.senders import DX, EXPLICIT, VERIFICATION, RunningScp, film, running_scp


@pytest.fixture
def node(tmp_path: Path) -> Iterator[RunningScp]:
    with running_scp(tmp_path) as running:
        yield running


def command(field: int, sop_class_uid: str, sop_instance_uid: str = "", message_id: int = 7) -> CommandSet:
    context = build_context(sop_class_uid, [EXPLICIT])
    context.context_id = 1
    return CommandSet(field, message_id, sop_class_uid, sop_instance_uid, bool(sop_instance_uid), context)


@pytest.mark.parametrize("status", [0x0000, 0x0122, 0xA700, 0xA900, 0xC000])
@pytest.mark.parametrize("comment", ["", "even", "odd", "x" * 64])
@pytest.mark.parametrize("uid", ["1.2.3", "1.2.34", "2.25." + "9" * 39])
def test_a_store_is_answered_as_pynetdicom_would(status: int, comment: str, uid: str) -> None:
    """Byte for byte, whatever the status, with even and odd values, with and without a comment."""
    primitive = C_STORE()
    primitive.MessageIDBeingRespondedTo, primitive.Status = 7, status
    primitive.AffectedSOPClassUID, primitive.AffectedSOPInstanceUID = DX, uid
    if comment:
        primitive.ErrorComment = comment
    assert encode_response(command(1, DX, uid), status, comment) == by_pynetdicom(C_STORE_RSP(), primitive)


def test_an_echo_is_answered_as_pynetdicom_would() -> None:
    """A C-ECHO-RSP has no instance; message identifiers use both their bytes."""
    primitive = C_ECHO()
    primitive.MessageIDBeingRespondedTo, primitive.Status, primitive.AffectedSOPClassUID = 65534, 0, VERIFICATION
    assert encode_response(command(0x30, VERIFICATION, message_id=65534), 0) == by_pynetdicom(C_ECHO_RSP(), primitive)


def test_an_invalid_uid_is_not_echoed() -> None:
    """Bytes of the peer in the place of a UID are not in the response."""
    response = encode_response(command(1, DX, "../../etc/passwd"), 0x0117)
    assert b"passwd" not in response
    assert encode_response(command(1, DX, "1.2.3"), 0, "é" * 90).count(b"?") == 64


@pytest.mark.parametrize("longest", [0, 20, 64, 4096])
def test_a_peer_with_small_pdus_gets_its_response_in_fragments(node: RunningScp, longest: int) -> None:
    """The peer's maximum holds for responses too, and 0 is no maximum (PS3.8 D.1)."""
    lengths: list[int] = []
    handlers = [(evt.EVT_DATA_RECV, lambda event: lengths.append(len(event.data)))]
    ae = AE()
    ae.add_requested_context(DX, ExplicitVRLittleEndian)
    association = ae.associate(HOST, node.port, max_pdu=longest, evt_handlers=handlers)
    ds = film()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    lengths.clear()
    assert association.send_c_store(ds).Status == 0x0000
    association.release()
    response = lengths[:-1]  # the last is the A-RELEASE-RP
    assert (len(response) > 1) == (longest in (20, 64))
    assert all(length - 6 <= longest for length in response if longest)


def test_every_uid_is_published_in_order_and_the_rest_at_the_end_at_once() -> None:
    """Messages are spread over time while objects are received; when the SCP stops nothing of the queue is left."""
    published: list[str] = []

    def publish(uid: str) -> bool:
        published.append(uid)
        return True

    notifier = Notifier(publish)
    notifier.start()
    uids = [f"1.{number}" for number in range(2000)]
    for uid in uids:
        notifier.enqueue(uid)
    notifier.stop(8)
    assert published == uids


def by_pynetdicom(message: C_STORE_RSP | C_ECHO_RSP, primitive: C_STORE | C_ECHO) -> bytes:
    message.primitive_to_message(primitive)
    encoded = encode(message.command_set, True, True)
    assert encoded is not None
    return encoded
