"""The spans of a record as the SDK has them: finished ones, or real ones that are started and ended.

A `ReadableSpan` costs a fraction of a span that is started and ended. Real spans are made only where something can tell
the difference: a processor with an ``on_start``, or a span on which the program itself set attributes or events.
"""

from __future__ import annotations

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import Event, ReadableSpan, Tracer
from opentelemetry.sdk.trace import Span as SdkSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
)

from otel_torch_modules import semconv
from otel_torch_modules._assembly.span import Span
from otel_torch_modules._emission import sampling, sdk
from otel_torch_modules._records import Raised

_KINDS = {kind.value: kind for kind in SpanKind}
_UNSET = Status(StatusCode.UNSET)
_TIMED = ("add_event", "record_exception")  # methods whose third argument is a time


class RecordSpans:
    """The spans of one record, with what they share.

    Args:
        spans: all spans of a tree, the root first; each has its id.
        decision: of the sampler.
        tracer: whose spans they become.
        scope: their instrumentation scope.
    """

    def __init__(
        self,
        spans: list[Span],
        decision: sampling.Decision,
        tracer: Tracer,
        scope: InstrumentationScope,
    ) -> None:
        root = spans[0]
        self.spans = spans[1:] if root.remote else spans
        self.tracer = tracer
        self._scope = scope
        self._resource = tracer.resource
        self._offset = root.trace.clock_offset
        trace_id = root.trace.trace_id
        flags = TraceFlags(decision.trace_flags)
        state = decision.trace_state
        self._contexts: dict[Span | None, SpanContext | None] = {
            span: SpanContext(trace_id, span.span_id, span.remote, flags, state) for span in spans
        }
        outer = parent_context(root)
        self._contexts[root.parent] = outer
        if root.remote:
            outer = self._contexts[root]
        self.outer_parent = NonRecordingSpan(outer) if outer is not None else trace.INVALID_SPAN

    def finished(self, span: Span) -> ReadableSpan:
        """Return `span` as the SDK would have it after its end."""
        contexts = self._contexts
        error = span.error
        offset = self._offset
        return ReadableSpan(
            span.name,
            contexts[span],
            contexts[span.parent],
            self._resource,
            span.attributes,
            () if error is None else _exception_events(error, span.end + offset),
            () if span.link is None else (self._link(span.link),),
            _KINDS[span.kind],
            None,
            _UNSET if error is None else _error_status(error),
            span.start + offset,
            span.end + offset,
            self._scope,
        )

    def start(self, span: Span, context: Context) -> SdkSpan:
        """Return a real span, started below what `context` holds."""
        own_context = self._contexts[span]
        assert own_context is not None
        started = sdk.started_span(
            self.tracer,
            self._scope,
            name=span.name,
            kind=_KINDS[span.kind],
            context=own_context,
            parent=self._contexts[span.parent],
            attributes=span.attributes,
            links=() if span.link is None else (self._link(span.link),),
        )
        started.start(span.start + self._offset, context)
        return started

    def end(self, span: Span, started: SdkSpan) -> None:
        """Do to `started` what the program did to `span`, and end it."""
        for note in span.notes or ():
            arguments = note.arguments
            if note.method in _TIMED:
                first, attributes, at, *rest = (*arguments, None, None)[: max(3, len(arguments))]
                arguments = (first, attributes, at or note.time + self._offset, *rest)
            getattr(started, note.method)(*arguments)
        if span.error is not None:
            for event in _exception_events(span.error, span.end + self._offset):
                started.add_event(event.name, event.attributes, event.timestamp)
            started.set_status(_error_status(span.error))
        started.end(span.end + self._offset)

    def _link(self, target: Span) -> Link:
        context = self._contexts.get(target)
        if context is None:  # a span of another record
            other = target.trace
            flags = TraceFlags(other.trace_flags)
            context = SpanContext(other.trace_id, target.span_id, False, flags, other.trace_state)
        return Link(context)


def parent_context(root: Span) -> SpanContext | None:
    """Return the program's span that `root` hangs below, None where there is none."""
    parent = root.trace.parent
    if parent is None:
        return None
    return SpanContext(
        parent.trace_id, parent.span_id, False, TraceFlags(parent.trace_flags), parent.trace_state
    )


def _error_status(error: Raised) -> Status:
    return Status(StatusCode.ERROR, f"{error.type}: {error.message}")


def _exception_events(error: Raised, at: int) -> tuple[Event, ...]:
    if not error.stacktrace:
        return ()
    attributes = {
        semconv.EXCEPTION_TYPE: error.type,
        semconv.EXCEPTION_MESSAGE: error.message,
        semconv.EXCEPTION_STACKTRACE: error.stacktrace,
    }
    return (Event(semconv.EXCEPTION_EVENT, attributes, at),)
