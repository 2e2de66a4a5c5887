"""Messages on their way: a whole node, a RIS that is down and comes back, and one that says no."""

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
from tests.samples.source_films import CARD, MADE_AT, READINGS, SOURCE_UID, film, header, heat, made_of, reading
from workers.analysis import Analysis
from workers.messages import messages
from workers.outbox import Source, fill_outbox
from workers.phantom import samples
from workers.report.objects import UNREPORTED

QUICK = Deliver(first_pause_seconds=0.2, longest_pause_seconds=0.5, connect_seconds=2, response_seconds=1)


def ris(port: int) -> Destination:
    return Destination(name="ris", protocol="mllp", host=HOST, port=port)


def fhir(url: str) -> Destination:
    return Destination(name="fhir", protocol="fhir", url=url)


def claimed(ledger: Ledger, uid: str) -> None:
    """A radiograph that a worker has."""
    sha256 = hashlib.sha256(uid.encode()).hexdigest()
    classes = DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian
    ledger.record_received(Radiograph(uid, *classes, sha256, 1, "CR", HOST, datetime.now(UTC)))
    assert ledger.claim(uid, "tests", lease_seconds=60, attempts=3) is not None


def owe(node: Node, *destinations: Destination, kinds: tuple[ObjectKind, ...]) -> str:
    """A new radiograph whose report, as messages and as an SR, is owed to those destinations; its UID."""
    uid = generate_uid()
    claimed(node.ledger, uid)
    report = made_of(header(SOPInstanceUID=uid), READINGS["two knees"])["SR"].dataset
    report.SOPInstanceUID = generate_uid()
    contents = [(each.kind, each.sop_instance_uid, each.content) for each in messages([report], kinds, MADE_AT)]
    if "SR" in kinds:
        made = instance("SR")
        contents.append(("SR", str(made.SOPInstanceUID), encoded(made)))
    objects = []
    for kind, object_uid, content in contents:
        name = f"{kind.lower()}.bin"
        node.vault.write_result(uid, name, content)
        sop_class, syntax = ("1.2.840.10008.5.1.4.1.1.88.33", ExplicitVRLittleEndian) if kind == "SR" else ("", "")
        objects.append(ResultObject(kind, sop_class, object_uid, syntax, name, hashlib.sha256(content).hexdigest()))
    assert node.ledger.report(uid, "tests", {}, objects, {each.name: each.objects for each in destinations})
    return str(uid)


def state(node: Node, uid: str) -> State:
    entry = node.ledger.find(uid)
    assert entry is not None
    return entry.state


def test_a_film_is_delivered_when_archive_ris_and_fhir_service_have_all_taken_it(node: Node) -> None:
    """Each gets what its protocol carries, and nothing else."""
    with archive() as pacs, receiving() as receiver, fhir_service() as service:
        there = Destination(name="pacs", ae_title="ARCHIVE", host=HOST, port=pacs.port, objects=("SR",))
        everybody = there, ris(receiver.port), fhir(service.url)
        uid = owe(node, *everybody, kinds=("SR", "HL7", "FHIR"))
        with node.delivering(*everybody, patience=QUICK):
            assert wait_until(lambda: state(node, uid) == State.DELIVERED)
    assert (len(pacs.stored), len(receiver.frames), len(service.posted)) == (1, 1, 1)
    assert all(
        each.object.kind == {"pacs": "SR", "ris": "HL7", "fhir": "FHIR"}[each.destination]
        for each in node.ledger.deliveries(uid)
    )


def test_what_waits_for_a_ris_that_is_down_goes_out_when_it_is_back(node: Node) -> None:
    """It is shown as down, nothing is lost, each message comes once."""
    port = free_port()
    uids = [owe(node, ris(port), kinds=("HL7",)) for _ in range(3)]
    with node.delivering(ris(port), patience=QUICK):
        assert wait_until(lambda: node.status("ris").get("state") == "down")
        assert "refuses the connection" in str(node.status("ris")["last_error"])
        with receiving(port=port) as receiver:
            assert wait_until(lambda: all(state(node, uid) == State.DELIVERED for uid in uids))
            assert wait_until(lambda: node.status("ris").get("state") == "up")
    assert len(receiver.frames) == len(set(receiver.frames)) == 3


def test_what_waits_for_a_service_that_is_down_goes_out_when_it_is_back(node: Node) -> None:
    """The same over HTTP; while a gateway answers for a service that is away, that is away as well."""
    with fhir_service(instead=(503, {})) as service:
        uids = [owe(node, fhir(service.url), kinds=("FHIR",)) for _ in range(3)]
        with node.delivering(fhir(service.url), patience=QUICK):
            assert wait_until(lambda: node.status("fhir").get("state") == "down")
            service.instead = None
            assert wait_until(lambda: all(state(node, uid) == State.DELIVERED for uid in uids))
    assert len(service.of("DiagnosticReport")) == 3


def test_a_message_that_is_refused_for_ever_is_shown_and_can_be_asked_for_again(node: Node) -> None:
    """AR is not sent again by itself, keeps no other from going, and leaves the radiograph REPORTED."""
    with receiving() as receiver:
        first, second = (owe(node, ris(receiver.port), kinds=("HL7",)) for _ in range(2))
        refused = first
        control = node.vault.read_result(first, "hl7.bin").decode().split("|")[9]
        receiver.answer = lambda text: acknowledged("AR" if control in text else "AA", text="not for us")(text)
        with node.delivering(ris(receiver.port), patience=QUICK):
            assert wait_until(lambda: state(node, second) == State.DELIVERED)
            assert wait_until(lambda: node.ledger.deliveries(refused)[0].state == "GIVEN_UP")
            assert state(node, refused) == State.REPORTED
            assert "answered AR: not for us" in node.ledger.deliveries(refused)[0].last_error
            sent = len(receiver.frames)
            assert not wait_until(lambda: len(receiver.frames) > sent, 1.5)
            receiver.answer = acknowledged("AA")
            assert node.ledger.retry(refused, by="tests")
            assert wait_until(lambda: state(node, refused) == State.DELIVERED)


def test_a_message_that_is_not_taken_now_comes_again(node: Node) -> None:
    """AE: the RIS may not know the order yet; the pause is the message's own."""
    with receiving(acknowledged("AE", text="no such order")) as receiver:
        uid = owe(node, ris(receiver.port), kinds=("HL7",))
        with node.delivering(ris(receiver.port), patience=QUICK):
            assert wait_until(lambda: len(receiver.frames) >= 3)
            assert state(node, uid) == State.REPORTED
            assert "no such order" in node.ledger.deliveries(uid)[0].last_error
            assert node.status("ris").get("state") == "up"
            receiver.answer = acknowledged("AA")
            assert wait_until(lambda: state(node, uid) == State.DELIVERED)


def test_a_ris_that_takes_connections_and_never_answers_is_shown_as_down(node: Node) -> None:
    """A connection proves nothing of a receiver that loses every message."""
    with receiving(lambda _: b"") as receiver:
        uids = [owe(node, ris(receiver.port), kinds=("HL7",)) for _ in range(4)]
        with node.delivering(ris(receiver.port), patience=QUICK):
            assert wait_until(lambda: node.status("ris").get("state") == "down")
            receiver.answer = acknowledged("AA")
            assert wait_until(lambda: all(state(node, uid) == State.DELIVERED for uid in uids))


@pytest.mark.parametrize("name", ["two knees", "no knee"])
def test_the_outbox_makes_messages_where_somebody_wants_them(node: Node, name: str) -> None:
    """The report that it is made of is kept beside it. Made twice the files are the same; unasked none is made."""
    claimed(node.ledger, SOURCE_UID)
    entry = node.ledger.find(SOURCE_UID)
    assert entry is not None
    what = READINGS[name]
    analysis = Analysis(reading=what, heat_maps=tuple(heat() for _ in what.knees), film=film(header()))
    source = Source(header(), film(header()))

    def kept(*kinds: ObjectKind) -> list[tuple[str, str, str]]:
        made = fill_outbox(entry, source, analysis, node.vault, CARD, Work(), kinds)
        for each in made:
            content = node.vault.read_result(SOURCE_UID, each.file)
            assert hashlib.sha256(content).hexdigest() == each.sha256
        return [(each.kind, each.file, each.sha256) for each in made]

    first = kept("HL7", "FHIR")
    assert [kind for kind, _, _ in first] == ["SR", "HL7", "FHIR"]
    assert first == kept("HL7", "FHIR")
    assert [Path(file).suffix for _, file, _ in first] == [".dcm", ".hl7", ".json"]
    assert [kind for kind, _, _ in kept("SR", "HL7")] == ["SR", "HL7"]
    assert [kind for kind, _, _ in kept("SR")] == ["SR"]


def test_an_answer_that_comes_back_is_a_message_of_its_own(node: Node) -> None:
    """A model, another, and the first again, for a RIS alone: three messages, or the RIS would keep the second."""
    claimed(node.ledger, SOURCE_UID)
    entry = node.ledger.find(SOURCE_UID)
    assert entry is not None
    standing: Sequence[ResultObject] = ()
    uids = []
    for model in (CARD, replace(CARD, version="2.0.0"), CARD):
        what = replace(READINGS["graded"], model=model)
        analysis = Analysis(reading=what, heat_maps=(heat(),), film=film(header()))
        source = Source(header(), film(header()))
        standing = fill_outbox(entry, source, analysis, node.vault, model, Work(), ("HL7",), standing)
        uids += [each.sop_instance_uid for each in standing if each.kind == "HL7"]
    assert len(set(uids)) == 3


def test_of_what_no_report_is_made_there_is_no_message(node: Node) -> None:
    """Own objects, other modalities, raw data: a RIS is not told of each slice of a CT."""
    claimed(node.ledger, SOURCE_UID)
    entry = node.ledger.find(SOURCE_UID)
    assert entry is not None
    for code in UNREPORTED:
        analysis = Analysis(reading=reading(refused=code), heat_maps=(), film=film(header()))
        assert fill_outbox(entry, Source(header()), analysis, node.vault, CARD, Work(), ("HL7", "FHIR")) == []
    silent = Work(report_refusals=False)
    analysis = Analysis(reading=READINGS["no knee"], heat_maps=(), film=film(header()))
    assert fill_outbox(entry, Source(header()), analysis, node.vault, CARD, silent, ("HL7",)) == []


def test_a_film_that_goes_in_comes_out_at_the_ris(tmp_path: Path) -> None:
    """
    A whole node: graded and refused films as HL7 and FHIR, the RIS down at first, then refusing, then well again.

    Sent twice nothing doubles, and nothing of the patient is in log, journal, metrics or status.
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
                told = node.genu("probe", "ris").stdout + node.genu("status").stdout + node.genu("check").stdout
                assert "MLLP has no way to ask for more" in told
            with urllib.request.urlopen(node.url("/metrics"), timeout=5) as answer:
                told += answer.read().decode()
            ledger = node.ledger
            told += str([ledger.journal(uid) for uid in uids]) + node.log.read_text()
            states = [ledger.find(uid).state for uid in uids]  # type: ignore[union-attr]
            ledger.close()
    assert states == [State.DELIVERED, State.NOT_ANALYSED]
    assert "is not known" in told
    assert [word for word in ("Zebedee", "Quentin", "WVZQ") if word in told] == []
    control_ids = {message.split("|")[9] for message in receiver.messages}
    assert len(control_ids) == 2
    assert len(service.of("Observation")) == 3
    graded = next(message for message in receiver.messages if chosen[0].StudyInstanceUID in message)
    assert "|GENU|XRAY|RIS|HOSPITAL|" in graded
    assert "Zebedee^Quentin" in graded
    grades = [line.split("|")[4:6] for line in graded.split("\r") if "|KL^" in line]
    assert [side for side, _ in grades] == ["R", "L"]
    in_fhir = {
        each["bodySite"]["text"][0]: each["valueCodeableConcept"]["coding"][0]["code"]
        for each in service.of("Observation")
        if "valueCodeableConcept" in each
    }
    assert in_fhir == {side: value.split("^")[0] for side, value in grades}
    refused = next(message for message in receiver.messages if chosen[1].StudyInstanceUID in message)
    assert "NGREASON^Reason not gradable^99GENU||NOT_A_KNEE^" in refused


def test_the_admin_page_shows_a_ris_by_its_address() -> None:
    """No AE title where there is none."""
    shown = destination_views([ris(2575), fhir("https://h/r4")], [], [])
    assert [(each.address, each.objects) for each in shown] == [(f"{HOST}:2575", "HL7"), ("https://h/r4", "FHIR")]
