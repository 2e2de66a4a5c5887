"""
A destination of results, as a table of genu.toml: a DICOM archive, or a RIS that takes HL7 v2 or FHIR messages.

One table for all protocols: who reads the settings shall find every key of it in one place.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError


def _ae_title(text: str) -> str:
    """Spaces around it do not count, and only ASCII without controls and backslash may be in it (PS3.5 6.2, VR AE)."""
    if not re.fullmatch(r"[ -\[\]-~]{1,16}", title := text.strip(" ")):
        raise ValueError("an AE title has 1 to 16 ASCII characters, is not only spaces and has no backslash")
    return title


def _url(text: str) -> str:
    """The base address of a FHIR service (FHIR, RESTful API 3.2.0.1.1), without what would end up in a log."""
    url = urlsplit(text)
    odd = "@" in url.netloc or url.query or url.fragment or url.port == 0
    if url.scheme not in ("http", "https") or not url.hostname or odd:
        raise ValueError("an address is https://host/path or http://host/path, without password, query and fragment")
    return text.rstrip("/")


def _route(text: str) -> str:
    """Four fields of a message header; what separates components may be in them, what ends a field may not."""
    if text.count("|") != 3 or not text.isprintable():
        raise ValueError('there are to be four names with | between, as in "GENU|XRAY|RIS|HOSPITAL"; each may be empty')
    return text


AETitle = Annotated[str, AfterValidator(_ae_title)]
Port = Annotated[int, Field(ge=1, le=65535)]
ObjectKind = Literal["SC", "SC1", "SR", "SEG", "PR", "KO", "PM", "PDF", "HL7", "FHIR"]
"""
What can be made of a film: pages in one multi-frame Secondary Capture (SC), or in single-frame ones (SC1), the
Structured Report (SR), attention as a Segmentation (SEG) or Parametric Map (PM), a Presentation State (PR), a Key
Object Selection for red flags (KO), a page as PDF; for a RIS, what the report says as a message (HL7, FHIR).
"""
OPTIONAL_KINDS: tuple[ObjectKind, ...] = ("SEG", "PR", "KO", "PM", "PDF")
"""What a destination may go without: where it takes none, picture and report still prove delivery."""
DEFAULT_OBJECTS: tuple[ObjectKind, ...] = ("SC", "SR", "SEG")

Protocol = Literal["dicom", "mllp", "fhir"]
MESSAGE_KINDS: Mapping[str, ObjectKind] = {"mllp": "HL7", "fhir": "FHIR"}
"""What a protocol for messages carries, and it alone."""
REQUIRED_KEYS: Mapping[Protocol, tuple[str, ...]] = {
    "dicom": ("ae_title", "host", "port"),
    "mllp": ("host", "port"),
    "fhir": ("url",),
}
LOOPBACK = ("localhost", "127.0.0.1", "::1")


class Section(BaseModel):
    """A table of genu.toml. It cannot be changed, and a key that it does not know is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Tls(Section):
    certificate: Path = Field(description="This node's certificate chain, PEM.")
    key: Path = Field(description="Its private key, PEM, without a passphrase.")
    ca: Path | None = Field(None, description="Certificates that the peer's must descend from, PEM.")
    require_peer_certificate: bool = Field(True, description="Refuse a peer that shows no certificate of `ca`.")


class Destination(Section):
    name: str = Field(min_length=1, pattern=r"^[A-Za-z0-9_-]+$", description="What you call this receiver.")
    protocol: Protocol = Field("dicom", description="dicom; for a RIS mllp (HL7 v2) or fhir.")
    ae_title: AETitle = Field("", description="Its AE title (dicom).")
    host: str = Field("", description="Its address (dicom, mllp).")
    port: Port = Field(0, description="Its port (dicom, mllp).")
    calling_ae_title: AETitle = Field("GENU", description="AE title that Genu calls itself towards it.")
    url: Annotated[str, AfterValidator(_url)] | None = Field(None, description="Base address of its FHIR service.")
    fhir_version: Literal["R4", "R5"] = Field("R4", description="FHIR version that it speaks: R4 (R4B as well) or R5.")
    token_file: Path | None = Field(None, description="File that holds the bearer token for it (fhir).")
    msh: Annotated[str, AfterValidator(_route)] = Field(
        "GENU|||", description="MSH-3 to MSH-6 (mllp): sending application and facility, then the receiving ones."
    )
    objects: tuple[ObjectKind, ...] = Field(
        DEFAULT_OBJECTS, description="What it gets: SC or SC1, SR, SEG, PR, KO, PM, PDF; mllp: HL7; fhir: FHIR."
    )
    compress: bool = Field(False, description="Pictures go out in JPEG-LS, without loss, where it takes that.")
    tls: Tls | None = Field(None, description="Given: the connection is encrypted.")

    @property
    def address(self) -> str:
        """Where it is, as a person would look for it."""
        if self.protocol == "fhir":
            return self.url or ""
        place = f"{self.host}:{self.port}"
        return f"{self.ae_title} at {place}" if self.protocol == "dicom" else place

    @model_validator(mode="before")
    @classmethod
    def _message_by_default(cls, told: Any) -> Any:
        """A RIS need not be told what it gets: there is but one kind that its protocol carries."""
        if isinstance(told, dict) and "objects" not in told and (kind := MESSAGE_KINDS.get(str(told.get("protocol")))):
            return {**told, "objects": (kind,)}
        return told

    @model_validator(mode="after")
    def _fits_the_protocol(self) -> "Destination":
        wrong = [
            InitErrorDetails(type=PydanticCustomError("protocol", "{what}", {"what": what}), loc=(key,), input=None)
            for key, what in self._faults()
        ]
        if wrong:
            raise ValidationError.from_exception_data("Destination", wrong)
        return self

    def _faults(self) -> Iterator[tuple[str, str]]:
        """What does not go together: the key, and what to do about it."""
        for key in REQUIRED_KEYS[self.protocol]:
            if not getattr(self, key):
                yield key, f'Field required with protocol = "{self.protocol}"'
        message = MESSAGE_KINDS.get(self.protocol)
        for kind in self.objects:
            if message and kind != message:
                yield "objects", f'only "{message}" goes over {self.protocol}, not "{kind}"; leave objects out'
            elif not message and kind in MESSAGE_KINDS.values():
                yield "objects", f'"{kind}" is a message for a RIS: give it a [[destination]] of its own protocol'
        url = urlsplit(self.url or "")
        if self.token_file and url.scheme == "http" and url.hostname not in LOOPBACK:
            yield "token_file", "over http:// everyone on the way could read the token; use an https:// url"
        if self.tls and self.protocol == "fhir" and url.scheme == "http":
            yield "tls", "the url begins with http://, so nothing would be encrypted; use an https:// url"
