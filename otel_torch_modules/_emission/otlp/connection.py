"""How an exporter reaches its receiver: what OTLP's variables say of one signal, as the standard exporters read it.

They are read here because the standard exporters raise for a value that they cannot read, or log it with its secrets:
https://opentelemetry.io/docs/specs/otel/protocol/exporter/
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import NamedTuple, TypeVar
from urllib.parse import urlsplit

from otel_torch_modules._emission.otlp.signal import Signal
from otel_torch_modules._entry_points import made
from otel_torch_modules._interruption import suppressed
from otel_torch_modules._otlp_values import GRPC, HTTP, PORTS, parsed_headers, value_of
from otel_torch_modules._proxies import Proxy, proxy_of

_TIMEOUT_S = 10.0
_LONGEST_S = 1e6  # twelve days: sockets and channels have no more
_VARIABLES = {GRPC: "GRPC", HTTP: "HTTP"}

_Credentials = TypeVar("_Credentials")


class Connection(NamedTuple):
    """Where to, and how."""

    endpoint: str  # over HTTP the whole URL
    place: str  # that it is, for people, with a proxy on the way to it
    headers: Mapping[str, str]
    timeout_s: float
    compression: str  # empty: none
    insecure: bool
    is_direct: bool  # no proxy is on the way
    certificate: str  # these are paths, empty where there is none
    client_key: str
    client_certificate: str

    @classmethod
    def over_grpc(cls, values: Mapping[str, str], signal: Signal) -> Connection:
        """Return what `values`, all of which can be read, say of a `signal` over gRPC."""
        endpoint = value_of("ENDPOINT", values, signal.name) or f"http://localhost:{PORTS[GRPC]}"
        parts = urlsplit(endpoint)
        insecure = value_of("INSECURE", values, signal.name)
        plain = parts.scheme != "https" and (
            insecure == "true" or (not insecure and parts.scheme == "http")
        )
        host = parts.netloc or endpoint
        proxy = proxy_of(GRPC, endpoint, values)
        return cls._of(host, host, proxy, plain, values, signal.name)

    @classmethod
    def over_http(cls, values: Mapping[str, str], signal: Signal) -> Connection:
        """Return the same over HTTP."""
        endpoint = values.get(f"OTEL_EXPORTER_OTLP_{signal.name}_ENDPOINT")
        if not endpoint:
            base = values.get("OTEL_EXPORTER_OTLP_ENDPOINT") or f"http://localhost:{PORTS[HTTP]}"
            endpoint = f"{base.removesuffix('/')}/{signal.path}"
        proxy = proxy_of(HTTP, endpoint, values)
        return cls._of(endpoint, urlsplit(endpoint).netloc, proxy, False, values, signal.name)

    @classmethod
    def _of(
        cls,
        endpoint: str,
        host: str,
        proxy: Proxy | None,
        insecure: bool,
        values: Mapping[str, str],
        signal: str,
    ) -> Connection:
        host = host.rpartition("@")[2]  # what is before it may be a password
        compression = value_of("COMPRESSION", values, signal)
        return cls(
            endpoint,
            host if proxy is None else f"{host} by {proxy}",
            parsed_headers(value_of("HEADERS", values, signal)),
            min(float(value_of("TIMEOUT", values, signal) or _TIMEOUT_S), _LONGEST_S),
            "" if compression == "none" else compression,
            insecure,
            proxy is None,
            absolute(value_of("CERTIFICATE", values, signal)),
            absolute(value_of("CLIENT_KEY", values, signal)),
            absolute(value_of("CLIENT_CERTIFICATE", values, signal)),
        )


def absolute(path: str) -> str:
    """Return a path that is the same where the program is in another folder later; what is empty is none."""
    with suppressed(OSError):  # the folder is gone
        return os.path.abspath(path) if path else path
    return path


def credentials(
    protocol: str, kind: type[_Credentials], values: Mapping[str, str], signal: Signal
) -> _Credentials | None:
    """Return what the entry point makes that a variable names for it, of that `kind`; None where there is none."""
    of = f"OTEL_PYTHON_EXPORTER_OTLP_{_VARIABLES[protocol]}"
    for variable in (f"{of}_{signal.name}_CREDENTIAL_PROVIDER", f"{of}_CREDENTIAL_PROVIDER"):
        name = values.get(variable)
        found: _Credentials | None = made(variable, name, kind) if name else None
        if found is not None:
            return found
    return None
