"""What OpenTelemetry's variables name, made for providers of ours: exporters, sampler, ids, limits, batches.

As the SDK's configurator makes it, but all that is made is given what it needs: the SDK's own readers raise for values
that they cannot read, and ours are read already. What one exporter raises costs that one.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib.metadata import EntryPoint
from typing import Final, TypeVar

from opentelemetry.environment_variables import (
    OTEL_METRICS_EXPORTER,
    OTEL_PYTHON_ID_GENERATOR,
    OTEL_TRACES_EXPORTER,
)
from opentelemetry.sdk.environment_variables import (
    OTEL_BSP_EXPORT_TIMEOUT,
    OTEL_BSP_MAX_EXPORT_BATCH_SIZE,
    OTEL_BSP_MAX_QUEUE_SIZE,
    OTEL_BSP_SCHEDULE_DELAY,
    OTEL_METRICS_EXEMPLAR_FILTER,
    OTEL_TRACES_SAMPLER,
    OTEL_TRACES_SAMPLER_ARG,
)
from opentelemetry.sdk.metrics import (
    AlwaysOffExemplarFilter,
    AlwaysOnExemplarFilter,
    ExemplarFilter,
    TraceBasedExemplarFilter,
)
from opentelemetry.sdk.metrics.export import MetricExporter, MetricReader
from opentelemetry.sdk.trace import SpanLimits, SpanProcessor
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_OFF,
    ALWAYS_ON,
    DEFAULT_OFF,
    DEFAULT_ON,
    ParentBasedTraceIdRatio,
    Sampler,
    TraceIdRatioBased,
)

from otel_torch_modules._emission.global_providers import given_meter_provider
from otel_torch_modules._emission.otlp.file import OtlpFileSpanExporter
from otel_torch_modules._emission.otlp.request_exporter import RequestExporter
from otel_torch_modules._emission.otlp.signal import METRICS, TRACES, Signal
from otel_torch_modules._entry_points import Use, entry_point, made, setting_up
from otel_torch_modules._interruption import is_interruption
from otel_torch_modules._otlp_values import GRPC, HTTP, protocol_of, trace_exporters_meant

_Made = TypeVar("_Made")

_OTLP: Final = {GRPC: "otlp_proto_grpc", HTTP: "otlp_proto_http"}
_STANDARD: Final = "opentelemetry.exporter.otlp.proto"

_QUEUE: Final = 2_048
_BATCH: Final = 512
_DELAY_MS: Final = 1_000  # the SDK's 5 000 would lose five seconds of steps to a SIGKILL
_TIMEOUT_MS: Final = 30_000
_LONGEST_MS: Final = 10**9  # locks wait no longer than some hundred years

_SAMPLERS: Final[dict[str, Sampler]] = {
    "always_on": ALWAYS_ON,
    "always_off": ALWAYS_OFF,
    "parentbased_always_on": DEFAULT_ON,
    "parentbased_always_off": DEFAULT_OFF,
}
_EXEMPLAR_FILTERS: Final[dict[str, Callable[[], ExemplarFilter]]] = {
    "always_on": AlwaysOnExemplarFilter,
    "always_off": AlwaysOffExemplarFilter,
    "trace_based": TraceBasedExemplarFilter,
}
_RATIO_SAMPLERS: Final[dict[str, Callable[[float], Sampler]]] = {
    "traceidratio": TraceIdRatioBased,
    "parentbased_traceidratio": ParentBasedTraceIdRatio,
}


def trace_exporters(values: Mapping[str, str]) -> list[SpanExporter]:
    """Make the exporters that ``OTEL_TRACES_EXPORTER`` names, or that are meant where it is unset or empty."""

    def make(name: str) -> SpanExporter | None:
        point = entry_point(OTEL_TRACES_EXPORTER, name)
        sender = _sender(point, values, TRACES)
        return sender or Use(OTEL_TRACES_EXPORTER, name, lambda: point.load()()).result()

    return _all_made(make, OTEL_TRACES_EXPORTER, trace_exporters_meant(values), values)


def metric_exporters(values: Mapping[str, str]) -> list[MetricExporter | MetricReader]:
    """Make what ``OTEL_METRICS_EXPORTER`` names; nothing where it is unset or empty."""

    def make(name: str) -> MetricExporter | MetricReader | None:
        point = entry_point(OTEL_METRICS_EXPORTER, name)
        sender = _sender(point, values, METRICS)
        if sender is not None:
            from otel_torch_modules._emission.otlp.metric_exporter import OtlpMetricExporter

            return OtlpMetricExporter(sender, values)
        return Use(OTEL_METRICS_EXPORTER, name, lambda: point.load()()).result()

    return _all_made(make, OTEL_METRICS_EXPORTER, values.get(OTEL_METRICS_EXPORTER, "none"), values)


def _sender(point: EntryPoint, values: Mapping[str, str], signal: Signal) -> RequestExporter | None:
    """Return ours in place of a standard exporter, which would bring the SDK for logs along, that starts threads.

    What writes files is told the variables, which the environment may not hold any more.
    """
    if point.module == OtlpFileSpanExporter.__module__:
        return OtlpFileSpanExporter(environ=values)
    if point.module.startswith(f"{_STANDARD}.grpc."):
        from otel_torch_modules._emission.otlp.grpc import GrpcRequestExporter

        return GrpcRequestExporter(values, signal)
    if point.module.startswith(f"{_STANDARD}.http."):
        from otel_torch_modules._emission.otlp.http import HttpRequestExporter

        return HttpRequestExporter(values, signal)
    return None


def _all_made(
    make: Callable[[str], _Made | None], variable: str, names: str, values: Mapping[str, str]
) -> list[_Made]:
    if names == "none":
        return []
    signal = "TRACES" if variable == OTEL_TRACES_EXPORTER else "METRICS"
    made = []
    for name in names.split(","):
        meant = _OTLP[protocol_of(name, values, signal)] if name == "otlp" else name
        with setting_up(variable, meant):
            made.append(make(meant))
    return [one for one in made if one is not None]


def sampler(values: Mapping[str, str]) -> Sampler:
    """Make the sampler that ``OTEL_TRACES_SAMPLER`` names; the default where it is unset, or cannot be made."""
    name = values.get(OTEL_TRACES_SAMPLER, "parentbased_always_on")
    argument = values.get(OTEL_TRACES_SAMPLER_ARG)
    if name in _SAMPLERS:
        return _SAMPLERS[name]
    if name in _RATIO_SAMPLERS:
        return _RATIO_SAMPLERS[name](float(argument or 1.0))
    found: Sampler | None = made(OTEL_TRACES_SAMPLER, name, Sampler, argument)
    return found or DEFAULT_ON


def id_generator(values: Mapping[str, str]) -> IdGenerator | None:
    """Make the generator that ``OTEL_PYTHON_ID_GENERATOR`` names; None where it is unset, or cannot be made."""
    name = values.get(OTEL_PYTHON_ID_GENERATOR)
    if not name:
        return None
    found: IdGenerator | None = made(OTEL_PYTHON_ID_GENERATOR, name, IdGenerator)
    return found


def span_limits(values: Mapping[str, str]) -> SpanLimits:
    """Return the limits that the variables set; one that is set to nothing is none."""

    def limit(name: str, default: str) -> int:
        text = values.get(f"OTEL_{name}_LIMIT", default)
        return min(int(text), sys.maxsize) if text else SpanLimits.UNSET

    count = values.get("OTEL_ATTRIBUTE_COUNT_LIMIT") or "128"
    length = values.get("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT") or ""
    return SpanLimits(
        max_attributes=limit("ATTRIBUTE_COUNT", "128"),
        max_events=limit("SPAN_EVENT_COUNT", "128"),
        max_links=limit("SPAN_LINK_COUNT", "128"),
        max_span_attributes=limit("SPAN_ATTRIBUTE_COUNT", count),
        max_event_attributes=limit("EVENT_ATTRIBUTE_COUNT", count),
        max_link_attributes=limit("LINK_ATTRIBUTE_COUNT", count),
        max_attribute_length=limit("ATTRIBUTE_VALUE_LENGTH", ""),
        max_span_attribute_length=limit("SPAN_ATTRIBUTE_VALUE_LENGTH", length),
    )


def exemplar_filter(values: Mapping[str, str]) -> ExemplarFilter:
    """Return what ``OTEL_METRICS_EXEMPLAR_FILTER`` names."""
    return _EXEMPLAR_FILTERS[values.get(OTEL_METRICS_EXEMPLAR_FILTER, "trace_based")]()


def span_processor(exporter: SpanExporter, values: Mapping[str, str]) -> SpanProcessor:
    """Return one that exports in batches as ``OTEL_BSP_*`` say."""
    batch = int(values.get(OTEL_BSP_MAX_EXPORT_BATCH_SIZE, 0))
    queue = int(values.get(OTEL_BSP_MAX_QUEUE_SIZE, 0)) or max(_QUEUE, batch)
    delay_ms = int(values.get(OTEL_BSP_SCHEDULE_DELAY, _DELAY_MS))
    try:
        return BatchSpanProcessor(
            exporter,
            max_queue_size=min(queue, sys.maxsize),
            schedule_delay_millis=min(delay_ms, _LONGEST_MS),
            max_export_batch_size=batch or min(_BATCH, queue),
            export_timeout_millis=min(
                int(values.get(OTEL_BSP_EXPORT_TIMEOUT, _TIMEOUT_MS)), _LONGEST_MS
            ),
            **given_meter_provider(BatchSpanProcessor),
        )
    except RuntimeError as error:
        if is_interruption(error):
            raise
        # Python 3.12 starts no thread once the main thread is done: the program's first step was its last.
        return SimpleSpanProcessor(exporter, **given_meter_provider(SimpleSpanProcessor))
