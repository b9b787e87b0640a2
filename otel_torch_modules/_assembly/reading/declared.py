"""What is shown as it is declared: stretches, what opens and closes, points."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from otel_torch_modules import semconv
from otel_torch_modules._assembly.exposed import Launched
from otel_torch_modules._assembly.reading.backward import Backward, SpanLimit
from otel_torch_modules._assembly.reading.beside import Beside
from otel_torch_modules._assembly.reading.shown import happening_of, span_of
from otel_torch_modules._assembly.reading.stacks import Open, Stacks, told
from otel_torch_modules._events import (
    COLLECTION,
    Closing,
    Detail,
    Event,
    Opening,
    Point,
    Shown,
    Stretch,
)
from otel_torch_modules._spans.span import Span


class DeclaredSpans:
    """Those of one record that is read.

    Args:
        top: holds all that happens in this process.
        stacks: what is open.
        limit: of spans that are as frequent as calls of modules.
    """

    def __init__(self, top: Span, stacks: Stacks, limit: SpanLimit) -> None:
        self._top = top
        self._stacks = stacks
        self._limit = limit
        self._by_times: list[Span] = []  # whose place only the times of all others say
        self._stretches: dict[int, list[Span]] = {}  # by thread; those in none after them
        self._beside: list[Beside] = []

    def launched(self) -> list[Launched]:
        """Show what went on beside its thread, once all else has ended, and return it."""
        return [one.show(self._top.trace, self._stacks, self._top) for one in self._beside]

    def settle(self) -> None:
        """All else has ended: put below the innermost span around it what could not be put there before."""
        for span in self._by_times:
            above = _innermost_around(span)
            if above is not span.parent:
                above.take(span)
                _say_around(span, told(above.phase))

    def stretch(self, event: Stretch, thread: int, begin: int, time: int, detail: Any) -> None:
        """Something has lasted until now."""
        stack = self._stacks.of(thread)
        if event.beside:
            above = self._stacks.beside(stack)
            self._beside.append(Beside(event, thread, above, begin, time, detail))
        elif not event.of_modules or self._limit.take():
            if event.shown.in_compiled and stack and isinstance(stack[-1], Backward):
                stack[-1].settle()  # as a mark does: what was computed again is over
            span = self._shown(event, event.shown, stack, begin, time, detail)
            earlier = self._stretches.setdefault(thread, [])
            while earlier and earlier[-1].start >= begin:
                inner = earlier.pop()
                span.take(inner)
                _say_around(inner, told(span.phase))
            earlier.append(span)
            for place in reversed(range(len(self._beside))):
                launched = self._beside[place]
                if launched.begin < begin:
                    break
                if launched.thread == thread and launched.above is span.parent:
                    self._beside[place] = launched._replace(above=span)

    def opening(self, event: Opening, thread: int, _: Any, time: int, detail: Any) -> None:
        """Something begins."""
        stack = self._stacks.of(thread)
        self._stacks.program_thread = thread
        stack.append(self._shown(event, event.shown, stack, time, time, detail))

    def closing(self, event: Closing, thread: int, _: Any, time: int, detail: Any) -> None:
        """What began last in this thread has ended."""
        stack = self._stacks.of(thread)
        for place in reversed(range(len(stack))):
            span = stack[place]
            if isinstance(span, Span):
                span.end = time
                if type(detail) is Detail:
                    span.say(event.values, detail.values)
                del stack[place]
                return

    def point(self, event: Point, thread: int, _: Any, time: int, detail: Any) -> None:
        """Something without a duration."""
        span = self._stacks.current(self._stacks.of(thread))
        if span.points is None:
            span.points = []
        span.points.append(happening_of(event, time, detail))

    def _shown(
        self, event: Event, shown: Shown, stack: list[Open], begin: int, end: int, detail: Any
    ) -> Span:
        inside = [] if shown.below_step else stack
        span = span_of(
            event,
            shown,
            detail,
            self._top.trace,
            self._stacks.current(inside),
            self._stacks.around(inside),
            begin,
            end,
        )
        innermost = inside[-1] if inside else None
        if (
            innermost.happens_in_recompute(span)
            if isinstance(innermost, Backward)
            else event is COLLECTION and innermost is None  # all threads stand still meanwhile
        ):
            self._by_times.append(span)
        return span


def _innermost_around(span: Span) -> Span:
    """Return the innermost span that lasts as long as `span` at least, of those below its parent."""
    above: Span | None = span.parent
    assert above is not None
    while True:
        for inner in above.children:
            if inner is not span and inner.start <= span.start and span.end <= inner.end:
                above = inner
                break
        else:
            return above


def _say_around(span: Span, phase: str) -> None:
    if span.attributes.get(semconv.PHASE_PARENT, "") != phase:
        attributes = dict(span.attributes)
        attributes.pop(semconv.PHASE_PARENT, None)
        span.attributes = {**attributes, semconv.PHASE_PARENT: phase} if phase else attributes


# spans, event, thread, slot 2, time, slot 4
SHOWN: dict[type[Event], Callable[[DeclaredSpans, Any, int, Any, int, Any], None]] = {
    Stretch: DeclaredSpans.stretch,
    Opening: DeclaredSpans.opening,
    Closing: DeclaredSpans.closing,
    Point: DeclaredSpans.point,
}
