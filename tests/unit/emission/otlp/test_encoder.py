"""What our encoder writes is what the standard one writes, for every span that we can send."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest
from hypothesis import given, settings
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from otel_torch_modules._emission.otlp.encoder import SpanEncoder
from otel_torch_modules._emission.otlp.protobuf import Protobuf
from otel_torch_modules._emission.record_spans import RecordSpans
from otel_torch_modules._emission.sampling import Decision
from otel_torch_modules._spans.span import SharedAttributes, Span, Trace
from tests.support.examples import examples
from tests.support.otlp_languages import LANGUAGES, parsed
from tests.support.otlp_spans import SCOPE, by_id, kept_templates, ours, runs, standard, tracer


@pytest.mark.slow
@settings(max_examples=examples(100), deadline=None)
@given(runs())
def test_it_writes_what_the_standard_encoder_writes(run: list[RecordSpans]) -> None:
    """In both languages in turn, from templates that are kept side by side; then of fresh places that are alike."""
    maker = object()
    encoders = [SpanEncoder(tracer(), SCOPE, language, maker) for language in LANGUAGES]
    for place, record in enumerate([*run, *run, *run]):
        if place >= 2 * len(run):
            make_fresh(record)
        for encoder in encoders:
            if record.spans:
                found = parsed(encoder.language, ours(encoder, record))
                *_, last = found.resource_spans[0].scope_spans[0].spans
                assert last.span_id == record.spans[-1].span_id.to_bytes(8, "big")
                assert by_id(found) == by_id(standard(record))


def make_fresh(record: RecordSpans) -> None:
    """Give the spans what a copy of the model would have given them."""
    for span in record.spans:
        if isinstance(span.attributes, SharedAttributes):
            span.attributes = SharedAttributes(span.attributes)


def tree(count: int, places: list[Any]) -> RecordSpans:
    trace = Trace(2**100, 10**18, 1, None, None)
    root = Span(trace, None, "train.step", "step", 0, 10, 20, {"torch.step": 3})
    for number in range(count):
        span = Span(trace, root, f"forward {number}", "forward", 3, number, 20, places[number])
        span.link = root
    spans = list(root.walk())
    for number, span in enumerate(spans):
        span.span_id = number + 1
    return RecordSpans(spans, Decision(1, None), tracer(Resource({"a": "b"})), SCOPE)


def test_the_bytes_of_shared_places_are_the_standard_encoders(monkeypatch: Any) -> None:
    record = tree(
        3, [SharedAttributes({"torch.module.fqn": "GPT." + "h" * n}) for n in (1, 130, 9)]
    )
    record.spans = record.spans[1:]
    without_urls = InstrumentationScope("otel_torch_modules", "1.2.3")
    encoder = SpanEncoder(record.tracer, without_urls, Protobuf())
    encoder.encode([(record, record.spans)])
    assert (
        ours(encoder, record)
        == encode_spans(
            [
                RecordSpans(
                    [record.spans[0].parent, span], record.decision, record.tracer, without_urls
                ).finished(span)  # type: ignore[list-item]
                for span in record.spans
            ]
        ).SerializeToString()
    )


def test_what_is_kept_of_a_place_is_kept_on_its_attributes_by_the_last_encoder_alone() -> None:
    places = [SharedAttributes({"n": n}) for n in range(2)]
    record = tree(4, [*places, places[0], {"n": 3}])
    for _ in range(3):
        encoder = SpanEncoder(record.tracer, SCOPE, Protobuf())
        for _ in range(2):
            found = parsed(encoder.language, ours(encoder, record))
            assert by_id(found) == by_id(standard(record))
        kept = [kept_templates(place) for place in places]
        assert [[template.alike for template in of_place] for of_place in kept] == [
            [(encoder.language, f"forward {n}", 3, 1, True, False, ()) for n in (2, 0)],
            [(encoder.language, "forward 1", 3, 1, True, False, ())],
        ]
        forms = {template.form for of_place in kept for template in of_place}
        assert len(forms) == 1  # they differ in name and attributes alone: all are written at once
    last = weakref.ref(encoder)
    del encoder
    gc.collect()
    assert last() is None
