"""Span tree in, what the provider's processors see out."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import (
    BatchSpanProcessor,
    SimpleSpanProcessor,
    SpanExporter,
    SpanExportResult,
)
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON
from opentelemetry.trace import SpanKind, StatusCode

from otel_torch_modules._emission.emitter import Emitter
from otel_torch_modules._engine.deliveries import Deliveries
from otel_torch_modules._job.starter import JobContext
from otel_torch_modules._records import OuterParent, Raised, Record
from otel_torch_modules._spans.span import Note, Span, Trace

TRACE_ID = 0xABC
OFFSET = 1_000_000


class CountingIds(IdGenerator):
    def __init__(self) -> None:
        self.last = 0

    def generate_span_id(self) -> int:
        self.last += 1
        return self.last

    def generate_trace_id(self) -> int:
        return self.generate_span_id()


class Starts(SpanProcessor):
    """Does something before a span has ended."""

    def __init__(self, log: list[str]) -> None:
        self.log = log

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        parent = trace.get_current_span(parent_context)
        self.log.append(f"start {span.name} below {getattr(parent, 'name', None)}")
        span.set_attribute("seen", True)

    def on_end(self, span: ReadableSpan) -> None:
        self.log.append(f"end {span.name}")


def emit(provider: trace.TracerProvider, root: Span) -> None:
    Emitter(lambda: provider, JobContext({})).emit(root)


def shape(span: ReadableSpan) -> tuple[Any, ...]:
    context, parent = span.get_span_context(), span.parent
    assert context is not None
    return (
        span.name,
        context.trace_id,
        context.span_id,
        parent.span_id if parent else None,
        span.kind,
        span.start_time,
        span.end_time,
        dict(span.attributes or {}),
        [link.context.span_id for link in span.links],
        span.status.status_code,
    )


SMALL_TREE = [
    ("train.step", TRACE_ID, 1, None, SpanKind.INTERNAL, 1_000_010, 1_000_090,
     {"torch.phase": "step"}, [], StatusCode.UNSET),
    ("forward GPT", TRACE_ID, 2, 1, SpanKind.PRODUCER, 1_000_020, 1_000_040,
     {"torch.phase": "forward"}, [], StatusCode.UNSET),
    ("backward GPT", TRACE_ID, 3, 1, SpanKind.CONSUMER, 1_000_050, 1_000_080,
     {"torch.phase": "backward"}, [2], StatusCode.UNSET),
]  # fmt: skip


def test_spans_arrive_root_last_with_everything_that_the_tree_says(
    memory: Any, small_tree: Span
) -> None:
    memory.provider.id_generator = CountingIds()
    emit(memory.provider, small_tree)
    spans = memory.exporter.get_finished_spans()
    assert [shape(span) for span in spans] == [*SMALL_TREE[1:], SMALL_TREE[0]]
    assert [span.span_id for span in small_tree.walk()] == [1, 2, 3]
    assert {span.instrumentation_scope.name for span in spans} == {"otel_torch_modules"}
    assert {span.resource.attributes["service.name"] for span in spans} == {"test"}
    assert {span.context.trace_flags.sampled for span in spans} == {True}


def test_ids_that_a_span_has_already_are_kept_and_others_are_random(
    memory: Any, small_tree: Span
) -> None:
    small_tree.span_id = 77
    emit(memory.provider, small_tree)
    ids = [span.context.span_id for span in memory.exporter.get_finished_spans()]
    assert ids[-1] == 77
    assert len(set(ids)) == 3
    assert 0 not in ids


def test_the_root_is_a_child_of_the_programs_span(
    memory: Any, trace_of: Callable[..., Trace]
) -> None:
    parent = OuterParent(TRACE_ID, 9, 1, trace.TraceState([("k", "v")]))
    root = Span(trace_of(parent=parent), None, "train.step", "step", 0, 0, 1, {})
    emit(memory.provider, root)
    (span,) = memory.exporter.get_finished_spans()
    assert (span.parent.trace_id, span.parent.span_id, span.parent.is_remote) == (
        TRACE_ID,
        9,
        False,
    )
    assert dict(span.parent.trace_state) == {"k": "v"}


def test_an_error_is_a_status_on_all_that_it_passed_and_an_event_where_it_has_a_stacktrace(
    memory: Any, small_tree: Span
) -> None:
    inner = small_tree.children[0]
    inner.error = Raised("ValueError", "no", "Traceback ...")
    small_tree.error = Raised("ValueError", "no", "")
    emit(memory.provider, small_tree)
    inner_span, other, outer_span = memory.exporter.get_finished_spans()
    assert [(s.status.status_code, s.status.description) for s in (outer_span, inner_span)] == [
        (StatusCode.ERROR, "ValueError: no")
    ] * 2
    assert other.status.status_code is StatusCode.UNSET
    assert outer_span.events == ()
    assert [(e.name, e.timestamp, dict(e.attributes)) for e in inner_span.events] == [
        (
            "exception",
            inner.end + OFFSET,
            {
                "exception.type": "ValueError",
                "exception.message": "no",
                "exception.stacktrace": "Traceback ...",
            },
        )
    ]


def test_what_the_program_did_to_a_span_is_done_to_it(memory: Any, small_tree: Span) -> None:
    far = trace.SpanContext(5, 6, True)
    small_tree.children[0].notes = [
        Note("set_attributes", ({"a": 1},), 21),
        Note("set_attribute", ("b", 2), 22),
        Note("add_event", ("seen", {"c": 3}, None), 23),
        Note("add_event", ("timed", None, 5), 24),
        Note("add_event", ("short",), 25),
        Note("add_link", (far, None), 26),
        Note("update_name", ("mine",), 27),
        Note("set_status", (StatusCode.OK, None), 28),
    ]
    emit(memory.provider, small_tree)
    names = [span.name for span in memory.exporter.get_finished_spans()]
    assert names == ["mine", "backward GPT", "train.step"]
    span = memory.exporter.get_finished_spans()[0]
    assert dict(span.attributes) == {"torch.phase": "forward", "a": 1, "b": 2}
    assert small_tree.children[0].attributes == {"torch.phase": "forward"}
    assert [(e.name, e.timestamp, dict(e.attributes or {})) for e in span.events] == [
        ("seen", 23 + OFFSET, {"c": 3}),
        ("timed", 5, {}),
        ("short", 25 + OFFSET, {}),
    ]
    assert [link.context for link in span.links] == [far]
    assert span.status.status_code is StatusCode.OK
    assert (span.start_time, span.end_time) == (20 + OFFSET, 40 + OFFSET)


def test_a_link_may_go_to_another_record(
    memory: Any, small_tree: Span, trace_of: Callable[..., Trace]
) -> None:
    elsewhere = Span(trace_of(trace_id=0xDEF), None, "forward X", "forward", 3, 0, 1, {})
    small_tree.children[1].link = elsewhere
    small_tree.children[0].link = elsewhere
    emit(memory.provider, small_tree)
    assert elsewhere.span_id != 0
    links = [span.links for span in memory.exporter.get_finished_spans()]
    assert [[(x.context.trace_id, x.context.span_id) for x in found] for found in links] == [
        [(0xDEF, elsewhere.span_id)],
        [(0xDEF, elsewhere.span_id)],
        [],
    ]


def test_a_processor_with_an_on_start_gets_real_spans_in_the_order_of_a_program(
    memory: Any, small_tree: Span
) -> None:
    log: list[str] = []
    memory.provider.id_generator = CountingIds()
    memory.provider.add_span_processor(Starts(log))
    small_tree.children[0].error = Raised("ValueError", "no", "Traceback ...")
    emit(memory.provider, small_tree)
    assert log == [
        "start train.step below None",
        "start forward GPT below train.step",
        "end forward GPT",
        "start backward GPT below train.step",
        "end backward GPT",
        "end train.step",
    ]
    spans = memory.exporter.get_finished_spans()
    expected = [
        (*known[:7], {**known[7], "seen": True}, known[8], status)
        for known, status in zip(
            (SMALL_TREE[1], SMALL_TREE[2], SMALL_TREE[0]),
            (StatusCode.ERROR, StatusCode.UNSET, StatusCode.UNSET),
            strict=True,
        )
    ]
    assert [shape(span) for span in spans] == expected
    assert [event.name for event in spans[0].events] == ["exception"]


class Slow(SpanExporter):
    """Remembers the size of each export."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def export(self, spans: Any) -> SpanExportResult:
        self.names += [span.name for span in spans]
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        pass


@pytest.mark.parametrize("extra", [[], [Starts([])]], ids=["finished", "started"])
def test_no_span_is_lost_in_the_queue_of_a_batch_span_processor(
    trace_of: Callable[..., Trace], extra: list[SpanProcessor]
) -> None:
    exporter = Slow()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=3_600_000))
    for processor in extra:
        provider.add_span_processor(processor)
    root = Span(trace_of(), None, "0", "step", 0, 0, 1, {})
    for number in range(1, 10_000):
        Span(root.trace, root, str(number), "forward", 0, 0, 1, {})
    emitter = Emitter(lambda: provider, JobContext({}))
    emitter.emit(root)
    emitter.flush()
    provider.shutdown()
    assert exporter.names == [str(number) for number in (*range(1, 10_000), 0)]


def test_spans_that_lie_around_are_flushed_but_not_after_every_record(
    trace_of: Callable[..., Trace],
) -> None:
    exporter = Slow()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=3_600_000))
    now = [0.0]
    emitter = Emitter(lambda: provider, JobContext({}), clock=lambda: now[0])
    seen = []
    for at in (0.1, 0.4, 0.5, 0.6, 0.9, 1.1):
        now[0] = at
        emitter.emit(Span(trace_of(), None, str(at), "step", 0, 0, 1, {}))
        emitter.idle()
        seen.append(len(exporter.names))
    provider.shutdown()
    assert seen == [0, 0, 3, 3, 3, 6]


def test_a_record_opened_before_the_provider_was_known_is_sampled_when_it_is_sent(
    memory: Any, trace_of: Callable[..., Trace]
) -> None:
    undecided = trace_of(trace_flags=0)
    memory.provider.sampler = ALWAYS_OFF
    emit(memory.provider, Span(undecided, None, "left out", "step", 0, 0, 1, {}))
    emit(memory.provider, Span(trace_of(), None, "decided", "step", 0, 0, 1, {}))
    provider = TracerProvider(sampler=ALWAYS_ON, shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(memory.exporter))
    emit(provider, Span(undecided, None, "kept", "step", 0, 0, 1, {}))
    assert [s.name for s in memory.exporter.get_finished_spans()] == ["decided", "kept"]


@pytest.mark.parametrize(
    ("provider", "messages"),
    [
        (
            TracerProvider(shutdown_on_exit=False),
            ["The tracer provider has no span processor: no spans are sent"],
        ),
        (trace.NoOpTracerProvider(), []),
    ],
    ids=["empty", "no-op"],
)
def test_a_provider_that_sends_nothing_is_told_once(
    provider: trace.TracerProvider,
    messages: list[str],
    trace_of: Callable[..., Trace],
    caplog: pytest.LogCaptureFixture,
) -> None:
    emitter = Emitter(lambda: provider, JobContext({}))
    for _ in range(2):
        emitter.emit(Span(trace_of(), None, "train.step", "step", 0, 0, 1, {}))
        emitter.flush()
    assert [(r.levelno, r.getMessage()) for r in caplog.records] == [
        (logging.WARNING, message) for message in messages
    ]


def test_what_is_emitted_after_the_provider_was_shut_down_is_lost_and_said_once(
    small_tree: Span, caplog: pytest.LogCaptureFixture
) -> None:
    exporter, deliveries = InMemorySpanExporter(), Deliveries()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    emitter = Emitter(lambda: provider, JobContext({}), deliveries=deliveries)
    for is_last in (True, False, False):
        with deliveries.assembling(Record("step", 0, 0, 0)):
            emitter.emit(small_tree)
        if is_last:
            provider.shutdown()
    assert len(exporter.get_finished_spans()) == 3
    lost = {error: count for error, count in deliveries.outcomes().items() if count}
    assert lost == {"": 1, "already_shutdown": 2}
    (line,) = caplog.records
    assert line.getMessage().startswith("The program has shut its tracer provider down: ")
