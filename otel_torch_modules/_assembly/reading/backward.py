"""The sweep: the marks of one backward become its tree of spans.

The engine runs the node with the highest number first, so it walks the ruler from right to left, and at the time of a
mark it stands at the mark's number: open are the backward spans of the call that made this node and of the calls
around it. Structure comes from forward, times from marks.

Recompute (activation checkpointing) happens inside the first node that needs a saved tensor, when the spans around that
node are open already and may have done some work. It is drawn below the span of the module that it recomputes, *before*
what lies deeper: the two change places, so that all durations stay true and no module's backward holds another's
recompute. See :mod:`otel_torch_modules._assembly.reading.recompute` for which calls belong together.
"""

from __future__ import annotations

from otel_torch_modules import semconv
from otel_torch_modules._assembly.reading.call import CALL_INDEX, Call, attributes_of
from otel_torch_modules._assembly.reading.history import KnownCalls
from otel_torch_modules._assembly.reading.recompute import Recompute, RecomputedFunction
from otel_torch_modules._records import Raised
from otel_torch_modules._spans.span import Span

_FAILED = Raised("", "an exception ended the backward pass", "")


class SpanLimit:
    """How many module spans a record may still have."""

    __slots__ = ("left", "truncated")

    def __init__(self, left: int, truncated: bool) -> None:
        self.left = left
        self.truncated = truncated

    def take(self) -> bool:
        """Return whether there is room for one more span."""
        if self.left <= 0:
            self.truncated = True
            return False
        self.left -= 1
        return True


class Backward:
    """One graph task: its own span and those of modules below it.

    Args:
        span: the task's own span.
        kind: the span kind of module spans.
        limit: of how many of them there may be.
        known: the calls that a recompute may repeat.
        since: order of the first call that the outermost backward around this one may have made.
        first: order of the first call that this one may make.
    """

    __slots__ = (
        "_depths",
        "_happened",
        "_kind",
        "_limit",
        "_path",
        "_recompute",
        "_spans",
        "since",
        "span",
    )

    def __init__(
        self,
        span: Span,
        kind: int,
        limit: SpanLimit,
        known: KnownCalls,
        since: int,
        first: int,
    ) -> None:
        self.span = span
        self.since = since
        self._recompute = Recompute(known, range(since, first))
        self._happened: list[Span] = []  # since something was recomputed that has no place yet
        self._kind = kind
        self._limit = limit
        self._spans: dict[Call, Span] = {}
        self._path: list[Call] = []  # calls whose spans are open, outermost first
        self._depths: dict[Call, int] = {}  # where they are in it

    @property
    def innermost(self) -> Span:
        """The innermost span that is open."""
        return self._spans[self._path[-1]] if self._path else self.span

    @property
    def current(self) -> Span:
        """The span that something which happens now is below."""
        # The innermost changes places with what is recomputed, and what is below it with it.
        return self.span if self._recompute.calls else self.innermost

    @property
    def open_modules(self) -> list[Span]:
        """The spans of modules that are open, outermost first."""
        return [self._spans[call] for call in self._path]

    def reach(self, owner: Call | None, time: int) -> None:
        """The engine has come to a node that `owner` made, or one made outside all calls."""
        if self._recompute.calls:
            self._settle(owner)
        path, depths = self._path, self._depths
        if path and path[-1] is owner:
            return  # another node of the call that it stood in
        entered = []
        call = owner
        while call is not None and call not in depths:
            entered.append(call)
            call = call.parent
        self._close(0 if call is None else depths[call] + 1, time)
        parent = self.innermost
        for call in reversed(entered):
            span = self._spans.get(call)
            if span is None:
                if call.span is None or not self._limit.take():
                    continue
                span = self._open(call, parent, time)
            depths[call] = len(path)
            path.append(call)
            parent = span

    def _open(self, call: Call, parent: Span, time: int) -> Span:
        attributes = attributes_of(call, semconv.PHASE_BACKWARD)
        name = semconv.BACKWARD_PREFIX + call.label
        span = Span(
            parent.trace, parent, name, semconv.PHASE_BACKWARD, self._kind, time, time, attributes
        )
        if call.index:
            span.say((CALL_INDEX,), (call.index,))
        span.link = call.span
        self._spans[call] = span
        return span

    def recomputes(self, call: Call) -> None:
        """`call` is made directly from this backward."""
        self._recompute.add(call)

    def happens_in_recompute(self, span: Span) -> bool:
        """Return whether it is not known yet below what `span` is: what was recomputed before it has no place."""
        if self._recompute.calls:
            self._happened.append(span)
            return True
        return False

    def settle(self) -> None:
        """Nothing is recomputed any more where the engine stands now: give the spans of what was their place."""
        if self._recompute.calls:
            self._settle(None)

    def _settle(self, owner: Call | None) -> None:
        next_path = set()
        while owner is not None:
            next_path.add(owner)
            owner = owner.parent
        path = self._path
        for run in self._recompute.runs(path):
            # A run before it may have closed the call that it was found in: where a recompute calls other modules.
            depth = min(run.depth, len(path) - 1)
            inside = path[depth + 1] if depth + 1 < len(path) else None
            repeated = inside is not None and run.repeats_a_caller_of(inside)
            if inside in next_path and not repeated:
                depth = len(path) - 1  # a hook called what the forward did elsewhere
            host = self._spans[path[depth]] if depth >= 0 else self.span
            for call in run.calls:
                if call.span is not None:
                    _place(call, call.span, host)
            if inside is not None and repeated:
                self._put_first(run, inside)
            else:
                self._close(depth + 1, run.start)  # what is open there is over: nothing said so
            for call in run.calls:
                call.repeats = None  # else a step's calls would keep those of all steps before
        self._happened.clear()

    def _put_first(self, run: RecomputedFunction, inside: Call) -> None:
        """Draw `run` before the open backward of `inside`, the call in which it happened."""
        span = self._spans[inside]
        worked = run.start - span.start
        for call in run.calls:
            if call.span is not None:
                _shift(call.span, -worked)
        for happened in self._happened:
            if run.start <= happened.start and happened.end <= run.end:
                _shift(happened, -worked)
        _shift(span, run.end - run.start)

    def close_modules(self, time: int) -> None:
        """All nodes have run."""
        self.settle()
        self._close(0, time)

    def fail(self, time: int) -> None:
        """An exception ended this backward."""
        for call in self._path:
            self._spans[call].error = _FAILED
        self.span.error = _FAILED
        self.end(time)

    def end(self, time: int) -> None:
        """The graph task is over."""
        self.close_modules(time)
        self.span.end = time

    def _close(self, depth: int, time: int) -> None:
        for call in self._path[depth:]:
            self._spans[call].end = time
            del self._depths[call]
        del self._path[depth:]


def _place(call: Call, span: Span, host: Span) -> None:
    span.parent = host
    host.adopt(span)
    repeated = call.repeats
    if repeated is not None:
        call.label = repeated.label
        call.index = repeated.index
        span.name = semconv.RECOMPUTE_PREFIX + call.label
        if call.index:
            span.say((CALL_INDEX,), (call.index,))


def _shift(span: Span, by: int) -> None:
    for below in span.walk():
        below.start += by
        below.end += by
        if below.points:
            below.points = [point._replace(time=point.time + by) for point in below.points]
