"""The spans of a record as the SDK has them: finished ones, or real ones that are started and ended.

A `ReadableSpan` costs a fraction of a span that is started and ended. Real spans are made only where something can tell
the difference: a processor with an ``on_start``, or a span on which the program itself set attributes or events.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan, SpanProcessor, Tracer
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
from otel_torch_modules._emission import sampling, sdk
from otel_torch_modules._emission.limits import Limits
from otel_torch_modules._emission.services import ONE, Services
from otel_torch_modules._records import Raised
from otel_torch_modules._spans.span import Span

_KINDS = {kind.value: kind for kind in SpanKind}
_UNSET = Status(StatusCode.UNSET)
_NOBODY = SpanProcessor()  # is told and does nothing
_TIMED = ("add_event", "record_exception")  # methods whose third argument is a time


class RecordSpans:
    """The spans of one record, with what they share.

    Args:
        spans: all spans of a tree, the root first; each has its id.
        decision: of the sampler.
        tracer: whose spans they become.
        scope: their instrumentation scope.
        services: say which service each is of.
    """

    def __init__(
        self,
        spans: list[Span],
        decision: sampling.Decision,
        tracer: Tracer,
        scope: InstrumentationScope,
        services: Services = ONE,
    ) -> None:
        root = spans[0]
        self.spans = spans[1:] if root.remote else spans
        self.trace = root.trace
        self.decision = decision
        self.tracer = tracer
        self._scope = scope
        self._services = services
        self._offset = root.trace.clock_offset
        self._flags = TraceFlags(decision.trace_flags)
        self._contexts: dict[Span, SpanContext] = {}
        self._root = root

    @cached_property
    def _limits(self) -> Limits:
        return Limits.of(self.tracer)

    @cached_property
    def _bind_attributes(self) -> bool:
        return self._limits.bind_attributes or bool(self.decision.attributes)

    @property
    def root_last(self) -> list[Span]:
        """The spans in the order in which they are sent."""
        return [*self.spans[1:], *self.spans[:1]]

    def context_around(self, context: Context) -> Context:
        """Return the context that the first of `spans` starts in, given the one that the record opened in."""
        root = self._root
        if not root.remote:
            return context
        return trace.set_span_in_context(NonRecordingSpan(self._context(root)), context)

    def _context(self, span: Span) -> SpanContext:
        context = self._contexts.get(span)
        if context is None:
            context = self._contexts[span] = SpanContext(
                self.trace.trace_id,
                span.span_id,
                span.remote,
                self._flags,
                self.decision.trace_state,
            )
        return context

    def _parent(self, span: Span) -> SpanContext | None:
        return parent_context(span) if span.parent is None else self._context(span.parent)

    def _attributes(self, span: Span) -> Mapping[str, Any]:
        attributes, of_sampler = span.all_attributes, self.decision.attributes
        return {**attributes, **of_sampler} if of_sampler else attributes

    def _resource(self, span: Span) -> Resource:
        services = self._services
        return services.of_part(self.tracer.resource, services.part_of(span.phase))

    def finished(self, span: Span, resource: Resource | None = None) -> ReadableSpan:
        """Return `span` as the SDK would have it after its end; of its service's resource unless another is given."""
        error = span.error
        offset = self._offset
        limits = self._limits
        attributes = self._attributes(span)
        return ReadableSpan(
            span.name,
            self._context(span),
            self._parent(span),
            self._resource(span) if resource is None else resource,
            limits.attributes(attributes) if self._bind_attributes else attributes,
            limits.events(events) if (events := _events(span, offset)) else (),
            () if span.link is None else limits.links((self._link(span.link),)),
            _KINDS[span.kind],
            None,
            _UNSET if error is None else _error_status(error),
            span.start + offset,
            span.end + offset,
            self._scope,
        )

    def start(self, span: Span, context: Context) -> SdkSpan:
        """Return a real span, started below what `context` holds."""
        started = self._real(span, self._resource(span), self.tracer.span_processor)
        started.start(span.start + self._offset, context)
        return started

    def noted(self, span: Span, resource: Resource) -> ReadableSpan:
        """Return `span` after all that the program did to it, of which no processor of the provider is told."""
        started = self._real(span, resource, _NOBODY)
        started.start(span.start + self._offset, Context())
        self.end(span, started)
        return started

    def _real(self, span: Span, resource: Resource, processor: SpanProcessor) -> SdkSpan:
        return sdk.started_span(
            self.tracer,
            self._scope,
            name=span.name,
            kind=_KINDS[span.kind],
            context=self._context(span),
            parent=self._parent(span),
            attributes=self._attributes(span),
            links=() if span.link is None else (self._link(span.link),),
            resource=resource,
            processor=processor,
        )

    def end(self, span: Span, started: SdkSpan) -> None:
        """Do to `started` what the program did to `span`, and end it."""
        finish(span, started, self._offset)

    def _link(self, target: Span) -> Link:
        other = target.trace
        if other is self.trace:
            return Link(self._context(target))
        flags = TraceFlags(other.trace_flags)
        return Link(SpanContext(other.trace_id, target.span_id, False, flags, other.trace_state))


def finish(span: Span, started: trace.Span, offset: int) -> None:
    """Do to `started` what the program did to `span`, and end it.

    Args:
        span: as it was.
        started: of any provider.
        offset: nanoseconds to add to the times of `span`.
    """
    for note in span.notes or ():
        arguments = note.arguments
        if note.method in _TIMED:
            first, attributes, at, *rest = (*arguments, None, None)[: max(3, len(arguments))]
            arguments = (first, attributes, at or note.time + offset, *rest)
        getattr(started, note.method)(*arguments)
    for event in _events(span, offset):
        started.add_event(event.name, event.attributes, event.timestamp)
    if span.error is not None:
        started.set_status(_error_status(span.error))
    started.end(span.end + offset)


def parent_context(root: Span) -> SpanContext | None:
    """Return the span outside the record that `root` hangs below, None where there is none."""
    parent = root.trace.parent
    if parent is None:
        return None
    return SpanContext(
        parent.trace_id,
        parent.span_id,
        parent.remote,
        TraceFlags(parent.trace_flags),
        parent.trace_state,
    )


def context_with_parent(root: Span) -> Context:
    """Return a context that holds the span that `root` hangs below, and nothing else."""
    parent = parent_context(root)
    span = trace.INVALID_SPAN if parent is None else NonRecordingSpan(parent)
    return trace.set_span_in_context(span, Context())


def _error_status(error: Raised) -> Status:
    description = f"{error.type}: {error.message}" if error.type else error.message
    return Status(StatusCode.ERROR, description)


def _events(span: Span, offset: int) -> list[Event]:
    """Return what has happened in `span`, and how it was left."""
    if span.points is None and span.error is None:
        return []
    events = []
    for point in span.points or ():
        known = {name: value for name, value in point.attributes.items() if value is not None}
        events.append(Event(point.name, known, point.time + offset))
    if span.error is not None:
        events += _exception_events(span.error, span.end + offset)
    return events


def _exception_events(error: Raised, at: int) -> tuple[Event, ...]:
    if not error.stacktrace:
        return ()
    attributes: dict[str, Any] = {
        semconv.EXCEPTION_TYPE: error.type,
        semconv.EXCEPTION_MESSAGE: error.message,
        semconv.EXCEPTION_STACKTRACE: error.stacktrace,
    }
    if error.truncated:
        attributes[semconv.EXCEPTION_TRUNCATED] = True
    return (Event(semconv.EXCEPTION_EVENT, attributes, at),)
