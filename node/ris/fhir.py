"""
FHIR resources over HTTP: a transaction Bundle is posted to the base address of the service.

FHIR R4 and R5, RESTful API: "transaction" (3.2.0.11) and "capabilities" (3.2.0.1.4, GET [base]/metadata); bearer
tokens: RFC 6750. Redirects are not followed and proxies of the environment are not used: a patient's result is sent
only to the address in the settings.
"""

import contextlib
import json
import socket
import ssl
import time
from collections.abc import Iterable
from typing import Any

import httpx2

from node.destination import Destination
from node.ris.operation_outcome import (
    TRANSIENT_STATUSES,
    WRONG_URL_STATUSES,
    failed_entry_status,
    identifying_texts,
    json_object,
    outcome_text,
)
from node.ris.redaction import redact, words_to_redact
from node.scu import (
    DestinationUnavailable,
    NoResponse,
    PermanentRejection,
    ProposedContext,
    RequestRejected,
    SendableInstance,
    UnsendableFile,
)
from node.scu.errors import connection_failed, destination_label, no_association_response, no_response
from node.scu.transport import client_tls, shut_down
from node.settings import Deliver

MAX_RESPONSE_BYTES = 1 << 20
MEDIA_TYPE = "application/fhir+json"
UNAVAILABLE_STATUSES = (502, 503, 504)
"""A gateway or proxy answers that the service behind it does not."""
FHIR_VERSIONS = {"R4": ("4.0", "4.3"), "R5": ("5.0",)}


class FhirClient:
    """The client of one FHIR service: a DestinationClient."""

    def __init__(self, destination: Destination, timing: Deliver) -> None:
        self.destination = destination
        self.timing = timing
        self._client: httpx2.Client | None = None
        self._socket: socket.socket | None = None
        self._interrupted = False

    def open(self, contexts: Iterable[ProposedContext]) -> None:
        """Prepare requests; the first one connects. Raises DestinationUnavailable if a file is unreadable."""
        destination, timing = self.destination, self.timing
        try:
            headers = {"Authorization": f"Bearer {self._token()}"} if destination.token_file else {}
            tls_context = client_tls(destination.tls) if destination.tls else ssl.create_default_context()
        except (OSError, UnicodeDecodeError) as error:
            cause = getattr(error, "strerror", None) or type(error).__name__
            what = f"{destination_label(destination)}: its token or certificate cannot be read: {cause}"
            raise DestinationUnavailable(what, hint="check [[destination]] token_file and tls") from error
        timeout = httpx2.Timeout(timing.response_seconds, connect=timing.connect_seconds)
        self._client = httpx2.Client(
            headers={"Accept": MEDIA_TYPE, **headers}, verify=tls_context, timeout=timeout, trust_env=False
        )

    def accepts(self, context: ProposedContext) -> bool:
        """True: FHIR has no negotiation."""
        return True

    def store(self, instance: SendableInstance) -> int:
        """
        Post one Bundle and return 0 if all of it was accepted.

        Raises
        ------
        DestinationUnavailable
            If no connection was established, or a gateway answers that the service is down.
        RequestRejected, PermanentRejection
            If the service answered that it does not accept the Bundle now, or ever.
        NoResponse
            If no answer came, or one that is not FHIR.
        UnsendableFile
            If the file cannot be read or is not a Bundle.
        """
        bundle = in_version(_read_bundle(instance), self.destination.fhir_version)
        status, answer = self._request("POST", "", json.dumps(bundle).encode())
        status = failed_entry_status(answer) or status
        if status // 100 == 2:
            return 0
        what = f"{destination_label(self.destination)} answered {status}"
        if text := redact(outcome_text(answer), words_to_redact(identifying_texts(bundle))):
            what += f": {text}"
        if status in UNAVAILABLE_STATUSES:
            raise DestinationUnavailable(what, hint="check that the service behind it runs; it is sent again")
        if status in (401, 403):
            hint = "check [[destination]] token_file, and the permissions of the token; it is sent again"
        elif status in WRONG_URL_STATUSES or status // 100 == 3:
            hint = "check [[destination]] url, the base address of the service; it is sent again"
        elif status // 100 == 4 and status not in TRANSIENT_STATUSES:
            raise PermanentRejection(what, hint="see the service's log; when the cause is fixed, retry the radiograph")
        else:
            hint = "see the service's own log at this time; it is sent again"
        raise RequestRejected(what, hint=hint)

    def echo(self) -> None:
        """Request the CapabilityStatement. Raises DestinationUnavailable, NoResponse or RequestRejected."""
        self.describe()

    def describe(self) -> tuple[str, bool]:
        """The service's version and name, and whether it has the version of the settings and accepts transactions."""
        status, answer = self._request("GET", "/metadata")
        if status // 100 != 2:
            error_class = DestinationUnavailable if status in UNAVAILABLE_STATUSES else RequestRejected
            what = f"{destination_label(self.destination)} answered {status} to GET metadata"
            raise error_class(what, hint="check [[destination]] url")
        if answer.get("resourceType") != "CapabilityStatement":
            what = f"{destination_label(self.destination)} did not answer with a CapabilityStatement"
            raise RequestRejected(what, hint="check [[destination]] url, the base address of the service")
        version = redact(str(answer.get("fhirVersion", "of unknown version")), ())
        name = redact(str(json_object(answer.get("software")).get("name", "")), ())
        configured = self.destination.fhir_version
        usable = version.startswith(FHIR_VERSIONS[configured])
        problem = "" if usable else f' <- fhir_version is "{configured}"'
        modes = [json_object(mode) for mode in answer.get("rest") or ()]
        interactions = [json_object(item).get("code") for mode in modes for item in mode.get("interaction") or ()]
        if interactions and "transaction" not in interactions:
            usable, problem = False, f"{problem} <- it does not list transactions among its interactions"
        return f"FHIR {version}{f' ({name})' if name else ''}{problem}", usable

    def close(self) -> None:
        """Close the connection."""
        if self._client is not None:
            self._client.close()
        self._client = self._socket = None

    def interrupt(self) -> None:
        """End the connection from another thread, whichever call waits for it."""
        self._interrupted = True
        shut_down(self._socket)

    def _token(self) -> str:
        """The bearer token, read for each connection, so that a new token needs no restart."""
        assert self.destination.token_file is not None
        return self.destination.token_file.read_text(encoding="ascii").strip()

    def _request(self, method: str, path: str, content: bytes | None = None) -> tuple[int, dict[str, Any]]:
        """Status and JSON of the answer, empty if it has no content. Raises DestinationUnavailable or NoResponse."""
        destination, started = self.destination, time.monotonic()
        if self._interrupted:
            raise no_association_response(destination, 0, closed=True)
        assert self._client is not None, "open first"
        headers = {"Content-Type": MEDIA_TYPE} if content is not None else {}
        request = self._client.stream(
            method, f"{destination.url}{path}", content=content, headers=headers, extensions={"trace": self._trace}
        )
        try:
            with request as answer:
                body = bytearray()
                for chunk in answer.iter_bytes():
                    body += chunk
                    if len(body) > MAX_RESPONSE_BYTES or time.monotonic() - started > self.timing.response_seconds:
                        raise no_response(destination, self.timing.response_seconds, closed=False)
        except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
            cause = TimeoutError() if isinstance(error, httpx2.ConnectTimeout) else _os_error(error)
            raise connection_failed(destination, cause, self.timing.connect_seconds) from error
        except httpx2.HTTPError as error:
            timed_out = isinstance(error, httpx2.TimeoutException)
            raise no_response(destination, self.timing.response_seconds, closed=not timed_out) from error
        return answer.status_code, self._parse(answer, bytes(body))

    def _parse(self, answer: httpx2.Response, body: bytes) -> dict[str, Any]:
        """The JSON of the body. Raises NoResponse for a success that is not FHIR, such as an HTML page."""
        parsed: Any = None
        with contextlib.suppress(ValueError, RecursionError):
            parsed = json.loads(body)
        if answer.is_success and body.strip() and not json_object(parsed).get("resourceType"):
            what = (
                f"{destination_label(self.destination)} answered {answer.status_code} without a FHIR resource in JSON"
            )
            raise NoResponse(what, hint="does another program answer there? check [[destination]] url")
        return json_object(parsed)

    def _trace(self, event: str, info: dict[str, Any]) -> None:
        """Store the socket, for `interrupt`."""
        if event in ("connection.connect_tcp.complete", "connection.start_tls.complete"):
            self._socket = info["return_value"].get_extra_info("socket")


def in_version(bundle: dict[str, Any], version: str) -> dict[str, Any]:
    """The stored Bundle, which is R4, converted to that version (R5, DiagnosticReport: `imagingStudy` is `study`)."""
    for entry in bundle.get("entry", ()):
        resource = entry["resource"]
        if version == "R5" and "imagingStudy" in resource:
            resource["study"] = resource.pop("imagingStudy")
    return bundle


def _read_bundle(instance: SendableInstance) -> dict[str, Any]:
    try:
        bundle = json_object(json.loads(instance.path.read_bytes()))
    except OSError as error:
        raise UnsendableFile(f"{instance.path} cannot be read: {error.strerror}") from error
    except ValueError:
        bundle = {}
    if bundle.get("resourceType") != "Bundle":
        raise UnsendableFile(f"{instance.path} is not a FHIR Bundle", hint="check [[destination]] objects")
    return bundle


def _os_error(error: BaseException) -> OSError:
    """The OSError in the chain of causes."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError):
            return cause
        cause = cause.__cause__ or cause.__context__
    return OSError(str(error))
