"""
Why a destination did not take an object, as exceptions: each message has what happened, where, and what to do.

GenuError
├── Transient
│   ├── DestinationUnavailable  no connection or association: everything for this destination waits
│   ├── NoResponse              the outcome is unknown: the object is sent again
│   └── RequestRejected         the destination does not accept the object now: it is sent again
│       └── ContextRejected     nor this SOP class or transfer syntax: given up if its kind is optional
├── PermanentRejection          the destination will never accept the object: given up
└── UnsendableFile              the file itself cannot be sent: given up

Each is caught by its own name: none is a special case of another with another consequence. They are named for what
happened, as in node.errors (so N818 is waived).
"""

import socket
import ssl

from pydicom.uid import UID

from node.errors import GenuError, Transient
from node.settings import Destination

STORED_STATUSES = frozenset({0x0000, 0xB000, 0xB006, 0xB007})
"""Success, and the warnings with which the object is stored nevertheless (PS3.4 table B.2-1)."""

_STATUS_MEANINGS = {
    0x0110: "processing failure",
    0x0111: "it already has an object with this UID",
    0x0117: "invalid SOP instance",
    0x0122: "SOP class not supported",
    0x0124: "not authorised",
    0xA700: "out of resources",
    0xA900: "data set does not match SOP class",
    0xC000: "cannot understand the data set",
}
_STATUS_RANGES = ((0xA700, 0xA7FF), (0xA900, 0xA9FF), (0xC000, 0xCFFF))

_STATUS_ADVICE = {
    0x0111: "check the object there; if it is complete, only configure the destination to answer 0000",
    0x0122: "enable the SOP class there, or remove its kind from [[destination]] objects",
    0x0124: "allow Genu's AE title and address there",
    0xA700: "free disk space there; it is sent again",
}
_SEE_LOG = "see the destination's own log at the time of this message; it is sent again"

# (source, diagnostic) of A-ASSOCIATE-RJ: PS3.8 table 9-21.
_REJECTIONS = {
    (1, 1): ("no reason given", _SEE_LOG),
    (1, 2): ("application context name not supported", "is this a DICOM archive?"),
    (1, 3): ("calling AE title not recognised", "add {calling} there, or change [[destination]] calling_ae_title"),
    (1, 7): ("called AE title not recognised", "check [[destination]] ae_title"),
    (2, 1): ("no reason given", _SEE_LOG),
    (2, 2): ("protocol version not supported", "is this a DICOM archive?"),
    (3, 1): ("temporary congestion", "it is busy; Genu tries again"),
    (3, 2): ("local limit exceeded", "it has too many associations open; Genu tries again"),
}

# Result of a presentation context: PS3.8 table 9-18.
_CONTEXT_RESULTS = {
    1: "rejected by its user",
    2: "rejected without a reason",
    3: "SOP class not supported",
    4: "transfer syntaxes not supported",
}


class DestinationUnavailable(Transient):
    """No association or connection was established, or a gateway reports that the service behind it is down."""


class NoResponse(Transient):
    """The connection ended, timed out or returned no valid response after a request: the outcome is unknown."""


class RequestRejected(Transient):
    """The destination answered and did not accept this request now. `status` is that of the DIMSE response, if any."""

    def __init__(self, what: str, *, hint: str = "", status: int | None = None) -> None:
        super().__init__(what, hint=hint)
        self.status = status


class ContextRejected(RequestRejected):
    """The destination does not accept this SOP class in these transfer syntaxes, until it is configured to."""


class PermanentRejection(GenuError):  # noqa: N818
    """The destination answered that it will never accept this object."""


class UnsendableFile(GenuError):  # noqa: N818
    """The file itself cannot be sent: it is absent, damaged, or not of the format of the protocol."""


def destination_label(destination: Destination) -> str:
    """The destination's name and address, as messages show them."""
    address = destination.address
    return f"destination {destination.name} ({address})" if destination.name != "-" else address


def connection_failed(destination: Destination, error: OSError, seconds: float) -> DestinationUnavailable:
    """The exception for a connection that was not established."""
    what, hint = f"cannot be connected: {error.strerror or error}", "check [[destination]] host and the network"
    match error:
        case ssl.SSLCertVerificationError():
            what = f"presents a certificate that is not trusted: {error.verify_message}"
            hint = "check [[destination]] tls.ca"
        case ConnectionResetError() | BrokenPipeError() | ssl.SSLEOFError():
            what, hint = "closes the connection", "is this port a TLS port? check [[destination]] tls and port"
        case ssl.SSLError():
            what = f"does not agree on TLS: {getattr(error, 'reason', None) or error}"
            hint = "is this port a TLS port? check [[destination]] tls and port, and the certificates of both sides"
        case ConnectionRefusedError():
            what, hint = "refuses the connection", "nothing listens there: start it, or check [[destination]] port"
        case TimeoutError():
            what = f"does not answer the connection within {seconds:g} s"
            hint = "check [[destination]] host and port, and the firewall between"
        case socket.gaierror():
            what, hint = f"has an unknown host name: {error.strerror}", "check [[destination]] host, and the DNS"
        case _:
            pass
    return DestinationUnavailable(f"{destination_label(destination)} {what}", hint=hint)


def association_rejected(destination: Destination, result: int, source: int, diagnostic: int) -> DestinationUnavailable:
    """The exception for an A-ASSOCIATE-RJ (PS3.8 table 9-21)."""
    meaning, hint = _REJECTIONS.get((source, diagnostic), ("reserved reason", _SEE_LOG))
    kind = "permanent" if result == 1 else "transient"
    what = f"rejected the association: {meaning} ({kind}; result {result}, source {source}, reason {diagnostic})"
    hint = hint.format(calling=destination.calling_ae_title)
    return DestinationUnavailable(f"{destination_label(destination)} {what}", hint=hint)


def no_association_response(destination: Destination, seconds: float, *, closed: bool) -> DestinationUnavailable:
    """The exception for a connection that was established and an association request that was not answered."""
    if closed:
        what = "closed the connection instead of answering the association request"
        hint = "it may require TLS, or not trust Genu's certificate, or not know its AE title"
    else:
        what = f"accepted the connection but did not answer the association request within {seconds:g} s"
        hint = "it hangs, or another program listens there: check [[destination]] port"
    return DestinationUnavailable(f"{destination_label(destination)} {what}", hint=hint)


def context_rejected(
    destination: Destination, sop_class: str, syntaxes: tuple[str, ...], result: int
) -> ContextRejected:
    """The exception for a rejected presentation context in an accepted association."""
    names = " or ".join(UID(syntax).name for syntax in syntaxes)
    reason = _CONTEXT_RESULTS.get(result, f"result {result}")
    what = f"does not accept {UID(sop_class).name} in {names}: {reason}"
    hint = "enable it there, or remove its kind from [[destination]] objects"
    if UID(sop_class).name == "Comprehensive 3D SR Storage":
        hint = 'enable it there, or set [work] sr_class = "comprehensive"'
    return ContextRejected(f"{destination_label(destination)} {what}", hint=hint)


def failure_status(destination: Destination, status: int) -> RequestRejected:
    """The exception for a DIMSE response with a failure status."""
    start = next((low for low, high in _STATUS_RANGES if low <= status <= high), status)
    meaning = _STATUS_MEANINGS.get(start, "a status that DICOM does not define")
    what = f"did not store the object: {status:04X}H, {meaning}"
    return RequestRejected(
        f"{destination_label(destination)} {what}", hint=_STATUS_ADVICE.get(start, _SEE_LOG), status=status
    )


def no_response(destination: Destination, seconds: float, *, closed: bool) -> NoResponse:
    """The exception for a request that was sent and not answered."""
    what = "closed the connection without a response" if closed else f"sent no response within {seconds:g} s"
    hint = "see the destination's own log; the object is sent again under the same UID, which does no harm"
    return NoResponse(f"{destination_label(destination)} {what}", hint=hint)
