"""Spans through OpenTelemetry's API alone, for a tracer provider with nothing of the SDK in it, as Datadog's.

It draws ids and asks a sampler of its own when a span starts, so a record becomes spans that are started and ended once
more, with the times that they had. What needs to know an id before that is left out: such records are not the program's
current span, several ranks do not share a trace, and no link goes from one record to another.
"""

from __future__ import annotations

from collections.abc import Callable

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, SpanContext, SpanKind

from otel_torch_modules._emission.record_spans import finish
from otel_torch_modules._spans.span import Span

_KINDS = {kind.value: kind for kind in SpanKind}


def send(root: Span, tracer: trace.Tracer, context: Context, ending: Callable[[], None]) -> None:
    """Start and end all spans of a record, in the order in which a program would have.

    Where the provider records nothing of the first one, the others are left out.

    Args:
        root: of the record.
        tracer: of the provider.
        context: that was current when the record opened.
        ending: called before each span ends.
    """
    offset = root.trace.clock_offset
    known: dict[Span, SpanContext] = {}
    is_open: list[tuple[Span, trace.Span]] = []

    def end_last() -> None:
        ending()
        span, started = is_open.pop()
        finish(span, started, offset)

    try:
        for span in root.walk():
            if span.remote:  # another process's, whose id there nobody knows here
                continue
            while is_open and is_open[-1][0] is not span.parent:
                end_last()
            target = None if span.link is None else known.get(span.link)
            started = tracer.start_span(
                span.name,
                trace.set_span_in_context(is_open[-1][1], context) if is_open else context,
                _KINDS[span.kind],
                dict(span.all_attributes),
                () if target is None else (Link(target),),
                span.start + offset,
            )
            is_open.append((span, started))
            if not known and not started.is_recording():
                break
            known[span] = started.get_span_context()
    finally:
        while is_open:
            end_last()
