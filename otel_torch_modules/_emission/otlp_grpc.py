"""The standard OTLP exporter over gRPC, which also sends what is encoded already."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from grpc import Channel, UnaryUnaryMultiCallable  # type: ignore[import-untyped]
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult

from otel_torch_modules._emission.otlp import EncodedRequest

# https://github.com/open-telemetry/opentelemetry-proto/blob/main/opentelemetry/proto/collector/trace/v1/trace_service.proto
_METHOD = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"


class GrpcRequestExporter(OTLPSpanExporter):
    """Only the translation to bytes is not the standard one's."""

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

    def _initialize_channel_and_stub(self) -> None:
        # Early versions do not call it, and send a message.
        super()._initialize_channel_and_stub()  # type: ignore[no-untyped-call]
        self._client = _Stub(self._channel)  # type: ignore[assignment]

    def _translate_data(self, data: Any) -> Any:
        if not isinstance(data, EncodedRequest):
            return super()._translate_data(data)
        if isinstance(self._client, _Stub):
            return data
        return ExportTraceServiceRequest.FromString(data.data)

    def _count_data(self, data: Any) -> int:
        return data.span_count if isinstance(data, EncodedRequest) else len(data)


class _Stub:
    """The generated stub but for the serializer, which lets encoded requests through."""

    def __init__(self, channel: Channel) -> None:
        self.Export: UnaryUnaryMultiCallable = channel.unary_unary(
            _METHOD,
            request_serializer=_serialize,
            response_deserializer=ExportTraceServiceResponse.FromString,
        )


def _serialize(request: EncodedRequest | ExportTraceServiceRequest) -> bytes:
    if isinstance(request, EncodedRequest):
        return request.data
    data: bytes = request.SerializeToString()
    return data
