"""DICOM over TLS according to PS3.15 B.12 (BCP 195): TLS 1.2 or newer, forward secrecy, both sides authenticated."""

import ssl

from node.errors import SettingsError
from node.settings import Tls

_TLS_1_2_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"


def server_context(tls: Tls) -> ssl.SSLContext:
    """The TLS context of the listening side. Raises SettingsError for files that cannot be used."""
    if tls.require_peer_certificate and tls.ca is None:
        raise SettingsError(
            "[receive.tls] asks for a peer's certificate but names no `ca` to check it with",
            hint="set ca, or require_peer_certificate = false",
        )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_TLS_1_2_CIPHERS)
    context.options |= ssl.OP_NO_RENEGOTIATION
    try:
        context.load_cert_chain(tls.certificate, tls.key, password=_no_passphrase)
        if tls.ca is not None:
            context.load_verify_locations(tls.ca)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise SettingsError(
            f"[receive.tls] cannot be used: {error}", hint="PEM files, key without passphrase"
        ) from error
    if tls.require_peer_certificate:
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _no_passphrase() -> str:
    # Without this OpenSSL would prompt on the terminal, and a service would block.
    raise ValueError("the key has a passphrase")
