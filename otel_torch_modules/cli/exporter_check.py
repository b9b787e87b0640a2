"""Where spans would go, and whether something is there to take them."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Mapping
from importlib.metadata import entry_points
from pathlib import Path
from tempfile import TemporaryFile
from urllib.parse import urlsplit

from otel_torch_modules.cli.examined import Examined
from otel_torch_modules.environment_variables import OTEL_TORCH_MODULES_FILE

DEFAULT_FILE = "traces-{pid}.jsonl"

_EXPORTERS = "OTEL_TRACES_EXPORTER"
_PROTOCOLS = {
    "grpc": 4317,
    "http/protobuf": 4318,
}  # with the port that is meant where none is given
_FIXED_PROTOCOLS = {"otlp_proto_grpc": "grpc", "otlp_proto_http": "http/protobuf"}
_TIMEOUT_S = 2.0


def examine_exporters(environ: Mapping[str, str]) -> Iterator[Examined]:
    """Yield a finding for each exporter that `OTEL_TRACES_EXPORTER` names, `otlp` where it names none."""
    config_file = environ.get("OTEL_CONFIG_FILE")
    if config_file:
        fault = f"OTEL_CONFIG_FILE={config_file} is no file that can be read"
        yield Examined(
            "exporter",
            f"as {config_file} says; not examined",
            "" if os.access(config_file, os.R_OK) else fault,
        )
        return
    names = environ.get(_EXPORTERS, "").strip() or "otlp"
    if names.lower() == "none":
        yield Examined("exporter", "none", f"{_EXPORTERS}={names}: spans go nowhere")
        return
    for name in (name.strip() for name in names.split(",")):
        if name == "otlp" or name in _FIXED_PROTOCOLS:
            yield _examine_otlp(name, environ)
        elif name == "otlp_file":
            yield _examine_file(environ)
        elif entry_points(group="opentelemetry_traces_exporter", name=name):
            yield Examined("exporter", name)
        else:
            known = ", ".join(
                sorted(
                    {point.name for point in entry_points(group="opentelemetry_traces_exporter")}
                )
            )
            fault = f"{_EXPORTERS}={name} is not installed; there are: {known}"
            yield Examined("exporter", name, fault)


def _examine_otlp(name: str, environ: Mapping[str, str]) -> Examined:
    protocol = (
        _FIXED_PROTOCOLS.get(name)
        or environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "").strip()
        or environ.get("OTEL_EXPORTER_OTLP_PROTOCOL", "").strip()
        or "grpc"
    )
    if protocol not in _PROTOCOLS:
        allowed = " or ".join(_PROTOCOLS)
        fault = f"OTEL_EXPORTER_OTLP_PROTOCOL: {protocol!r} is not allowed; it must be {allowed}"
        return Examined("exporter", f"{name}, {protocol}", fault)
    port = _PROTOCOLS[protocol]
    endpoint = (
        environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "").strip()
        or environ.get("OTEL_EXPORTER_OTLP_ENDPOINT", "").strip()
        or f"http://localhost:{port}"
    )
    return _examine_endpoint(f"{name}, {protocol}, {endpoint}", endpoint, port)


def _examine_endpoint(state: str, endpoint: str, default_port: int) -> Examined:
    try:
        parts = urlsplit(endpoint if "//" in endpoint else f"//{endpoint}")
        if parts.scheme == "unix":
            return Examined("exporter", f"{state}; not examined")
        port = parts.port or _port_of_scheme(parts.scheme, default_port)
        host = parts.hostname or ""
    except ValueError:
        host, port = "", 0
    if not host:
        return Examined(
            "exporter", state, f"{endpoint!r} is not an endpoint such as http://host:4317"
        )
    try:
        socket.create_connection((host, port), timeout=_TIMEOUT_S).close()
    except (OSError, UnicodeError) as error:
        reason = "no host can have this name"
        if isinstance(error, OSError):
            reason = (error.strerror or str(error)).lower()
        return Examined(
            "exporter",
            f"{state}: no answer",
            f"nothing answers at {host}:{port} ({reason}); start a collector there or set "
            "OTEL_EXPORTER_OTLP_ENDPOINT",
        )
    return Examined("exporter", f"{state}: answers")


def _port_of_scheme(scheme: str, default_port: int) -> int:
    """Return the port meant by an endpoint without one: HTTP's own over HTTP, gRPC's over gRPC."""
    if default_port == _PROTOCOLS["grpc"]:
        return default_port
    return 443 if scheme == "https" else 80


def _examine_file(environ: Mapping[str, str]) -> Examined:
    pattern = environ.get(OTEL_TORCH_MODULES_FILE, "").strip() or DEFAULT_FILE
    rank = environ.get("RANK", "0")
    path = Path(pattern.replace("{pid}", str(os.getpid())).replace("{rank}", rank)).absolute()
    # The exporter makes the folders that are missing.
    place = next(place for place in (path, *path.parents) if os.path.exists(place))
    fault = ""
    try:
        if place == path:
            # Not to wait where it is a pipe that nobody reads.
            os.close(os.open(path, os.O_WRONLY | os.O_APPEND | getattr(os, "O_NONBLOCK", 0)))
        else:
            TemporaryFile(dir=place).close()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        fault = f"{OTEL_TORCH_MODULES_FILE}={pattern}: nothing can be written to {place} ({reason})"
    return Examined("exporter", f"otlp_file, {pattern}", fault)
