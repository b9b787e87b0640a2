"""Records with spans of any content, as the encoders get them, and what comes of them in an order of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, Tracer, TracerProvider
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, Status, StatusCode, TraceState

from otel_torch_modules._emission.otlp.block import Template
from otel_torch_modules._emission.otlp.encoder import SpanEncoder
from otel_torch_modules._emission.record_spans import RecordSpans
from otel_torch_modules._emission.sampling import Decision
from otel_torch_modules._events import Varying
from otel_torch_modules._records import OuterParent, Raised
from otel_torch_modules._spans.span import Happening, Note, SharedAttributes, Span, Trace

SCOPE = InstrumentationScope("otel_torch_modules", "1.2.3", "https://schema.test/1")


def tracer(resource: Resource | None = None) -> Tracer:
    resource = resource or Resource({"service.name": "x" * 200}, "https://schema.test/2")
    return TracerProvider(resource=resource, shutdown_on_exit=False).get_tracer("test")  # type: ignore[return-value]


span_ids = st.integers(1, 2**64 - 1)
trace_ids = st.integers(1, 2**128 - 1)
times = st.integers(1, 2**62)
texts = st.text(max_size=300)
values = st.one_of(
    texts,
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.lists(texts, max_size=3).map(tuple),
)
# At least one: each span says its phase.
attributes = st.dictionaries(st.text(min_size=1, max_size=40), values, min_size=1, max_size=8)
VALUES: dict[Varying, st.SearchStrategy[Any]] = {
    Varying("test.bool", bool): st.none() | st.booleans(),
    Varying("test.int", int): st.none() | st.integers(-(2**63), 2**63 - 1),
    Varying("test.float", float): st.none() | st.floats(allow_nan=False),
    Varying("test.text", str): st.none() | texts,
    Varying("test.texts", tuple): st.none() | st.lists(texts, max_size=3).map(tuple),
}
points = st.builds(
    Happening, texts, times, st.dictionaries(st.text(min_size=1), st.none() | values, max_size=3)
)
states = st.sampled_from([None, TraceState(), TraceState([("vendor", "value")])])
parents = st.none() | st.builds(OuterParent, trace_ids, span_ids, st.just(1), states, st.booleans())
flags = st.sampled_from([0, 1, 3])
of_sampler = st.just({}) | attributes
contexts = st.builds(SpanContext, trace_ids, span_ids, st.booleans())
statuses = st.builds(Status, st.just(StatusCode.ERROR), texts) | st.just(Status(StatusCode.OK))
notes = st.one_of(
    st.builds(Note, st.just("set_attributes"), st.tuples(attributes), times),
    st.builds(Note, st.just("add_event"), st.tuples(texts, attributes, st.none() | times), times),
    st.builds(Note, st.just("add_link"), st.tuples(contexts, attributes), times),
    st.builds(Note, st.just("update_name"), st.tuples(texts), times),
    st.builds(Note, st.just("set_status"), st.tuples(statuses), times),
)
lists_of_points = st.lists(points, max_size=2)
lists_of_notes = st.lists(notes, min_size=1, max_size=3)
choices = st.binary(min_size=7, max_size=7)
traces = st.builds(Trace, trace_ids, st.integers(0, 2**62), flags, states, parents, of_sampler)


@st.composite
def records(
    draw: st.DrawFn,
    places: list[SharedAttributes],
    names: list[str],
    of: Tracer | None = None,
) -> RecordSpans:
    """A record whose spans share a few names and attributes, as those of a program do."""
    trace = draw(traces)
    elsewhere = Span(draw(traces), None, "", "forward", 0, 1, 1, {})
    elsewhere.span_id = draw(span_ids)
    spans: list[Span] = []
    for _ in range(draw(st.integers(1, 12))):
        # In one draw what is chosen among a few: each by itself takes longer than encoding the span.
        of_parent, of_name, of_kind, of_place, of_link, odd, said_keys = draw(choices)
        linked = [None, *spans, elsewhere]
        span = Span(
            trace,
            spans[of_parent % len(spans)] if spans else None,
            names[of_name % len(names)],
            "forward",
            (0, 3, 4)[of_kind % 3],
            draw(times),
            draw(times),
            draw(attributes) if of_place % 4 == 3 else places[of_place % len(places)],
        )
        span.span_id = draw(span_ids)
        span.link = linked[of_link % len(linked)]
        if odd % 10 == 1:
            span.error = Raised(draw(texts), draw(texts), draw(texts))
        said = {
            key: draw(value)
            for bit, (key, value) in enumerate(VALUES.items())
            if said_keys & 1 << bit
        }
        span.say((*said,), (*said.values(),))
        if odd // 10 % 5 == 1:
            span.points = draw(lists_of_points)
        if odd // 50 == 1:
            span.notes = draw(lists_of_notes)
        spans.append(span)
    spans[0].remote = draw(st.booleans())
    decision = Decision(trace.trace_flags, trace.trace_state, trace.attributes)
    return RecordSpans(spans, decision, of or tracer(), SCOPE)


@st.composite
def runs(draw: st.DrawFn) -> list[RecordSpans]:
    """Some records of one program, the first of which makes the templates for those after it."""
    places = draw(st.lists(attributes.map(SharedAttributes), min_size=1, max_size=3))
    names = draw(st.lists(texts, min_size=1, max_size=3))
    return draw(st.lists(records(places, names), min_size=1, max_size=3))


def kept_templates(attributes: Mapping[str, Any]) -> list[Template]:
    """Return those that an encoder has kept on the attributes that they have, the last made first."""
    assert isinstance(attributes, SharedAttributes)
    kept = []
    template = attributes.encoded
    while template is not None:
        kept.append(template)
        template = template.next
    return kept


def ours(encoder: SpanEncoder, record: RecordSpans) -> bytes:
    encoded = encoder.encode([(record, record.spans)])
    return encoder.request(encoded, len(record.spans)).data


def standard(record: RecordSpans) -> ExportTraceServiceRequest:
    return encode_spans([sdk_span(record, span) for span in record.spans])


def sdk_span(record: RecordSpans, span: Span) -> ReadableSpan:
    """Return `span` as the SDK has it."""
    if span.notes:
        return record.noted(span, record.tracer.resource)
    return record.finished(span)


def by_id(request: ExportTraceServiceRequest) -> ExportTraceServiceRequest:
    """Return `request` with its spans in an order that does not depend on who needs the standard encoder."""
    for resource_spans in request.resource_spans:
        for scope_spans in resource_spans.scope_spans:
            ordered = sorted(scope_spans.spans, key=lambda span: span.SerializeToString())
            del scope_spans.spans[:]
            scope_spans.spans.extend(ordered)
    return request
