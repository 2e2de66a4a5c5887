"""The answers of the receiving door, written by hand for speed, are those that the library would write."""

import queue
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE, build_context, evt
from pynetdicom.dimse_messages import C_ECHO_RSP, C_STORE_RSP
from pynetdicom.dimse_primitives import C_ECHO, C_STORE
from pynetdicom.dsutils import encode

from node.receive.dimse import Command, write_response
from node.receive.notifier import Ringer
from tests.peers.archives import HOST
from tests.peers.senders import DX, EXPLICIT, VERIFICATION, Intake, film, intake


@pytest.fixture
def house(tmp_path: Path) -> Iterator[Intake]:
    with intake(tmp_path) as made:
        yield made


def command(field: int, sop_class_uid: str, sop_instance_uid: str = "", message_id: int = 7) -> Command:
    context = build_context(sop_class_uid, [EXPLICIT])
    context.context_id = 1
    return Command(field, message_id, sop_class_uid, sop_instance_uid, bool(sop_instance_uid), context)


@pytest.mark.parametrize("status", [0x0000, 0x0122, 0xA700, 0xA900, 0xC000])
@pytest.mark.parametrize("comment", ["", "even", "odd", "x" * 64])
@pytest.mark.parametrize("uid", ["1.2.3", "1.2.34", "2.25." + "9" * 39])
def test_a_store_is_answered_as_the_library_would(status: int, comment: str, uid: str) -> None:
    """Byte for byte, whatever the status, with even and odd values, with and without a comment."""
    primitive = C_STORE()
    primitive.MessageIDBeingRespondedTo, primitive.Status = 7, status
    primitive.AffectedSOPClassUID, primitive.AffectedSOPInstanceUID = DX, uid
    if comment:
        primitive.ErrorComment = comment
    assert write_response(command(1, DX, uid), status, comment) == by_library(C_STORE_RSP(), primitive)


def test_an_echo_is_answered_as_the_library_would() -> None:
    """A C-ECHO-RSP has no instance; message identifiers use both their bytes."""
    primitive = C_ECHO()
    primitive.MessageIDBeingRespondedTo, primitive.Status, primitive.AffectedSOPClassUID = 65534, 0, VERIFICATION
    assert write_response(command(0x30, VERIFICATION, message_id=65534), 0) == by_library(C_ECHO_RSP(), primitive)


def test_what_is_no_uid_is_not_repeated() -> None:
    """A stranger's bytes in the place of a UID do not come back in the answer."""
    answer = write_response(command(1, DX, "../../etc/passwd"), 0x0117)
    assert b"passwd" not in answer
    assert write_response(command(1, DX, "1.2.3"), 0, "é" * 90).count(b"?") == 64


@pytest.mark.parametrize("longest", [0, 20, 64, 4096])
def test_a_peer_that_takes_small_pdus_gets_its_answer_in_pieces(house: Intake, longest: int) -> None:
    """The peer's maximum holds for answers too, and 0 is no maximum (PS3.8 D.1)."""
    lengths: list[int] = []
    handlers = [(evt.EVT_DATA_RECV, lambda event: lengths.append(len(event.data)))]
    ae = AE()
    ae.add_requested_context(DX, ExplicitVRLittleEndian)
    link = ae.associate(HOST, house.port, max_pdu=longest, evt_handlers=handlers)
    made = film()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    lengths.clear()
    assert link.send_c_store(made).Status == 0x0000
    link.release()
    answer = lengths[:-1]  # the last is the A-RELEASE-RP
    assert (len(answer) > 1) == (longest in (20, 64))
    assert all(length - 6 <= longest for length in answer if longest)


def test_every_uid_is_rung_in_order_and_what_is_left_at_the_end_at_once() -> None:
    """Rings are spread over time while objects come in; when the receiver stops nothing of the list is left."""

    class Bell:
        def __init__(self) -> None:
            self.rung: queue.Queue[str] = queue.Queue()

        def ring(self, uid: str) -> bool:
            self.rung.put(uid)
            return True

    bell = Bell()
    ringer = Ringer(bell)
    ringer.start()
    uids = [f"1.{number}" for number in range(2000)]
    for uid in uids:
        ringer.ring(uid)
    ringer.stop(8)
    assert [bell.rung.get_nowait() for _ in uids] == uids


def by_library(message: C_STORE_RSP | C_ECHO_RSP, primitive: C_STORE | C_ECHO) -> bytes:
    message.primitive_to_message(primitive)
    encoded = encode(message.command_set, True, True)
    assert encoded is not None
    return encoded
