"""Spans of ours are what the SDK makes under the same limits, whether it starts them or they are encoded by us."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import (
    ReadableSpan,
    SpanLimits,
    SpanProcessor,
    Tracer,
    TracerProvider,
)

from otel_torch_modules._emission.otlp.encoder import SpanEncoder
from otel_torch_modules._emission.otlp.protobuf import Protobuf
from otel_torch_modules._emission.record_spans import RecordSpans
from otel_torch_modules._emission.sampling import Decision
from otel_torch_modules._spans.span import SharedAttributes
from otel_torch_modules.semconv import PHASE, STEP_INDEX
from tests.support.examples import examples
from tests.support.otlp_spans import SCOPE, attributes, by_id, ours, records, standard, texts

RESOURCE = Resource({"service.name": "test"})  # `create` looks for all detectors
counts = st.sampled_from([SpanLimits.UNSET, 0, 1, 2, 3, 5])
limits = st.builds(
    SpanLimits,
    max_attributes=counts,
    max_events=counts,
    max_links=counts,
    max_span_attributes=counts,
    max_event_attributes=counts,
    max_link_attributes=counts,
    max_attribute_length=counts,
    max_span_attribute_length=counts,
)
steps = st.builds(
    lambda index, others: {PHASE: "step", STEP_INDEX: index, **others},
    st.integers(0, 2**63 - 1),
    attributes,
)


def tracer(span_limits: SpanLimits) -> Tracer:
    provider = TracerProvider(
        resource=RESOURCE,
        span_limits=span_limits,
        shutdown_on_exit=False,
    )
    found = provider.get_tracer(SCOPE.name, SCOPE.version, SCOPE.schema_url)
    assert isinstance(found, Tracer)
    return found


class Kept(SpanProcessor):
    """Sampled or not."""

    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []

    def on_end(self, span: ReadableSpan) -> None:
        self.spans.append(span)


@st.composite
def runs(draw: st.DrawFn) -> tuple[Tracer, list[RecordSpans]]:
    found = tracer(draw(limits))
    places = draw(st.lists(attributes.map(SharedAttributes), min_size=1, max_size=3))
    names = draw(st.lists(texts, min_size=1, max_size=3))
    run = draw(st.lists(records(places, names, found), min_size=1, max_size=2))
    for record in run:
        if record.spans and draw(st.booleans()):
            record.spans[0].attributes = draw(steps)
    return found, run


def started(record: RecordSpans) -> list[ReadableSpan]:
    """Return the spans of `record` as the SDK makes them itself."""
    kept = Kept()
    record.tracer.span_processor = kept
    for span in record.spans:
        record.end(span, record.start(span, Context()))
    return kept.spans


@pytest.mark.slow
@settings(max_examples=examples(150), deadline=None)
@given(runs())
def test_they_obey_the_same_limits_and_count_what_is_dropped(
    run: tuple[Tracer, list[RecordSpans]],
) -> None:
    found, of_run = run
    encoder = SpanEncoder(found, SCOPE, Protobuf())
    for record in [*of_run, *of_run]:
        if not record.spans:
            continue
        expected = by_id(encode_spans(started(record)))
        assert by_id(standard(record)) == expected
        written = ExportTraceServiceRequest.FromString(ours(encoder, record))
        assert by_id(written) == expected


def test_what_the_sdk_logs_of_each_attribute_that_it_cuts_we_do_not(
    caplog: pytest.LogCaptureFixture, small_tree: Any
) -> None:
    found = tracer(SpanLimits(max_span_attributes=1, max_span_attribute_length=2))
    small_tree.attributes = {"first": "1", "torch.phase": "step"}
    record = RecordSpans([small_tree], Decision(1, None), found, SCOPE)
    span = record.finished(small_tree)
    assert (dict(span.attributes or {}), span.dropped_attributes) == ({"torch.phase": "st"}, 1)
    assert caplog.records == []
