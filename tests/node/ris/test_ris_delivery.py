"""Delivery of messages: a RIS that is down and recovers, one that rejects, and a whole node."""

import hashlib
import urllib.request
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, generate_uid

from node.admin.view_models import destination_views
from node.destination import Destination
from node.ledger import Ledger, ResultObject, State
from node.radiograph import Radiograph
from node.settings import Deliver, ObjectKind, Work
from tests.peers.archives import HOST, free_port, wait_until
from tests.peers.delivering_node import Node
from tests.peers.faulty import archive
from tests.peers.ris import acknowledged, fhir_service, receiving
from tests.peers.running_node import running, until_settled
from tests.samples.pending_deliveries import encoded, instance
from tests.samples.source_films import CARD, MADE_AT, READINGS, SOURCE_UID, film, header, heat, reading, results_of
from workers.analysis import Analysis, PreparedFilm
from workers.messages import messages
from workers.outbox import Source, fill_outbox
from workers.phantom import samples
from workers.report.objects import NEVER_REPORTED

SHORT_TIMING = Deliver(first_pause_seconds=0.2, longest_pause_seconds=0.5, connect_seconds=2, response_seconds=1)


def ris(port: int) -> Destination:
    return Destination(name="ris", protocol="mllp", host=HOST, port=port)


def fhir(url: str) -> Destination:
    return Destination(name="fhir", protocol="fhir", url=url)


def claimed(ledger: Ledger, uid: str) -> None:
    """Add a radiograph that a worker has claimed."""
    sha256 = hashlib.sha256(uid.encode()).hexdigest()
    classes = DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian
    ledger.record_received(Radiograph(uid, *classes, sha256, 1, "CR", HOST, datetime.now(UTC)))
    assert ledger.claim(uid, "tests", lease_seconds=60, attempts=3) is not None


def owe(node: Node, *destinations: Destination, kinds: tuple[ObjectKind, ...]) -> str:
    """Add a radiograph whose report, as messages and as an SR, is to be delivered to these; return its UID."""
    uid = generate_uid()
    claimed(node.ledger, uid)
    report = results_of(header(SOPInstanceUID=uid), READINGS["two knees"])["SR"].dataset
    report.SOPInstanceUID = generate_uid()
    contents = [
        (message.kind, message.sop_instance_uid, message.content) for message in messages([report], kinds, MADE_AT)
    ]
    if "SR" in kinds:
        sr = instance("SR")
        contents.append(("SR", str(sr.SOPInstanceUID), encoded(sr)))
    objects = []
    for kind, object_uid, content in contents:
        name = f"{kind.lower()}.bin"
        node.vault.write_result(uid, name, content)
        sop_class, syntax = ("1.2.840.10008.5.1.4.1.1.88.33", ExplicitVRLittleEndian) if kind == "SR" else ("", "")
        objects.append(ResultObject(kind, sop_class, object_uid, syntax, name, hashlib.sha256(content).hexdigest()))
    assert node.ledger.report(
        uid, "tests", {}, objects, {destination.name: destination.objects for destination in destinations}
    )
    return str(uid)


def state(node: Node, uid: str) -> State:
    entry = node.ledger.find(uid)
    assert entry is not None
    return entry.state


def test_a_radiograph_is_delivered_when_archive_ris_and_fhir_service_have_accepted_it(node: Node) -> None:
    """Each gets the objects of its protocol, and nothing else."""
    with archive() as pacs, receiving() as receiver, fhir_service() as service:
        archive_destination = Destination(name="pacs", ae_title="ARCHIVE", host=HOST, port=pacs.port, objects=("SR",))
        destinations = archive_destination, ris(receiver.port), fhir(service.url)
        uid = owe(node, *destinations, kinds=("SR", "HL7", "FHIR"))
        with node.delivering(*destinations, timing=SHORT_TIMING):
            assert wait_until(lambda: state(node, uid) == State.DELIVERED)
    assert (len(pacs.stored), len(receiver.frames), len(service.posted)) == (1, 1, 1)
    assert all(
        delivery.object.kind == {"pacs": "SR", "ris": "HL7", "fhir": "FHIR"}[delivery.destination]
        for delivery in node.ledger.deliveries(uid)
    )


def test_what_waits_for_a_ris_that_is_down_is_sent_when_it_is_up_again(node: Node) -> None:
    """It is shown as down, nothing is lost, each message arrives once."""
    port = free_port()
    uids = [owe(node, ris(port), kinds=("HL7",)) for _ in range(3)]
    with node.delivering(ris(port), timing=SHORT_TIMING):
        assert wait_until(lambda: node.status("ris").get("state") == "down")
        assert "refuses the connection" in str(node.status("ris")["last_error"])
        with receiving(port=port) as receiver:
            assert wait_until(lambda: all(state(node, uid) == State.DELIVERED for uid in uids))
            assert wait_until(lambda: node.status("ris").get("state") == "up")
    assert len(receiver.frames) == len(set(receiver.frames)) == 3


def test_what_waits_for_a_service_that_is_down_is_sent_when_it_is_up_again(node: Node) -> None:
    """The same over HTTP; while a gateway answers 503 for a service, the service is down."""
    with fhir_service(fixed_answer=(503, {})) as service:
        uids = [owe(node, fhir(service.url), kinds=("FHIR",)) for _ in range(3)]
        with node.delivering(fhir(service.url), timing=SHORT_TIMING):
            assert wait_until(lambda: node.status("fhir").get("state") == "down")
            service.fixed_answer = None
            assert wait_until(lambda: all(state(node, uid) == State.DELIVERED for uid in uids))
    assert len(service.of("DiagnosticReport")) == 3


def test_a_permanently_rejected_message_is_shown_and_can_be_retried(node: Node) -> None:
    """AR is not sent again automatically, delays no other message, and leaves the radiograph REPORTED."""
    with receiving() as receiver:
        first, second = (owe(node, ris(receiver.port), kinds=("HL7",)) for _ in range(2))
        control = node.vault.read_result(first, "hl7.bin").decode().split("|")[9]
        receiver.answer = lambda text: acknowledged("AR" if control in text else "AA", text="not for us")(text)
        with node.delivering(ris(receiver.port), timing=SHORT_TIMING):
            assert wait_until(lambda: state(node, second) == State.DELIVERED)
            assert wait_until(lambda: node.ledger.deliveries(first)[0].state == "GIVEN_UP")
            assert state(node, first) == State.REPORTED
            assert "answered AR: not for us" in node.ledger.deliveries(first)[0].last_error
            sent = len(receiver.frames)
            assert not wait_until(lambda: len(receiver.frames) > sent, 1.5)
            receiver.answer = acknowledged("AA")
            assert node.ledger.retry(first, by="tests")
            assert wait_until(lambda: state(node, first) == State.DELIVERED)


def test_a_message_that_is_rejected_for_now_is_sent_again(node: Node) -> None:
    """AE: the RIS may not know the order yet; the pause is the message's own."""
    with receiving(acknowledged("AE", text="no such order")) as receiver:
        uid = owe(node, ris(receiver.port), kinds=("HL7",))
        with node.delivering(ris(receiver.port), timing=SHORT_TIMING):
            assert wait_until(lambda: len(receiver.frames) >= 3)
            assert state(node, uid) == State.REPORTED
            assert "no such order" in node.ledger.deliveries(uid)[0].last_error
            assert node.status("ris").get("state") == "up"
            receiver.answer = acknowledged("AA")
            assert wait_until(lambda: state(node, uid) == State.DELIVERED)


def test_a_ris_that_accepts_connections_and_never_answers_is_shown_as_down(node: Node) -> None:
    """A connection proves nothing of a receiver that loses every message."""
    with receiving(lambda _: b"") as receiver:
        uids = [owe(node, ris(receiver.port), kinds=("HL7",)) for _ in range(4)]
        with node.delivering(ris(receiver.port), timing=SHORT_TIMING):
            assert wait_until(lambda: node.status("ris").get("state") == "down")
            receiver.answer = acknowledged("AA")
            assert wait_until(lambda: all(state(node, uid) == State.DELIVERED for uid in uids))


@pytest.mark.parametrize("name", ["two knees", "no knee"])
def test_the_outbox_creates_messages_only_for_destinations_that_get_them(node: Node, name: str) -> None:
    """The report that they are created from is stored beside them. Created twice, the files are the same."""
    claimed(node.ledger, SOURCE_UID)
    entry = node.ledger.find(SOURCE_UID)
    assert entry is not None
    predictions = READINGS[name]
    analysis = Analysis(
        reading=predictions, heat_maps=tuple(heat() for _ in predictions.knees), prepared=PreparedFilm(film(header()))
    )
    source = Source(header(), film(header()))

    def filled(*kinds: ObjectKind) -> list[tuple[str, str, str]]:
        objects = fill_outbox(entry, source, analysis, node.vault, CARD, Work(), kinds)
        for result in objects:
            content = node.vault.read_result(SOURCE_UID, result.file)
            assert hashlib.sha256(content).hexdigest() == result.sha256
        return [(result.kind, result.file, result.sha256) for result in objects]

    first = filled("HL7", "FHIR")
    assert [kind for kind, _, _ in first] == ["SR", "HL7", "FHIR"]
    assert first == filled("HL7", "FHIR")
    assert [Path(file).suffix for _, file, _ in first] == [".dcm", ".hl7", ".json"]
    assert [kind for kind, _, _ in filled("SR", "HL7")] == ["SR", "HL7"]
    assert [kind for kind, _, _ in filled("SR")] == ["SR"]


def test_results_that_become_current_again_are_a_message_of_their_own(node: Node) -> None:
    """A model, another, and the first again, for a RIS alone: three messages, or the RIS would show the second."""
    claimed(node.ledger, SOURCE_UID)
    entry = node.ledger.find(SOURCE_UID)
    assert entry is not None
    current: Sequence[ResultObject] = ()
    uids = []
    for model in (CARD, replace(CARD, version="2.0.0"), CARD):
        predictions = replace(READINGS["graded"], model=model)
        analysis = Analysis(reading=predictions, heat_maps=(heat(),), prepared=PreparedFilm(film(header())))
        source = Source(header(), film(header()))
        current = fill_outbox(entry, source, analysis, node.vault, model, Work(), ("HL7",), current)
        uids += [result.sop_instance_uid for result in current if result.kind == "HL7"]
    assert len(set(uids)) == 3


def test_objects_without_a_report_get_no_message(node: Node) -> None:
    """Own objects, other modalities, raw data: a RIS gets no message for each slice of a CT."""
    claimed(node.ledger, SOURCE_UID)
    entry = node.ledger.find(SOURCE_UID)
    assert entry is not None
    for code in NEVER_REPORTED:
        analysis = Analysis(reading=reading(refused=code), heat_maps=(), prepared=PreparedFilm(film(header())))
        assert fill_outbox(entry, Source(header()), analysis, node.vault, CARD, Work(), ("HL7", "FHIR")) == []
    without_refusals = Work(report_refusals=False)
    analysis = Analysis(reading=READINGS["no knee"], heat_maps=(), prepared=PreparedFilm(film(header())))
    assert fill_outbox(entry, Source(header()), analysis, node.vault, CARD, without_refusals, ("HL7",)) == []


def test_a_radiograph_that_is_sent_to_the_node_is_reported_to_the_ris(tmp_path: Path) -> None:
    """
    A whole node: graded and refused films as HL7 and FHIR; the RIS is down at first, then rejects, then accepts.

    Films that are sent twice change nothing, and nothing of the patient is in log, journal, metrics or status.
    """
    port = free_port()
    with fhir_service() as service:
        extra = (
            f'[[destination]]\nname = "ris"\nprotocol = "mllp"\nhost = "{HOST}"\nport = {port}\n'
            'msh = "GENU|XRAY|RIS|HOSPITAL"\n'
            f'[[destination]]\nname = "fhir"\nprotocol = "fhir"\nurl = "{service.url}"\n'
        )
        made = samples(seed=21)
        chosen = made[2], made[-1]  # two knees; none
        files = [tmp_path / f"{number}.dcm" for number in range(2)]
        for file, sample in zip(files, chosen, strict=True):
            sample.PatientName, sample.PatientID = "Zebedee^Quentin", "ID-WVZQ"
            sample.save_as(file, enforce_file_format=True)
        uids = [str(sample.SOPInstanceUID) for sample in chosen]
        with running(tmp_path, extra=extra) as node:
            node.genu("send", *map(str, files))
            assert wait_until(lambda: len(service.of("DiagnosticReport")) == 2, 120), node.log.read_text()[-3000:]
            who = "patient Quentin Zebedee (ID-WVZQ) is not known"
            with receiving(acknowledged("AE", text=who), port=port) as receiver:
                assert wait_until(lambda: len(receiver.frames) >= 3, 30)
                receiver.answer = acknowledged("AA")
                until_settled(node, uids)
                node.genu("send", *map(str, files))
                until_settled(node, uids)
                output = node.genu("probe", "ris").stdout + node.genu("status").stdout + node.genu("check").stdout
                assert "MLLP has no way to query more" in output
            with urllib.request.urlopen(node.url("/metrics"), timeout=5) as answer:
                output += answer.read().decode()
            ledger = node.ledger
            output += str([ledger.journal(uid) for uid in uids]) + node.log.read_text()
            states = [ledger.find(uid).state for uid in uids]  # type: ignore[union-attr]
            ledger.close()
    assert states == [State.DELIVERED, State.NOT_ANALYSED]
    assert "is not known" in output
    assert [word for word in ("Zebedee", "Quentin", "WVZQ") if word in output] == []
    control_ids = {message.split("|")[9] for message in receiver.messages}
    assert len(control_ids) == 2
    assert len(service.of("Observation")) == 3
    graded = next(message for message in receiver.messages if chosen[0].StudyInstanceUID in message)
    assert "|GENU|XRAY|RIS|HOSPITAL|" in graded
    assert "Zebedee^Quentin" in graded
    grades = [line.split("|")[4:6] for line in graded.split("\r") if "|KL^" in line]
    assert [side for side, _ in grades] == ["R", "L"]
    in_fhir = {
        observation["bodySite"]["text"][0]: observation["valueCodeableConcept"]["coding"][0]["code"]
        for observation in service.of("Observation")
        if "valueCodeableConcept" in observation
    }
    assert in_fhir == {side: value.split("^")[0] for side, value in grades}
    refused = next(message for message in receiver.messages if chosen[1].StudyInstanceUID in message)
    assert "NGREASON^Reason not gradable^99GENU||NOT_A_KNEE^" in refused


def test_the_admin_page_shows_a_ris_by_its_address() -> None:
    """No AE title where there is none."""
    shown = destination_views([ris(2575), fhir("https://h/r4")], [], [])
    assert [(view.address, view.objects) for view in shown] == [(f"{HOST}:2575", "HL7"), ("https://h/r4", "FHIR")]
