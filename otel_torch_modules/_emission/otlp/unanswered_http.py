"""Why there is no answer over HTTP, by what `requests` raises: apart, since gRPC has no need of its modules.

They take a tenth of a second to import.
"""

from __future__ import annotations

from collections.abc import Iterator
from http.client import BadStatusLine, RemoteDisconnected, UnknownProtocol
from ssl import SSLError
from typing import Final

import requests
from urllib3.exceptions import HTTPError
from urllib3.exceptions import SSLError as TlsError

from otel_torch_modules._emission.otlp.unanswered import closes, other_protocol, tls
from otel_torch_modules._otlp_values import HTTP

_ENOUGH: Final = 40  # characters of what is no HTTP


def over_http(place: str, error: requests.RequestException) -> str:
    """Return what is wrong with the receiver at `place`; empty where nothing is there, or nothing is said in time."""
    causes = list(_causes(error))
    if isinstance(error, requests.exceptions.SSLError):
        said = next((cause for cause in causes if isinstance(cause, (TlsError, SSLError))), error)
        return tls(place, str(said))
    for cause in causes:
        if isinstance(cause, (RemoteDisconnected, ConnectionResetError, BrokenPipeError)):
            return closes(place)
        if isinstance(cause, (BadStatusLine, UnknownProtocol)):
            return other_protocol(place, HTTP, f"it answers {str(cause)[:_ENOUGH]!r}")
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
