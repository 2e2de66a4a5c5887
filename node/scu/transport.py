"""The TCP connection of an association: it records why connecting failed, and every call on it has a timeout."""

import contextlib
import socket
import ssl
from typing import Any

from pynetdicom import AE, _config, evt
from pynetdicom.association import Association
from pynetdicom.transport import T_CONNECT, AddressInformation, AssociationSocket

from node.settings import Tls

# Files are sent as they are on disk, without decoding, and nothing of them is written to a log.
_config.STORE_SEND_CHUNKED_DATASET = True
_config.LOG_HANDLER_LEVEL = "none"


class ClientSocket(AssociationSocket):
    """A connection that keeps its connect error, has a timeout for reading and writing, and sets TCP_NODELAY."""

    connect_error: OSError | None = None
    timeout_seconds: float | None = None

    def connect(self, primitive: T_CONNECT) -> None:
        """As in pynetdicom, which only logs the error, and sets no timeout for reading and writing."""
        assert self.socket is not None
        try:
            if self.tls_args:
                context, name = self.tls_args
                self.socket = context.wrap_socket(self.socket, server_hostname=name)
            self.socket.settimeout(self.assoc.connection_timeout)
            self.socket.connect(primitive.address_info.as_tuple)
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.socket.settimeout(self.timeout_seconds)
            self.assoc.requestor.address_info = AddressInformation.from_tuple(self.socket.getsockname())
            self._is_connected = True
            evt.trigger(self.assoc, evt.EVT_CONN_OPEN, {"address": primitive.address_info.as_tuple})
            primitive.result = "Evt2"
        except OSError as error:
            self.connect_error = error
            self.socket.close()
            self.socket = None
            primitive.result = "Evt17"
        finally:
            self.provider_queue.put(primitive)
            self._ready.set()

    def _shutdown_socket(self) -> None:
        """As in pynetdicom, which leaves the socket open if the peer has already closed its side."""
        shut_down(self.socket)
        if self.socket is not None:
            self.socket.close()

    def interrupt(self) -> None:
        """Make every call that waits on this connection return at once, with the connection closed."""
        shut_down(self.socket)


class RequestingAe(AE):
    """The application entity that requests associations."""

    client_socket: ClientSocket | None = None
    response_timeout: float | None = None

    def _create_socket(self, assoc: Association, address: AddressInformation, tls_args: Any) -> ClientSocket:
        self.client_socket = ClientSocket(assoc, address=address)
        self.client_socket.timeout_seconds = self.response_timeout
        self.client_socket.tls_args = tls_args
        # pynetdicom's second thread, which serves requests of the peer, is not started: a peer sends no requests to
        # a requestor, and occasionally that thread takes the response that `send_c_store` waits for (once in hundreds).
        assoc.start = lambda: None  # type: ignore[method-assign]
        assoc._is_paused = True
        assoc.dul.daemon = True  # a first thread that is blocked in a call must not keep the process from ending
        return self.client_socket


def shut_down(connection: socket.socket | None) -> None:
    """Shut a connection down, from any thread: every call that waits on it returns and finds it closed."""
    if connection is not None:
        with contextlib.suppress(OSError):  # not connected any more
            connection.shutdown(socket.SHUT_RDWR)


def client_tls(tls: Tls) -> ssl.SSLContext:
    """
    Return a client's TLS context, 1.2 at least, with this node's certificate (PS3.15 B.9, BCP 195).

    Against a private CA the host name is not checked: archives are addressed by IP address.
    """
    context = ssl.create_default_context(cafile=tls.ca)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = tls.ca is None and tls.require_peer_certificate
    context.verify_mode = ssl.CERT_REQUIRED if tls.require_peer_certificate else ssl.CERT_NONE
    context.load_cert_chain(tls.certificate, tls.key)
    return context
