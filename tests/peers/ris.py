"""RIS receivers: MLLP with given answers, and a FHIR service that stores what its definitions allow."""

import json
import socketserver
import ssl
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import hl7
from fhir.resources.bundle import Bundle as BundleR5
from fhir.resources.R4B.bundle import Bundle as BundleR4

from tests.peers.archives import HOST

Answer = Callable[[str], bytes | None]


def accept(message: str) -> bytes:
    """Answer with AA."""
    return acknowledged("AA")(message) or b""


def framed(text: str) -> bytes:
    return b"\x0b" + text.encode() + b"\x1c\r"


def acknowledged(code: str, *, text: str = "", error: str = "", control_id: str = "") -> Answer:
    """Answer each message with that code, in an acknowledgement that the library creates."""

    def answer(message: str) -> bytes:
        ack = hl7.parse(message).create_ack(code)
        ack["MSA"][0][2] = control_id or hl7.parse(message)["MSH"][0][10]
        segments = str(ack).rstrip("\r").split("\r")
        segments[1] = "|".join((*segments[1].split("|")[:3], text))
        return framed("\r".join((*segments, *([error] if error else []))) + "\r")

    return answer


@dataclass
class Receiver:
    """An MLLP receiver. `answer` returns what it sends for a message; None: nothing, and the connection stays open."""

    answer: Answer = accept
    port: int = 0
    frames: list[bytes] = field(default_factory=list)
    connections: int = 0

    @property
    def messages(self) -> list[str]:
        """The received messages, without their frames."""
        return [frame[1:-2].decode() for frame in self.frames]

    def fields(self, number: int, segment: str) -> list[list[str]]:
        """The fields of each segment of that name in a message, parsed by the library; its name is at [0]."""
        parsed = hl7.parse(self.messages[number])
        return [[str(field) for field in found] for found in parsed.segments(segment)]


class _Mllp(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        receiver: Receiver = self.server.receiver  # type: ignore[attr-defined]
        receiver.connections += 1
        received = b""
        with suppress(OSError):
            while not received.endswith(b"\x1c\r"):
                data = self.request.recv(65536)
                if not data:
                    return
                received += data
            receiver.frames.append(received)
            answer = receiver.answer(received[1:-2].decode())
            if answer is None:
                self.request.recv(1)  # until the client times out
            else:
                self.request.sendall(answer)


class _Tcp(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False


@contextmanager
def receiving(answer: Answer = accept, *, port: int = 0, tls: ssl.SSLContext | None = None) -> Iterator[Receiver]:
    """Run an MLLP receiver until the block ends."""
    with _Tcp((HOST, port), _Mllp) as server:
        if tls:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        receiver = server.receiver = Receiver(answer, server.server_address[1])  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield receiver
        server.shutdown()
        thread.join(5)


@dataclass
class FhirService:
    """A FHIR service: its version and token, what it has stored, and a fixed answer, if any."""

    version: str = "R4"
    token: str = ""
    fixed_answer: tuple[int, Any] | None = None
    """A status and its content: an object as JSON, text as it is."""
    silent: bool = False
    port: int = 0
    stored: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Resources by type and identifier."""
    posted: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}/fhir"

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [resource for resource in self.stored.values() if resource["resourceType"] == kind]

    def process(self, bundle: dict[str, Any]) -> dict[str, Any]:
        """Process a transaction, checked against FHIR's definitions (http.html#transaction, #ccreate)."""
        (BundleR5 if self.version == "R5" else BundleR4).model_validate(bundle)
        assert bundle["type"] == "transaction"
        full_urls = {entry["fullUrl"] for entry in bundle["entry"]}
        assert (
            len(full_urls)
            == len({uuid.UUID(url.removeprefix("urn:uuid:")) for url in full_urls})
            == len(bundle["entry"])
        )
        responses = []
        for entry in bundle["entry"]:
            resource, request = entry["resource"], entry["request"]
            assert (request["method"], request["url"]) == ("POST", resource["resourceType"])
            assert all(url in full_urls for url in references(resource)), "an unresolved reference"
            assert not {"valueCodeableConcept", "dataAbsentReason"} <= set(resource), "obs-6"
            assert resource.get("code") not in [component["code"] for component in resource.get("component", ())], (
                "obs-7"
            )
            identifiers = [f"identifier={item['system']}|{item['value']}" for item in resource["identifier"]]
            assert request["ifNoneExist"] in identifiers
            query = f"{resource['resourceType']}?{request['ifNoneExist']}"
            responses.append({"response": {"status": "200 OK" if query in self.stored else "201 Created"}})
            self.stored.setdefault(query, resource)
        return {"resourceType": "Bundle", "type": "transaction-response", "entry": responses}


def references(value: Any) -> Iterator[str]:
    """Every literal reference below."""
    if isinstance(value, dict):
        if "reference" in value:
            yield value["reference"]
        for inner in value.values():
            yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)


class _Fhir(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        service: FhirService = self.server.service  # type: ignore[attr-defined]
        service.headers.append(dict(self.headers))
        version = {"R4": "4.0.1", "R5": "5.0.0"}[service.version]
        rest = [{"mode": "server", "interaction": [{"code": "transaction"}]}]
        statement = {"resourceType": "CapabilityStatement", "fhirVersion": version, "software": {"name": "Test"}}
        answer = (200, {**statement, "rest": rest}) if self.path == "/fhir/metadata" else (404, {})
        self._answer(*(service.fixed_answer or answer))

    def do_POST(self) -> None:
        service: FhirService = self.server.service  # type: ignore[attr-defined]
        content = self.rfile.read(int(self.headers["Content-Length"]))
        service.headers.append(dict(self.headers))
        if service.silent:
            self.connection.recv(1)
            return
        bundle = json.loads(content)
        service.posted.append(bundle)
        if service.fixed_answer:
            self._answer(*service.fixed_answer)
        elif service.token and self.headers["Authorization"] != f"Bearer {service.token}":
            self._answer(401, {})
        elif self.path != "/fhir" or self.headers["Content-Type"] != "application/fhir+json":
            self._answer(404, {})
        else:
            try:
                self._answer(200, service.process(bundle))
            except (ValueError, AssertionError, KeyError) as error:
                issue = {"severity": "error", "code": "invalid", "diagnostics": str(error)}
                self._answer(422, {"resourceType": "OperationOutcome", "issue": [issue]})

    def _answer(self, status: int, body: Any) -> None:
        content = body.encode() if isinstance(body, str) else json.dumps(body).encode() if body else b""
        self.send_response(status)
        self.send_header("Content-Type", "text/html" if isinstance(body, str) else "application/fhir+json")
        self.send_header("Content-Length", str(len(content)))
        if status // 100 == 3:
            self.send_header("Location", "http://127.0.0.1:9/")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args: object) -> None:
        """Log nothing."""


@contextmanager
def fhir_service(port: int = 0, *, tls: ssl.SSLContext | None = None, **options: Any) -> Iterator[FhirService]:
    """Run a FHIR service until the block ends."""
    with ThreadingHTTPServer((HOST, port), _Fhir) as server:
        if tls:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        server.daemon_threads, server.block_on_close = True, False
        service = server.service = FhirService(port=server.server_address[1], **options)  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield service
        server.shutdown()
        thread.join(5)
