"""Every way in which a destination does not take something, as one sentence: what, where, and what to do."""

import socket
import ssl

from pydicom.uid import UID

from node.errors import GenuError, Transient
from node.settings import Destination

STORED = frozenset({0x0000, 0xB000, 0xB006, 0xB007})
"""Success, and the warnings with which the object is stored all the same (PS3.4 table B.2-1)."""

_STATUSES = {
    0x0110: "processing failure",
    0x0111: "it has an object of this UID already",
    0x0117: "invalid SOP instance",
    0x0122: "SOP class not supported",
    0x0124: "not authorised",
    0xA700: "out of resources",
    0xA900: "data set does not match SOP class",
    0xC000: "cannot understand the data set",
}
_RANGES = ((0xA700, 0xA7FF), (0xA900, 0xA9FF), (0xC000, 0xCFFF))

_STATUS_HINTS = {
    0x0111: "look for it there; if it is complete there is nothing to do but to have the destination answer 0000",
    0x0122: "enable the SOP class there, or leave its kind out of [[destination]] objects",
    0x0124: "allow Genu's AE title and address there",
    0xA700: "free disk space there; it is sent again",
}
_LOOK_THERE = "look into the destination's own log for the time of this message; it is sent again"

# (source, diagnostic) of A-ASSOCIATE-RJ: PS3.8 table 9-21.
_REJECTIONS = {
    (1, 1): ("no reason given", _LOOK_THERE),
    (1, 2): ("application context name not supported", "is this a DICOM archive?"),
    (1, 3): ("calling AE title not recognised", "add {calling} there, or change [[destination]] calling_ae_title"),
    (1, 7): ("called AE title not recognised", "check [[destination]] ae_title"),
    (2, 1): ("no reason given", _LOOK_THERE),
    (2, 2): ("protocol version not supported", "is this a DICOM archive?"),
    (3, 1): ("temporary congestion", "it is busy; it is tried again"),
    (3, 2): ("local limit exceeded", "it has too many associations open; it is tried again"),
}

# Result of a presentation context: PS3.8 table 9-18.
_CONTEXTS = {
    1: "refused by its user",
    2: "refused without a reason",
    3: "SOP class not supported",
    4: "transfer syntaxes not supported",
}


class Unreachable(Transient):
    """Nobody there who talks DICOM with us at the moment: no fault of any one object."""


class Lost(Unreachable):
    """The association broke, or fell silent, while an object was on the wire; nobody knows whether it arrived."""


class Declined(Transient):
    """The destination answered, and did not take this object. `status` is its answer, if there was a C-STORE."""

    def __init__(self, what: str, *, hint: str = "", status: int | None = None) -> None:
        super().__init__(what, hint=hint)
        self.status = status


class NeverTaken(Declined):
    """The destination answered that it will not take this object, whenever it is asked."""


class Unsendable(GenuError):  # noqa: N818
    """The file itself cannot be sent: absent, damaged, or no DICOM."""


def told(destination: Destination) -> str:
    """Name a destination as a person would look for it."""
    peer = destination.address
    return f"destination {destination.name} ({peer})" if destination.name != "-" else peer


def no_connection(destination: Destination, error: OSError, seconds: float) -> Unreachable:
    """Say why no connection came about."""
    what, hint = f"cannot be connected: {error.strerror or error}", "check [[destination]] host and the network"
    match error:
        case ssl.SSLCertVerificationError():
            what = f"shows a certificate that is not trusted: {error.verify_message}"
            hint = "check [[destination]] tls.ca"
        case ConnectionResetError() | BrokenPipeError() | ssl.SSLEOFError():
            what, hint = "breaks the connection off", "does this port speak TLS? check [[destination]] tls and port"
        case ssl.SSLError():
            what = f"does not agree on TLS: {getattr(error, 'reason', None) or error}"
            hint = "does this port speak TLS? check [[destination]] tls and port, and the certificates of both sides"
        case ConnectionRefusedError():
            what, hint = "refuses the connection", "nothing listens there: start it, or check [[destination]] port"
        case TimeoutError():
            what = f"does not answer the connection within {seconds:g} s"
            hint = "check [[destination]] host and port, and the firewall between"
        case socket.gaierror():
            what, hint = f"has an unknown host name: {error.strerror}", "check [[destination]] host, and the DNS"
        case _:
            pass
    return Unreachable(f"{told(destination)} {what}", hint=hint)


def rejected(destination: Destination, result: int, source: int, diagnostic: int) -> Unreachable:
    """Say why the association was rejected."""
    meaning, hint = _REJECTIONS.get((source, diagnostic), ("reserved reason", _LOOK_THERE))
    kind = "permanent" if result == 1 else "transient"
    what = f"rejected the association: {meaning} ({kind}; result {result}, source {source}, reason {diagnostic})"
    return Unreachable(f"{told(destination)} {what}", hint=hint.format(calling=destination.calling_ae_title))


def no_association(destination: Destination, seconds: float, *, broken_off: bool) -> Unreachable:
    """Say that the connection stood, and no answer to the association came."""
    if broken_off:
        what = "broke the connection off instead of answering the association"
        hint = "it may want TLS, or not trust Genu's certificate, or not know its AE title"
    else:
        what = f"took the connection but did not answer the association within {seconds:g} s"
        hint = "it hangs, or another program listens there: check [[destination]] port"
    return Unreachable(f"{told(destination)} {what}", hint=hint)


class NotTaken(Declined):
    """The destination takes no objects of this SOP class in this transfer syntax: asking again changes nothing."""


def no_context(destination: Destination, sop_class: str, syntaxes: tuple[str, ...], result: int) -> NotTaken:
    """Say that the destination took the association, and not this kind of object."""
    names = " or ".join(UID(syntax).name for syntax in syntaxes)
    what = f"does not take {UID(sop_class).name} in {names}: {_CONTEXTS.get(result, f'result {result}')}"
    hint = "enable it there, or leave its kind out of [[destination]] objects"
    if UID(sop_class).name == "Comprehensive 3D SR Storage":
        hint = 'enable it there, or set [work] sr_class = "comprehensive"'
    return NotTaken(f"{told(destination)} {what}", hint=hint)


def not_stored(destination: Destination, status: int) -> Declined:
    """Say with which status an object was not stored."""
    start = next((low for low, high in _RANGES if low <= status <= high), status)
    meaning = _STATUSES.get(start, "a status that no table of DICOM has")
    what = f"did not store the object: {status:04X}H, {meaning}"
    return Declined(f"{told(destination)} {what}", hint=_STATUS_HINTS.get(start, _LOOK_THERE), status=status)


def no_answer(destination: Destination, seconds: float, *, broken_off: bool) -> Lost:
    """Say that an object went out and no answer came."""
    what = "broke the association off" if broken_off else f"did not answer within {seconds:g} s"
    hint = "look into the destination's own log; the object is sent again, which does no harm"
    return Lost(f"{told(destination)} {what} while an object was on the wire", hint=hint)
