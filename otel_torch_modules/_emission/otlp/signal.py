"""What differs between the signals of OTLP: where requests of one go, and how they are answered.

https://opentelemetry.io/docs/specs/otlp/
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse


class Signal(NamedTuple):
    """One of them."""

    name: str  # in names of variables
    path: str  # over HTTP
    method: str  # over gRPC
    response: Any  # its class
    rejected: str  # the field of a partial success that says how many were not taken
    items: str  # of them, for people


TRACES: Final = Signal(
    "TRACES",
    "v1/traces",
    "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
    ExportTraceServiceResponse,
    "rejected_spans",
    "spans",
)
METRICS: Final = Signal(
    "METRICS",
    "v1/metrics",
    "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
    ExportMetricsServiceResponse,
    "rejected_data_points",
    "data points",
)
