"""The standard OTLP exporter over HTTP, which also sends what is encoded already."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult

from otel_torch_modules._emission.otlp import EncodedRequest


class HttpRequestExporter(OTLPSpanExporter):
    """Only the translation to bytes is not the standard one's."""

    def __init__(self) -> None:
        super().__init__()
        self._one_at_a_time = threading.Lock()  # what the specification promises an exporter

    @property
    def takes_requests(self) -> bool:
        """Whether this version of the standard exporter has a way for bytes."""
        return hasattr(getattr(self, "_client", None), "export")

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        with self._one_at_a_time:
            return super().export(spans)

    def export_request(self, request: EncodedRequest) -> SpanExportResult:
        """Send `request` as `export` sends spans."""
        with self._one_at_a_time:
            if self._shutdown:
                return SpanExportResult.FAILURE
            with self._metrics.export_operation(request.span_count) as result:
                sent = self._client.export(request.data)
                if sent.success:
                    return SpanExportResult.SUCCESS
                result.error = sent.error
            return SpanExportResult.FAILURE
