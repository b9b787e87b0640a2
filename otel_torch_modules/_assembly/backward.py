"""The sweep: the marks of one backward become its tree of spans.

The engine runs the node with the highest number first, so it walks the ruler from right to left, and at the time of a
mark it stands at the mark's number: open are the backward spans of the call that made this node and of the calls
around it. Structure comes from forward, times from marks.

Recompute (activation checkpointing) happens inside the first node that needs a saved tensor, when the spans around that
node are open already. It is drawn below the span of the module that it recomputes, and what lies deeper
starts when it is over.
"""

from __future__ import annotations

from collections.abc import Iterable

from otel_torch_modules import semconv
from otel_torch_modules._assembly.call import Call, Names
from otel_torch_modules._assembly.span import Span
from otel_torch_modules._records import Raised, Site

FAILED = Raised("", "an exception ended the backward pass", "")


class Room:
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
        names: gives module spans their attributes.
        kind: the span kind of module spans.
        room: for how many of them.
    """

    __slots__ = ("_kind", "_last_opened", "_names", "_path", "_room", "_spans", "counts", "span")

    def __init__(self, span: Span, names: Names, kind: int, room: Room) -> None:
        self.span = span
        self.counts: dict[Site, int] = {}  # calls that recompute
        self._names = names
        self._kind = kind
        self._room = room
        self._spans: dict[Call, Span] = {}
        self._path: list[Call] = []  # calls whose spans are open, outermost first
        self._last_opened: list[Span] = []  # by the last mark

    @property
    def innermost(self) -> Span:
        """The innermost span that is open."""
        return self._spans[self._path[-1]] if self._path else self.span

    def reach(self, owner: Call | None, time: int) -> None:
        """The engine has come to a node that `owner` made, or one made outside all calls."""
        path = []
        call = owner
        while call is not None:
            path.append(call)
            call = call.parent
        path.reverse()
        common = 0
        for old, new in zip(self._path, path):  # noqa: B905 - the shorter one decides
            if old is not new:
                break
            common += 1
        if common == len(self._path) == len(path):
            return  # another node of the call that it stood in
        self._close(common, time)
        self._last_opened = []
        parent = self.innermost
        for call in path[common:]:
            span = self._spans.get(call)
            if span is None:
                if call.span is None or not self._room.take():
                    continue
                span = self._open(call, parent, time)
                self._last_opened.append(span)
            self._path.append(call)
            parent = span

    def _open(self, call: Call, parent: Span, time: int) -> Span:
        attributes = self._names.attributes(call, semconv.PHASE_BACKWARD)
        name = semconv.BACKWARD_PREFIX + call.label
        span = Span(
            parent.trace, parent, name, semconv.PHASE_BACKWARD, self._kind, time, time, attributes
        )
        span.link = call.span
        self._spans[call] = span
        return span

    def host(self, candidates: Iterable[Call]) -> tuple[Span, Call | None]:
        """Return the span below which a recompute hangs, and the forward call that it repeats.

        It is the open span of the call itself or of its nearest caller that has one, and among several calls of
        one module the one for which that is innermost.

        Args:
            candidates: the forward calls of the module that is recomputed, the last first.
        """
        depths = {call: depth for depth, call in enumerate(self._path)}
        best = -1
        repeated = None
        for candidate in candidates:
            call: Call | None = candidate
            while call is not None and call not in depths:
                call = call.parent
            depth = -1 if call is None else depths[call]
            if repeated is None or depth > best:
                best, repeated = depth, candidate
                if call is candidate:
                    break
        return (self.span if best < 0 else self._spans[self._path[best]]), repeated

    def resume(self, host: Span, time: int) -> None:
        """A recompute below `host` is over: what the last mark opened below `host` starts now."""
        for span in self._last_opened:
            if span is not host and _is_below(span, host):
                span.start = span.end = time

    def close_modules(self, time: int) -> None:
        """All nodes have run."""
        self._close(0, time)
        self._last_opened = []

    def fail(self, time: int) -> None:
        """An exception ended this backward."""
        for call in self._path:
            self._spans[call].error = FAILED
        self.span.error = FAILED
        self.end(time)

    def end(self, time: int) -> None:
        """The graph task is over."""
        self.close_modules(time)
        self.span.end = time

    def _close(self, depth: int, time: int) -> None:
        for call in self._path[depth:]:
            self._spans[call].end = time
        del self._path[depth:]


def _is_below(span: Span, ancestor: Span) -> bool:
    above = span.parent
    while above is not None and above is not ancestor:
        above = above.parent
    return above is not None
