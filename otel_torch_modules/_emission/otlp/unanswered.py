"""Why there is no answer though something is there: TLS that fails, another protocol, a connection that is closed.

Who is told that nothing answers starts a collector, and looks at no certificate.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from http.client import BadStatusLine, RemoteDisconnected, UnknownProtocol
from ssl import SSLError
from typing import Final

import requests
from urllib3.exceptions import HTTPError
from urllib3.exceptions import SSLError as TlsError

from otel_torch_modules._otlp_values import GRPC, HTTP, PORTS

# In the words of gRPC, which has no types for them, behind the address that it tried last. The last word is of no use.
_LAST: Final = re.compile(r".*last error: [A-Z_]+: (?:\S+:\d+: )?(.*?)(?:: OK)?", re.DOTALL)
_OF_TLS: Final = re.compile(r"handshak|certificate|\b(?:ssl|tls)\b", re.IGNORECASE)
_OF_THE_PROTOCOL: Final = re.compile(r"HTTP/2|http1|SETTINGS")
_CLOSED: Final = "Socket closed"
_NO_HANDSHAKER: Final = "Failed to create security handshaker"

_TLS: Final = "TLS fails with"
_ENOUGH: Final = 40  # characters of what is no HTTP


def over_http(place: str, error: requests.RequestException) -> str:
    """Return what is wrong with the receiver at `place`; empty where nothing is there, or nothing is said in time."""
    causes = list(_causes(error))
    if isinstance(error, requests.exceptions.SSLError):
        said = next((cause for cause in causes if isinstance(cause, (TlsError, SSLError))), error)
        return _tls(place, str(said))
    for cause in causes:
        if isinstance(cause, (RemoteDisconnected, ConnectionResetError, BrokenPipeError)):
            return _closes(place)
        if isinstance(cause, (BadStatusLine, UnknownProtocol)):
            return _other_protocol(place, HTTP, f"it answers {str(cause)[:_ENOUGH]!r}")
        if type(cause) is OSError and cause.errno is None:  # as a proxy that wants to know who asks
            return f"{place} does not answer: {cause}"
    return ""


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield what `error` came from: not what was raised, and caught, before it."""
    cause = error.__cause__ or error.__context__
    while cause is not None and not isinstance(cause, requests.RequestException):
        yield cause
        inner = cause.__cause__ or cause.__context__
        # The parts of urllib3 hand some on as an argument alone.
        handed = [one for one in cause.args if isinstance(one, BaseException)]
        cause = inner or (handed[0] if handed and isinstance(cause, HTTPError) else None)


def over_grpc(place: str, details: str) -> str:
    """Return the same of what gRPC says of a call that came to no receiver."""
    last = _LAST.fullmatch(details)
    said = last[1] if last else details
    if said.startswith(_NO_HANDSHAKER):
        return _tls(place, f"{said.rstrip('.')}; the certificates, or the key, cannot be used")
    if _OF_TLS.search(said):
        return _tls(place, said)
    if _OF_THE_PROTOCOL.search(said):
        return _other_protocol(place, GRPC, said)
    # One that was closed in a call is of a receiver that goes.
    return _closes(place) if last and said == _CLOSED else ""


def is_of_tls(reason: str) -> bool:
    """Return whether a reason is that TLS fails."""
    return reason.startswith(_TLS)


def _tls(place: str, said: str) -> str:
    return f"{_TLS} {place}: {said}"


def _other_protocol(place: str, protocol: str, said: str) -> str:
    ports = " and ".join(f"{PORTS[one]} is for {one}" for one in (GRPC, HTTP))
    return f"{place} does not speak {protocol}: {said}; most often port {ports}"


def _closes(place: str) -> str:
    return (
        f"{place} closes the connection without an answer: it may speak another protocol, or want TLS or a client's "
        "certificate"
    )
