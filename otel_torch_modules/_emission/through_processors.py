"""Spans that are over -> the span processors of a tracer provider. Real ones are made where a processor has an
``on_start``, or where the program itself set attributes or events.

No span may be lost on the way. A `BatchSpanProcessor` drops what its queue (2 048 spans by default) cannot
hold, which is less than one step of a large model. So the provider is asked to export before that many are in it.
"""

from __future__ import annotations

from collections.abc import Callable

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import Span as SdkSpan

from otel_torch_modules._emission.record_spans import RecordSpans
from otel_torch_modules._spans.span import Span

_FLUSH_EVERY = 512  # spans; a quarter of a BatchSpanProcessor's queue and the whole of its batch
_FLUSH_INTERVAL_S = 0.5


class ThroughProcessors:
    """Sends spans, and flushes the provider.

    Args:
        resolve: returns the tracer provider, the same one each time.
        clock: seconds.
    """

    def __init__(
        self, resolve: Callable[[], trace.TracerProvider], clock: Callable[[], float]
    ) -> None:
        self._resolve = resolve
        self._clock = clock
        self._unflushed = 0
        self._flushed_at = clock()

    def send_finished(self, batch: RecordSpans, context: Context) -> None:
        """Hand spans to ``on_end``."""
        on_end = batch.tracer.span_processor.on_end
        for span in batch.root_last:
            self.make_room()
            if span.notes is None:
                on_end(batch.finished(span))
            else:
                started = batch.start(span, context)
                batch.end(span, started)

    def send_started(self, batch: RecordSpans, context: Context) -> None:
        """Start and end real spans in the order in which a program would have."""
        is_open: list[tuple[Span, SdkSpan]] = []
        outermost = batch.context_around(context)
        for span in batch.spans:
            while is_open and is_open[-1][0] is not span.parent:
                self._end(batch, *is_open.pop())
            around = trace.set_span_in_context(is_open[-1][1], context) if is_open else outermost
            is_open.append((span, batch.start(span, around)))
        while is_open:
            self._end(batch, *is_open.pop())

    def _end(self, batch: RecordSpans, span: Span, started: SdkSpan) -> None:
        self.make_room()
        batch.end(span, started)

    def make_room(self) -> None:
        """See that there is room for a span that is about to end."""
        if self._unflushed >= _FLUSH_EVERY:
            self.flush()
        self._unflushed += 1

    def idle(self) -> None:
        """Flush if spans wait since `_FLUSH_INTERVAL_S`."""
        if self._unflushed and self._clock() - self._flushed_at >= _FLUSH_INTERVAL_S:
            self.flush()

    def flush(self) -> None:
        """Have the provider export what it has."""
        force_flush = getattr(self._resolve(), "force_flush", None)
        if force_flush is not None:
            force_flush()
        self._unflushed = 0
        self._flushed_at = self._clock()
