"""OTLP for metrics, sent by the exporters of requests.

The standard exporters of metrics read variables themselves, also where they are given what these say, and raise for
what they cannot read; they draw from Python's global `random`, whose numbers are the program's; and they do not tell
why a receiver takes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.sdk.environment_variables import (
    OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION,
    OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE,
)
from opentelemetry.sdk.metrics import Counter, Histogram, ObservableCounter
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    MetricExporter,
    MetricExportResult,
    MetricsData,
)
from opentelemetry.sdk.metrics.view import Aggregation, ExponentialBucketHistogramAggregation

from otel_torch_modules._emission.clocks import monotonic
from otel_torch_modules._emission.otlp.request_exporter import EncodedRequest, RequestExporter

# https://opentelemetry.io/docs/specs/otel/metrics/sdk_exporters/otlp/: the others are cumulative.
_DELTAS: Final[dict[str, tuple[type, ...]]] = {
    "CUMULATIVE": (),
    "DELTA": (Counter, Histogram, ObservableCounter),
    "LOWMEMORY": (Counter, Histogram),
}


class OtlpMetricExporter(MetricExporter):
    """Sends metrics.

    Args:
        sender: of requests, made for them.
        values: OpenTelemetry's variables, without what cannot be read.
    """

    def __init__(self, sender: RequestExporter, values: Mapping[str, str]) -> None:
        deltas = values.get(OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE, "CUMULATIVE")
        buckets = values.get(OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION, "")
        aggregation: dict[type, Aggregation] = {}
        if buckets.startswith("base2_"):
            aggregation[Histogram] = ExponentialBucketHistogramAggregation()
        super().__init__(
            preferred_temporality=dict.fromkeys(_DELTAS[deltas], AggregationTemporality.DELTA),
            preferred_aggregation=aggregation,
        )
        self._sender = sender
        sender.trouble.muted = True  # whoever exports says it

    @property
    def reason(self) -> str:
        """Why the last metrics were not taken; empty where they were."""
        last = self._sender.trouble.last
        if last is not None:
            return last.reason
        return self._sender.silence if self._sender.waits else ""

    def export(
        self, metrics_data: MetricsData, timeout_millis: float = 10_000, **_: Any
    ) -> MetricExportResult:
        """Send `metrics_data`, and try again for as long as there is time."""
        data = encode_metrics(metrics_data).SerializePartialToString()
        count = sum(
            len(metric.data.data_points)
            for resource in metrics_data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        )
        timeout_s = min(timeout_millis / 1e3, self._sender.patience_s)
        taken = self._sender.send(EncodedRequest(data, count), monotonic() + timeout_s)
        return MetricExportResult.SUCCESS if taken else MetricExportResult.FAILURE

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        """Return at once: nothing waits here."""
        return True

    def shutdown(self, timeout_millis: float = 30_000, **_: Any) -> None:
        """Break off what is being tried, and close."""
        self._sender.shutdown(timeout_millis)
