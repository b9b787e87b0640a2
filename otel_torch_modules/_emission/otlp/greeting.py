"""Whether anything is said where gRPC is to connect to.

Of a process that forks while gRPC connects to somebody who is silent it may end the child (SIGABRT, "Check failed:
next_worker->state == KICKED", grpcio 1.85), and a loader that loses a worker ends training. So gRPC connects only where
somebody has spoken: a server of HTTP/2 does so at once, https://www.rfc-editor.org/rfc/rfc9113#section-3.4, and whoever
knows another protocol answers what he does not understand, or closes.
"""

from __future__ import annotations

import socket
import ssl
from contextlib import closing
from typing import Any
from urllib.parse import urlsplit

from otel_torch_modules._emission.clocks import monotonic
from otel_torch_modules._emission.otlp.connection import Connection
from otel_torch_modules._interruption import is_interruption, suppressed

_CONNECT_S = 1.0  # to one address; how gRPC looks for one that answers is its own affair
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"  # and settings, none


class Greeting:
    """Speaks to a receiver first.

    Args:
        connection: that gRPC is to have, directly.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._socket: socket.socket | None = None
        self._is_over = False

    def is_answered(self) -> bool:
        """Return False if somebody takes a connection and says nothing, for as long as an attempt may take.

        Where nobody takes one, or none can be made, it is True: gRPC finds that out too, and says why.
        """
        deadline = monotonic() + self._connection.timeout_s
        with suppressed(OSError, ValueError):
            for family, kind, protocol, _, address in self._addresses():
                with suppressed(OSError), socket.socket(family, kind, protocol) as plain:
                    plain.settimeout(_CONNECT_S)
                    plain.connect(address)
                    return self._is_answered_by(plain, deadline)
        return True

    def _addresses(self) -> list[Any]:
        parts = urlsplit(f"//{self._connection.endpoint}")
        if parts.port is None:  # a scheme of gRPC's, as `unix:`
            return []
        return socket.getaddrinfo(parts.hostname, parts.port, type=socket.SOCK_STREAM)

    def _is_answered_by(self, plain: socket.socket, deadline: float) -> bool:
        try:
            with closing(self._tls(plain)) as self._socket:
                self._socket.settimeout(max(deadline - monotonic(), 0.001))
                if isinstance(self._socket, ssl.SSLSocket):
                    self._socket.do_handshake()
                if not self._is_over:
                    self._socket.sendall(_PREFACE)
                    self._socket.recv(1)
        except OSError as error:
            if is_interruption(error):
                raise
            return not isinstance(error, TimeoutError)  # else no TLS, or not as it is spoken there
        return True

    def _tls(self, plain: socket.socket) -> socket.socket:
        if self._connection.insecure:
            return plain
        # Nothing is sent that is for the receiver alone: gRPC looks whose certificate it is.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.set_alpn_protocols(["h2"])
        return context.wrap_socket(plain, do_handshake_on_connect=False)

    def break_off(self) -> None:
        """Wait no longer."""
        self._is_over = True
        if self._socket is not None:
            with suppressed(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
