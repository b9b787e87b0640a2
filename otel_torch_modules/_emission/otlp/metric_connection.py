"""How metrics reach their receiver: as arguments of the standard exporters, which otherwise read the variables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from otel_torch_modules._emission.otlp.connection import Connection, credentials
from otel_torch_modules._otlp_values import GRPC

_SIGNAL = "METRICS"


def metric_arguments(protocol: str, values: Mapping[str, str]) -> dict[str, Any]:
    """Return the arguments of the standard exporter of metrics over `protocol`."""
    return _over_grpc(values) if protocol == GRPC else _over_http(values)


def _over_grpc(values: Mapping[str, str]) -> dict[str, Any]:
    from grpc import ChannelCredentials  # type: ignore[import-untyped]

    from otel_torch_modules._emission.otlp.grpc import COMPRESSIONS, channel_credentials

    connection = Connection.over_grpc(values, _SIGNAL)
    given = None if connection.insecure else credentials(GRPC, ChannelCredentials, values, _SIGNAL)
    return {
        "endpoint": connection.endpoint,
        "insecure": connection.insecure,
        "credentials": given or channel_credentials(connection),
        "headers": dict(connection.headers) or ",",  # of nothing it reads the variable
        "timeout": connection.timeout_s,
        "compression": COMPRESSIONS[connection.compression],
    }


def _over_http(values: Mapping[str, str]) -> dict[str, Any]:
    from opentelemetry.exporter.otlp.proto.http import Compression

    connection = Connection.over_http(values, _SIGNAL)
    return {
        "endpoint": connection.endpoint,
        "certificate_file": connection.certificate or True,  # that of the system
        "client_key_file": connection.client_key or None,
        "client_certificate_file": connection.client_certificate or None,
        "headers": dict(connection.headers),
        "timeout": connection.timeout_s,
        "compression": Compression(connection.compression or "none"),
    }
