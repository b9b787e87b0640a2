"""The standard OTLP exporter over gRPC, which also sends what is encoded already."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult

from otel_torch_modules._emission.otlp import EncodedRequest


class GrpcRequestExporter(OTLPSpanExporter):
    """Only the translation to a message is not the standard one's."""

    takes_requests = True

    def __init__(self) -> None:
        super().__init__()
        self._one_at_a_time = threading.Lock()  # what the specification promises an exporter

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        with self._one_at_a_time:
            return super().export(spans)

    def export_request(self, request: EncodedRequest) -> SpanExportResult:
        """Send `request` as `export` sends spans."""
        with self._one_at_a_time:
            return super().export(request)  # type: ignore[arg-type]

    def _translate_data(self, data: Any) -> Any:
        if isinstance(data, EncodedRequest):
            return ExportTraceServiceRequest.FromString(data.data)
        return super()._translate_data(data)

    def _count_data(self, data: Any) -> int:
        return data.span_count if isinstance(data, EncodedRequest) else len(data)
