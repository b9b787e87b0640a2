"""Requests of OTLP that are of no traces, and no damage: several pipelines of a collector may write to one file.

Each signal has messages of its own whose numbers of fields are those of others, so in protobuf only what leaves no
field unknown is of one.
"""

from __future__ import annotations

from typing import Any, Final

_FIELDS: Final = {
    "resourceMetrics": "metrics",
    "resourceLogs": "logs",
    "resourceProfiles": "profiles",
}

FIELDS: Final = tuple(_FIELDS)
"""What a request of another signal begins with in JSON."""


def signal_of_json(request: Any) -> str | None:
    """Return which signal a request is of that is of no traces; None where it is none.

    Example:
        >>> signal_of_json({"resourceMetrics": []})
        'metrics'
    """
    if not isinstance(request, dict):
        return None
    for field, signal in _FIELDS.items():
        of_resources = request.get(field)
        if isinstance(of_resources, list) and all(isinstance(one, dict) for one in of_resources):
            return signal
    return None


def signal_of_message(message: bytes) -> str | None:
    """Return which signal a request in protobuf's encoding is of that is of no traces; None where it is none."""
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
    from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
    from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
        ExportMetricsServiceRequest,
    )

    requests: dict[str, Any] = {
        "metrics": ExportMetricsServiceRequest(),
        "logs": ExportLogsServiceRequest(),
    }
    for signal, request in requests.items():
        try:
            request.ParseFromString(message)
        except DecodeError:
            continue
        size = request.ByteSize()
        request.DiscardUnknownFields()
        if request.ByteSize() == size:
            return signal
    return None
