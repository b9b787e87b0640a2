"""Of OTLP's variables, what only they may say: where to, with which headers and certificates.

https://opentelemetry.io/docs/specs/otel/protocol/exporter/
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import unquote, urlsplit

from otel_torch_modules._interruption import is_interruption
from otel_torch_modules._odd_values import Left, choice, refused
from otel_torch_modules.environment_variables import OTEL_TORCH_MODULES_FILE

GRPC: Final = "grpc"
HTTP: Final = "http/protobuf"
PROTOCOL: Final = choice(GRPC, HTTP)
PORTS: Final = {GRPC: 4317, HTTP: 4318}
"""That are meant where none is given."""

_POLLING: Final = ("all", "epoll1", "poll")

_PREFIX: Final = "OTEL_EXPORTER_OTLP_"
_FIXED: Final = {"otlp_proto_grpc": GRPC, "otlp_proto_http": HTTP}
OTLP_EXPORTERS: Final = ("otlp", *_FIXED)

OF_GRPC: Final = re.compile(r"(unix|unix-abstract|dns|ipv4|ipv6|vsock|xds):", re.IGNORECASE)
"""How targets begin that gRPC resolves in ways of its own: https://github.com/grpc/grpc/blob/master/doc/naming.md"""
_HOST: Final = re.compile(r"[^\s/?#@:\[\]]+")

# What gRPC takes; HTTP takes a little more.
_HEADER_NAME: Final = re.compile(r"[0-9a-z_.-]+")
_HEADER_VALUE: Final = re.compile(r"[ -~]*")
_PAIRS: Final = "name=value with commas, values URL encoded"

_MOST_BYTES: Final = 1 << 20  # of a certificate that are looked at
_PEM: Final = b"-----BEGIN "


def protocol_of(exporter: str, values: Mapping[str, str], signal: str = "TRACES") -> str:
    """Return how `exporter`, one of OTLP's names, sends a `signal`."""
    return (
        _FIXED.get(exporter)
        or values.get(f"{_PREFIX}{signal}_PROTOCOL")
        or values.get(f"{_PREFIX}PROTOCOL")
        or GRPC
    )


def value_of(field: str, values: Mapping[str, str], signal: str = "TRACES") -> str:
    """Return what the variables say of a `field` for a `signal`; empty where they say nothing."""
    return values.get(f"{_PREFIX}{signal}_{field}") or values.get(f"{_PREFIX}{field}") or ""


def trace_exporters_meant(values: Mapping[str, str]) -> str:
    """Return what `OTEL_TRACES_EXPORTER` names, or what is meant where it names nothing: who names a file wants one.

    Example:
        >>> trace_exporters_meant({})
        'otlp'
        >>> trace_exporters_meant({"OTEL_TORCH_MODULES_FILE": "traces.jsonl"})
        'otlp_file'
        >>> trace_exporters_meant(
        ...     {
        ...         "OTEL_TORCH_MODULES_FILE": "traces.jsonl",
        ...         "OTEL_EXPORTER_OTLP_ENDPOINT": "http://host:4317",
        ...     }
        ... )
        'otlp,otlp_file'
    """
    named = values.get("OTEL_TRACES_EXPORTER", "").strip()
    if named or not values.get(OTEL_TORCH_MODULES_FILE, "").strip():
        return named or "otlp"
    return "otlp,otlp_file" if value_of("ENDPOINT", values) else "otlp_file"


def ends_grpc(environ: Mapping[str, str]) -> str:
    """Return what is wrong with a value at which gRPC ends the process; empty where nothing is.

    Example:
        >>> ends_grpc({"GRPC_POLL_STRATEGY": "epollex"})
        "GRPC_POLL_STRATEGY: 'epollex' is not allowed; it must be all, epoll1 or poll"
    """
    name = "GRPC_POLL_STRATEGY"
    value = environ.get(name, "")
    if not value or any(item in _POLLING for item in value.split(",")):
        return ""
    *others, last = _POLLING
    return refused(name, value, f"{', '.join(others)} or {last}").complaint


def _is_over_http(name: str, values: Mapping[str, str]) -> bool:
    """Return whether what the variable `name` says is for HTTP alone."""
    signal = "METRICS" if name.startswith(f"{_PREFIX}METRICS_") else "TRACES"
    exporters = values.get(f"OTEL_{signal}_EXPORTER", "").split(",")
    of_otlp = [exporter for exporter in exporters if exporter in OTLP_EXPORTERS]
    return all(protocol_of(exporter, values, signal) == HTTP for exporter in of_otlp or ("otlp",))


def endpoint(name: str, value: str, values: Mapping[str, str]) -> Left:
    """Leave a URL, or over gRPC a target."""
    over_http = _is_over_http(name, values)
    if _is_url(value) or (not over_http and _is_target(value)):
        return Left(value)
    port = PORTS[HTTP if over_http else GRPC]
    return refused(name, value, f"a URL such as http://host:{port}")


def _is_url(value: str) -> bool:
    return value.lower().startswith(("http://", "https://")) and _has_host(value)


def _is_target(value: str) -> bool:
    scheme, separator, _ = value.partition("://")
    if OF_GRPC.match(value):
        return True
    if separator:
        return scheme.lower() not in ("http", "https") and _has_host(value)
    return "/" not in value and _has_host(f"//{value}")


def _has_host(url: str) -> bool:
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        is_address = "[" in parts.netloc
        return parts.port != 0 and bool(host) and (is_address or bool(_HOST.fullmatch(host)))
    except ValueError as error:
        if is_interruption(error):
            raise
        return False


def compression(name: str, value: str, values: Mapping[str, str]) -> Left:
    """Leave what the protocol in force has."""
    more = ("deflate",) if _is_over_http(name, values) else ()
    return choice("gzip", *more, "none")(name, value, values)


def headers(name: str, value: str, _: Mapping[str, str]) -> Left:
    """Leave those that can be sent."""
    items = [item.strip() for item in value.split(",") if item.strip()]
    left = [item for item in items if _header(item) is not None]
    odd = refused(name, value, _PAIRS).complaint if left != items or not items else ""
    return Left(",".join(left), odd)


def parsed_headers(value: str) -> dict[str, str]:
    """Return the headers that `value`, as `headers` has left it, stands for."""
    found = [_header(item) for item in value.split(",")]
    return dict([pair for pair in found if pair is not None])


def _header(item: str) -> tuple[str, str] | None:
    name, separator, value = item.partition("=")
    name, value = unquote(name).strip().lower(), unquote(value).strip()
    sendable = _HEADER_NAME.fullmatch(name) and _HEADER_VALUE.fullmatch(value)
    # gRPC has bytes behind such a name, and keeps the others for itself.
    if not separator or not sendable or name.endswith("-bin") or name.startswith("grpc-"):
        return None
    return name, value


def certificate(name: str, value: str, values: Mapping[str, str]) -> Left:
    """Leave a file with certificates, or over HTTP a folder."""
    if _is_over_http(name, values) and os.path.isdir(value):
        return Left(value)
    return pem(name, value, values)


def bundle(name: str, value: str, values: Mapping[str, str]) -> Left:
    """Leave what is none only where nobody reads it: `requests` does, over TLS."""
    over_tls = any(
        protocol_of(exporter, values, signal) == HTTP
        and value_of("ENDPOINT", values, signal).lower().startswith("https:")
        for signal in ("TRACES", "METRICS")
        for exporter in values.get(f"OTEL_{signal}_EXPORTER", "otlp").split(",")
        if exporter in OTLP_EXPORTERS
    )
    if os.path.isdir(value) or not over_tls:
        return Left(value)
    return pem(name, value, values)


def pem(name: str, value: str, _: Mapping[str, str]) -> Left:
    """Leave a file with a key or certificates."""
    try:
        if os.path.isfile(value):  # a pipe may never end
            with open(value, "rb") as file:
                if _PEM in file.read(_MOST_BYTES):
                    return Left(value)
    except (OSError, ValueError) as error:
        if is_interruption(error):
            raise
    return refused(name, value, "a PEM file that can be read")


def client_certificate(name: str, value: str, values: Mapping[str, str]) -> Left:
    """Leave a file with certificates; over gRPC, which does not look into it for a key, one that has its key."""
    left = pem(name, value, values)
    key = name.replace("_CERTIFICATE", "_KEY")
    signal = "METRICS" if "_METRICS_" in name else "TRACES"
    if (
        left.value
        and not value_of("CLIENT_KEY", values, signal)
        and not _is_over_http(name, values)
    ):
        return refused(name, value, f"together with {key}")
    return left
