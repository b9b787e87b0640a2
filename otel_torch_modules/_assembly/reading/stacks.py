"""What is open in each thread while a record is read."""

from __future__ import annotations

from otel_torch_modules import semconv
from otel_torch_modules._assembly.reading.backward import Backward
from otel_torch_modules._assembly.reading.call import Call
from otel_torch_modules._spans.span import Span

Open = Call | Span | Backward
"""A module's call, an optimizer's step or what else has a begin and an end, a backward."""


def told(phase: str) -> str:
    """Return what spans right below one of `phase` say that they are in: that phase, or nothing."""
    return phase if phase in (semconv.PHASE_OPTIMIZER, semconv.PHASE_DATA) else ""


class Stacks:
    """A stack for each thread, the innermost last.

    Args:
        top: the span that what happens is below where nothing is open.
        outermost: the phase that spans right below it say that they are in; empty for none.
    """

    def __init__(self, top: Span, outermost: str) -> None:
        self._top = top
        self._outermost = outermost
        self._of_threads: dict[int, list[Open]] = {}
        self.program_thread = 0
        """The last one in which the program itself did something."""

    def of(self, thread: int) -> list[Open]:
        """Return the thread's."""
        stack = self._of_threads.get(thread)
        if stack is None:
            stack = self._of_threads[thread] = []
        return stack

    def current(self, stack: list[Open]) -> Span:
        """Return the span that something which happens in this thread is below."""
        for opened in reversed(stack):
            if isinstance(opened, Span):
                return opened
            if isinstance(opened, Backward):
                return opened.current
            if opened.span is not None:
                return opened.span
        return self._top

    def beside(self, stack: list[Open]) -> Span:
        """Return the span that something is below which this thread may not wait for: in a backward it is no module's.

        What a backward has launched was launched when a gradient was ready, whatever module came next.
        """
        for opened in stack:
            if isinstance(opened, Backward):
                return opened.span
        return self.current(stack)

    def around(self, stack: list[Open]) -> str:
        """Return the phase of what a span lies right below, where it says that.

        So that who sums by phase can take it away: what a closure does is the optimizer's, what a dataset calls is
        data, and what is below an evaluation is no part of a step.
        """
        if not stack:
            return self._outermost
        inside = stack[-1]
        return told(inside.phase) if isinstance(inside, Span) else ""

    def told_below(self, span: Span) -> str:
        """Return the phase that a span says that lies right below `span`."""
        return self._outermost if span is self._top else told(span.phase)

    def innermost_module(self, thread: int) -> Span:
        """Return the span of the innermost call; the top where there is none."""
        call = innermost_call(self.of(thread))
        return call.span if call is not None and call.span is not None else self._top

    def remove(self, backward: Backward) -> None:
        """Take it off: it is over."""
        for stack in self._of_threads.values():
            if backward in stack:
                stack.remove(backward)

    def spans(self) -> list[Span]:
        """Return those of what is open: all of a thread's from the outermost to the innermost."""
        return [
            span
            for stack in self._of_threads.values()
            for opened in stack
            for span in _spans(opened)
        ]

    def end_all(self, time: int) -> None:
        """Let all that is open end now."""
        for stack in self._of_threads.values():
            for opened in reversed(stack):
                end(opened, time)


def end(opened: Open, time: int) -> None:
    """Let it end now."""
    if isinstance(opened, Backward):
        opened.end(time)
        return
    span = opened.span if isinstance(opened, Call) else opened
    if span is not None:
        span.end = time


def innermost_call(stack: list[Open]) -> Call | None:
    """Return it; None where no call is open."""
    return next((opened for opened in reversed(stack) if isinstance(opened, Call)), None)


def _spans(opened: Open) -> list[Span]:
    if isinstance(opened, Backward):
        return [opened.span, *opened.open_modules]
    span = opened.span if isinstance(opened, Call) else opened
    return [] if span is None else [span]
