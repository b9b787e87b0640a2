"""By which proxy requests go: `requests` and gRPC look for one in the environment by themselves, each in its own way.

Both take one for receivers on this machine too. Who is told that nothing answers has to know who was asked.
https://github.com/grpc/grpc/blob/master/doc/environment_variables.md
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import urlsplit

from otel_torch_modules._interruption import suppressed
from otel_torch_modules._otlp_values import GRPC
from otel_torch_modules._secrets import without_secrets


class Proxy(NamedTuple):
    """One that a variable names."""

    variable: str
    value: str

    def __str__(self) -> str:
        shown = without_secrets({self.variable: self.value})[self.variable]
        return f"the proxy {shown} ({self.variable})"


def proxy_of(protocol: str, endpoint: str, environ: Mapping[str, str]) -> Proxy | None:
    """Return the proxy that requests to `endpoint` go by; None where they go there directly.

    Example:
        >>> print(proxy_of("http/protobuf", "http://host/v1", {"http_proxy": "http://me:pass@proxy:3128"}))
        the proxy http://***@proxy:3128 (http_proxy)
    """
    found = _over_grpc(environ) if protocol == GRPC else _over_http(endpoint, environ)
    return None if found is None or _is_excepted(protocol, endpoint, environ) else found


def _over_grpc(environ: Mapping[str, str]) -> Proxy | None:
    for variable in ("grpc_proxy", "https_proxy", "http_proxy"):
        if variable in environ:
            # It says so of others itself, and does without.
            is_usable = environ[variable].startswith("http://")
            return Proxy(variable, environ[variable]) if is_usable else None
    return None


def _over_http(endpoint: str, environ: Mapping[str, str]) -> Proxy | None:
    for kind in (endpoint.partition("://")[0].lower(), "all"):
        lower = f"{kind}_proxy"
        variable = lower if lower in environ else lower.upper()
        if environ.get(variable):
            return Proxy(variable, environ[variable])
    return None


def _is_excepted(protocol: str, endpoint: str, environ: Mapping[str, str]) -> bool:
    names = ("no_grpc_proxy", "no_proxy") if protocol == GRPC else ("no_proxy", "NO_PROXY")
    exceptions = next((environ[name] for name in names if name in environ), "")
    host = ""
    with suppressed(ValueError):
        host = urlsplit(endpoint if "//" in endpoint else f"//{endpoint}").hostname or ""
    return any(_is_meant(host, item.strip()) for item in exceptions.split(","))


def _is_meant(host: str, item: str) -> bool:
    if not item:
        return False
    with suppressed(ValueError):
        return ipaddress.ip_address(host) in ipaddress.ip_network(item, strict=False)
    return item == "*" or host.endswith(item.lstrip(".").lower())
