"""Makes a record the program's current span, so that its own spans, attributes and logs find their place."""

from __future__ import annotations

import threading
from collections.abc import Callable

from opentelemetry import context as context_api
from opentelemetry import trace
from opentelemetry.sdk.trace import Tracer
from opentelemetry.sdk.trace.id_generator import IdGenerator, RandomIdGenerator
from opentelemetry.trace import TraceFlags

from otel_torch_modules._emission.ids import (
    RecordIds,
    UrandomIdGenerator,
    chosen_generator,
    generate_ids,
)
from otel_torch_modules._emission.open_step_span import OpenStepSpan
from otel_torch_modules._emission.provider import LazyTracerProvider
from otel_torch_modules._emission.sampling import (
    SAMPLED_WITH_RANDOM_ID,
    TAKE_ALL,
    Decision,
    decide,
    takes_none,
)
from otel_torch_modules._emission.sdk import current_context, make_current
from otel_torch_modules._job.identity import JobIdentity
from otel_torch_modules._records import OuterParent, Record, Stall
from otel_torch_modules._spans.head import head_of
from otel_torch_modules._step_context import OpenSpan

# Under which a context has its span; to have the API put it there takes two calls.
(_SPAN_KEY,) = trace.set_span_in_context(trace.INVALID_SPAN, context_api.Context())


# Generators that nobody chose: ids need not be drawn before somebody asks for them.
_NOT_CHOSEN = (RandomIdGenerator, UrandomIdGenerator)


class _Attachments(threading.local):
    def __init__(self) -> None:
        # Contexts, each with the span that it makes current.
        self.stack: list[tuple[context_api.Context, OpenStepSpan]] = []


class RecordContext:
    """The `StepContext` of OpenTelemetry: identity, sampling and currency of a record.

    Args:
        open_span: knows the innermost open call of a thread.
        provider: whose sampler is asked, once it is known.
        prepare: called when a record opens and the provider is not known yet.
        identity: what this process is in its job.
    """

    def __init__(
        self,
        open_span: OpenSpan,
        provider: LazyTracerProvider,
        prepare: Callable[[], None],
        identity: JobIdentity,
    ) -> None:
        self._open_span = open_span
        self._provider = provider
        self._prepare = prepare
        self._identity = identity
        self._ids = UrandomIdGenerator()
        self._drawn = RecordIds()
        self._ids_are_ours = True
        self._attachments = _Attachments()

    def open(self, record: Record) -> bool:
        """Return False when the provider's sampler or the choice of ranks leaves `record` out.

        Ids are drawn here only where a sampler or a generator of somebody's has to be asked: see `settle`. While there
        is no provider yet, the record counts as not sampled and the sampler is asked when it is sent.
        """
        part = self._identity.part()
        if not part.records:
            return False
        record.phases_only = not part.records_modules
        record.trace_flags = TraceFlags.DEFAULT
        tracer = self._provider.peek_tracer()
        # In this order: an abstract class takes its time to say that something is none of its instances.
        if not isinstance(tracer, Tracer) and isinstance(tracer, trace.NoOpTracer):
            return False
        context, parent = current_context(), None
        if context:  # in most programs there is nothing in it
            context, parent = _without_ours(context)
        record.context = context
        if parent is not None:
            record.parent = OuterParent(
                parent.trace_id,
                parent.span_id,
                parent.trace_flags,
                parent.trace_state,
                parent.is_remote,
            )
            record.trace_id = parent.trace_id
        elif part.place.world_size > 1:
            shared = self._identity.shared_ids(record)
            if shared is not None:
                record.trace_id = shared.trace_id
        if not isinstance(tracer, Tracer):
            self._ids_are_ours = tracer is None
            if tracer is None:
                self._prepare()
                self.settle(record)
            else:
                _draw_ids(record, self._ids)
            return True
        if (
            record.parent is None
            and tracer.sampler in TAKE_ALL
            and type(tracer.id_generator) in _NOT_CHOSEN
        ):
            record.trace_flags = SAMPLED_WITH_RANDOM_ID
            return True
        _draw_ids(record, chosen_generator(tracer.id_generator, self._ids))
        name, phase = head_of(record)
        decision = decide(tracer, record.trace_id, name.strip(), phase, context)
        if decision is None and record.requested and not takes_none(tracer):
            decision = Decision(SAMPLED_WITH_RANDOM_ID, None)
        if decision is None:
            return False
        record.trace_flags, record.trace_state, record.sampler_attributes = decision
        return True

    def open_stall(self, record: Record, stall: Stall) -> bool:
        """Give `record`, a stall, its ids and its link; return False where nothing at all is to be sent.

        It is sent whatever share of steps a sampler takes: there are few, and each is looked for. Called on the worker
        thread.
        """
        tracer = self._provider.peek_tracer()
        if isinstance(tracer, Tracer) and takes_none(tracer):
            return False
        record.trace_flags = SAMPLED_WITH_RANDOM_ID
        record.link = self._link(record, stall.opened)
        shared = self._identity.stall_ids(record, stall.number)
        if shared is not None:
            record.trace_id = shared.trace_id
        self.settle(record)
        return True

    def _link(self, stall: Record, opened: Record | None) -> OuterParent | None:
        if opened is not None:
            self.settle(opened)
            flags, state = opened.trace_flags, opened.trace_state
            return OuterParent(opened.trace_id, opened.span_id, flags, state)
        awaited = None if stall.index is None else self._identity.awaited_ids(stall.index)
        return None if awaited is None else OuterParent(*awaited, SAMPLED_WITH_RANDOM_ID, None)

    def goes_on(self, record: Record) -> bool:
        """See :class:`StepContext`."""
        _, current = _without_ours(current_context())
        parent = record.parent
        if parent is None or current is None:
            return parent is None and current is None
        return (current.trace_id, current.span_id) == (parent.trace_id, parent.span_id)

    def settle(self, record: Record) -> None:
        """Give `record` its ids unless it has them: for the first who asks, in whatever thread."""
        if not record.span_id:
            trace_id, span_id = self._drawn.of(record.number)
            record.trace_id = record.trace_id or trace_id
            record.span_id = span_id

    def attach(self, record: Record) -> None:
        """Make `record` current in this thread unless it is, or unless its spans get ids that are not known yet."""
        if not self._ids_are_ours:
            return
        outer = current_context()
        stack = self._attachments.stack
        # As in most programs there is nothing in it.
        before = trace.get_current_span(outer) if outer else trace.INVALID_SPAN
        if type(before) is OpenStepSpan and before.record is record:
            return
        if stack and stack[-1][1].record is not record:  # one that was broken off
            self.detach(stack[-1][1].record)
        if type(before) is OpenStepSpan:
            self.leave_closed()
            outer, before = _without_closed(current_context())
        span = OpenStepSpan(record, self._open_span, self.settle, before, outer)
        context = context_api.Context({**outer, _SPAN_KEY: span})
        stack.append((context, span))
        make_current(context)

    def detach(self, record: Record | None) -> None:
        """Undo `attach` where `record` is still current in this thread; what was closed halfway, where that is None.

        Where another context is, the program has put it there: resetting with a stale token would bring back one that
        is over.
        """
        stack = self._attachments.stack
        while stack and stack[-1][1].record is record:
            context, span = stack[-1]
            span.record = None
            if current_context() is context:
                # Not by the token: the API's `detach` swallows what a signal handler raises in it.
                make_current(span.outer)
            stack.pop()

    def leave_closed(self) -> None:
        """Go back to what was current before a record that is closed, where the program has put its context back.

        That is what the end of a ``with span:`` does which was opened in a step and outlived it.
        """
        current = current_context()
        span = trace.get_current_span(current)
        if (
            isinstance(span, OpenStepSpan)
            and span.record is None
            and current == trace.set_span_in_context(span, span.outer)
        ):
            make_current(span.outer)


def _draw_ids(record: Record, ids: IdGenerator) -> None:
    if record.trace_id:
        record.span_id = ids.generate_span_id()
    else:
        record.trace_id, record.span_id = generate_ids(ids)


def _without_closed(context: context_api.Context) -> tuple[context_api.Context, trace.Span]:
    """Return `context` and its span, or what that shows where it is closed, so that closed ones do not pile up."""
    shown = span = trace.get_current_span(context)
    while isinstance(span, OpenStepSpan) and span.record is None:
        span = span.before
    return (context if span is shown else trace.set_span_in_context(span, context)), span


def _without_ours(
    context: context_api.Context,
) -> tuple[context_api.Context, trace.SpanContext | None]:
    """Return `context`, the current one, as it would be without us, and that of its span; None where it has none."""
    shown = span = trace.get_current_span(context)
    while isinstance(span, OpenStepSpan):
        span = span.before
    if span is not shown:
        context = trace.set_span_in_context(span, context)
    parent = span.get_span_context()
    return context, parent if parent.is_valid else None
