"""What is written of columns is what the standard encoder writes of the same spans."""

from __future__ import annotations

import gc
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans

from otel_torch_modules._assembly.assembler import Assembler
from otel_torch_modules._assembly.reading.call import CALL_INDEX
from otel_torch_modules._emission.otlp.columns import ColumnsEncoder
from otel_torch_modules._emission.otlp.encoder import SpanEncoder
from otel_torch_modules._emission.otlp.language import Language
from otel_torch_modules._emission.otlp.protobuf import Protobuf
from otel_torch_modules._emission.record_spans import RecordSpans
from otel_torch_modules._emission.sampling import Decision
from otel_torch_modules._events import EXIT_BARE, WIDTH, Detail
from otel_torch_modules._records import Record, SharedStep
from otel_torch_modules._site import Site
from otel_torch_modules._spans.columns import SpanColumns
from otel_torch_modules._spans.span import SELF_TIME
from otel_torch_modules.config import Config
from tests.support.otlp_languages import LANGUAGES, parsed
from tests.support.otlp_spans import SCOPE, by_id, kept_templates, span_ids, trace_ids, tracer
from tests.unit.assembly.repeating.test_repeats import Loop, Training, loops, simple, ticks_from


def repeated(records: list[Record], config: Config | None = None) -> SpanColumns:
    assembler = Assembler(config or Config())
    for record in records:
        tree = assembler.assemble(record)
    assert isinstance(tree, SpanColumns)
    return tree


def check(columns: SpanColumns, encoder: ColumnsEncoder, ids: list[int], flags: int) -> list[int]:
    """Compare with the standard encoder, and the spans that stand apart too; return the sizes of the blocks."""
    language = encoder._language
    around = SpanEncoder(tracer(), SCOPE, language)
    columns.span_ids = ids
    blocks = [block for (block,) in encoder.encode([columns], flags)]
    count = sum(block.span_count for block in blocks)
    apart = columns.spans_apart(ids)
    for head, span_id in zip(columns.heads, ids, strict=False):
        head.span_id = span_id
    shared = RecordSpans([*columns.heads, *apart], Decision(flags, None), tracer(), SCOPE)
    encoded = [block.data for block in blocks]
    if apart:
        encoded += around.encode([(shared, apart)])
    request = around.request(encoded, count + len(apart))
    spans = list(columns.tree().walk())
    for span, span_id in zip(spans, ids, strict=True):
        span.span_id = span_id
    batch = RecordSpans(spans, Decision(flags, None), tracer(), SCOPE)
    rest = [batch.finished(span) for span in spans[len(columns.heads) :]]
    found = parsed(language, request.data)
    assert by_id(found) == by_id(encode_spans(rest))
    columns.release()
    return [block.span_count for block in blocks]


@pytest.mark.slow
@settings(deadline=None)
@given(
    loops(),
    st.data(),
    st.integers(1, 9),
    st.sampled_from([0, 1, 3]),
    st.sampled_from(["separate", "internal"]),
    st.sampled_from([None, SharedStep(5, 2, True), SharedStep(5, 2, False)]),
    st.sampled_from(LANGUAGES),
)
def test_it_is_what_the_standard_encoder_writes(
    loop: Loop,
    data: st.DataObject,
    block_size: int,
    flags: int,
    kind: str,
    shared: Any,
    language: Language,
) -> None:
    loop.late = False
    training = Training(ticks_from(data))
    records = [
        replace(
            training.step(loop),
            trace_id=data.draw(trace_ids),
            span_id=9,
            clock_offset=data.draw(st.integers(0, 2**60)),
            shared=shared,
        )
        for _ in range(4)
    ]
    columns = repeated(records, Config(span_kind=kind))
    around = SpanEncoder(tracer(), SCOPE, language)
    encoder = ColumnsEncoder(around, block_size)
    count = len(columns.starts)
    heads = [head.span_id for head in columns.heads]
    for _ in range(2):  # the second time from what was kept
        first, apart = data.draw(st.tuples(span_ids, span_ids))
        rest = [(first + place * (apart | 1)) % 2**64 or 1 for place in range(count - len(heads))]
        sizes = check(columns, encoder, heads + rest, flags)
        assert max(sizes, default=0) <= block_size


def test_shapes_of_whatever_length_are_written_from_one_template() -> None:
    def record(at: int) -> Record:
        found = simple(1000 * at, 10 * at)
        shapes = "[2, 3]", f"[{10**at}]"
        found.log[4] = Detail(True, (shapes, ("torch.float32", "torch.int64")))
        found.log[3 * WIDTH + 4] = Detail(None, (shapes[at % 2 :], ()))
        return found

    around = SpanEncoder(tracer(), SCOPE, Protobuf())
    encoder = ColumnsEncoder(around, 100)
    assembler = Assembler(Config())
    for at in range(7):
        columns = assembler.assemble(record(at))
        if at >= 2:
            assert isinstance(columns, SpanColumns)
            assert check(columns, encoder, list(range(1, 7)), 1) == [1, 1, 1, 2]
    kept = [kept_templates(like.attributes) for like in columns.layout.spans[1:]]
    assert list(map(len, kept)) == [1, 1, 1, 1, 1]


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_value_that_is_not_known_takes_no_room(language: Language) -> None:
    """Of some spans, of all, and of none, in turn."""
    around = SpanEncoder(tracer(), SCOPE, language)
    encoder = ColumnsEncoder(around, 100)
    columns = repeated([simple(1000 * at, 10 * at) for at in range(3)])
    count = len(columns.starts)
    for known in ([True] * count, [False] * count, [place % 2 == 0 for place in range(count)]):
        for _ in range(2):
            columns.values[SELF_TIME] = [
                place / 7 if there else None for place, there in enumerate(known)
            ]
            check(columns, encoder, list(range(1, 1 + count)), 1)


@pytest.mark.slow
def test_what_was_made_for_a_layout_goes_with_it() -> None:
    columns = repeated([simple(1000 * at, 10 * at) for at in range(3)])
    encoder = ColumnsEncoder(SpanEncoder(tracer(), SCOPE, Protobuf()), 100)
    columns.span_ids = list(range(1, 7))
    list(encoder.encode([columns], 1))
    (layout,) = encoder._blocks
    assert layout is columns.layout
    del columns, layout
    gc.collect()  # the assembler that made it
    assert list(encoder._blocks) == []


@pytest.mark.parametrize("index", [0, 3])
def test_a_place_that_is_called_once_more_has_another_index(index: int) -> None:
    """A layout's spans differ in attributes, and each keeps its own."""
    site = Site("Root", "Root")

    def record(at: int) -> Record:
        found = Record("step", at, start=100 * at, clock_offset=0, end=100 * at + 99)
        for call in range(4):
            for slot, tag in enumerate((site, EXIT_BARE)):
                found.log.extend((tag, 0, 10 * at, 100 * at + 10 * call + slot, None))
        return found

    columns = repeated([record(at) for at in range(3)])
    names = [
        dict(zip(columns.layout.spans[place].keys, columns.values_at(place), strict=True)).get(
            CALL_INDEX, 0
        )
        for place in range(1, len(columns.layout.spans))
    ]
    assert names == [0, 1, 2, 3]
    encoder = ColumnsEncoder(SpanEncoder(tracer(), SCOPE, Protobuf()), 2)
    assert check(columns, encoder, list(range(1, 6)), 1) == [1, 2, 1]
    assert columns.starts[1 + index] == 200 + 10 * index
