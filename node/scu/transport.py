"""The connection under an association: it says why it failed, and waits for nothing for ever."""

import contextlib
import socket
import ssl
from typing import Any

from pynetdicom import AE, _config, evt
from pynetdicom.association import Association
from pynetdicom.transport import T_CONNECT, AddressInformation, AssociationSocket

from node.settings import Tls

# Files go out as they lie on disk, without being decoded, and nothing of them is written to a log.
_config.STORE_SEND_CHUNKED_DATASET = True
_config.LOG_HANDLER_LEVEL = "none"


class Wire(AssociationSocket):
    """A connection that says why it failed, does not wait for ever, and does not hold small packets back."""

    failure: OSError | None = None
    patience: float | None = None

    def connect(self, primitive: T_CONNECT) -> None:
        """As in pynetdicom, which logs the error and loses it, and sets no deadline for reading and writing."""
        assert self.socket is not None
        try:
            if self.tls_args:
                context, name = self.tls_args
                self.socket = context.wrap_socket(self.socket, server_hostname=name)
            self.socket.settimeout(self.assoc.connection_timeout)
            self.socket.connect(primitive.address_info.as_tuple)
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.socket.settimeout(self.patience)
            self.assoc.requestor.address_info = AddressInformation.from_tuple(self.socket.getsockname())
            self._is_connected = True
            evt.trigger(self.assoc, evt.EVT_CONN_OPEN, {"address": primitive.address_info.as_tuple})
            primitive.result = "Evt2"
        except OSError as error:
            self.failure = error
            self.socket.close()
            self.socket = None
            primitive.result = "Evt17"
        finally:
            self.provider_queue.put(primitive)
            self._ready.set()

    def _shutdown_socket(self) -> None:
        """As in pynetdicom, which leaves the socket open where the peer has closed its side already."""
        wake(self.socket)
        if self.socket is not None:
            self.socket.close()

    def cut(self) -> None:
        """Wake whoever waits on this connection, in whatever call; they find it closed."""
        wake(self.socket)


class Caller(AE):
    """The application entity that calls."""

    wire: Wire | None = None
    patience: float | None = None

    def _create_socket(self, assoc: Association, address: AddressInformation, tls_args: Any) -> Wire:
        self.wire = Wire(assoc, address=address)
        self.wire.patience = self.patience
        self.wire.tls_args = tls_args
        # pynetdicom's second thread, which listens for requests of the peer, is not started: nobody requests anything
        # of a caller, and now and then it takes away the answer that `send_c_store` waits for (once in some hundred).
        assoc.start = lambda: None  # type: ignore[method-assign]
        assoc._is_paused = True
        assoc.dul.daemon = True  # and its first thread, were it stuck in a call, must not keep the process from ending
        return self.wire


def wake(line: socket.socket | None) -> None:
    """Break a connection off, from any thread: whoever waits on it, in whatever call, finds it closed."""
    if line is not None:
        with contextlib.suppress(OSError):  # not connected any more
            line.shutdown(socket.SHUT_RDWR)


def client_tls(tls: Tls) -> ssl.SSLContext:
    """
    Return a client's TLS, 1.2 at least, that shows our certificate (PS3.15 B.9, BCP 195).

    Against a CA of one's own the certificate's name is not compared: archives are called by address.
    """
    context = ssl.create_default_context(cafile=tls.ca)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = tls.ca is None and tls.require_peer_certificate
    context.verify_mode = ssl.CERT_REQUIRED if tls.require_peer_certificate else ssl.CERT_NONE
    context.load_cert_chain(tls.certificate, tls.key)
    return context
