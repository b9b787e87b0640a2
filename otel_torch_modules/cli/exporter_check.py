"""Where spans would go, and whether something is there to take them."""

from __future__ import annotations

import os
import socket
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from otel_torch_modules._otlp_values import (
    GRPC,
    OF_GRPC,
    OTLP_EXPORTERS,
    PORTS,
    ends_grpc,
    protocol_of,
    trace_exporters_meant,
    value_of,
)
from otel_torch_modules._proxies import Proxy, proxy_of
from otel_torch_modules.cli.examined import Examined
from otel_torch_modules.cli.exporter_trial import refusal
from otel_torch_modules.cli.place_check import fault_of_place, first_there, write_in
from otel_torch_modules.environment_variables import OTEL_TORCH_MODULES_FILE

DEFAULT_FILE = "traces-{pid}.jsonl"

_EXPORTERS = "OTEL_TRACES_EXPORTER"
_TIMEOUT_S = 2.0
_PROXY_PORT = 80


def examine_exporters(
    environ: Mapping[str, str], odd: Collection[str], meant: Mapping[str, str]
) -> Iterator[Examined]:
    """Yield a finding for each exporter that `OTEL_TRACES_EXPORTER` names, or that is meant where it names none.

    Args:
        environ: as it may be shown, without values that do not count.
        odd: the names of the variables that had them.
        meant: the same as a program would be started with it, secrets included.
    """
    config_file = environ.get("OTEL_CONFIG_FILE")
    if config_file:
        yield Examined("exporter", f"as {config_file} says; not examined")
        return
    names = trace_exporters_meant(environ)
    if names.lower() == "none":
        yield Examined("exporter", "none", f"{_EXPORTERS}={names}: spans go nowhere")
        return
    for name in (name.strip() for name in names.split(",")):
        if name in OTLP_EXPORTERS:
            yield _examine_otlp(name, environ, odd, meant)
        elif name == "otlp_file":
            yield _examine_file(environ)
        else:
            yield Examined("exporter", name)


def _examine_otlp(
    name: str, environ: Mapping[str, str], odd: Collection[str], meant: Mapping[str, str]
) -> Examined:
    protocol = protocol_of(name, environ)
    port = PORTS[protocol]
    endpoint = value_of("ENDPOINT", environ) or f"http://localhost:{port}"
    state = f"{name}, {protocol}, {endpoint}"
    if any(variable.endswith("_ENDPOINT") for variable in odd):  # another one was meant
        return Examined("exporter", f"{state}; not examined")
    wrong = ends_grpc(environ) if protocol == GRPC else ""
    if wrong:
        return Examined("exporter", f"{state}: not sent to", wrong)
    proxy = proxy_of(protocol, endpoint, environ)
    if proxy is not None:
        state = f"{state} by {proxy}"
        fault = _fault_of_proxy(proxy, urlsplit(endpoint).hostname or endpoint)
    else:
        address = _address(endpoint, port)
        if address is None:
            return Examined("exporter", f"{state}; not examined")
        fault = _fault_of_address(*address)
    if fault:
        return Examined("exporter", f"{state}: no answer", fault)
    refused = refusal(name, meant)
    return Examined("exporter", f"{state}: {'takes nothing' if refused else 'answers'}", refused)


def _fault_of_proxy(proxy: Proxy, host: str) -> str:
    url = proxy.value if "//" in proxy.value else f"//{proxy.value}"
    try:
        parts = urlsplit(url)
        address = parts.hostname or "", parts.port or _PROXY_PORT
        socket.create_connection(address, timeout=_TIMEOUT_S).close()
    except (OSError, ValueError) as error:
        reason = _reason(error) if isinstance(error, OSError) else "no URL that can be read"
        return f"{proxy} does not answer ({reason}); name {host} in no_proxy to do without it"
    return ""


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


def _address(endpoint: str, default_port: int) -> tuple[str, int] | None:
    """Return host and port; None of what gRPC resolves in ways of its own."""
    parts = urlsplit(endpoint if "//" in endpoint else f"//{endpoint}")
    host = parts.hostname
    if not host or ("//" not in endpoint and OF_GRPC.match(endpoint)):
        return None
    return host, parts.port or _port_of_scheme(parts.scheme, default_port)


def _fault_of_address(host: str, port: int) -> str:
    try:
        socket.create_connection((host, port), timeout=_TIMEOUT_S).close()
    except (OSError, UnicodeError) as error:
        reason = "no host can have this name"
        if isinstance(error, OSError):
            reason = _reason(error)
        return (
            f"nothing answers at {host}:{port} ({reason}); start a collector there or set "
            "OTEL_EXPORTER_OTLP_ENDPOINT"
        )
    return ""


def _port_of_scheme(scheme: str, default_port: int) -> int:
    """Return the port meant by an endpoint without one: HTTP's own over HTTP, gRPC's over gRPC."""
    if default_port == PORTS[GRPC]:
        return default_port
    return 443 if scheme == "https" else 80


def _examine_file(environ: Mapping[str, str]) -> Examined:
    pattern = environ.get(OTEL_TORCH_MODULES_FILE, "").strip() or DEFAULT_FILE
    rank = environ.get("RANK", "0")
    path = Path(pattern.replace("{pid}", str(os.getpid())).replace("{rank}", rank)).absolute()
    place = _place_to_write(path)

    def write() -> None:
        if place == path:
            # Not to wait where it is a pipe that nobody reads.
            os.close(os.open(path, os.O_WRONLY | os.O_APPEND | getattr(os, "O_NONBLOCK", 0)))
        else:
            write_in(place)

    fault = fault_of_place(OTEL_TORCH_MODULES_FILE, pattern, place, write)
    return Examined("exporter", f"otlp_file, {pattern}", fault)


def _place_to_write(path: Path) -> Path:
    """Return where something has to be written for `path` to be.

    The exporter makes the folders that are missing, and the file that a link leads to, but not the folder of that.
    """
    target = os.path.realpath(path)  # of links in a circle one of them
    if os.path.islink(path) and not os.path.lexists(target):
        return Path(target).parent
    return first_there(path)
