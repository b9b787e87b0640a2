"""What the SDK sends to the collector comes back from Jaeger as it was sent."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Link, SpanKind

from tests.support.backend_servers import Collector, Jaeger
from tests.support.jaeger_query import StoredSpan

pytestmark = pytest.mark.backend


@pytest.fixture(params=["grpc", "http"])
def provider(request: pytest.FixtureRequest, collector: Collector) -> Iterator[TracerProvider]:
    exporter = {
        "grpc": lambda: GrpcExporter(endpoint=collector.otlp_grpc, insecure=True),
        "http": lambda: HttpExporter(endpoint=f"{collector.otlp_http}/v1/traces"),
    }[request.param]()
    resource = Resource({"service.name": f"servers-{request.param}"})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    yield provider
    provider.shutdown()


def as_sent(span: StoredSpan) -> dict[str, Any]:
    return {
        "name": span.name,
        "kind": span.kind,
        "start": span.start,
        "end": span.end,
        "attributes": span.attributes,
        "scope": span.scope,
        "status": (span.status, span.status_message),
        "events": [(event.name, event.time, event.attributes) for event in span.events],
        "links": [link.span_id for link in span.links],
        "children": [as_sent(child) for child in span.children],
    }


def expected(name: str, start: int, end: int, **different: Any) -> dict[str, Any]:
    return {
        "name": name,
        "kind": "INTERNAL",
        "start": start,
        "end": end,
        "attributes": {},
        "scope": "test",
        "status": ("UNSET", ""),
        "events": [],
        "links": [],
        "children": [],
    } | different


def test_a_trace_comes_back_whole(provider: TracerProvider, jaeger: Jaeger) -> None:
    tracer = provider.get_tracer("test")
    base = 1_700_000_000_000_000_000
    attributes = {"torch.step": 3, "list": [1, 2], "flag": True, "ratio": 0.5, "text": "ä"}
    with tracer.start_as_current_span(
        "train.step", start_time=base, attributes=attributes, end_on_exit=False
    ) as root:
        forward = tracer.start_span("forward GPT", kind=SpanKind.PRODUCER, start_time=base + 10)
        forward.add_event("exception", {"exception.type": "ValueError"}, timestamp=base + 15)
        forward.end(base + 20)
        tracer.start_span(
            "backward GPT",
            kind=SpanKind.CONSUMER,
            start_time=base + 30,
            links=[Link(forward.get_span_context())],
        ).end(base + 40)
    root.end(base + 50)
    assert provider.force_flush()

    trace_id = format(root.get_span_context().trace_id, "032x")
    stored = jaeger.query.wait_for_trace(trace_id, spans=3)

    assert as_sent(stored) == expected(
        "train.step",
        base,
        base + 50,
        attributes=attributes,
        children=[
            expected(
                "forward GPT",
                base + 10,
                base + 20,
                kind="PRODUCER",
                events=[("exception", base + 15, {"exception.type": "ValueError"})],
            ),
            expected(
                "backward GPT",
                base + 30,
                base + 40,
                kind="CONSUMER",
                links=[format(forward.get_span_context().span_id, "016x")],
            ),
        ],
    )
    assert stored.outline() == ["train.step", "  forward GPT", "  backward GPT"]


def test_traces_are_found_by_service(provider: TracerProvider, jaeger: Jaeger) -> None:
    service = provider.resource.attributes["service.name"]
    before = [root.trace_id for root in jaeger.query.traces(service)]
    tracer = provider.get_tracer("test")
    for index in range(3):
        with tracer.start_as_current_span(f"step {index}"), tracer.start_as_current_span("child"):
            pass
    assert provider.force_flush()

    found = jaeger.query.wait_for_traces(service, spans=6)

    new = [root for root in found if root.trace_id not in before]
    assert [root.outline() for root in new] == [[f"step {index}", "  child"] for index in range(3)]
