"""Sending to a RIS over MLLP and FHIR: what is accepted, rejected, unanswered, and redacted in messages."""

import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import hl7
import pytest
from hl7apy.mllp import AbstractHandler, MLLPServer
from hypothesis import given
from hypothesis import strategies as st

from node.destination import Destination
from node.ris import probe_ris, sendable_message
from node.ris.fhir import FhirClient
from node.ris.mllp import MAX_ACKNOWLEDGEMENT_BYTES, MllpClient
from node.ris.redaction import MAX_CHARACTERS, redact, words_to_redact
from node.scu import (
    DestinationUnavailable,
    NoResponse,
    PermanentRejection,
    RequestRejected,
    SendableInstance,
    UnsendableFile,
)
from node.settings import Deliver, Tls
from tests.peers.archives import HOST, certificates, free_port, needs
from tests.peers.faulty import relay, silent_port
from tests.peers.ris import Answer, acknowledged, fhir_service, framed, receiving
from tests.samples.source_films import MADE_AT, READINGS, header, results_of
from workers.messages import messages

TIMING = Deliver(connect_seconds=2, response_seconds=1)
MESSAGES = {
    message.kind: message
    for message in messages([results_of(header(), READINGS["two knees"])["SR"].dataset], ("HL7", "FHIR"), MADE_AT)
}
PATIENT = "Patient KNEE^Test, Test Knee, 12.03.1955 or 1955-03-12, P1, order A1"


@pytest.fixture
def oru(tmp_path: Path) -> SendableInstance:
    path = tmp_path / "message.hl7"
    path.write_bytes(MESSAGES["HL7"].content)
    return sendable_message(path, MESSAGES["HL7"].sop_instance_uid)


@pytest.fixture
def bundle(tmp_path: Path) -> SendableInstance:
    path = tmp_path / "message.json"
    path.write_bytes(MESSAGES["FHIR"].content)
    return sendable_message(path, MESSAGES["FHIR"].sop_instance_uid)


def mllp(port: int, **options: Any) -> MllpClient:
    return MllpClient(Destination(name="ris", protocol="mllp", host=HOST, port=port, **options), TIMING)


@contextmanager
def fhir(url: str, **options: Any) -> Iterator[FhirClient]:
    client = FhirClient(Destination(name="fhir", protocol="fhir", url=url, **options), TIMING)
    client.open([])
    yield client
    client.close()


def is_anonymous(text: str) -> bool:
    """Whether it contains nothing of the patient and the order."""
    return not any(word in text.upper() for word in ("KNEE^", "TEST KNEE", "1955", "P1", "A1", "KNEE"))


@pytest.mark.parametrize("code", ["AA", "CA"])
def test_an_accepted_message_arrives_in_its_frame_with_the_msh_of_the_settings(
    code: str, oru: SendableInstance
) -> None:
    """One frame, the stored bytes except MSH-3 to MSH-6, and a connection of its own for each message."""
    with receiving(acknowledged(code)) as receiver:
        client = mllp(receiver.port, msh="GENU|XRAY|RIS|HOSPITAL")
        assert [client.store(oru), client.store(oru)] == [0, 0]
    assert receiver.connections == 2
    assert receiver.frames[0] == receiver.frames[1]
    assert receiver.frames[0].startswith(b"\x0bMSH|^~\\&|GENU|XRAY|RIS|HOSPITAL|2026")
    assert receiver.frames[0].endswith(b"\r\x1c\r")
    assert receiver.frames[0][1:-2].replace(b"|GENU|XRAY|RIS|HOSPITAL|", b"|GENU||||") == MESSAGES["HL7"].content


@needs("openssl")
def test_both_protocols_use_tls_with_certificates_on_both_sides(
    tmp_path: Path, oru: SendableInstance, bundle: SendableInstance
) -> None:
    """Each side has a certificate of the other's CA; with another one, or without TLS, nothing is sent."""
    ours, theirs = certificates(tmp_path / "ours", "genu"), certificates(tmp_path / "theirs", "ris")
    tls = Tls(certificate=ours.certificate, key=ours.key, ca=theirs.ca)
    untrusted = Tls(certificate=ours.certificate, key=ours.key, ca=ours.ca)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=ours.ca)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(theirs.certificate, theirs.key)
    with receiving(tls=context) as receiver:
        assert mllp(receiver.port, tls=tls).store(oru) == 0
        with pytest.raises(DestinationUnavailable, match="certificate that is not trusted"):
            mllp(receiver.port, tls=untrusted).store(oru)
        with pytest.raises(NoResponse):
            mllp(receiver.port).store(oru)
    with fhir_service(tls=context) as service:
        url = service.url.replace("http:", "https:")
        with fhir(url, tls=tls) as client:
            assert client.store(bundle) == 0
        with (
            fhir(url, tls=untrusted) as client,
            pytest.raises(DestinationUnavailable, match="certificate that is not trusted"),
        ):
            client.store(bundle)
        with fhir(service.url) as client, pytest.raises(NoResponse):
            client.store(bundle)
    assert (len(receiver.frames), len(service.posted)) == (1, 1)


class _Accepts(AbstractHandler):  # type: ignore[misc]
    received: list[str] = []  # noqa: RUF012 - one list for all messages is intended

    def reply(self) -> str:
        self.received.append(self.incoming_message)
        return framed(str(hl7.parse(self.incoming_message).create_ack("AA"))).decode()


def test_the_mllp_server_of_another_library_accepts_a_message(oru: SendableInstance) -> None:
    """hl7apy's own MLLP server, which looks up a handler by MSH-9 and closes each connection after its answer."""
    server = MLLPServer(HOST, 0, {"ORU^R01^ORU_R01": (_Accepts,)})
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        _Accepts.received.clear()
        assert mllp(server.server_address[1]).store(oru) == 0
    finally:
        server.shutdown()
        server.server_close()
    assert [text.encode() for text in _Accepts.received] == [MESSAGES["HL7"].content]


ERR = "ERR|||{}^x^HL70357|E||||said in ERR"


@pytest.mark.parametrize(
    ("answer", "kind", "message"),
    [
        (acknowledged("AE", text="no such order"), RequestRejected, "answered AE: no such order"),
        (acknowledged("CE"), RequestRejected, "answered CE"),
        (acknowledged("AR", text="wrong version"), PermanentRejection, "answered AR: wrong version"),
        (acknowledged("CR"), PermanentRejection, "answered CR"),
        (acknowledged("AR", error=ERR.format("203")), PermanentRejection, "said in ERR"),
        (acknowledged("AR", error=ERR.format("207")), RequestRejected, "said in ERR"),
        (acknowledged("AR", error=ERR.format("206")), RequestRejected, "said in ERR"),
        (acknowledged("AA", control_id="OTHER"), NoResponse, "acknowledged another message"),
        (acknowledged("XX"), NoResponse, "the code 'XX'"),
        (
            lambda _: framed("MSH|^~\\&|a|b|c|d|1||ACK|1|P|2.5.1\r"),
            NoResponse,
            "not answer with an HL7 acknowledgement",
        ),
        (lambda _: framed("HTTP/1.1 400 Bad Request\r"), NoResponse, "not answer with an HL7 acknowledgement"),
        (lambda _: framed(""), NoResponse, "not answer with an HL7 acknowledgement"),
        (lambda _: framed("MSH|\rMSA"), NoResponse, "acknowledged another message"),
        (lambda _: b"MSH|^~\\&|x\rMSA|AA|1\r\x1c\r", NoResponse, "not answer with an MLLP frame"),
        (lambda _: b"junk\x0bMSH|^~\\&|x\r\x1c\r", NoResponse, "not answer with an MLLP frame"),
        (lambda _: b"\x0bMSH|^~\\&|x\rMSA|AA", NoResponse, "closed the connection without a response"),
        (lambda _: b"", NoResponse, "closed the connection without a response"),
        (lambda _: b"\x0b" + b"x" * (MAX_ACKNOWLEDGEMENT_BYTES + 1), NoResponse, "more bytes than"),
        (lambda _: None, NoResponse, "sent no response within 1 s"),
    ],
)
def test_every_other_answer_raises_its_exception(
    answer: Answer, kind: type[Exception], message: str, oru: SendableInstance
) -> None:
    """Rejected now, for ever, or unknown: the exact class decides what happens to the message."""
    with receiving(answer) as receiver, pytest.raises(kind) as caught:
        mllp(receiver.port).store(oru)
    assert type(caught.value) is kind
    assert message in str(caught.value)
    assert f"destination ris ({HOST}:{receiver.port})" in str(caught.value)


def test_an_answer_that_never_ends_times_out(oru: SendableInstance) -> None:
    """A receiver that sends one byte at a time does not hold the connection longer than the settings allow."""
    with receiving() as receiver, relay(receiver.port) as proxy:
        real = mllp(proxy.port)
        assert real.store(oru) == 0

    class Slow:
        def settimeout(self, seconds: float) -> None:
            if seconds <= 0.001:
                raise TimeoutError

        def recv(self, size: int) -> bytes:
            time.sleep(0.05)
            return b"\x0b"

    started = time.monotonic()
    with pytest.raises(TimeoutError):
        mllp(1)._read_frame(cast("Any", Slow()))
    assert time.monotonic() - started < 3


def test_a_closed_port_is_reported_as_unavailable(oru: SendableInstance, bundle: SendableInstance) -> None:
    """A closed port and an unknown host are DestinationUnavailable, in both protocols, for a message and an echo."""
    port = free_port()
    for call in (mllp(port).echo, lambda: mllp(port).store(oru)):
        with pytest.raises(DestinationUnavailable, match="refuses the connection") as caught:
            call()
        assert not isinstance(caught.value, NoResponse)
    with fhir(f"http://{HOST}:{port}/fhir") as client:
        for call in (client.echo, lambda: client.store(bundle)):
            with pytest.raises(DestinationUnavailable, match="refuses the connection") as caught:
                call()
            assert not isinstance(caught.value, NoResponse)
    with fhir("http://nosuch.invalid/fhir") as client, pytest.raises(DestinationUnavailable, match="unknown host name"):
        client.echo()


@pytest.mark.parametrize("protocol", ["mllp", "fhir"])
def test_a_call_that_waits_for_a_silent_peer_can_be_interrupted(
    protocol: str, oru: SendableInstance, bundle: SendableInstance
) -> None:
    """A node that stops does not wait for an answer for a minute; and nothing is sent after that."""
    timing, errors = Deliver(connect_seconds=2, response_seconds=60), []
    with silent_port() as port:
        if protocol == "mllp":
            destination = Destination(name="ris", protocol="mllp", host=HOST, port=port)
            client: MllpClient | FhirClient = MllpClient(destination, timing)
        else:
            client = FhirClient(Destination(name="ris", protocol="fhir", url=f"http://{HOST}:{port}"), timing)
        client.open([])
        sent = oru if protocol == "mllp" else bundle

        def wait() -> None:
            try:
                client.store(sent)
            except NoResponse as error:
                errors.append(str(error))

        waiting = threading.Thread(target=wait)
        waiting.start()
        time.sleep(0.5)
        client.interrupt()
        waiting.join(5)
        assert not waiting.is_alive()
        assert "closed the connection without a response" in errors[0]
        with pytest.raises(DestinationUnavailable):
            client.store(sent)


def test_only_messages_are_sent_over_mllp_and_fhir(tmp_path: Path) -> None:
    """Objects that wait for a destination that was a DICOM archive before are given up, not sent as they are."""
    path = tmp_path / "sc.dcm"
    path.write_bytes(b"\0" * 128 + b"DICM")
    with receiving() as receiver, fhir_service() as service, fhir(service.url) as client:
        with pytest.raises(UnsendableFile, match="not an HL7 message"):
            mllp(receiver.port).store(sendable_message(path, "1.2.3"))
        with pytest.raises(UnsendableFile, match="not a FHIR Bundle"):
            client.store(sendable_message(path, "1.2.3"))
        with pytest.raises(UnsendableFile, match="cannot be read"):
            sendable_message(tmp_path / "absent", "1.2.3")
    assert not receiver.frames
    assert not service.posted


@pytest.mark.parametrize("version", ["R4", "R5"])
def test_a_bundle_that_is_sent_twice_creates_every_resource_once(version: str, bundle: SendableInstance) -> None:
    """A service that checks every resource against its version's definitions has one of each after two Bundles."""
    with fhir_service(version=version) as service, fhir(service.url + "/", fhir_version=version) as client:
        assert [client.store(bundle), client.store(bundle)] == [0, 0]
    kinds = sorted(resource["resourceType"] for resource in service.stored.values())
    assert kinds == ["Device", "DiagnosticReport", "Observation", "Observation"]
    (report,) = service.of("DiagnosticReport")
    assert ("study" in report, "imagingStudy" in report) == (version == "R5", version == "R4")


def test_a_service_of_the_other_version_rejects_permanently(bundle: SendableInstance) -> None:
    """R5 does not define an attribute of R4: the service's own text is in the message."""
    refused = pytest.raises(PermanentRejection, match=r"answered 422: .*imagingStudy")
    with fhir_service(version="R5") as service, fhir(service.url) as client, refused:
        client.store(bundle)
    assert not service.stored


OUTCOME = {
    "resourceType": "OperationOutcome",
    "issue": [{"severity": "error", "code": "x", "diagnostics": "the reason"}],
}
BATCH = {
    "resourceType": "Bundle",
    "type": "batch-response",
    "entry": [{"response": {"status": "201"}}, {"response": {"status": "422 no", "outcome": OUTCOME}}],
}


@pytest.mark.parametrize(
    ("status", "body", "kind", "message"),
    [
        (400, OUTCOME, PermanentRejection, "answered 400: the reason"),
        (
            412,
            {"resourceType": "OperationOutcome", "issue": [{"details": {"text": "two"}}]},
            PermanentRejection,
            "412: two",
        ),
        (422, {}, PermanentRejection, "answered 422"),
        (200, BATCH, PermanentRejection, "answered 422: the reason"),
        (401, {}, RequestRejected, "token_file"),
        (403, OUTCOME, RequestRejected, "token_file"),
        (404, "<html>", RequestRejected, "[[destination]] url"),
        (302, {}, RequestRejected, "[[destination]] url"),
        (409, {}, RequestRejected, "sent again"),
        (429, {}, RequestRejected, "sent again"),
        (500, OUTCOME, RequestRejected, "answered 500: the reason"),
        (503, {}, DestinationUnavailable, "answered 503"),
        (200, "<html>Please sign in</html>", NoResponse, "without a FHIR resource"),
        (200, [1], NoResponse, "without a FHIR resource"),
    ],
)
def test_every_other_answer_of_a_service_raises_its_exception(
    status: int, body: Any, kind: type[Exception], message: str, bundle: SendableInstance
) -> None:
    """The Bundle is invalid: never again. Token, address, load: again. A page of another program: unknown."""
    with (
        fhir_service(fixed_answer=(status, body)) as service,
        fhir(service.url) as client,
        pytest.raises(kind) as caught,
    ):
        client.store(bundle)
    assert type(caught.value) is kind
    assert message in str(caught.value)


def test_a_service_that_does_not_answer_times_out(bundle: SendableInstance) -> None:
    """Whether it arrived is unknown, and sending it again does no harm."""
    lost = pytest.raises(NoResponse, match="sent no response within 1 s")
    with fhir_service(silent=True) as service, fhir(service.url) as client, lost:
        client.store(bundle)


def test_the_token_is_read_from_its_file_at_every_connection(tmp_path: Path, bundle: SendableInstance) -> None:
    """A new token needs no restart; an unreadable one is reported; none is in a message."""
    file = tmp_path / "token"
    file.write_text("old-secret\n")
    with fhir_service(token="new-secret") as service:
        with (
            fhir(service.url, token_file=file) as client,
            pytest.raises(RequestRejected, match="answered 401") as caught,
        ):
            client.store(bundle)
        assert "secret" not in str(caught.value)
        file.write_text("new-secret\n")
        with fhir(service.url, token_file=file) as client:
            assert client.store(bundle) == 0
        file.unlink()
        with pytest.raises(DestinationUnavailable, match=r"cannot be read: No such file.*token_file"):
            FhirClient(Destination(name="f", protocol="fhir", url=service.url, token_file=file), TIMING).open([])
    assert [headers["Authorization"] for headers in service.headers] == ["Bearer old-secret", "Bearer new-secret"]


def test_probe_describes_a_ris() -> None:
    """Version, name and support of transactions of a service; of an MLLP port that it accepts connections."""
    with fhir_service() as service:
        destination = Destination(name="f", protocol="fhir", url=service.url)
        assert probe_ris(destination, TIMING) == ("FHIR 4.0.1 (Test)", True)
        description, usable = probe_ris(destination.model_copy(update={"fhir_version": "R5"}), TIMING)
        assert (description, usable) == ('FHIR 4.0.1 (Test) <- fhir_version is "R5"', False)
        without_transactions = {
            "resourceType": "CapabilityStatement",
            "fhirVersion": "4.0.1",
            "rest": [{"interaction": [{"code": "x"}]}],
        }
        service.fixed_answer = (200, without_transactions)
        assert probe_ris(destination, TIMING) == (
            "FHIR 4.0.1 <- it does not list transactions among its interactions",
            False,
        )
        service.fixed_answer = (200, OUTCOME)
        with pytest.raises(RequestRejected, match="CapabilityStatement"):
            probe_ris(destination, TIMING)
    with receiving() as receiver:
        assert probe_ris(Destination(name="m", protocol="mllp", host=HOST, port=receiver.port), TIMING)[1]
    assert not receiver.frames


def test_no_answer_brings_the_patient_into_a_message(oru: SendableInstance, bundle: SendableInstance) -> None:
    """A RIS quotes an unknown patient: name, ID, date of birth and order are redacted, the rest stays."""
    with receiving(acknowledged("AE", text=f"{PATIENT} unknown")) as receiver, pytest.raises(RequestRejected) as caught:
        mllp(receiver.port).store(oru)
    assert is_anonymous(str(caught.value))
    assert "unknown" in str(caught.value)
    outcome = {"resourceType": "OperationOutcome", "issue": [{"diagnostics": f"{PATIENT} unknown"}]}
    refused = pytest.raises(PermanentRejection)
    with fhir_service(fixed_answer=(422, outcome)) as service, fhir(service.url) as client, refused as rejection:
        client.store(bundle)
    assert is_anonymous(str(rejection.value))
    assert "unknown" in str(rejection.value)


def test_the_text_of_an_answer_is_one_short_line(oru: SendableInstance) -> None:
    """Neither a flood nor control characters of a peer get into a log."""
    with (
        receiving(acknowledged("AE", text="no\x1b[31m\tway " + "x" * 5000)) as receiver,
        pytest.raises(RequestRejected) as caught,
    ):
        mllp(receiver.port).store(oru)
    text = str(caught.value).split("answered AE: ")[1]
    assert text.startswith("no [31m way xxx")
    assert len(text) < MAX_CHARACTERS + 100


WORDS = st.text(st.characters(categories=("L", "Nd")), min_size=2, max_size=10)


@given(name=st.lists(WORDS, min_size=1, max_size=4), before=st.text(max_size=20), after=st.text(max_size=20))
def test_no_word_of_the_patient_is_left(name: list[str], before: str, after: str) -> None:
    """At any position in an answer, in upper or lower case."""
    redacted = redact(f"{before} {' '.join(name)} {after}", words_to_redact(name))
    for word in name:
        assert word.casefold() not in redacted.casefold().replace("***", " ").split()


def test_short_words_are_redacted_only_as_whole_words() -> None:
    """Family names of two letters are common, and are parts of many words in an error message."""
    words = words_to_redact(["Li^An", "王^小东", "F"])
    assert redact("Li An is an alien client", words) == "*** *** is *** alien client"
    assert redact("患者王小东不存在, F 12.03.1955 (3/12/1955)", words) == "患者******不存在, F *** (***)"
    assert redact("code 203 of 2.5.1, 19550312, 1955-03-12T00:00", words) == "code 203 of 2.5.1, ***, ***T00:00"
