"""What is written of a step is what the standard encoder writes of it, whatever its number, from one template."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans

from otel_torch_modules._assembly.reading.heads import describe_heads, heads
from otel_torch_modules._emission.otlp.encoder import SpanEncoder
from otel_torch_modules._emission.otlp.language import Language
from otel_torch_modules._emission.otlp.protobuf import Protobuf
from otel_torch_modules._emission.otlp.wire import LONG_VARINT, long_varints
from otel_torch_modules._emission.record_spans import RecordSpans
from otel_torch_modules._emission.sampling import Decision
from otel_torch_modules._records import OuterParent, Raised, Record, SharedStep
from otel_torch_modules._spans.span import SharedAttributes, Span
from otel_torch_modules._varint import varint
from tests.support.otlp_languages import LANGUAGES, parsed
from tests.support.otlp_spans import (
    SCOPE,
    by_id,
    kept_templates,
    span_ids,
    times,
    trace_ids,
    tracer,
)

INDEXES = st.integers(-300, 300) | st.integers(-(2**63), 2**63 - 1)

RECORDS = st.builds(
    Record,
    st.sampled_from(["step", "eval"]),
    INDEXES,
    st.integers(1, 1000),
    times,
    end=st.integers(1000, 2000),
    trace_id=trace_ids,
    span_id=span_ids,
    parent=st.none()
    | st.builds(OuterParent, trace_ids, span_ids, st.just(1), st.none(), st.booleans()),
    shared=st.none() | st.builds(SharedStep, span_ids, st.integers(0, 99), st.booleans()),
    stride=st.none() | st.integers(1, 64),
    micro_batches=st.integers(0, 300),
    dropped_before=st.integers(0, 3),
    skipped=st.booleans(),
)


def described(record: Record) -> list[Span]:
    spans = heads(record)
    describe_heads(spans, record, truncated=False)
    return spans


def templates(encoder: SpanEncoder, spans: list[Span]) -> int:
    """Return how many the encoder has kept for spans like these."""
    shared = [span.attributes for span in spans if isinstance(span.attributes, SharedAttributes)]
    kept = [template for attributes in shared for template in kept_templates(attributes)]
    return sum(template.maker is encoder._maker for template in kept)


def check(encoder: SpanEncoder, spans: list[Span], flags: int) -> None:
    record = RecordSpans(spans, Decision(flags, None), tracer(), SCOPE)
    data = encoder.encode([(record, record.spans)])
    found = parsed(encoder.language, encoder.request(data, len(record.spans)).data)
    assert by_id(found) == by_id(encode_spans([record.finished(span) for span in record.spans]))


@settings(deadline=None)
@given(
    st.lists(RECORDS, min_size=1, max_size=4),
    st.sampled_from([0, 1, 3]),
    st.sampled_from(LANGUAGES),
)
def test_it_is_what_the_standard_encoder_writes(
    records: list[Record], flags: int, language: Language
) -> None:
    encoder = SpanEncoder(tracer(), SCOPE, language)
    for record in records:
        check(encoder, described(record), flags)


def test_steps_with_whatever_numbers_have_one_template() -> None:
    encoder = SpanEncoder(tracer(), SCOPE, Protobuf())
    for index in (0, 127, 128, 2**40, 2**63 - 1):
        spans = described(
            Record("step", index, 1, 2, end=3, trace_id=5, span_id=6, micro_batches=index % 99)
        )
        check(encoder, spans, 1)
        assert templates(encoder, spans) == 1


def test_a_step_that_failed_is_left_to_the_standard_encoder() -> None:
    encoder = SpanEncoder(tracer(), SCOPE, Protobuf())
    spans = described(Record("step", 4, 1, 2, end=3, trace_id=5, span_id=6))
    spans[0].error = Raised("ValueError", "no", "")
    check(encoder, spans, 1)
    assert templates(encoder, spans) == 0


@settings(deadline=None)
@given(st.lists(INDEXES, max_size=200))
def test_long_varints_are_the_numbers_in_ten_bytes_each(numbers: list[int]) -> None:
    encoded = long_varints(numbers)
    assert len(encoded) == len(numbers)
    for number, written in zip(numbers, encoded, strict=True):
        assert [byte >> 7 for byte in written] == [1] * (LONG_VARINT - 1) + [0]
        value = sum((byte & 0x7F) << 7 * place for place, byte in enumerate(written))
        assert value == number % 2**64
        assert written.startswith(bytes(byte | 0x80 for byte in varint(value)[:-1]))
