"""What is written of a step is what the standard encoder writes of it, whatever its number."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans

from otel_torch_modules import semconv
from otel_torch_modules._emission.otlp import steps as otlp_steps
from otel_torch_modules._emission.otlp.encoder import SpanEncoder
from otel_torch_modules._emission.otlp.language import Language
from otel_torch_modules._emission.otlp.protobuf import Protobuf
from otel_torch_modules._emission.otlp.wire import long_varint, varint
from otel_torch_modules._emission.record_spans import RecordSpans
from otel_torch_modules._emission.sampling import Decision
from otel_torch_modules._records import OuterParent, Raised
from otel_torch_modules._spans.span import Span, Trace
from tests.unit.emission.languages import LANGUAGES, parsed
from tests.unit.emission.test_otlp import SCOPE, by_id, span_ids, times, trace_ids, tracer

INDEXES = st.integers(0, 300) | st.integers(0, 2**63 - 1)


def steps(
    trace: Trace, index: Any, more: dict[str, Any], remote: bool, ids: list[int]
) -> list[Span]:
    """A step and a rank below it."""
    attributes = {semconv.PHASE: "step", semconv.STEP_INDEX: index, **more}
    root = Span(trace, None, "train.step", "step", 0, ids[0] % 1000, ids[1] % 1000, attributes)
    root.span_id, root.remote = ids[0], remote
    rank = Span(trace, root, "rank 3", "rank", 0, 5, 9, {**attributes, semconv.PHASE: "rank"})
    rank.span_id = ids[1]
    return [root, rank]


def known(encoder: SpanEncoder) -> int:
    return len(encoder._steps._known)


def check(encoder: SpanEncoder, record: RecordSpans) -> None:
    data = encoder.encode(record, record.spans)
    found = parsed(encoder.language, encoder.request([data], len(record.spans)).data)
    standard = encode_spans([record.finished(span) for span in record.spans])
    assert by_id(found) == by_id(standard)


@given(
    st.lists(st.tuples(INDEXES, trace_ids, span_ids, span_ids, times), min_size=1, max_size=4),
    st.booleans(),
    st.sampled_from([0, 1, 3]),
    st.dictionaries(st.sampled_from(["a", "b"]), st.booleans() | st.integers(0, 9)),
    st.sampled_from(LANGUAGES),
)
def test_it_is_what_the_standard_encoder_writes(
    given: list[Any], remote: bool, flags: int, more: dict[str, Any], language: Language
) -> None:
    encoder = SpanEncoder(tracer(), SCOPE, language)
    for index, trace_id, first, second, offset in given:
        trace = Trace(trace_id, offset, flags, None, None)
        spans = steps(trace, index, more, remote, [first, second])
        check(encoder, RecordSpans(spans, Decision(flags, None), tracer(), SCOPE))
    assert known(encoder) == 2 - remote


def _fails(spans: list[Span]) -> None:
    spans[0].error = Raised("ValueError", "no", "")


def _says_a_word(spans: list[Span]) -> None:
    spans[0].attributes = {**spans[0].attributes, semconv.STEP_INDEX: "first"}


def _counts_from_below(spans: list[Span]) -> None:
    spans[0].attributes = {**spans[0].attributes, semconv.STEP_INDEX: -1}


def _links(spans: list[Span]) -> None:
    spans[0].link = spans[1]


@pytest.mark.parametrize("change", [_fails, _says_a_word, _counts_from_below, _links])
def test_what_is_rare_is_left_to_the_standard_encoder(change: Any) -> None:
    encoder = SpanEncoder(tracer(), SCOPE, Protobuf())
    spans = steps(Trace(1, 2, 1, None, None), 7, {}, False, [3, 4])
    change(spans)
    check(encoder, RecordSpans(spans, Decision(1, None), tracer(), SCOPE))
    assert known(encoder) == 1  # the rank


def test_a_step_below_a_span_of_the_program_is_left_to_it_too() -> None:
    encoder = SpanEncoder(tracer(), SCOPE, Protobuf())
    trace = Trace(1, 2, 1, None, OuterParent(1, 77, 1, None))
    spans = steps(trace, 7, {}, False, [3, 4])
    check(encoder, RecordSpans(spans, Decision(1, None), tracer(), SCOPE))
    assert known(encoder) == 1


def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otlp_steps, "_MOST_KEPT", 4)
    encoder = SpanEncoder(tracer(), SCOPE, Protobuf())
    kept = []
    for batches in range(4):
        trace = Trace(1, 2, 1, None, None)
        spans = steps(trace, 7, {"batches": batches}, False, [3, 4])
        check(encoder, RecordSpans(spans, Decision(1, None), tracer(), SCOPE))
        kept.append(known(encoder))
    assert kept == [2, 4, 2, 4]


@given(INDEXES)
def test_a_long_varint_is_the_number_in_nine_bytes(number: int) -> None:
    encoded = long_varint(number)
    assert len(encoded) == 9
    assert sum((byte & 0x7F) << 7 * place for place, byte in enumerate(encoded)) == number
    assert [byte >> 7 for byte in encoded] == [1] * 8 + [0]
    assert encoded.startswith(bytes(byte | 0x80 for byte in varint(number)[:-1]))
