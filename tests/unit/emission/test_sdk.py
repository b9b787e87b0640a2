"""Each name of the SDK that is not public does what is said of it: a version that lacks one says which."""

from __future__ import annotations

import os
from collections.abc import Callable
from subprocess import CompletedProcess

import pytest
from opentelemetry import context as context_api
from opentelemetry import trace
from opentelemetry.sdk import _configuration
from opentelemetry.sdk.metrics import Counter
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    ConsoleMetricExporter,
    InMemoryMetricReader,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanLimits, SpanProcessor, Tracer, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, TraceFlags

from otel_torch_modules._emission import sdk


class Loud(SpanProcessor):
    """Does something before a span has ended."""

    def on_start(self, span: object, parent_context: object = None) -> None:
        pass


def provider_of(*processors: SpanProcessor, limits: SpanLimits | None = None) -> TracerProvider:
    provider = TracerProvider(shutdown_on_exit=False, span_limits=limits)
    for processor in processors:
        provider.add_span_processor(processor)
    return provider


def tracer_of(provider: TracerProvider) -> Tracer:
    tracer = provider.get_tracer("test")
    assert isinstance(tracer, Tracer)
    return tracer


def test_span_processors() -> None:
    first, second = SpanProcessor(), SimpleSpanProcessor(InMemorySpanExporter())
    tracer = tracer_of(provider_of(first, second))
    assert sdk.span_processors(tracer.span_processor) == (first, second)


def test_are_shut_down() -> None:
    of_sdk: list[SpanProcessor] = [BatchSpanProcessor(InMemorySpanExporter())]
    if hasattr(SimpleSpanProcessor(InMemorySpanExporter()), "_shutdown"):
        of_sdk.append(SimpleSpanProcessor(InMemorySpanExporter()))
    for processors in (of_sdk, [*of_sdk, SpanProcessor()]):
        provider = provider_of(*processors)
        found = sdk.span_processors(tracer_of(provider).span_processor)
        provider.shutdown()
        assert sdk.are_shut_down(found) == (found == tuple(of_sdk))
    assert not sdk.are_shut_down([SimpleSpanProcessor(InMemorySpanExporter())])


def test_needs_started_spans() -> None:
    batch = BatchSpanProcessor(InMemorySpanExporter())
    assert not sdk.needs_started_spans([SimpleSpanProcessor(InMemorySpanExporter()), batch])
    assert sdk.needs_started_spans([Loud()])
    batch.shutdown()


def test_is_enabled() -> None:
    assert sdk.is_enabled(tracer_of(provider_of()))


def test_started_span() -> None:
    exporter = InMemorySpanExporter()
    tracer = tracer_of(provider_of(SimpleSpanProcessor(exporter)))
    context = SpanContext(1, 2, False, TraceFlags(TraceFlags.SAMPLED))
    span = sdk.started_span(
        tracer,
        InstrumentationScope("test"),
        name="forward",
        kind=SpanKind.PRODUCER,
        resource=Resource({"service.name": "elsewhere"}),
        context=context,
        parent=None,
        attributes={"a": 1},
        links=(),
        processor=tracer.span_processor,
    )
    span.start(10)
    span.end(20)
    (sent,) = exporter.get_finished_spans()
    assert (sent.name, sent.context, sent.kind) == ("forward", context, SpanKind.PRODUCER)
    assert (sent.start_time, sent.end_time, dict(sent.attributes or {})) == (10, 20, {"a": 1})
    assert sent.resource.attributes == {"service.name": "elsewhere"}


def test_span_limits() -> None:
    limits = SpanLimits(max_span_attributes=3)
    assert sdk.span_limits(tracer_of(provider_of(limits=limits))).max_span_attributes == 3


def test_stand_in() -> None:
    exporter = InMemorySpanExporter()
    theirs = trace.ProxyTracerProvider().get_tracer("theirs")
    stand_down = sdk.stand_in(provider_of(SimpleSpanProcessor(exporter)))
    theirs.start_span("served").end()
    stand_down()
    theirs.start_span("not served").end()
    assert [span.name for span in exporter.get_finished_spans()] == ["served"]


def test_uninstrumented() -> None:
    key = getattr(context_api, "_SUPPRESS_INSTRUMENTATION_KEY", "suppress_instrumentation")
    with sdk.uninstrumented():
        assert context_api.get_value(key) is True
    assert context_api.get_value(key) is None


def test_configure_from_file() -> None:
    assert callable(_configuration._OTelSDKConfigurator.configure)  # it would set a global provider


def test_replace_span_processors() -> None:
    provider = provider_of(SpanProcessor())
    instead = SpanProcessor()
    sdk.replace_span_processors(provider, [instead])
    assert sdk.span_processors(tracer_of(provider).span_processor) == (instead,)


def test_update_resource() -> None:
    provider = provider_of()
    sdk.update_resource(provider, Resource({"process.pid": 7}))
    assert provider.resource.attributes["process.pid"] == 7
    assert tracer_of(provider).resource.attributes["process.pid"] == 7


def test_preferences() -> None:
    delta = {Counter: AggregationTemporality.DELTA}
    exporter = ConsoleMetricExporter(preferred_temporality=delta)
    assert sdk.preferences(exporter)["preferred_temporality"] == delta
    InMemoryMetricReader(**sdk.preferences(exporter))


def test_is_no_meter_provider(run_program: Callable[..., CompletedProcess[str]]) -> None:
    done = run_program(
        "from opentelemetry import metrics\n"
        "from opentelemetry.sdk.metrics import MeterProvider\n"
        "from otel_torch_modules._emission.sdk import is_no_meter_provider, meter_provider_is_set\n"
        "print(is_no_meter_provider(metrics.get_meter_provider()), meter_provider_is_set())\n"
        "metrics.set_meter_provider(MeterProvider())\n"
        "print(is_no_meter_provider(metrics.get_meter_provider()), meter_provider_is_set())\n"
    )
    assert (done.stdout, done.stderr) == ("True False\nFalse True\n", "")


test_meter_provider_is_set = test_is_no_meter_provider  # both, in one process


def test_api(run_program: Callable[..., CompletedProcess[str]]) -> None:
    done = run_program(
        "from opentelemetry import trace\n"
        "from opentelemetry.sdk.trace import TracerProvider\n"
        "from otel_torch_modules._emission.sdk import api\n"
        "print(api._TRACER_PROVIDER is not None)\n"
        "trace.get_tracer_provider()\n"
        "print(api._TRACER_PROVIDER is not None)\n"
        "trace.set_tracer_provider(TracerProvider())\n"
        "print(api._TRACER_PROVIDER is not None)\n"
    )
    assert (done.stdout, done.stderr) == ("False\nFalse\nTrue\n", "")


def test_AsksNoDetectorInChild(monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: N802
    named = "OTEL_EXPERIMENTAL_RESOURCE_DETECTORS"
    monkeypatch.setenv(named, "acme")
    asked = []

    class Provider:
        def _handle_fork(self) -> None:
            asked.append(os.environ.get(named))

    class Own(sdk.AsksNoDetectorInChild, Provider):
        pass

    Own()._handle_fork()
    assert asked == [None]
    assert os.environ[named] == "acme"


@pytest.mark.parametrize(
    "name",
    [
        name
        for name, value in vars(sdk).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == sdk.__name__
    ],
)
def test_each_has_a_test(name: str) -> None:
    assert f"test_{name}" in globals()
