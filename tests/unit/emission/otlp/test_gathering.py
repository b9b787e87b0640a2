"""Records that are alike are written together, each as it would be alone, and one that is odd costs no other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_torch_modules._assembly.assembler import Assembler
from otel_torch_modules._emission import named
from otel_torch_modules._emission.emitter import Emitter
from otel_torch_modules._emission.otlp.encoder import SpanEncoder
from otel_torch_modules._emission.otlp.language import Language
from otel_torch_modules._emission.otlp.outbox import Outbox, Repeated
from otel_torch_modules._emission.otlp.protobuf import Protobuf
from otel_torch_modules._emission.otlp.reply import TAKEN, Reply
from otel_torch_modules._emission.otlp.request_exporter import EncodedRequest, RequestExporter
from otel_torch_modules._emission.provider import OwnTracerProvider
from otel_torch_modules._emission.record_spans import RecordSpans
from otel_torch_modules._emission.sampling import Decision
from otel_torch_modules._emission.services import Services
from otel_torch_modules._engine.deliveries import Deliveries
from otel_torch_modules._job.starter import JobContext
from otel_torch_modules._records import STEP_CPU_TIME, Record, SharedStep
from otel_torch_modules._spans.columns import SpanColumns
from otel_torch_modules.config import Config
from tests.support.otlp_languages import LANGUAGES
from tests.support.otlp_spans import SCOPE, span_ids, trace_ids, tracer
from tests.unit.assembly.repeating.test_repeats import Loop, Training, loops, simple, ticks_from


class Kept(RequestExporter):
    """Takes all requests and keeps them."""

    def __init__(self, language: Language) -> None:
        self.language = language
        self.set_up("here", 1.0)
        self.requests: list[EncodedRequest] = []

    def attempt(self, request: EncodedRequest) -> Reply:
        self.requests.append(request)
        return TAKEN


def varied(record: Record, draw: Callable[[Any], Any]) -> Record:
    """Return `record` with all that the spans of records which are alike may have of their own."""
    return replace(
        record,
        index=draw(st.integers(-300, 300)),
        trace_id=draw(trace_ids),
        span_id=draw(span_ids),
        clock_offset=draw(st.integers(0, 2**60)),
        end=record.end + draw(st.sampled_from([0, 10**6])),  # the loop's own code has a span then
        dropped_before=draw(st.integers(0, 2)),
        skipped=draw(st.booleans()),
        measured=draw(st.sampled_from([{}, {STEP_CPU_TIME: 0.5}])),
    )


@pytest.mark.slow
@settings(deadline=None)
@given(
    loops(),
    st.data(),
    st.integers(2, 6),
    st.sampled_from([None, SharedStep(5, 2, True), SharedStep(5, 2, False)]),
    st.sampled_from(["one", "phases"]),
    st.sampled_from(LANGUAGES),
)
def test_what_is_written_of_several_is_what_is_written_of_each(
    loop: Loop, data: st.DataObject, count: int, shared: Any, services: str, language: Language
) -> None:
    loop.late = False
    training, assembler = Training(ticks_from(data)), Assembler(Config())
    encoder = SpanEncoder(tracer(), SCOPE, language, services=Services(services))
    repeated = []
    for _ in range(2 + count):
        record = varied(replace(training.step(loop), shared=shared), data.draw)
        columns = assembler.assemble(record)
        if isinstance(columns, SpanColumns):
            drawn = data.draw(st.sampled_from([1, 2**40]))
            columns.span_ids = ids = list(range(drawn, drawn + len(columns.starts)))
            for place, span in enumerate(columns.unlaid):
                span.span_id = 2**50 + place
            spans = [*columns.heads, *columns.derived, *columns.spans_apart(ids)]
            rest = RecordSpans(spans, Decision(1, None), tracer(), SCOPE)
            repeated.append(Repeated(columns, rest, None))
    assert len(repeated) == count
    of_all, of_each = Kept(language), Kept(language)
    together, alone = (Outbox(kept, encoder, Deliveries()) for kept in (of_all, of_each))
    together.put_repeated(repeated, 1)
    for one in repeated:
        alone.put_repeated([one], 1)
    assert of_all.requests == of_each.requests  # what a request has no room for makes a new one
    assert together._encoded == alone._encoded
    assert together._spans == alone._spans
    written = sum(request.span_count for request in of_all.requests) + together._spans
    assert written == sum(map(spans_of, repeated))


def spans_of(one: Repeated) -> int:
    columns = one.columns
    layout = columns.layout
    return len(columns.starts) - layout.heads - len(layout.apart) + len(one.rest.spans)


def step(at: int) -> Record:
    record = simple(1_000 * at, 10 * at)
    record.trace_flags, record.trace_id, record.span_id = 1, at + 1, at + 1
    return record


def test_one_that_cannot_be_written_costs_no_other(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    exporter, deliveries = Kept(Protobuf()), Deliveries()
    monkeypatch.setattr(named, "trace_exporters", lambda _: [exporter])
    provider = OwnTracerProvider("test")
    provider.open()
    emitter = Emitter(lambda: provider, JobContext({}), deliveries=deliveries)
    assembler = Assembler(Config())
    for at in range(10):
        record = step(at)
        if at in (4, 6):
            record.clock_offset = -(2**62)  # a time that no message holds
        with deliveries.assembling(record):
            emitter.emit(assembler.assemble(record))
    emitter.idle()
    emitter.flush()
    provider.shutdown()
    assert deliveries.outcomes() == {"": 8, "queue_full": 0, "error": 2}
    assert sum(request.span_count for request in exporter.requests) == 8 * 6
    assert caplog.text.count("Spans were lost") == 1
