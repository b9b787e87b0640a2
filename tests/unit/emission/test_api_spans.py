"""Records as spans of a provider that implements the API alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from opentelemetry import trace
from opentelemetry.trace import SpanContext, SpanKind, StatusCode, TraceFlags

from otel_torch_modules._emission.emitter import Emitter
from otel_torch_modules._job.starter import JobContext
from otel_torch_modules._records import Raised
from otel_torch_modules._spans.span import Note, Span, Trace
from tests.support.api_provider import ApiProvider, ApiSpan, ApiTracer

OFFSET = 1_000_000


def emit(provider: trace.TracerProvider, *roots: Span, job: JobContext | None = None) -> None:
    emitter = Emitter(lambda: provider, job or JobContext({}))
    for root in roots:
        emitter.emit(root)
    emitter.flush()


def test_kinds_times_attributes_and_links_are_those_of_the_record(small_tree: Span) -> None:
    provider = ApiProvider()
    emit(provider, small_tree)
    assert provider.outline() == ["train.step", "  forward GPT", "  backward GPT"]
    _, forward, _ = provider.spans
    assert [
        (s.kind, s.attributes, s.links, s.start_time, s.end_time, s.events, s.status[0])
        for s in provider.spans
    ] == [
        (kind, {"torch.phase": phase}, links, OFFSET + start, OFFSET + end, [], StatusCode.UNSET)
        for kind, phase, links, start, end in (
            (SpanKind.INTERNAL, "step", [], 10, 90),
            (SpanKind.PRODUCER, "forward", [], 20, 40),
            (SpanKind.CONSUMER, "backward", [forward.get_span_context()], 50, 80),
        )
    ]


def test_errors_and_what_the_program_said_come_along(small_tree: Span) -> None:
    provider = ApiProvider()
    forward, backward = small_tree.children
    forward.error = Raised("ValueError", "too bad", "Traceback …")
    backward.notes = [
        Note("set_attributes", ({"loss": 1.5},), 60),
        Note("add_event", ("halfway", None, None), 70),
    ]
    emit(provider, small_tree)
    _, failed, noted = provider.spans
    exception = {
        "exception.type": "ValueError",
        "exception.message": "too bad",
        "exception.stacktrace": "Traceback …",
    }
    assert failed.events == [("exception", exception, OFFSET + 40)]
    assert failed.status == (StatusCode.ERROR, "ValueError: too bad")
    assert noted.attributes == {"torch.phase": "backward", "loss": 1.5}
    assert noted.events == [("halfway", {}, OFFSET + 70)]


def test_a_step_links_to_what_started_the_job(small_tree: Span) -> None:
    provider = ApiProvider()
    carrier = {"TRACEPARENT": f"00-{7:032x}-{8:016x}-01"}
    emit(provider, small_tree, job=JobContext(carrier))
    assert [
        (link.trace_id, link.span_id, link.trace_flags)
        for span in provider.spans
        for link in span.links[:1]
        if span.parent is None
    ] == [(7, 8, TraceFlags.SAMPLED)]


def test_the_steps_of_a_rank_begin_at_its_own_span(trace_of: Callable[..., Trace]) -> None:
    provider = ApiProvider()
    step = Span(trace_of(), None, "train.step", "step", 0, 0, 9, {})
    step.remote = True
    rank = Span(step.trace, step, "rank 1", "rank", 0, 1, 8, {})
    Span(step.trace, rank, "forward Net", "forward", 0, 2, 7, {})
    emit(provider, step)
    assert provider.outline() == ["rank 1", "  forward Net"]
    assert provider.foreign_parents == 0


def test_a_link_to_a_record_whose_ids_nobody_knows_is_left_out(
    trace_of: Callable[..., Trace],
) -> None:
    provider = ApiProvider()
    earlier = Span(trace_of(), None, "train.step", "step", 0, 0, 9, {})
    later = Span(trace_of(), None, "train.step", "step", 0, 10, 19, {})
    later.link = earlier
    emit(provider, later)
    assert [span.links for span in provider.spans] == [[]]


def test_nothing_more_is_started_where_the_provider_leaves_the_record_out(small_tree: Span) -> None:
    provider = ApiProvider(records=False)
    emit(provider, small_tree)
    assert [(span.name, span.end_time) for span in provider.spans] == [("train.step", OFFSET + 90)]


@pytest.mark.parametrize("fails_at", [2, 3])
def test_what_has_been_started_is_ended_where_the_provider_fails(
    small_tree: Span, fails_at: int
) -> None:
    class Failing(ApiTracer):
        def start_span(self, *args: object, **kwargs: object) -> ApiSpan:
            if len(provider.spans) + 1 == fails_at:
                raise OSError("no agent")
            return super().start_span(*args, **kwargs)  # type: ignore[arg-type]

    class FailingProvider(ApiProvider):
        def get_tracer(self, *args: object, **kwargs: object) -> ApiTracer:
            return Failing(self)

    provider = FailingProvider()
    with pytest.raises(OSError, match="no agent"):
        emit(provider, small_tree)
    assert len(provider.spans) == fails_at - 1
    assert all(span.end_time is not None for span in provider.spans)


def test_spans_are_flushed_before_a_queue_of_the_sdks_size_overflows(
    trace_of: Callable[..., Trace],
) -> None:
    provider = ApiProvider()
    flushed: list[int] = []
    provider.force_flush = lambda: flushed.append(len(provider.spans))  # type: ignore[attr-defined]
    root = Span(trace_of(), None, "train.step", "step", 0, 0, 9, {})
    for _ in range(1_100):
        Span(root.trace, root, "forward", "forward", 0, 1, 2, {})
    emit(provider, root)
    assert len(flushed) == 3  # after 512, after 1 024, at the end


def test_the_parent_is_what_was_current_when_the_record_opened(
    trace_of: Callable[..., Trace],
) -> None:
    provider = ApiProvider()
    epoch = provider.get_tracer().start_span("epoch")
    context = trace.set_span_in_context(epoch)
    root = Span(trace_of(), None, "train.step", "step", 0, 0, 9, {})
    Emitter(lambda: provider, JobContext({})).emit(root, context)
    assert provider.outline() == ["epoch", "  train.step"]
    assert isinstance(provider.spans[1].get_span_context(), SpanContext)
