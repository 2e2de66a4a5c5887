"""
A destination of results, as a table of genu.toml: a DICOM archive, or a RIS that takes HL7 v2 or FHIR messages.

One table serves all protocols, so that every key of a destination is in one place.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError


def _ae_title(text: str) -> str:
    """An AE title: ASCII without controls and backslash; spaces around it are not significant (PS3.5 6.2, VR AE)."""
    if not re.fullmatch(r"[ -\[\]-~]{1,16}", title := text.strip(" ")):
        raise ValueError("an AE title has 1 to 16 ASCII characters, is not only spaces and has no backslash")
    return title


def _url(text: str) -> str:
    """The base URL of a FHIR service (FHIR, RESTful API 3.2.0.1.1), without anything that may be secret in a log."""
    url = urlsplit(text)
    forbidden = "@" in url.netloc or url.query or url.fragment or url.port == 0
    if url.scheme not in ("http", "https") or not url.hostname or forbidden:
        raise ValueError("an address is https://host/path or http://host/path, without password, query and fragment")
    return text.rstrip("/")


def _msh_fields(text: str) -> str:
    """Four fields of a message header. They may contain component separators, but no field separator."""
    if text.count("|") != 3 or not text.isprintable():
        raise ValueError('four names separated by | are needed, as in "GENU|XRAY|RIS|HOSPITAL"; each may be empty')
    return text


AETitle = Annotated[str, AfterValidator(_ae_title)]
Port = Annotated[int, Field(ge=1, le=65535)]
ObjectKind = Literal["SC", "SC1", "SR", "SEG", "PR", "KO", "PM", "PDF", "HL7", "FHIR"]
"""
The kinds of result object: pages in one multi-frame Secondary Capture (SC), or in single-frame ones (SC1), the
Structured Report (SR), attention as a Segmentation (SEG) or Parametric Map (PM), a Presentation State (PR), a Key
Object Selection for red flags (KO), a page as PDF; for a RIS, the content of the report as a message (HL7, FHIR).
"""
OPTIONAL_KINDS: tuple[ObjectKind, ...] = ("SEG", "PR", "KO", "PM", "PDF")
"""Kinds that a destination may refuse: Secondary Capture and report are enough for a radiograph to be DELIVERED."""
DEFAULT_OBJECTS: tuple[ObjectKind, ...] = ("SC", "SR", "SEG")

Protocol = Literal["dicom", "mllp", "fhir"]
MESSAGE_KINDS: Mapping[str, ObjectKind] = {"mllp": "HL7", "fhir": "FHIR"}
"""Protocol for messages -> the only kind that it carries."""
REQUIRED_KEYS: Mapping[Protocol, tuple[str, ...]] = {
    "dicom": ("ae_title", "host", "port"),
    "mllp": ("host", "port"),
    "fhir": ("url",),
}
LOOPBACK = ("localhost", "127.0.0.1", "::1")


class Section(BaseModel):
    """A table of genu.toml. It is immutable, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Tls(Section):
    certificate: Path = Field(description="This node's certificate chain, PEM.")
    key: Path = Field(description="Its private key, PEM, without a passphrase.")
    ca: Path | None = Field(None, description="Certificates of the authorities that the peer's must be signed by, PEM.")
    require_peer_certificate: bool = Field(True, description="Refuse a peer that presents no certificate of `ca`.")


class Destination(Section):
    name: str = Field(min_length=1, pattern=r"^[A-Za-z0-9_-]+$", description="Your name for this destination.")
    protocol: Protocol = Field("dicom", description="dicom; for a RIS mllp (HL7 v2) or fhir.")
    ae_title: AETitle = Field("", description="Its AE title (dicom).")
    host: str = Field("", description="Its address (dicom, mllp).")
    port: Port = Field(0, description="Its port (dicom, mllp).")
    calling_ae_title: AETitle = Field("GENU", description="Calling AE title of Genu towards it.")
    url: Annotated[str, AfterValidator(_url)] | None = Field(None, description="Base address of its FHIR service.")
    fhir_version: Literal["R4", "R5"] = Field("R4", description="Its FHIR version: R4 (R4B as well) or R5.")
    token_file: Path | None = Field(None, description="File that holds the bearer token for it (fhir).")
    msh: Annotated[str, AfterValidator(_msh_fields)] = Field(
        "GENU|||", description="MSH-3 to MSH-6 (mllp): sending application and facility, then the receiving ones."
    )
    objects: tuple[ObjectKind, ...] = Field(
        DEFAULT_OBJECTS,
        description="Kinds of object to send: SC or SC1, SR, SEG, PR, KO, PM, PDF; mllp: HL7; fhir: FHIR.",
    )
    compress: bool = Field(False, description="Send images in lossless JPEG-LS where it accepts that.")
    tls: Tls | None = Field(None, description="If given, the connection uses TLS.")

    @property
    def address(self) -> str:
        """The address for people: AE title, host and port, or URL."""
        if self.protocol == "fhir":
            return self.url or ""
        host_and_port = f"{self.host}:{self.port}"
        return f"{self.ae_title} at {host_and_port}" if self.protocol == "dicom" else host_and_port

    @model_validator(mode="before")
    @classmethod
    def _message_by_default(cls, values: Any) -> Any:
        """Without `objects`, a RIS gets the only kind that its protocol carries."""
        if isinstance(values, dict) and "objects" not in values:
            kind = MESSAGE_KINDS.get(str(values.get("protocol")))
            return {**values, "objects": (kind,)} if kind else values
        return values

    @model_validator(mode="after")
    def _check_protocol(self) -> "Destination":
        details = [
            InitErrorDetails(type=PydanticCustomError("protocol", "{what}", {"what": what}), loc=(key,), input=None)
            for key, what in self._faults()
        ]
        if details:
            raise ValidationError.from_exception_data("Destination", details)
        return self

    def _faults(self) -> Iterator[tuple[str, str]]:
        """Keys that contradict each other: the key, and what to do about it."""
        for key in REQUIRED_KEYS[self.protocol]:
            if not getattr(self, key):
                yield key, f'Field required with protocol = "{self.protocol}"'
        message = MESSAGE_KINDS.get(self.protocol)
        for kind in self.objects:
            if message and kind != message:
                yield "objects", f'{self.protocol} carries only "{message}", not "{kind}"; leave objects out'
            elif not message and kind in MESSAGE_KINDS.values():
                yield "objects", f'"{kind}" is a message for a RIS: it needs a [[destination]] with its protocol'
        url = urlsplit(self.url or "")
        if self.token_file and url.scheme == "http" and url.hostname not in LOOPBACK:
            yield "token_file", "http:// would send the token unencrypted; use an https:// url"
        if self.tls and self.protocol == "fhir" and url.scheme == "http":
            yield "tls", "the url begins with http://, so the connection would not be encrypted; use an https:// url"
