"""
FHIR resources over HTTP: a transaction Bundle is posted to the base address of the service.

After FHIR R4 and R5, RESTful API: "transaction" (3.2.0.11) and "capabilities" (3.2.0.1.4, GET [base]/metadata); Bearer
tokens after RFC 6750. Redirects are not followed, proxies of the environment are not asked: a patient's result goes to
the address that the settings name, or nowhere.
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
from node.ris.operation_outcome import NOT_NOW, WRONG_PLACE, identifying, refused_entry, said, table
from node.ris.redaction import quiet, words_of
from node.scu import Context, Declined, Lost, NeverTaken, Parcel, Unreachable, Unsendable
from node.scu.errors import no_answer, no_association, no_connection, told
from node.scu.transport import client_tls, wake
from node.settings import Deliver

LONGEST_ANSWER = 1 << 20
MEDIA_TYPE = "application/fhir+json"
AWAY = (502, 503, 504)
"""The service stands behind something that answers for it and says that it does not."""
VERSIONS = {"R4": ("4.0", "4.3"), "R5": ("5.0",)}


class FhirLink:
    """The way to one service; of the same shape as the link of a DICOM destination."""

    def __init__(self, destination: Destination, patience: Deliver) -> None:
        self.destination = destination
        self.patience = patience
        self._client: httpx2.Client | None = None
        self._socket: socket.socket | None = None
        self._cut = False

    def open(self, contexts: Iterable[Context]) -> None:
        """Be ready to ask; the connection is made with the first request. Raises Unreachable for an unreadable file."""
        there, patience = self.destination, self.patience
        try:
            headers = {"Authorization": f"Bearer {self._token()}"} if there.token_file else {}
            trust = client_tls(there.tls) if there.tls else ssl.create_default_context()
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or type(error).__name__
            what = f"{told(there)} cannot be asked: its token or certificate cannot be read: {why}"
            raise Unreachable(what, hint="check [[destination]] token_file and tls") from error
        timeout = httpx2.Timeout(patience.response_seconds, connect=patience.connect_seconds)
        self._client = httpx2.Client(
            headers={"Accept": MEDIA_TYPE, **headers}, verify=trust, timeout=timeout, trust_env=False
        )

    def takes(self, kind: Context) -> bool:
        """Only the answer to a Bundle tells."""
        return True

    def store(self, sent: Parcel) -> int:
        """
        Post one Bundle and return 0 when all of it was accepted.

        Raises
        ------
        Unreachable
            No connection came about, or a gateway says that the service is away.
        Declined, NeverTaken
            The service answered that it does not take it now, or ever.
        Lost
            No answer came, or one that is no FHIR.
        """
        bundle = in_version(_read(sent), self.destination.fhir_version)
        status, answer, words = *self._ask("POST", "", json.dumps(bundle).encode()), words_of(identifying(bundle))
        status = refused_entry(answer) or status
        if status // 100 == 2:
            return 0
        what = f"{told(self.destination)} answered {status}"
        if text := quiet(said(answer), words):
            what += f": {text}"
        if status in AWAY:
            raise Unreachable(what, hint="look whether the service behind it runs; it is sent again")
        if status in (401, 403):
            raise Declined(what, hint="check [[destination]] token_file, and what the token may do; it is sent again")
        if status in WRONG_PLACE or status // 100 == 3:
            raise Declined(what, hint="check [[destination]] url, the base address of the service; it is sent again")
        if status // 100 == 4 and status not in NOT_NOW:
            raise NeverTaken(what, hint="look into the service's log; when it is mended, retry the radiograph")
        raise Declined(what, hint="look into the service's own log for this moment; it is sent again")

    def echo(self) -> None:
        """The service has described itself. Raises Unreachable, Lost or Declined."""
        self.described()

    def described(self) -> tuple[str, bool]:
        """What the service says of itself, and whether it speaks the version of the settings and takes transactions."""
        status, answer = self._ask("GET", "/metadata")
        if status // 100 != 2:
            kind = Unreachable if status in AWAY else Declined
            raise kind(f"{told(self.destination)} answered {status} to GET metadata", hint="check [[destination]] url")
        if answer.get("resourceType") != "CapabilityStatement":
            what = f"{told(self.destination)} answers with what is no CapabilityStatement"
            raise Declined(what, hint="check [[destination]] url, the base address of the service")
        version = quiet(str(answer.get("fhirVersion", "of unknown version")), ())
        name = quiet(str(table(answer.get("software")).get("name", "")), ())
        asked = self.destination.fhir_version
        fits = version.startswith(VERSIONS[asked])
        wrong = "" if fits else f' <- fhir_version is "{asked}"'
        served = [table(mode) for mode in answer.get("rest") or ()]
        offered = [table(each).get("code") for mode in served for each in mode.get("interaction") or ()]
        if offered and "transaction" not in offered:
            fits, wrong = False, f"{wrong} <- it does not say that it takes transactions"
        return f"FHIR {version}{f' ({name})' if name else ''}{wrong}", fits

    def close(self) -> None:
        """Let the connection go."""
        if self._client is not None:
            self._client.close()
        self._client = self._socket = None

    def cut(self) -> None:
        """Break off from another thread, whatever is waited for."""
        self._cut = True
        wake(self._socket)

    def _token(self) -> str:
        """Read anew for each connection, so that a new token needs no restart."""
        assert self.destination.token_file is not None
        return self.destination.token_file.read_text(encoding="ascii").strip()

    def _ask(self, method: str, place: str, content: bytes | None = None) -> tuple[int, dict[str, Any]]:
        """Status and JSON of the answer; an empty table where it has no content. Raises Unreachable or Lost."""
        there, begun = self.destination, time.monotonic()
        if self._cut:
            raise no_association(there, 0, broken_off=True)
        assert self._client is not None, "open first"
        headers = {"Content-Type": MEDIA_TYPE} if content is not None else {}
        asked = self._client.stream(
            method, f"{there.url}{place}", content=content, headers=headers, extensions={"trace": self._watch}
        )
        try:
            with asked as answer:
                body = bytearray()
                for part in answer.iter_bytes():
                    body += part
                    if len(body) > LONGEST_ANSWER or time.monotonic() - begun > self.patience.response_seconds:
                        raise no_answer(there, self.patience.response_seconds, broken_off=False)
        except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
            cause = TimeoutError() if isinstance(error, httpx2.ConnectTimeout) else _cause(error)
            raise no_connection(there, cause, self.patience.connect_seconds) from error
        except httpx2.HTTPError as error:
            late = isinstance(error, httpx2.TimeoutException)
            raise no_answer(there, self.patience.response_seconds, broken_off=not late) from error
        return answer.status_code, self._parsed(answer, bytes(body))

    def _parsed(self, answer: httpx2.Response, body: bytes) -> dict[str, Any]:
        """The JSON; a page of some other program that answers 200 is no acceptance."""
        parsed: Any = None
        with contextlib.suppress(ValueError, RecursionError):
            parsed = json.loads(body)
        if answer.is_success and body.strip() and not table(parsed).get("resourceType"):
            what = f"{told(self.destination)} answered {answer.status_code} with what is no FHIR resource in JSON"
            raise Lost(what, hint="does something else answer there? check [[destination]] url")
        return table(parsed)

    def _watch(self, event: str, info: dict[str, Any]) -> None:
        """Remember the connection, to be able to break it off."""
        if event in ("connection.connect_tcp.complete", "connection.start_tls.complete"):
            self._socket = info["return_value"].get_extra_info("socket")


def in_version(bundle: dict[str, Any], version: str) -> dict[str, Any]:
    """The kept Bundle, which is R4, in the words of that version (R5, DiagnosticReport: `imagingStudy` is `study`)."""
    for entry in bundle.get("entry", ()):
        resource = entry["resource"]
        if version == "R5" and "imagingStudy" in resource:
            resource["study"] = resource.pop("imagingStudy")
    return bundle


def _read(sent: Parcel) -> dict[str, Any]:
    try:
        read = table(json.loads(sent.path.read_bytes()))
    except OSError as error:
        raise Unsendable(f"{sent.path} cannot be read: {error.strerror}") from error
    except ValueError:
        read = {}
    if read.get("resourceType") != "Bundle":
        raise Unsendable(f"{sent.path} is no FHIR Bundle", hint="check [[destination]] objects")
    return read


def _cause(error: BaseException) -> OSError:
    """The error of the operating system beneath."""
    beneath: BaseException | None = error
    while beneath is not None:
        if isinstance(beneath, OSError):
            return beneath
        beneath = beneath.__cause__ or beneath.__context__
    return OSError(str(error))
