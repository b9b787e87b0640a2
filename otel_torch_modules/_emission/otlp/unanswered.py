"""Why there is no answer though something is there: TLS that fails, another protocol, a connection that is closed.

Who is told that nothing answers starts a collector, and looks at no certificate.
"""

from __future__ import annotations

import re
from typing import Final

from otel_torch_modules._otlp_values import GRPC, HTTP, PORTS

# In the words of gRPC, which has no types for them, behind the address that it tried last. The last word is of no use.
_LAST: Final = re.compile(r".*last error: [A-Z_]+: (?:\S+:\d+: )?(.*?)(?:: OK)?", re.DOTALL)
_OF_TLS: Final = re.compile(r"handshak|certificate|\b(?:ssl|tls)\b", re.IGNORECASE)
_OF_THE_PROTOCOL: Final = re.compile(r"HTTP/2|http1|SETTINGS")
_CLOSED: Final = "Socket closed"
_NO_HANDSHAKER: Final = "Failed to create security handshaker"

_TLS: Final = "TLS fails with"


def over_grpc(place: str, details: str) -> str:
    """Return what is wrong with the receiver at `place`, by what gRPC says of a call; empty where nothing is there, or
    nothing is said in time.
    """
    last = _LAST.fullmatch(details)
    said = last[1] if last else details
    if said.startswith(_NO_HANDSHAKER):
        return tls(place, f"{said.rstrip('.')}; the certificates, or the key, cannot be used")
    if _OF_TLS.search(said):
        return tls(place, said)
    if _OF_THE_PROTOCOL.search(said):
        return other_protocol(place, GRPC, said)
    # One that was closed in a call is of a receiver that goes.
    return closes(place) if last and said == _CLOSED else ""


def is_of_tls(reason: str) -> bool:
    """Return whether a reason is that TLS fails."""
    return reason.startswith(_TLS)


def tls(place: str, said: str) -> str:
    """Return the reason where TLS fails as is said."""
    return f"{_TLS} {place}: {said}"


def other_protocol(place: str, protocol: str, said: str) -> str:
    """Return the reason where what is said shows another protocol."""
    ports = " and ".join(f"{PORTS[one]} is for {one}" for one in (GRPC, HTTP))
    return f"{place} does not speak {protocol}: {said}; most often port {ports}"


def closes(place: str) -> str:
    """Return the reason where a connection is closed and nothing said."""
    return (
        f"{place} closes the connection without an answer: it may speak another protocol, or want TLS or a client's "
        "certificate"
    )
