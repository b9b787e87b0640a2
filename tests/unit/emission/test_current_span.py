"""Identity, sampling and currency of a record, seen from the program's own tracer."""

from __future__ import annotations

import os
import random
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from opentelemetry import baggage, trace
from opentelemetry import context as context_api
from opentelemetry.sdk.trace import SpanProcessor, Tracer, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_OFF,
    ALWAYS_ON,
    Decision,
    ParentBased,
    Sampler,
    SamplingResult,
    TraceIdRatioBased,
)
from opentelemetry.trace import Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from otel_torch_modules._assembly.reading.heads import heads
from otel_torch_modules._emission.current_span import RecordContext
from otel_torch_modules._emission.emitter import Emitter
from otel_torch_modules._emission.open_step_span import OpenStepSpan
from otel_torch_modules._emission.provider import LazyTracerProvider
from otel_torch_modules._job.identity import JobIdentity
from otel_torch_modules._job.starter import JobContext
from otel_torch_modules._records import Record
from otel_torch_modules._site import Site
from otel_torch_modules._spans.span import Note, Span
from otel_torch_modules.config import Config

ALONE = JobIdentity(Config(), {}, lambda: None)


class OneCall:
    """An `OpenSpan` in which the call with id 42 is open, in every thread."""

    def __init__(self) -> None:
        self.notes: list[tuple[int | None, str, tuple[Any, ...]]] = []

    def span_id(self, record: Record) -> int:
        return 42

    def note(self, record: Record, method: str, arguments: tuple[Any, ...]) -> None:
        self.notes.append((record.index, method, arguments))


def nothing() -> None:
    pass


def step(index: int = 0) -> Record:
    return Record("step", index, 0, 0)


@pytest.fixture
def tracer(memory: Any) -> Tracer:
    found = memory.provider.get_tracer("program")
    assert isinstance(found, Tracer)
    return found


@pytest.fixture
def calls() -> OneCall:
    return OneCall()


@pytest.fixture
def records(memory: Any, calls: OneCall) -> RecordContext:
    return RecordContext(
        calls, LazyTracerProvider(memory.provider, on_found=nothing), nothing, ALONE
    )


@pytest.fixture(autouse=True)
def _context_is_put_back() -> Iterator[None]:
    before = context_api.get_current()
    yield
    assert context_api.get_current() is before


def opened(records: RecordContext, index: int = 0) -> Record:
    record = step(index)
    assert records.open(record)
    return record


def settled(records: RecordContext, index: int = 0) -> Record:
    record = opened(records, index)
    records.settle(record)
    return record


@contextmanager
def _recording_span(tracer: Tracer) -> Iterator[trace.SpanContext]:
    with tracer.start_as_current_span("epoch") as epoch:
        yield epoch.get_span_context()


@contextmanager
def _unsampled_span(tracer: Tracer) -> Iterator[trace.SpanContext]:
    unsampled = TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False).get_tracer("program")
    with unsampled.start_as_current_span("epoch") as epoch:
        assert not epoch.is_recording()
        yield epoch.get_span_context()


@contextmanager
def _remote_span(flags: str) -> Iterator[trace.SpanContext]:
    carrier = {"traceparent": f"00-{1:032x}-{2:016x}-{flags}", "tracestate": "vendor=x"}
    token = context_api.attach(TraceContextTextMapPropagator().extract(carrier))
    yield trace.get_current_span().get_span_context()
    context_api.detach(token)


@pytest.mark.parametrize(
    "around",
    [
        _recording_span,
        _unsampled_span,
        lambda tracer: _remote_span("00"),
        lambda tracer: _remote_span("01"),
    ],
    ids=["recording", "not sampled", "remote, not sampled", "remote, sampled"],
)
@pytest.mark.parametrize("known", [True, False], ids=["provider", "no provider yet"])
@pytest.mark.parametrize("kind", ["step", "eval"])
def test_a_record_is_the_child_of_whatever_span_is_current_and_its_sampler_is_asked_with_it(
    tracer: Tracer, calls: OneCall, around: Any, known: bool, kind: Any
) -> None:
    asked: list[tuple[trace.SpanContext, int, str | None]] = []

    class Asked(ParentBased):
        def should_sample(self, parent_context: Any, trace_id: int, *rest: Any) -> Any:
            parent = trace.get_current_span(parent_context).get_span_context()
            asked.append((parent, trace_id, baggage.get_baggage("k", parent_context)))  # type: ignore[arg-type]
            return super().should_sample(parent_context, trace_id, *rest)

    exporter = InMemorySpanExporter()
    provider = TracerProvider(sampler=Asked(ALWAYS_ON), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    lazy = LazyTracerProvider(provider if known else None, on_found=nothing)
    records = RecordContext(calls, lazy, nothing, ALONE)
    record = Record(kind, 0, 0, 0, site=None if kind == "step" else Site("Net", "Net"))
    with around(tracer) as outer:
        token = context_api.attach(baggage.set_baggage("k", "v"))
        taken = records.open(record)
        context_api.detach(token)
    assert taken is (outer.trace_flags.sampled or not known)
    assert record.trace_id == outer.trace_id
    if taken:
        records.settle(record)
        Emitter(lambda: provider, JobContext({})).emit(heads(record)[0], record.context)
    assert asked == [(outer, outer.trace_id, "v")]
    sent = [(span.context, span.parent) for span in exporter.get_finished_spans()]
    assert [parent for _, parent in sent] == [outer] * outer.trace_flags.sampled
    assert [parent.is_remote for _, parent in sent] == [outer.is_remote] * len(sent)
    assert [dict(own.trace_state) for own, _ in sent] == [dict(outer.trace_state)] * len(sent)


def test_a_record_is_a_root_where_no_span_is_current(records: RecordContext) -> None:
    root = settled(records)
    assert root.parent is None
    assert root.trace_id != 0
    assert root.span_id != 0
    assert root.trace_flags & 1
    with trace.use_span(trace.NonRecordingSpan(trace.INVALID_SPAN_CONTEXT)):
        assert opened(records).parent is None


def test_what_a_sampler_says_of_its_decision_is_on_every_span_of_the_record(
    calls: OneCall, small_tree: Span
) -> None:
    class Rated(Sampler):
        def should_sample(
            self,
            parent_context: Any,
            trace_id: int,
            name: str,
            kind: Any = None,
            attributes: Any = None,
            *rest: Any,
        ) -> SamplingResult:  # type: ignore[override]
            rate = {"sample.rate": [1, 20], "torch.phase": attributes["torch.phase"]}
            return SamplingResult(Decision.RECORD_AND_SAMPLE, rate)

        def get_description(self) -> str:
            return "rated"

    exporter = InMemorySpanExporter()
    provider = TracerProvider(sampler=Rated(), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    for known in (provider, None):  # asked when the record opens, and when it is sent
        exporter.clear()
        lazy = LazyTracerProvider(known, on_found=nothing)
        record = settled(RecordContext(calls, lazy, nothing, ALONE))
        (root,) = heads(record)
        small_tree.trace = root.trace
        for span in small_tree.walk():
            span.trace, span.span_id = root.trace, 0
        small_tree.children[0].notes = [Note("set_attribute", ("mine", 1), 21)]
        Emitter(lambda: provider, JobContext({})).emit(small_tree, record.context)
        assert [dict(span.attributes or {}) for span in exporter.get_finished_spans()] == [
            {"torch.phase": "forward", "sample.rate": (1, 20), "mine": 1},
            {"torch.phase": "backward", "sample.rate": (1, 20)},
            {"torch.phase": "step", "sample.rate": (1, 20)},
        ]


def test_a_processor_is_told_the_context_that_was_current_when_the_step_opened(
    tracer: Tracer, calls: OneCall
) -> None:
    class CopiesBaggage(SpanProcessor):
        """As the BaggageSpanProcessor of opentelemetry-processor-baggage."""

        def on_start(self, span: Any, parent_context: Any = None) -> None:
            span.set_attributes(baggage.get_all(parent_context))
            above = trace.get_current_span(parent_context)
            started.append((span.name, getattr(above, "name", None)))

    started: list[tuple[str, str | None]] = []
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(CopiesBaggage())
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    records = RecordContext(calls, LazyTracerProvider(provider, on_found=nothing), nothing, ALONE)
    token = context_api.attach(baggage.set_baggage("team", "vision"))
    with provider.get_tracer("program").start_as_current_span("epoch"):
        first = settled(records)
        records.attach(first)
        second = settled(records, 1)
        records.detach(first)
    context_api.detach(token)
    started.clear()
    for record in (first, second):
        root = heads(record)[0]
        Span(root.trace, root, "forward Net", "forward", 0, 0, 0, {})
        Emitter(lambda: provider, JobContext({"BAGGAGE": "team=environment"})).emit(
            root, record.context
        )
    assert started == [("train.step", "epoch"), ("forward Net", "train.step")] * 2
    spans = [s for s in exporter.get_finished_spans() if s.name != "epoch"]
    assert {(span.attributes or {})["team"] for span in spans} == {"vision"}


def test_spans_of_the_program_are_children_of_the_innermost_open_call(
    records: RecordContext, tracer: Tracer, memory: Any
) -> None:
    record = opened(records)
    records.attach(record)
    with tracer.start_as_current_span("loss"):
        pass
    records.detach(record)
    with tracer.start_as_current_span("after"):
        pass
    inside, after = memory.exporter.get_finished_spans()
    assert (inside.parent.trace_id, inside.parent.span_id) == (record.trace_id, 42)
    assert inside.parent.trace_flags.sampled
    assert after.parent is None


def test_what_the_program_does_to_the_current_span_becomes_notes(
    records: RecordContext, calls: OneCall
) -> None:
    record = opened(records, 7)
    records.attach(record)
    span = trace.get_current_span()
    assert span.is_recording()
    far = trace.SpanContext(5, 6, True)
    changing = [1, 2]
    span.set_attribute("list", changing)
    changing.append(3)
    span.set_attributes({"a": 1, "b": "x"})
    span.add_event("seen", {"c": 2}, 99)
    span.add_event("plain")
    span.add_link(far, {"d": 3})
    span.update_name("mine")
    span.set_status(StatusCode.ERROR, "why")
    status = Status(StatusCode.OK)
    span.set_status(status)
    span.end()
    records.detach(record)
    span.set_attribute("too", "late")
    assert not span.is_recording()
    assert calls.notes == [
        (7, "set_attributes", ({"list": (1, 2)},)),
        (7, "set_attributes", ({"a": 1, "b": "x"},)),
        (7, "add_event", ("seen", {"c": 2}, 99)),
        (7, "add_event", ("plain", {}, None)),
        (7, "add_link", (far, {"d": 3})),
        (7, "update_name", ("mine",)),
        (7, "set_status", (StatusCode.ERROR, "why")),
        (7, "set_status", (status, None)),
    ]


def test_an_exception_is_kept_as_text(records: RecordContext, calls: OneCall) -> None:
    record = opened(records)
    records.attach(record)
    try:
        raise KeyError("gone")
    except KeyError as error:
        trace.get_current_span().record_exception(error, {"where": "loss"})
    records.detach(record)
    ((_, method, (name, attributes, at)),) = calls.notes
    stacktrace = attributes.pop("exception.stacktrace")
    assert (method, name, at) == ("add_event", "exception", None)
    assert attributes == {
        "exception.type": "KeyError",
        "exception.message": "'gone'",
        "where": "loss",
    }
    assert "raise KeyError" in stacktrace


def test_attach_is_done_once_and_detach_in_a_thread_leaves_others_alone(
    records: RecordContext,
) -> None:
    record = opened(records)
    records.attach(record)
    current = context_api.get_current()
    records.attach(record)
    assert context_api.get_current() is current
    seen: list[bool] = []

    def other() -> None:
        records.detach(record)
        seen.append(isinstance(trace.get_current_span(), OpenStepSpan))
        records.attach(record)
        seen.append(trace.get_current_span().is_recording())
        records.detach(record)
        seen.append(isinstance(trace.get_current_span(), OpenStepSpan))

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert seen == [False, True, False]
    assert context_api.get_current() is current
    assert trace.get_current_span().is_recording()
    records.detach(record)


def test_an_epoch_span_around_many_steps_is_the_parent_of_each(
    records: RecordContext, tracer: Tracer
) -> None:
    for epoch_number in range(2):
        with tracer.start_as_current_span(f"epoch {epoch_number}") as epoch:
            for index in range(2):
                record = opened(records, index)
                assert record.parent is not None
                assert record.parent.span_id == epoch.get_span_context().span_id
                records.attach(record)
                records.detach(record)
                assert trace.get_current_span() is epoch
    assert opened(records).parent is None


def test_a_span_that_ends_while_a_step_is_open_leaves_nothing_of_the_step_behind(
    records: RecordContext, tracer: Tracer
) -> None:
    record = opened(records)
    with tracer.start_as_current_span("epoch"):
        records.attach(record)
    assert trace.get_current_span() is trace.INVALID_SPAN
    records.detach(record)
    assert trace.get_current_span() is trace.INVALID_SPAN


def test_a_context_that_the_program_puts_back_after_the_step_shows_what_was_before(
    records: RecordContext, tracer: Tracer
) -> None:
    before = context_api.get_current()
    with tracer.start_as_current_span("epoch") as epoch:
        record = opened(records)
        records.attach(record)
        with tracer.start_as_current_span("micro-batches"):
            records.attach(record)  # the second micro-batch
            assert trace.get_current_span().get_span_context().span_id == 42
            records.detach(record)
        # `with` has put the first attachment back
        assert trace.get_current_span().get_span_context() == epoch.get_span_context()
        following = opened(records, 1)
        assert following.parent is not None
        assert following.parent.span_id == epoch.get_span_context().span_id
        records.attach(following)
        stale = trace.get_current_span()
        assert isinstance(stale, OpenStepSpan)
        assert stale.before is epoch
        records.detach(following)
    assert context_api.get_current() is before


def test_a_context_on_top_of_a_step_is_not_thrown_away(records: RecordContext) -> None:
    outer = context_api.attach(context_api.get_current())
    record = opened(records)
    records.attach(record)
    token = context_api.attach(baggage.set_baggage("k", "v"))
    records.detach(record)
    assert baggage.get_baggage("k") == "v"
    assert not trace.get_current_span().is_recording()
    assert not trace.get_current_span().get_span_context().is_valid
    context_api.detach(token)
    assert not trace.get_current_span().get_span_context().is_valid
    context_api.detach(outer)


def test_a_step_that_was_broken_off_gives_way_to_the_next(records: RecordContext) -> None:
    broken = opened(records)
    records.attach(broken)
    assert trace.get_current_span().get_span_context().trace_id == broken.trace_id
    following = opened(records, 1)
    assert following.parent is None
    records.attach(following)
    assert trace.get_current_span().get_span_context().trace_id == following.trace_id
    assert following.trace_id != broken.trace_id
    records.detach(following)
    assert trace.get_current_span() is trace.INVALID_SPAN


def test_the_sampler_is_asked_once_a_record_and_has_the_last_word(
    memory: Any, calls: OneCall
) -> None:
    asked: list[tuple[Any, ...]] = []

    class Asked(TraceIdRatioBased):
        def should_sample(self, parent_context: Any, trace_id: int, name: str, *rest: Any) -> Any:  # type: ignore[override]
            asked.append((trace_id, name))
            return super().should_sample(parent_context, trace_id, name, *rest)

    provider = TracerProvider(sampler=Asked(0.5), shutdown_on_exit=False)
    records = RecordContext(calls, LazyTracerProvider(provider, on_found=nothing), nothing, ALONE)
    kept: list[bool] = []
    opened_records = []
    for kind in ("step", "eval") * 20:
        record = Record(kind, 0, 0, 0)  # type: ignore[arg-type]
        kept.append(records.open(record))
        opened_records.append(record)
    assert asked == [
        (record.trace_id, "train.step" if record.kind == "step" else "evaluate")
        for record in opened_records
    ]
    bound = 1 << 63
    assert kept == [(record.trace_id & (1 << 64) - 1) < bound for record in opened_records]


@pytest.mark.parametrize("of_parent", [ALWAYS_ON, ALWAYS_OFF])
def test_a_parent_based_sampler_sees_the_programs_span(calls: OneCall, of_parent: Any) -> None:
    provider = TracerProvider(
        sampler=ParentBased(ALWAYS_OFF, local_parent_sampled=of_parent), shutdown_on_exit=False
    )
    records = RecordContext(calls, LazyTracerProvider(provider, on_found=nothing), nothing, ALONE)
    assert not records.open(step())
    epoch = TracerProvider(shutdown_on_exit=False).get_tracer("program").start_span("epoch")
    with trace.use_span(epoch):
        assert records.open(step()) is (of_parent is ALWAYS_ON)


def test_without_a_provider_a_record_opens_unsampled_and_one_is_asked_for(
    calls: OneCall,
) -> None:
    prepared: list[str] = []
    lazy = LazyTracerProvider(on_found=nothing)
    records = RecordContext(calls, lazy, lambda: prepared.append("asked"), ALONE)
    record = opened(records)
    assert (record.trace_flags, record.parent) == (0, None)
    assert record.trace_id != 0
    assert prepared == ["asked"]


def test_a_provider_that_is_switched_off_opens_nothing(calls: OneCall) -> None:
    lazy = LazyTracerProvider(trace.NoOpTracerProvider(), on_found=nothing)
    assert not RecordContext(calls, lazy, nothing, ALONE).open(step())


def test_an_id_generator_that_somebody_chose_makes_the_ids_where_the_step_opens(
    calls: OneCall,
) -> None:
    class Fixed(IdGenerator):
        def generate_trace_id(self) -> int:
            return 11

        def generate_span_id(self) -> int:
            return 12

    provider = TracerProvider(id_generator=Fixed(), shutdown_on_exit=False)
    records = RecordContext(calls, LazyTracerProvider(provider, on_found=nothing), nothing, ALONE)
    record = opened(records)
    assert (record.trace_id, record.span_id) == (11, 12)
    records.settle(record)
    assert (record.trace_id, record.span_id) == (11, 12)


def test_ids_do_not_touch_the_programs_random_numbers(records: RecordContext) -> None:
    random.seed(0)
    state = random.getstate()
    first = settled(records)
    assert random.getstate() == state
    random.seed(0)
    second = settled(records)
    assert first.trace_id != second.trace_id
    assert first.span_id != second.span_id


def test_ids_are_drawn_for_the_first_who_asks_in_whatever_thread(records: RecordContext) -> None:
    record = opened(records)
    assert (record.trace_id, record.span_id) == (0, 0)
    both_ask = threading.Barrier(2)
    seen: list[trace.SpanContext] = []

    def ask() -> None:
        records.attach(record)
        both_ask.wait()
        seen.append(trace.get_current_span().get_span_context())
        records.detach(record)

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    both = (record.trace_id, record.span_id)
    records.settle(record)
    assert (record.trace_id, record.span_id) == both
    assert [(context.trace_id, context.trace_flags.sampled) for context in seen] == [
        (record.trace_id, True)
    ] * 2


def test_who_asks_while_ids_are_drawn_in_the_same_thread_gets_them_too(
    records: RecordContext,
) -> None:
    # A signal handler may run between any two lines of the drawing.
    asked: list[int] = []
    record = opened(records)
    records.attach(record)

    tracing = sys.gettrace()  # who measures branches looks on

    def interrupt(*_: Any) -> None:
        sys.settrace(tracing)
        asked.append(trace.get_current_span().get_span_context().trace_id)

    sys.settrace(lambda frame, *_: interrupt if frame.f_code.co_name == "of" else None)
    asked.append(trace.get_current_span().get_span_context().trace_id)
    sys.settrace(tracing)
    records.detach(record)
    assert asked == [record.trace_id, record.trace_id]
    assert record.trace_id != 0


def test_a_forked_child_knows_the_step_that_it_was_forked_in(records: RecordContext) -> None:
    record = opened(records)
    records.attach(record)
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        context = trace.get_current_span().get_span_context()
        own = settled(records)
        os.write(write, f"{context.trace_id} {context.trace_flags.sampled} {own.trace_id}".encode())
        os._exit(0)
    os.waitpid(child, 0)
    records.detach(record)
    said = os.read(read, 200).decode().split()
    os.close(read)
    os.close(write)
    records.settle(record)
    assert said[:2] == [str(record.trace_id), "True"]
    assert said[2] not in (str(record.trace_id), str(settled(records).trace_id))
