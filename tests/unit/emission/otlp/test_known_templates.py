"""What is told alike has one template, whichever model it is of; what is not has its own; and they are not too many."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan

from otel_torch_modules._emission.otlp.encoder import SpanEncoder
from otel_torch_modules._emission.otlp.json import Json
from otel_torch_modules._emission.otlp.known_templates import (
    _MOST_BYTES,
    _MOST_KNOWN,
    KnownTemplates,
)
from otel_torch_modules._emission.otlp.protobuf import Protobuf
from otel_torch_modules._emission.record_spans import RecordSpans
from otel_torch_modules._emission.sampling import Decision
from otel_torch_modules._engine.pauses import progress
from otel_torch_modules._events import Varying
from otel_torch_modules._spans.span import SharedAttributes, Span, Trace
from tests.support.otlp_languages import parsed
from tests.support.otlp_spans import SCOPE, by_id, kept_templates, ours, standard, tracer


class CountedProtobuf(Protobuf):
    encoded = 0

    def encode(self, spans: Sequence[ReadableSpan]) -> bytes:
        self.encoded += len(spans)
        return super().encode(spans)


class CountedJson(Json):
    encoded = 0

    def encode(self, spans: Sequence[ReadableSpan]) -> bytes:
        self.encoded += len(spans)
        return super().encode(spans)


COUNTED = (CountedProtobuf, CountedJson)
Change = Callable[[Span], Any]
A, B = Varying("a", int), Varying("b", int)


def usual() -> dict[str, Any]:
    """What a span of a module has, its texts made anew."""
    fqn = "".join(("GPT", ".h"))
    return {"torch.phase": "forward", "torch.module.fqn": fqn, "torch.module.pattern": fqn, "n": 1}


def record_of(change: Change) -> RecordSpans:
    """A record of one span below a root, as a model that is made for it would leave it."""
    trace = Trace(2**100, 10**18, 1, None, None)
    root = Span(trace, None, "train.step", "step", 0, 10, 20, {})
    span = Span(trace, root, "forward GPT.h", "forward", 3, 11, 19, SharedAttributes(usual()))
    span.say((A,), (7,))
    change(span)
    root.span_id, span.span_id = 1, 2
    spans = [span] if root.remote else [root, span]
    record = RecordSpans([root, span], Decision(trace.trace_flags, None), tracer(), SCOPE)
    record.spans = spans[-1:]
    return record


def nothing(_: Span) -> None:
    pass


def has(**more: Any) -> Change:
    def change(span: Span) -> None:
        span.attributes = SharedAttributes({**usual(), **more})

    return change


def has_only(attributes: dict[str, Any]) -> Change:
    def change(span: Span) -> None:
        span.attributes = SharedAttributes(attributes)

    return change


def is_called(span: Span) -> None:
    span.name = "forward GPT_1.h"


def is_of_kind(span: Span) -> None:
    span.kind = 4


def is_linked(span: Span) -> None:
    span.link = span.parent


def is_below_another_process(span: Span) -> None:
    assert span.parent is not None
    span.parent.remote = True


def says(*keys: Varying) -> Change:
    def change(span: Span) -> None:
        span.keys = span.values = ()
        span.say(keys, (9,) * len(keys))

    return change


OTHERS: list[Change] = [
    nothing,
    is_called,
    is_of_kind,
    is_linked,
    is_below_another_process,
    says(),
    says(B),
    says(A, B),
    says(B, A),
    has(n=2),
    has(n=True),
    has(n=1.0),
    has(n="1"),
    has(n=(1,)),
    has(n=0.0),
    has(n=-0.0),
    has(n=math.nan),
    has(m=1),
    has(**{"torch.module.fqn": "GPT_1.h"}),
    has(**{"torch.module.fqn": "GPT.h\ud800"}),
    has_only({key: usual()[key] for key in reversed(usual())}),
    has_only({"m" if key == "n" else key: value for key, value in usual().items()}),
]


@pytest.mark.parametrize("language", COUNTED)
def test_what_differs_in_anything_is_written_as_the_standard_encoder_does(
    language: Callable[[], CountedProtobuf | CountedJson],
) -> None:
    encoder = SpanEncoder(tracer(), SCOPE, language())
    for change in OTHERS * 2:
        record = record_of(change)
        found = parsed(encoder.language, ours(encoder, record))
        assert by_id(found) == by_id(standard(record)), record.spans


@pytest.mark.parametrize("language", COUNTED)
@pytest.mark.parametrize("change", OTHERS)
def test_the_standard_encoder_is_asked_once_for_all_that_is_alike(
    change: Change, language: Callable[[], CountedProtobuf | CountedJson]
) -> None:
    counted = language()
    encoder = SpanEncoder(tracer(), SCOPE, counted)
    records = [record_of(change) for _ in range(5)]
    for record in records:
        found = parsed(encoder.language, ours(encoder, record))
        assert by_id(found) == by_id(standard(record))
        assert counted.encoded == 1
    assert len({id(record.spans[-1].attributes) for record in records}) == 5


def test_which_texts_are_the_same_object_decides_nothing() -> None:
    counted = CountedProtobuf()
    encoder = SpanEncoder(tracer(), SCOPE, counted)
    for change in (nothing, has(**{"torch.module.pattern": "".join(("GPT", ".h"))})):
        ours(encoder, record_of(change))
    assert counted.encoded == 1


class Secret(str):
    def __repr__(self) -> str:
        return "***"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret)

    def __hash__(self) -> int:
        return 1


def test_what_may_say_of_itself_what_it_likes_has_a_template_of_its_own() -> None:
    counted = CountedProtobuf()
    encoder = SpanEncoder(tracer(), SCOPE, counted)
    for text in ("one", "two", "two"):
        record = record_of(has(said=Secret(text)))
        assert by_id(parsed(counted, ours(encoder, record))) == by_id(standard(record))
    assert counted.encoded == 3


def test_training_may_have_the_interpreter_while_many_are_found() -> None:
    encoder = SpanEncoder(tracer(), SCOPE, Protobuf())
    ours(encoder, record_of(nothing))
    before = progress.slices
    for _ in range(1_000):
        ours(encoder, record_of(nothing))
    assert 4 <= progress.slices - before <= 20


def test_places_that_are_alike_share_what_is_written() -> None:
    encoder = SpanEncoder(tracer(), SCOPE, Protobuf())
    records = [record_of(nothing) for _ in range(2)]
    for record in records:
        ours(encoder, record)
    (first,), (second,) = [kept_templates(record.spans[0].attributes) for record in records]
    assert first.attributes is second.attributes
    assert first.name is second.name


def test_no_more_are_kept_than_so_many_and_what_is_used_stays() -> None:
    known = KnownTemplates()
    (template,) = templates(1)
    for number in range(3 * _MOST_KNOWN):
        known.put(b"%d" % number, template)
        assert known.get(b"0") is template
    kept = [number for number in range(3 * _MOST_KNOWN) if known.get(b"%d" % number) is not None]
    assert kept == [0, *range(2 * _MOST_KNOWN + 1, 3 * _MOST_KNOWN)]


def test_no_more_bytes_are_kept_than_so_many() -> None:
    known = KnownTemplates()
    size = _MOST_BYTES // 4
    for number, template in enumerate(templates(9, size)):
        known.put(b"%d" % number, template)
    kept = [number for number in range(9) if known.get(b"%d" % number) is not None]
    assert kept == [6, 7, 8]  # with what is around the attribute three take all that there is
    (large,) = templates(1, 2 * _MOST_BYTES)
    known.put(b"large", large)
    assert known.get(b"large") is None
    known.put(b"small", templates(1)[0])
    assert known.get(b"small") is not None


def templates(count: int, size: int = 1) -> list[Any]:
    """Return templates whose attributes take so many bytes, and somewhat more."""
    encoder = SpanEncoder(tracer(), SCOPE, Protobuf())
    made = []
    for number in range(count):
        record = record_of(has(text=chr(ord("a") + number) * size))
        ours(encoder, record)
        made += kept_templates(record.spans[0].attributes)
    return made
