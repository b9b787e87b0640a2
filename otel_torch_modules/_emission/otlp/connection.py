"""How an exporter reaches its receiver: what OTLP's variables say of one signal, as the standard exporters read it.

They are read here because the standard exporters raise for a value that they cannot read, or log it with its secrets:
https://opentelemetry.io/docs/specs/otel/protocol/exporter/
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from otel_torch_modules._otlp_values import GRPC, HTTP, PORTS, parsed_headers, value_of

_TIMEOUT_S = 10.0
_LONGEST_S = 1e6  # twelve days: sockets and channels have no more
_PATHS = {"TRACES": "v1/traces", "METRICS": "v1/metrics"}
_CREDENTIALS = "opentelemetry_otlp_credential_provider"


class Connection(NamedTuple):
    """Where to, and how."""

    endpoint: str  # over HTTP the whole URL
    headers: Mapping[str, str]
    timeout_s: float
    compression: str  # empty: none
    insecure: bool
    certificate: str  # these are paths, empty where there is none
    client_key: str
    client_certificate: str

    @classmethod
    def over_grpc(cls, values: Mapping[str, str], signal: str = "TRACES") -> Connection:
        """Return what `values`, all of which can be read, say of a `signal` over gRPC."""
        endpoint = value_of("ENDPOINT", values, signal) or f"http://localhost:{PORTS[GRPC]}"
        parts = urlsplit(endpoint)
        insecure = value_of("INSECURE", values, signal)
        plain = parts.scheme != "https" and (
            insecure == "true" or (not insecure and parts.scheme == "http")
        )
        return cls._of(parts.netloc or endpoint, plain, values, signal)

    @classmethod
    def over_http(cls, values: Mapping[str, str], signal: str = "TRACES") -> Connection:
        """Return the same over HTTP."""
        endpoint = values.get(f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT")
        if not endpoint:
            base = values.get("OTEL_EXPORTER_OTLP_ENDPOINT") or f"http://localhost:{PORTS[HTTP]}"
            endpoint = f"{base.removesuffix('/')}/{_PATHS[signal]}"
        return cls._of(endpoint, False, values, signal)

    @classmethod
    def _of(
        cls, endpoint: str, insecure: bool, values: Mapping[str, str], signal: str
    ) -> Connection:
        compression = value_of("COMPRESSION", values, signal)
        return cls(
            endpoint,
            parsed_headers(value_of("HEADERS", values, signal)),
            min(float(value_of("TIMEOUT", values, signal) or _TIMEOUT_S), _LONGEST_S),
            "" if compression == "none" else compression,
            insecure,
            value_of("CERTIFICATE", values, signal),
            value_of("CLIENT_KEY", values, signal),
            value_of("CLIENT_CERTIFICATE", values, signal),
        )


def credentials(protocol: str, values: Mapping[str, str], signal: str = "TRACES") -> Any:
    """Return what the entry point makes that a variable names for it; None where none is named.

    Raises:
        Exception: whatever it raises.
    """
    of = {GRPC: "GRPC", HTTP: "HTTP"}[protocol]
    prefix = f"OTEL_PYTHON_EXPORTER_OTLP_{of}_"
    name = values.get(f"{prefix}{signal}_CREDENTIAL_PROVIDER") or values.get(
        f"{prefix}CREDENTIAL_PROVIDER"
    )
    if not name:
        return None
    (point, *_) = entry_points(group=_CREDENTIALS, name=name)
    return point.load()()
